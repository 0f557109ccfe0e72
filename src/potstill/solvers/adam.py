"""Adam as a solver: on a quadratic, with cg's signature, or on any gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.solvers.solution import Operator, Solution, Status


@dataclass
class Moments:
    """Adam's state for one vector (Kingma and Ba 2015, alg. 1), updated in place."""

    mean: Tensor
    square: Tensor
    step: int = 0

    @staticmethod
    def zeros_like(x: Tensor) -> Moments:
        """Moments before the first step."""
        return Moments(torch.zeros_like(x), torch.zeros_like(x))

    def update(self, x: Tensor, gradient: Tensor, learning_rate: float) -> None:
        """One step on ``x``, in place; beta = (0.9, 0.999), epsilon = 1e-8."""
        self.step += 1
        self.mean.lerp_(gradient, 0.1)
        self.square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        correction = math.sqrt(1 - 0.999**self.step)
        denominator = self.square.sqrt().div_(correction).add_(1e-8)
        x.addcdiv_(self.mean, denominator, value=-learning_rate / (1 - 0.9**self.step))


def solve(
    operator: Operator,
    rhs: Tensor,
    *,
    learning_rate: float,
    steps: int,
    start: Tensor | None = None,
    tolerance: float = 0.0,
) -> Solution:
    """Minimise 1/2 x^T A x - x^T b by ``steps`` Adam steps (RCIG 3.4).

    Args as :func:`potstill.solvers.cg.solve`; the true residual costs one more
    product. ``losses`` hold the quadratic before each step.
    """

    def loss_and_gradient(x: Tensor) -> tuple[float, Tensor]:
        ax = operator(x)
        return _dot(x, ax) / 2 - _dot(x, rhs), ax - rhs

    x = torch.zeros_like(rhs) if start is None else start.clone()
    x, losses = minimise(loss_and_gradient, x, learning_rate=learning_rate, steps=steps)
    r, scale = rhs - operator(x), _dot(rhs, rhs)
    residual = math.sqrt(_dot(r, r) / scale) if scale else 0.0
    return Solution(x, _status(residual, tolerance), steps, residual, tuple(losses))


def minimise(
    loss_and_gradient: Callable[[Tensor], tuple[float, Tensor]],
    start: Tensor,
    *,
    learning_rate: float,
    steps: int,
) -> tuple[Tensor, list[float]]:
    """``steps`` Adam steps from ``start``; the last x, and the loss before each step."""
    x, moments = start.clone(), Moments.zeros_like(start)
    losses = []
    for _ in range(steps):
        loss, gradient = loss_and_gradient(x)
        losses.append(loss)
        moments.update(x, gradient, learning_rate)
    return x, losses


def _status(residual: float, tolerance: float) -> Status:
    if not math.isfinite(residual):
        return Status.BREAKDOWN
    return Status.CONVERGED if residual <= tolerance else Status.STEP_LIMIT


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten().double(), b.flatten().double()).item()
