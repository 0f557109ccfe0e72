"""What every place where units of work run has in common."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Protocol, TypeVar

U = TypeVar("U")
R = TypeVar("R")

Tell = Callable[[int], None]
"""Told of so many steps more, by a unit that is being worked on."""
Work = Callable[[U, Tell], R]
"""A unit's work: the unit to its result. To run in another process, the work, its units and its
results must be picklable."""


class Executor(Protocol):
    """A place where independent units of work run."""

    def map(self, work: Work[U, R], units: Sequence[U], tell: Tell) -> Generator[R]:
        """The result of every unit, in the order in which they are done.

        Nothing runs before the first result is asked for. Close the iterator
        (:func:`contextlib.closing`) if it may be left early: that stops what still runs.

        Args:
            work: called with a unit and with ``tell``, or with something that passes on to it.
            units: all there is to do.
            tell: called here, with the steps that units have told of since it last was.

        Raises (while iterated):
            Exception: whatever the work raised.
        """
        ...
