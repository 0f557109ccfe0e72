"""Units of work in this process, one after the other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from potstill.execution.executor import R, Tell, U, Work


@dataclass(frozen=True)
class Here:
    """Runs units one after the other; results come in the order of the units."""

    def map(self, work: Work[U, R], units: Sequence[U], tell: Tell) -> Generator[R]:
        """See :meth:`potstill.execution.Executor.map`."""
        for unit in units:
            yield work(unit, tell)
