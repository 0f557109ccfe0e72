"""Kernel ridge regression of the last layer: A = (H H^T + lambda I)^-1 (eq. 3)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import NumericalError

_ROWS = 256  # widened at a time


class RidgeKernel:
    """A, by the Cholesky factor of the smaller of two matrices.

    With H (n, h) that is H H^T + lambda I where n <= h, and else, by Woodbury's identity
    A = (I - H (H^T H + lambda I)^-1 H^T) / lambda, H^T H + lambda I, so that memory grows with
    n by the features alone and time is linear in it. The difference cancels digits: there the
    factor and the solves are float64 whatever ``dtype`` is.

    Args:
        features: H (n, h).
        regulariser: lambda.
        bias: add 1 1^T to the kernel, as if the head's bias were part of it.
        dtype: type of the factorisation and the solves.

    Raises:
        NumericalError: the kernel is not positive definite in ``dtype``.
    """

    def __init__(
        self, features: Tensor, regulariser: float, *, bias: bool, dtype: torch.dtype
    ) -> None:
        self.regulariser = regulariser
        self._features, self._bias = features, bias
        n, width = features.shape
        self._small = n > width + bias
        if self._small:
            dtype = torch.float64
            ridge = features.new_zeros(width + bias, width + bias, dtype=dtype)
            for h in self._wide():
                ridge.addmm_(h.T, h)
        else:
            h = features.to(dtype)
            ridge = h @ h.T + float(bias)
        ridge.diagonal().add_(regulariser)
        self._factor, info = torch.linalg.cholesky_ex(ridge)
        if info.item():
            widen = "" if dtype == torch.float64 else " or set method.kernel_dtype to float64"
            raise NumericalError(
                "the kernel of the last layer is not positive definite or not finite; "
                f"raise method.l2_rate{widen}"
            )

    def solve(self, rhs: Tensor) -> Tensor:
        """Rhs (n, k) -> A rhs (n, k), in the dtype of ``rhs``."""
        wide = rhs.to(self._factor.dtype)
        if not self._small:
            return torch.cholesky_solve(wide, self._factor).to(rhs.dtype)
        parts = wide.split(_ROWS)
        inner = wide.new_zeros(len(self._factor), wide.shape[1])
        for h, part in zip(self._wide(), parts, strict=True):
            inner.addmm_(h.T, part)
        inner = torch.cholesky_solve(inner, self._factor)
        solved = [part - h @ inner for h, part in zip(self._wide(), parts, strict=True)]
        return torch.cat(solved).div_(self.regulariser).to(rhs.dtype)

    def _wide(self) -> Iterator[Tensor]:
        """H in float64 a few rows at a time, with a column of ones for the bias."""
        for h in self._features.split(_ROWS):
            yield F.pad(h.double(), (0, int(self._bias)), value=1.0)
