"""Kernel ridge regression of the last layer: A = (H H^T + lambda I)^-1 (eq. 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.errors import NumericalError


class RidgeKernel:
    """A, by its Cholesky factor.

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
        h = features.to(dtype)
        self.kernel = h @ h.T + float(bias)
        self.regulariser = regulariser
        ridge = self.kernel.clone()
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
        return torch.cholesky_solve(rhs.to(self._factor.dtype), self._factor).to(rhs.dtype)
