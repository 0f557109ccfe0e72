"""What a solver hands back: never a bare vector."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Operator = Callable[[Tensor], Tensor]
"""x -> A x, any shape, A symmetric positive definite."""


class Status(enum.Enum):
    """Why a solver stopped."""

    CONVERGED = "converged"
    """The residual met the tolerance."""
    STEP_LIMIT = "step limit"
    """All steps were taken and the residual is above the tolerance."""
    PRECISION_LIMIT = "precision limit"
    """Rounding, not the tolerance, ended it: further steps would lose accuracy."""
    BREAKDOWN = "breakdown"
    """The operator is not positive definite, or a number is not finite."""


@dataclass(frozen=True)
class Solution:
    """An approximate solution of A x = b.

    Attributes:
        value: x, shaped as b.
        status: why the solver stopped.
        steps: products with A spent on moving x.
        residual: sqrt(r^T P r / b^T P b) with r = b - A x computed from the x
            returned (adam) or carried by the recurrence (cg), P the preconditioner
            or the identity; 0 for b = 0.
        losses: 1/2 x^T A x - x^T b before each step (adam), else empty.
    """

    value: Tensor
    status: Status
    steps: int
    residual: float
    losses: tuple[float, ...] = ()
