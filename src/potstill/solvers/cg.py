"""Preconditioned conjugate gradient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from potstill.solvers import cg_on_device
from potstill.solvers.solution import Operator, Solution, Status

_LOOK_EVERY = 4
"""On a card: a product that is wasted costs a step, a look what the card does not do meanwhile."""


def solve(
    operator: Operator,
    rhs: Tensor,
    *,
    start: Tensor | None = None,
    preconditioner: Operator | None = None,
    tolerance: float = 1e-2,
    max_steps: int = 50,
) -> Solution:
    """Minimise 1/2 x^T A x - x^T b (Hestenes and Stiefel 1952; Saad 2003, alg. 9.1).

    Invariants at the head of step k: r = b - A x, z = P r, p is A-conjugate to every
    earlier direction, and x minimises the quadratic over start + span of them.

    Inner products run in float64 whatever the dtype of the vectors. In float32 the
    recurrence stops where r^T z is no longer positive, or has fallen below the
    rounding of b^T P b: iterating past convergence would divide noise by noise.

    Args:
        operator: x -> A x.
        rhs: b, any shape.
        start: x before the first step; zero if absent. It costs one product.
        preconditioner: r -> P r, P close to A^-1, symmetric positive definite.
        tolerance: on sqrt(r^T P r / b^T P b).
        max_steps: products with A, without the start's.

    On a card the same iterates, to rounding, come from :mod:`potstill.solvers.cg_on_device`, which
    asks for the stop test every few steps.

    Returns:
        Solution, its status BREAKDOWN if a direction of negative curvature or a
        number that is not finite was met; its value is then the last good x.
    """
    if rhs.device.type != "cpu":
        return cg_on_device.solve(
            operator,
            rhs,
            start=start,
            preconditioner=preconditioner,
            tolerance=tolerance,
            max_steps=max_steps,
            look_every=_LOOK_EVERY,
        )
    precondition = preconditioner or (lambda r: r)
    scale = _dot(rhs, precondition(rhs))
    if scale == 0:
        return Solution(torch.zeros_like(rhs), Status.CONVERGED, 0, 0.0)
    if not math.isfinite(scale) or scale < 0:
        return Solution(torch.zeros_like(rhs), Status.BREAKDOWN, 0, math.nan)
    x = torch.zeros_like(rhs) if start is None else start.clone()
    r = rhs.clone() if start is None else rhs - operator(start)
    z = precondition(r)
    p, rz = z, _dot(r, z)
    floor = scale * torch.finfo(rhs.dtype).eps ** 2
    for step in range(max_steps + 1):
        if not math.isfinite(rz):
            return Solution(x, Status.BREAKDOWN, step, math.nan)
        residual = math.sqrt(max(rz, 0.0) / scale)
        if residual <= tolerance:
            return Solution(x, Status.CONVERGED, step, residual)
        if rz <= floor:
            return Solution(x, Status.PRECISION_LIMIT, step, residual)
        if step == max_steps:
            break
        ap = operator(p)
        curvature = _dot(p, ap)
        if not math.isfinite(curvature) or curvature <= 0:
            return Solution(x, Status.BREAKDOWN, step, residual)
        length = rz / curvature
        x = x.add(p, alpha=length)
        r = r.sub(ap, alpha=length)
        z = precondition(r)
        rz, before = _dot(r, z), rz
        p = z.add(p, alpha=rz / before)
    return Solution(x, Status.STEP_LIMIT, max_steps, residual)


def _dot(a: Tensor, b: Tensor) -> float:
    return torch.dot(a.flatten().double(), b.flatten().double()).item()
