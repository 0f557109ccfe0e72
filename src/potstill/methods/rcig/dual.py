"""The exact meta-gradient of RCIG, by conjugate gradient in the dual space.

With J over all parameters at theta_0 (the last layer's included, whose J J^T is
K_SS) the inner loss is a quadratic, minimised by theta* = J_S^T alpha,

    (J_S J_S^T + lambda I) alpha = y_S,                               (inner)

and with g_T = J_T^T dL/df at f = J_T theta*, the inverse-Hessian product is

    (J_S J_S^T + lambda I) beta = J_S g_T.                            (inverse)

    dL/dy_S = beta
    dL/dX_S = grad_X [ <alpha, J(X) (g_T - J_S^T beta)> - <beta, J(X) theta*> ]

docs/mathematics.md derives it. At exact solutions it equals the paper's direct plus
implicit gradient (eqs. 3 to 7): no learning rates, no clipping.
Both systems share the operator and the preconditioner A = (H H^T + 1 1^T + lambda I)^-1,
the part of the inverse that belongs to the last layer.

Here linearised dynamics with a closed-form last layer (RCIG) and with a trained one
(CIG) have the same minimiser, so they differ only under solver ``adam``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.errors import NumericalError
from potstill.methods.rcig.problem import MetaGradient, Problem, target_pass
from potstill.methods.rcig.ridge import RidgeKernel
from potstill.solvers import Solution, Status, cg


def meta_gradient(problem: Problem, start: Tensor | None = None) -> tuple[MetaGradient, Tensor]:
    """The meta-gradient, and alpha (N, C) to start the next inner solve from.

    Args:
        start: alpha of an earlier visit to the same model.

    Raises:
        NumericalError: a solve broke down.
    """
    settings, clock = problem.settings, problem.clock
    clock("inner solve")
    images, labels = problem.support()
    j = problem.linearise(images)
    lam = problem.regulariser
    ridge = RidgeKernel(j.features, lam, bias=True, dtype=problem.kernel_dtype)

    def operator(u: Tensor) -> Tensor:
        return j.jvp(j.vjp(u)).add_(u, alpha=lam)

    def solve(rhs: Tensor, what: str, start: Tensor | None = None) -> Solution:
        solution = cg.solve(
            operator,
            rhs,
            start=start,
            preconditioner=ridge.solve,
            tolerance=settings.solver.tolerance,
            max_steps=settings.solver.max_steps,
        )
        if solution.status is Status.BREAKDOWN:
            raise NumericalError(
                f"the {what} broke down after {solution.steps} steps; raise method.l2_rate"
            )
        return solution

    inner = solve(labels, "inner solve", start)
    alpha = inner.value
    theta = j.vjp(alpha)
    clock("target batch")
    target = target_pass(problem, theta)
    clock("inverse solve")
    inverse = solve(j.jvp(target.gradient), "inverse-Hessian solve")
    beta = inverse.value
    clock("gradient")
    tangents = torch.stack([target.gradient - j.vjp(beta), theta])
    gradient = problem.pull_back(tangents, torch.stack([alpha, -beta]))
    metrics = {
        "loss": target.loss,
        "batch_accuracy": target.accuracy,
        "inner_steps": float(inner.steps),
        "inner_residual": inner.residual,
        "inverse_steps": float(inverse.steps),
        "inverse_residual": inverse.residual,
    }
    result = MetaGradient(gradient, problem.fold(beta), target.log_temperature_gradient, metrics)
    return result, alpha
