"""Conjugate gradient that asks the host for nothing: the iterates of :mod:`potstill.solvers.cg`.

The plain form reads two numbers a step, and each time a card waits for the host and the host for
the card. Here all numbers stay where the vectors are. A step is always taken, and masked once the
solve has ended: x, the residual and the counts then stay as they were. So a solve of so many steps
is one fixed sequence of operations, which a CUDA graph can hold, and the end may be looked for as
seldom as one likes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from potstill.solvers.solution import Operator, Solution, Status

# What ``Iterate.ended`` counts: 0 has not ended, which is the step limit where no more is done.
_ENDS = (Status.STEP_LIMIT, Status.CONVERGED, Status.PRECISION_LIMIT, Status.BREAKDOWN)
_CONVERGED, _PRECISION_LIMIT, _BREAKDOWN = 1, 2, 3


@dataclass(frozen=True)
class Iterate:
    """Where a solve stands; scalars are tensors () on the device of the vectors.

    value: x. direction: p, A-conjugate to every earlier one. remainder: r = b - A x. square:
    r^T P r, and scale: b^T P b, float64. steps: products spent on moving x. ended: why it has, 0
    if it has not.
    """

    value: Tensor
    direction: Tensor
    remainder: Tensor
    square: Tensor
    scale: Tensor
    steps: Tensor
    ended: Tensor

    def solution(self) -> Solution:
        """The solve as it stands, which the host waits for once."""
        numbers = [self.ended, self.steps, self.square, self.scale]
        ended, steps, square, scale = torch.stack([n.double() for n in numbers]).tolist()
        status = _ENDS[int(ended)]
        if status is Status.BREAKDOWN and not (math.isfinite(square) and scale > 0):
            residual = math.nan
        else:
            residual = math.sqrt(max(square, 0.0) / scale) if scale else 0.0
        return Solution(self.value, status, int(steps), residual)


def solve(
    operator: Operator,
    rhs: Tensor,
    *,
    start: Tensor | None = None,
    preconditioner: Operator | None = None,
    tolerance: float = 1e-2,
    max_steps: int = 50,
    look_every: int | None = None,
) -> Solution:
    """What :func:`potstill.solvers.cg.solve` returns, to rounding.

    The other arguments are that function's.

    Args:
        look_every: the host asks whether the solve has ended after so many steps each, and no more
            products are spent if it has; never if None, before :meth:`Iterate.solution` is asked.
    """
    iterate = begin(operator, rhs, start, preconditioner, tolerance)
    for step in range(max_steps):
        if look_every is not None and step and step % look_every == 0 and bool(iterate.ended):
            break
        iterate = advance(iterate, operator, preconditioner, tolerance)
    return iterate.solution()


def begin(
    operator: Operator,
    rhs: Tensor,
    start: Tensor | None = None,
    preconditioner: Operator | None = None,
    tolerance: float = 1e-2,
) -> Iterate:
    """Before the first step; arguments as in :func:`potstill.solvers.cg.solve`."""
    precondition = preconditioner or _identity
    scale = _dot(rhs, precondition(rhs))
    solvable = scale.isfinite() & (scale > 0)
    x = torch.zeros_like(rhs)
    r = rhs
    if start is not None:
        x = torch.where(solvable, start, x)
        r = rhs - operator(start)
    z = precondition(r)
    none = torch.zeros((), dtype=torch.int64, device=rhs.device)
    ended = torch.where(solvable, 0, torch.where(scale == 0, _CONVERGED, _BREAKDOWN))
    square = torch.where(scale == 0, scale, _dot(r, z))
    return _judged(Iterate(x, z, r, square, scale, none, ended), tolerance)


def advance(
    at: Iterate,
    operator: Operator,
    preconditioner: Operator | None = None,
    tolerance: float = 1e-2,
) -> Iterate:
    """After one more step, or as it was where the solve has ended."""
    precondition = preconditioner or _identity
    ap = operator(at.direction)
    curvature = _dot(at.direction, ap)
    good = curvature.isfinite() & (curvature > 0)
    ended = torch.where((at.ended == 0) & ~good, _BREAKDOWN, at.ended)
    running = ended == 0
    length = (at.square / curvature).to(ap.dtype)
    # What follows the end is no iterate: it only must not reach x.
    moved = torch.addcmul(at.value, at.direction, length)
    r = torch.addcmul(at.remainder, ap, length, value=-1)
    z = precondition(r)
    square = _dot(r, z)
    direction = torch.addcmul(z, at.direction, (square / at.square).to(z.dtype))
    after = replace(
        at,
        value=torch.where(running, moved, at.value),
        direction=direction,
        remainder=r,
        square=torch.where(running, square, at.square),
        steps=at.steps + running,
        ended=ended,
    )
    return _judged(after, tolerance)


def _judged(at: Iterate, tolerance: float) -> Iterate:
    """Whether a solve that runs has ended with this iterate, in the order of the plain form."""
    floor = at.scale * torch.finfo(at.value.dtype).eps ** 2
    residual = (at.square.clamp_min(0.0) / at.scale).sqrt()
    end = torch.where(at.square <= floor, _PRECISION_LIMIT, torch.zeros_like(at.ended))
    end = torch.where(residual <= tolerance, _CONVERGED, end)
    end = torch.where(at.square.isfinite(), end, _BREAKDOWN)
    return replace(at, ended=torch.where(at.ended == 0, end, at.ended))


def _identity(r: Tensor) -> Tensor:
    return r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten().double(), b.flatten().double())
