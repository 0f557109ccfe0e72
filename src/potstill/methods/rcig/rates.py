"""Learning rates of the ``adam`` solver, found before training and adapted during it.

As run: search upwards from a small rate while the losses of a solve fall at every
step; later, every 50 solves, lower the rate if many ended on a rise and raise it if
most fell throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

GROWTH, RETREAT = 1.2, 0.7
WINDOW, TOO_MANY_RISES, MOSTLY_MONOTONE = 50, 0.29, 0.70
LOWER, RAISE = 0.9, 1.05


def monotone(losses: Sequence[float]) -> bool:
    """Whether every loss lies below the one before; never true of NaN."""
    return all(b < a for a, b in pairwise(losses))


def search(start: float, solve: Callable[[float], Sequence[float]]) -> float:
    """0.7 times the first rate, in steps of 1.2 from ``start``, whose losses do not fall
    at every step."""
    rate = start
    while monotone(solve(rate)):
        rate *= GROWTH
    return RETREAT * rate


@dataclass
class AdaptiveRate:
    """A learning rate and what its last solves looked like; all of it is checkpointed."""

    value: float
    solves: int = 0
    rises: int = 0
    monotone: int = 0

    def observe(self, losses: Sequence[float]) -> None:
        """Count one solve; adapt after every 50."""
        if len(losses) < 2:
            return
        self.solves += 1
        self.rises += not losses[-1] < losses[-2]
        self.monotone += monotone(losses)
        if self.solves < WINDOW:
            return
        if self.rises >= TOO_MANY_RISES * WINDOW:
            self.value *= LOWER
        elif self.monotone >= MOSTLY_MONOTONE * WINDOW:
            self.value *= RAISE
        self.solves = self.rises = self.monotone = 0


@dataclass
class Rates:
    """Learning rates of the inner problem and of the inverse-Hessian product."""

    inner: AdaptiveRate
    inverse: AdaptiveRate
    found: bool = False
    """Whether the search is over (or was not asked for)."""
