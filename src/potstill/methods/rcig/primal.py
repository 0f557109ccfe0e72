"""The paper's own way through the linearised problem: Adam in parameter space.

With r = y_S - J theta and s = 1/(N C) the inner loss is the quadratic

    L_inner = s/2 [ <r, M r> + lambda |theta|^2 ],    M = lambda A   last layer in closed form
                                                      M = I          last layer trained (CIG)

over the body's parameters (closed form: RCIG) or all of them (CIG); its Hessian is
s (J^T M J + lambda I). Gradient and Hessian products, the direct gradient and the
implicit one (eqs. 1 to 7) follow for any theta and v, so they hold after few Adam
steps as well as at the minimum. FRePo is no steps at all: theta = 0 and v = 0.

Sign: the implicit function theorem gives dL/dpsi = direct - grad_psi <dL_inner/dtheta, v>
with v = H^-1 g; the paper's eq. 1 writes a plus.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from potstill.methods.rcig.problem import MetaGradient, Problem, TargetPass, target_pass
from potstill.methods.rcig.rates import Rates, search
from potstill.methods.rcig.ridge import RidgeKernel
from potstill.networks.functional import Linearisation
from potstill.solvers import Solution, adam


@dataclass
class Quadratic:
    """The inner problem's matrices, at one model and one S."""

    problem: Problem
    j: Linearisation
    labels: Tensor
    ridge: RidgeKernel | None
    """A, where the last layer is in closed form."""

    @classmethod
    def of(cls, problem: Problem) -> Quadratic:
        """The quadratic of RCIG, or of CIG if the recipe says so."""
        images, labels = problem.support()
        j = problem.linearise(images)
        if problem.settings.variant == "cig":
            return cls(problem, j, labels, None)
        lam, dtype = problem.regulariser, problem.kernel_dtype
        return cls(problem, j, labels, RidgeKernel(j.features, lam, bias=False, dtype=dtype))

    def __post_init__(self) -> None:
        self.scale = 1 / self.labels.numel()
        self.lam = self.problem.regulariser

    def weigh(self, r: Tensor) -> Tensor:
        """M r"""
        return r if self.ridge is None else self.ridge.solve(r).mul_(self.lam)

    def vjp(self, u: Tensor) -> Tensor:
        """J^T u over the parameters that are trained; over a drawn subset if there is one."""
        if self.problem.draw_rows is not None:
            rows, weight = self.problem.rows(len(u))
            kept = torch.zeros_like(u)
            kept[rows] = u[rows] * weight
            u = kept
        return self.trained(self.j.vjp(u))

    def trained(self, flat: Tensor) -> Tensor:
        """``flat`` (p,) with what is not trained set to zero."""
        return flat if self.ridge is None else self.problem.jacobian.layout.body(flat)

    def hessian(self, v: Tensor) -> Tensor:
        """S (J^T M J + lambda I) v"""
        return self.vjp(self.weigh(self.j.jvp(v))).add_(v, alpha=self.lam).mul_(self.scale)

    def loss(self, theta: Tensor, produced: Tensor) -> float:
        """L_inner at theta, whose J theta is ``produced``."""
        r = self.labels - produced
        loss = (r * self.weigh(r)).sum() + self.lam * theta.square().sum()
        return loss.item() * self.scale / 2

    def loss_and_gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        """L_inner and its gradient, the latter from a subset if one is drawn."""
        produced = self.j.jvp(theta)
        gradient = theta.mul(self.lam).sub_(self.vjp(self.weigh(self.labels - produced)))
        return self.loss(theta, produced), gradient.mul_(self.scale)


def meta_gradient(problem: Problem, rates: Rates) -> MetaGradient:
    """Direct plus implicit gradient after the recipe's number of Adam steps.

    ``rates`` are searched on the first call and adapted on every one.
    """
    solver, clock = problem.settings.solver, problem.clock
    frepo = problem.settings.variant == "frepo"
    clock("inner solve")
    quadratic = Quadratic.of(problem)
    steps = 0 if frepo else solver.inner_steps
    if steps and not rates.found:
        rates.inner.value = search(
            rates.inner.value, lambda rate, steps: inner_solve(quadratic, rate, steps)[1], steps
        )
    theta, losses = inner_solve(quadratic, rates.inner.value, steps)
    rates.inner.observe(losses)
    produced = quadratic.j.jvp(theta) if steps else torch.zeros_like(quadratic.labels)

    clock("target batch")
    target = target_pass(problem, _with_head(quadratic, theta, produced))

    clock("inverse solve")
    inverse = None if frepo or not solver.inverse_steps else _inverse(quadratic, target, rates)
    rates.found = True

    clock("gradient")
    moves = {"theta": theta} if steps else {}
    metrics = {
        "loss": target.loss,
        "batch_accuracy": target.accuracy,
        "inner_loss": quadratic.loss(theta, produced),
        "inner_steps": float(steps),
        "inverse_steps": 0.0,
    }
    if inverse is not None:
        moves["v"] = inverse.value
        metrics |= {
            "inverse_steps": float(inverse.steps),
            "inverse_residual": inverse.residual,
            "inner_learning_rate": rates.inner.value,
            "inverse_learning_rate": rates.inverse.value,
        }
    images, labels = _psi_gradient(quadratic, target, moves)
    return MetaGradient(images, labels, target.log_temperature_gradient, metrics)


