"""Progress on stderr: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Report(Protocol):
    """What shows how far something is."""

    def __call__(self, done: int, total: int, note: str = "", title: str | None = None) -> None:
        """``title`` names what is done from now on; unchanged if None."""


_LINES = 10
_SECONDS_BETWEEN_LINES = 60.0


@contextmanager
def reporting(title: str) -> Iterator[Report]:
    """Show how far something is, as what is yielded is told."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, console).report
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task(title, total=None, note="")
        shown = title

        def report(done: int, total: int, note: str = "", title: str | None = None) -> None:
            nonlocal shown
            if title is not None and title != shown:
                shown = title
                progress.reset(task, description=title)
            progress.update(task, completed=done, total=total, note=note)

        yield report


class _Lines:
    """A line at every tenth of the way, and once a minute in between."""

    def __init__(self, title: str, console: Console) -> None:
        self._title = title
        self._console = console
        self._first: tuple[int, float] | None = None
        self._tenth = -1
        self._last = 0.0

    def report(self, done: int, total: int, note: str = "", title: str | None = None) -> None:
        """A line, if one is due."""
        now = time.monotonic()
        if title is not None and title != self._title:
            self._title, self._first, self._tenth = title, None, -1
        if self._first is None:
            self._first = done, now
        tenth = _LINES * done // max(total, 1)
        if tenth == self._tenth and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._tenth, self._last = tenth, now
        parts = [f"{self._title} {done}/{total}", note, self._remaining(done, total, now)]
        line = "  ".join(part for part in parts if part)
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _remaining(self, done: int, total: int, now: float) -> str:
        first, start = self._first or (done, now)
        if done == first or done >= total:
            return ""
        seconds = round((now - start) / (done - first) * (total - done))
        return f"ETA {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
