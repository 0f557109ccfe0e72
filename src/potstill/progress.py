"""How everything that takes long says how far it is."""

from __future__ import annotations

import time
from typing import Protocol


class Progress(Protocol):
    """Told of every step. An exception that it raises stops the work between two steps."""

    def __call__(self, stage: str, done: int, total: int, **values: float) -> None:
        """``done`` of ``total`` steps are over.

        Args:
            stage: what a step is, in plain words: "iteration", "task 2 of 5, training step".
            done: steps of this stage that are over.
            total: steps of this stage in all.
            values: numbers of the newest step, such as its ``loss``.
        """


def silent(stage: str, done: int, total: int, **values: float) -> None:
    """A :class:`Progress` that shows nothing."""


def after(seconds: float, progress: Progress) -> Progress:
    """What tells ``progress`` of steps from so many seconds after the first on."""
    start: float | None = None

    def tell(stage: str, done: int, total: int, **values: float) -> None:
        nonlocal start
        start = time.monotonic() if start is None else start
        if time.monotonic() - start >= seconds:
            progress(stage, done, total, **values)

    return tell


def staged(progress: Progress, title: str) -> Progress:
    """What tells ``progress`` of the steps of all stages as steps of one called ``title``."""

    def tell(stage: str, done: int, total: int, **values: float) -> None:
        progress(title, done, total, **values)

    return tell


def part(progress: Progress, index: int, parts: int) -> Progress:
    """What tells ``progress`` of the steps of part ``index``, from 0, of so many equal ones."""

    def tell(stage: str, done: int, total: int, **values: float) -> None:
        progress(stage, index * total + done, parts * total, **values)

    return tell