def _inverse(quadratic: Quadratic, target: TargetPass, rates: Rates) -> Solution:
    """V = H^-1 dL_outer/dtheta_B (eq. 7)."""
    g = _outer_gradient(quadratic, target)
    steps = quadratic.problem.settings.solver.inverse_steps

    def solve(rate: float, steps: int) -> Solution:
        return adam.solve(quadratic.hessian, g, learning_rate=rate, steps=steps)

    if not rates.found:
        rates.inverse.value = search(
            rates.inverse.value, lambda rate, steps: solve(rate, steps).losses, steps
        )
    solution = solve(rates.inverse.value, steps)
    rates.inverse.observe(solution.losses)
    return solution


def inner_solve(quadratic: Quadratic, rate: float, steps: int) -> tuple[Tensor, list[float]]:
    """Adam from theta = 0: theta (p,), and the loss before each step."""
    return adam.minimise(
        quadratic.loss_and_gradient,
        torch.zeros_like(quadratic.problem.theta),
        learning_rate=rate,
        steps=steps,
    )


def _with_head(quadratic: Quadratic, theta: Tensor, produced: Tensor) -> Tensor:
    """Theta with theta_F* = H^T A (y_S - J_S theta_B) in the head's place (eqs. 3 and 4)."""
    if quadratic.ridge is None:
        return theta
    layout = quadratic.problem.jacobian.layout
    head = quadratic.j.features.T @ quadratic.ridge.solve(quadratic.labels - produced)
    full = theta.clone()
    full[layout.head] = head.T.reshape(-1)
    return full


def _outer_gradient(quadratic: Quadratic, target: TargetPass) -> Tensor:
    """dL_outer/dtheta_B, through theta_F*(theta_B) too: J_T^T e - J_S^T A K_ST e, e = dL/df."""
    if quadratic.ridge is None:
        return target.gradient
    head = _head_cotangent(quadratic, target)
    through_head = quadratic.ridge.solve(quadratic.j.features @ head)
    return quadratic.trained(target.gradient - quadratic.j.vjp(through_head))


def _head_cotangent(quadratic: Quadratic, target: TargetPass) -> Tensor:
    """dL_outer/dtheta_F = H_T^T e, (h, C)."""
    layout = quadratic.problem.jacobian.layout
    return target.gradient[layout.head].view(layout.head_shape).T


def _psi_gradient(
    quadratic: Quadratic, target: TargetPass, moves: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Direct plus implicit gradient with respect to X_S and y_S.

    Both are scalars in h(X), J(X) theta, J(X) v and y_S; autograd on these small
    matrices gives their cotangents, and a pull-back takes them to X_S.

    Args:
        moves: "theta" and "v", (p,) each, where they are not zero.
    """
    problem, leaves = quadratic.problem, _leaves(quadratic, moves)
    direct, implicit = _scalars(quadratic, target, leaves)
    tangents = torch.stack(list(moves.values())) if moves else problem.theta.new_empty(0, 0)

    def gradients(scalar: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.autograd.grad(
            scalar, list(leaves.values()), retain_graph=True, materialize_grads=True
        )
        cotangent = dict(zip(leaves, found, strict=True))
        images = problem.pull_back(
            tangents,
            torch.stack([cotangent[name] for name in moves] or [cotangent["y"]])[: len(moves)],
            None if quadratic.ridge is None else cotangent["h"],
        )
        return images, problem.fold(cotangent["y"]).to(images.dtype)

    if not problem.settings.clips:
        return gradients(direct + implicit)
    (dx, dy), (ix, iy) = gradients(direct), gradients(implicit)
    return dx + clipped(ix, dx), dy + clipped(iy, dy)


def _leaves(quadratic: Quadratic, moves: dict[str, Tensor]) -> dict[str, Tensor]:
    """h(X), y_S, and J(X) of each move, in float64, each a leaf of autograd's graph."""
    values = {"h": quadratic.j.features, "y": quadratic.labels}
    values |= {name: quadratic.j.jvp(move) for name, move in moves.items()}
    return {name: x.detach().double().requires_grad_() for name, x in values.items()}


def _scalars(
    quadratic: Quadratic, target: TargetPass, leaves: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """(direct, implicit): the scalars whose gradients in psi are the two parts.

    direct = <H_T^T e, theta_F*>, implicit = -<dL_inner/dtheta, v> = s <M r, J v> + const.
    Multiplying by zero keeps every leaf in both graphs.
    """
    h, residual = leaves["h"], leaves["y"] - leaves.get("theta", 0)
    direct = implicit = 0 * torch.stack([leaf.sum() for leaf in leaves.values()]).sum()
    weighted = residual
    if quadratic.ridge is not None:
        ridge = h @ h.T + quadratic.lam * torch.eye(len(h), dtype=h.dtype, device=h.device)
        solved = torch.linalg.solve(ridge, residual)
        direct = direct + (_head_cotangent(quadratic, target).double() * (h.T @ solved)).sum()
        weighted = quadratic.lam * solved
    if "v" in leaves:
        implicit = implicit + quadratic.scale * (weighted * leaves["v"]).sum()
    return direct, implicit


def clipped(implicit: Tensor, direct: Tensor) -> Tensor:
    """``implicit``, scaled down so that its norm is at most ``direct``'s (as run)."""
    bound, norm = direct.norm(), implicit.norm()
    return implicit * (bound / norm).clamp(max=1) if norm > 0 else implicit
