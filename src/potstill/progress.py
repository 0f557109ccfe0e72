"""How everything that takes long says how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of every step. An exception that it raises stops the work between two steps."""

    def __call__(self, stage: str, done: int, total: int, **values: float) -> None:
        """``done`` of ``total`` steps of ``stage`` are over; ``values``: numbers of the newest."""


def silent(stage: str, done: int, total: int, **values: float) -> None:
    """A :class:`Progress` that shows nothing."""
