"""Progress on stderr: a bar on a terminal or in a notebook, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

from rich import progress as bars
from rich.console import Console

from potstill.progress import Progress
from potstill.quoting import printable

_LINES = 10
_SECONDS_BETWEEN_LINES = 60.0
# Of the values those that are shown, and what they are called.
_SHOWN = {"loss": "loss", "batch_accuracy": "accuracy"}


@contextmanager
def progress_bar(title: str = "") -> Iterator[Progress]:
    """What to pass as ``progress``, in a script or in a notebook::

        with progress_bar() as bar:
            distill(recipe, source, progress=bar)

    ``progress=True`` is the same for one call.
    """
    with reporting(title, _say) as tell:
        yield tell


@contextmanager
def reporting(title: str, say: Callable[[str], None], *, tenths: bool = True) -> Iterator[Progress]:
    """Show how far something is, under ``title`` until a stage is told of.

    Args:
        say: prints a line on stderr, where there is no bar.
        tenths: a line at every tenth of the way; else only once a minute.
    """
    console = Console(stderr=True)
    # In a notebook rich draws with ipywidgets, and nothing without.
    if not console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is None):
        yield _Lines(say, tenths)
        return
    with bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[note]}"),
        bars.TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        task = progress.add_task(printable(title), total=None, note="")
        shown = title

        def report(stage: str, done: int, total: int, **values: float) -> None:
            nonlocal shown
            if stage != shown:
                shown = stage
                progress.reset(task, description=printable(stage))
            progress.update(task, completed=done, total=total, note=_note(values))

        yield report


class _Lines:
    """A line at every tenth of the way if wanted, and once a minute."""

    def __init__(self, say: Callable[[str], None], tenths: bool) -> None:
        self._say, self._tenths = say, tenths
        self._stage: str | None = None
        self._first = 0, 0.0
        self._tenth = -1
        self._last = 0.0

    def __call__(self, stage: str, done: int, total: int, **values: float) -> None:
        """A line, if one is due."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._first, self._tenth = stage, (done, now), -1
            if not self._tenths:
                self._last = now
        tenth = _LINES * done // max(total, 1)
        if (tenth == self._tenth or not self._tenths) and now - self._last < _SECONDS_BETWEEN_LINES:
            return
        self._tenth, self._last = tenth, now
        parts = [f"{stage} {done}/{total}", _note(values), self._remaining(done, total, now)]
        self._say("  ".join(part for part in parts if part))

    def _remaining(self, done: int, total: int, now: float) -> str:
        first, start = self._first
        if done == first or done >= total:
            return ""
        seconds = round((now - start) / (done - first) * (total - done))
        return f"ETA {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _note(values: Mapping[str, float]) -> str:
    return "  ".join(f"{text} {values[key]:.4f}" for key, text in _SHOWN.items() if key in values)


def _say(line: str) -> None:
    sys.stderr.write(f"{printable(line)}\n")
