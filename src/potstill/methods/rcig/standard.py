"""Standard dynamics: VIG and RIG, where the inner problem is the network itself.

VIG trains all parameters: f(x) is the network's output and

    L_inner = s [ 1/2 |y - f(X_S)|^2 + lambda/2 |theta - theta_0|^2 ],   s = 1/(N C).

RIG trains the body and has the last layer in closed form, theta_F* = H^T A r, so that

    L_inner = s [ lambda/2 <r, A r> + lambda/2 |theta_B - theta_B0|^2 ].

The paper leaves open what the last layer sees. As run, and here by default, H and A are at theta_0,
and the body adds how far it moves the outputs, the head's weight left as it was:

    r = y - (f_theta(X) - f_theta_0(X)),      f(x) = f_theta(x) - f_theta_0(x) + theta_F*^T h_0(x).

This is eqs. 3 and 4 with the network's own change in place of its linearisation J theta_B, so that
Table 1 varies one thing from RIG to RCIG. With ``rig_features: trained`` H and A are at the
trained body, r = y - 1 b^T (b: the head's bias) and f(x) = b + theta_F*^T h(x): a network as it is
evaluated, whose features move with the body.

The paper says only "small L2 regularisation"; here it pulls towards theta_0, so that
the linearisation of VIG's problem at theta_0 is CIG's. (As run, VIG's pulled towards 0.) Neither
problem is convex: the inverse-Hessian product is Adam's best effort, which is the point of Table 1.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from potstill.methods.rcig.outer import outer_loss
from potstill.methods.rcig.primal import clipped
from potstill.methods.rcig.problem import MetaGradient, Problem
from potstill.methods.rcig.rates import Rates, search
from potstill.solvers import Solution, adam


class InnerProblem:
    """L_inner and the predictor it trains."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.function = problem.jacobian.function
        self.closed = problem.settings.variant == "rig"
        self._layout = layout = problem.jacobian.layout
        self._bias = layout.slices[layout.names.index(f"{layout.head_name}.bias")]

    def parts(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the trained parameters put out, and what a last layer in closed form sees.

        Returns:
            (b, C) or (C,), and h (b, H); None where there is no such layer.
        """
        if not self.closed:
            return self.function(theta, images)[0], None
        if self.problem.settings.rig_features == "trained":
            return theta[self._bias], self.function(theta, images)[1]
        start = self.problem.theta
        outputs, h = self.function(start, images)
        body = self._layout.body(theta - start) + start
        return self.function(body, images)[0] - outputs, h

    def head(self, theta: Tensor, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """theta_F* (h, C) and <r, A r>, differentiable in everything."""
        produced, h = self.parts(theta, images)
        assert h is not None
        residual = labels - produced
        wide = h.to(self.problem.kernel_dtype)
        ridge = wide @ wide.T
        ridge = ridge + self.problem.regulariser * torch.eye(
            len(h), dtype=ridge.dtype, device=h.device
        )
        solved = torch.linalg.solve(ridge, residual.to(ridge.dtype)).to(h.dtype)
        return h.T @ solved, (residual * solved).sum()

    def loss(self, theta: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """L_inner, a scalar."""
        lam = self.problem.regulariser
        pull = (theta - self.problem.theta).square().sum()
        if self.closed:
            fit = lam * self.head(theta, images, labels)[1]
        else:
            fit = (labels - self.parts(theta, images)[0]).square().sum()
        return (fit + lam * pull) / (2 * labels.numel())

    def predict(self, theta: Tensor, head: Tensor | None, images: Tensor) -> Tensor:
        """f(images) (b, C)."""
        produced, h = self.parts(theta, images)
        return produced if h is None or head is None else h @ head + produced


def meta_gradient(problem: Problem, rates: Rates) -> MetaGradient:
    """Direct plus implicit gradient by autograd through the network itself."""
    solver, inner = problem.settings.solver, InnerProblem(problem)
    problem.clock("inner solve")
    if not rates.found:
        rates.inner.value = search(
            rates.inner.value,
            lambda rate, steps: descend(inner, rate, steps)[1],
            solver.inner_steps,
        )
    theta, inner_losses = descend(inner, rates.inner.value, solver.inner_steps)
    rates.inner.observe(inner_losses)
    gradient = gradient_at(inner, theta, rates)
    steps = {"inner_steps": float(len(inner_losses)), "inner_learning_rate": rates.inner.value}
    return replace(gradient, metrics=gradient.metrics | steps)


def gradient_at(inner: InnerProblem, theta: Tensor, rates: Rates) -> MetaGradient:
    """Direct plus implicit gradient where the inner problem came to rest, theta (p,)."""
    problem, settings, solver = inner.problem, inner.problem.settings, inner.problem.settings.solver
    images, labels = problem.support()
    problem.clock("target batch")
    x = images.detach().requires_grad_()
    y = labels.detach().requires_grad_()
    theta = theta.detach().requires_grad_()
    loss, accuracy, g, direct, d_temperature = _outer(inner, theta, x, y)

    problem.clock("inverse solve")
    value = inner.loss(theta, x, y)
    (gradient,) = torch.autograd.grad(value, theta, create_graph=True)

    def hessian(v: Tensor) -> Tensor:
        return torch.autograd.grad(gradient, theta, v, retain_graph=True)[0]

    def inverse_solve(rate: float, steps: int) -> Solution:
        return adam.solve(hessian, g, learning_rate=rate, steps=steps)

    if not rates.found:
        rates.inverse.value = search(
            rates.inverse.value,
            lambda rate, steps: inverse_solve(rate, steps).losses,
            solver.inverse_steps,
        )
        rates.found = True
    inverse = inverse_solve(rates.inverse.value, solver.inverse_steps)
    rates.inverse.observe(inverse.losses)

    problem.clock("gradient")
    ix, iy = torch.autograd.grad(
        gradient, (x, y), -inverse.value, allow_unused=True, materialize_grads=True
    )
    dx, dy = direct
    if settings.clips:
        ix, iy = clipped(ix, dx), clipped(iy, dy)
    metrics = {
        "loss": loss,
        "batch_accuracy": accuracy,
        "inner_loss": value.item(),
        "inverse_steps": float(inverse.steps),
        "inverse_residual": inverse.residual,
        "inverse_learning_rate": rates.inverse.value,
    }
    return MetaGradient(
        problem.fold(dx + ix, mirror=True), problem.fold(dy + iy), d_temperature, metrics
    )


def descend(inner: InnerProblem, rate: float, steps: int) -> tuple[Tensor, list[float]]:
    """``steps`` Adam steps on L_inner from theta_0: theta (p,), and the loss before each."""
    images, labels = inner.problem.support()

    def loss_and_gradient(theta: Tensor) -> tuple[float, Tensor]:
        with torch.enable_grad():
            point = theta.detach().requires_grad_()
            loss = inner.loss(point, images, labels)
            return loss.item(), torch.autograd.grad(loss, point)[0]

    return adam.minimise(loss_and_gradient, inner.problem.theta, learning_rate=rate, steps=steps)


def _outer(
    inner: InnerProblem, theta: Tensor, x: Tensor, y: Tensor
) -> tuple[float, float, Tensor, tuple[Tensor, Tensor], Tensor]:
    """Outer loss, batch accuracy, dL/dtheta, dL/d(X_S, y_S) directly, dL/d(log tau).

    S enters through theta_F* alone, so the target batch is passed in chunks against
    theta_F* as a leaf, and its cotangent is taken back to theta, X_S and y_S once.
    """
    problem = inner.problem
    b = len(problem.target_images)
    size = b if problem.jacobian.couples_batch else problem.chunk
    head = inner.head(theta, x, y)[0] if inner.closed else None
    leaf = None if head is None else head.detach().requires_grad_()
    wrt = [theta] if leaf is None else [theta, leaf]
    totals = [torch.zeros_like(w) for w in wrt]
    loss = temperature = torch.zeros((), dtype=theta.dtype, device=theta.device)
    correct = 0
    for images, classes in zip(
        problem.target_images.split(size), problem.target_labels.split(size), strict=True
    ):
        outputs = inner.predict(theta, leaf, images)
        outer = outer_loss(
            problem.settings.outer_loss, outputs.detach(), classes, problem.log_temperature, b
        )
        for total, part in zip(
            totals, torch.autograd.grad(outputs, wrt, outer.gradient), strict=True
        ):
            total += part
        loss, temperature = loss + outer.value, temperature + outer.log_temperature_gradient
        correct += int((outputs.argmax(1) == classes).sum())
    direct = (torch.zeros_like(x), torch.zeros_like(y))
    if head is not None:
        through, dx, dy = torch.autograd.grad(head, (theta, x, y), totals[1])
        totals[0] += through
        direct = (dx, dy)
    return loss.item(), correct / b, totals[0], direct, temperature
