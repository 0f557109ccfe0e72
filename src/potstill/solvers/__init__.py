"""Solvers of A x = b for a symmetric positive definite A known by its products."""

from potstill.solvers import adam, cg, cg_on_device
from potstill.solvers.solution import Operator, Solution, Status

__all__ = ["Operator", "Solution", "Status", "adam", "cg", "cg_on_device"]
