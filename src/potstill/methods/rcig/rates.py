"""Learning rates of the ``adam`` solver, found before training and adapted during it.

As run: search upwards from a small rate while the losses of a solve fall at every
step; later, every 50 solves, lower the rate if many diverged, that is ended above where they
began, and raise it if most fell throughout. (The paper has the first half alone: 10 % lower "if
we observe that either loss diverges".)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from potstill.errors import NumericalError

GROWTH, RETREAT = 1.2, 0.7
FEWEST = 2
"""Losses that say whether a solve falls: a search looks at solves of so many steps at least."""
LIMIT = 1e9
"""Times the start: where a search gives up."""
WINDOW, TOO_MANY_DIVERGED, MOSTLY_MONOTONE = 50, 0.29, 0.70
LOWER, RAISE = 0.9, 1.05


def monotone(losses: Sequence[float]) -> bool:
    """Whether every loss lies below the one before; never true of NaN."""
    return all(b < a for a, b in pairwise(losses))


def search(start: float, solve: Callable[[float, int], Sequence[float]], steps: int) -> float:
    """The rate to solve with, just above the largest whose losses fall at every step.

    Rates grow in steps of 1.2 from ``start``. As run, the first that fails is raised once more and
    then multiplied by 0.7: 1.008 times the last that held.

    Args:
        start: the first rate.
        solve: from a rate and a number of steps to the loss before each.
        steps: of the solves to come.

    Raises:
        NumericalError: no rate within reach makes the losses rise.
    """
    rate = start
    while monotone(solve(rate, max(steps, FEWEST))):
        rate *= GROWTH
        if rate > LIMIT * start:
            raise NumericalError(
                f"the losses of a solve fall at every learning rate from {start:g} to {rate:g}; "
                "give the rates of method.solver and set method.solver.tune to false"
            )
    return RETREAT * GROWTH * rate


@dataclass
class AdaptiveRate:
    """A learning rate and what its last solves looked like; all of it is checkpointed."""

    value: float
    solves: int = 0
    diverged: int = 0
    monotone: int = 0

    def observe(self, losses: Sequence[float]) -> None:
        """Count one solve; adapt after every 50."""
        if len(losses) < FEWEST:
            return
        self.solves += 1
        self.diverged += not losses[-1] <= losses[0]
        self.monotone += monotone(losses)
        if self.solves < WINDOW:
            return
        if self.diverged >= TOO_MANY_DIVERGED * WINDOW:
            self.value *= LOWER
        elif self.monotone >= MOSTLY_MONOTONE * WINDOW:
            self.value *= RAISE
        self.solves = self.diverged = self.monotone = 0


@dataclass
class Rates:
    """Learning rates of the inner problem and of the inverse-Hessian product."""

    inner: AdaptiveRate
    inverse: AdaptiveRate
    found: bool = False
    """Whether the search is over (or was not asked for)."""
