"""VIG and RIG where their theory holds: strong regularisation, a problem near convex."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from potstill.methods.rcig import primal, standard
from potstill.methods.rcig.problem import Problem
from potstill.methods.rcig.rates import AdaptiveRate, Rates
from potstill.methods.rcig.settings import SolverSettings
from tests.methods.rcig.problems import relative_error, small_problem

RATES = Rates(AdaptiveRate(3e-3), AdaptiveRate(0.02), True)


def problem_of(variant: str, **settings: object) -> Problem:
    solver = SolverSettings(name="adam", inner_steps=5, inverse_steps=1500)
    return small_problem(variant=variant, solver=solver, l2_rate=0.3, beta=2.0, **settings)


def newton(problem: Problem, start: torch.Tensor, steps: int) -> torch.Tensor:
    """The minimiser of the inner loss near ``start``, by Newton with the whole Hessian."""
    inner = standard.InnerProblem(problem)
    images, labels = problem.support()
    theta = start
    for _ in range(steps):
        point = theta.requires_grad_()
        loss = inner.loss(point, images, labels)
        (gradient,) = torch.autograd.grad(loss, point)
        hessian = torch.autograd.functional.hessian(
            lambda p: inner.loss(p, images, labels), point.detach()
        )
        theta = point.detach() - torch.linalg.solve(hessian, gradient)
    assert gradient.norm() < 1e-7
    return theta


def outer_loss_at_rest(problem: Problem, near: torch.Tensor) -> float:
    theta, inner = newton(problem, near, 2), standard.InnerProblem(problem)
    head = inner.head(theta, *problem.support())[0] if inner.closed else None
    logits = inner.predict(theta, head, problem.target_images) * problem.log_temperature.exp()
    return F.cross_entropy(logits, problem.target_labels).item()


@pytest.mark.parametrize(
    ("variant", "features", "flip"),
    [
        ("vig", "start", False),
        ("rig", "start", False),
        ("rig", "trained", False),
        ("rig", "trained", True),
    ],
)
def test_gradient_of_the_whole_pipeline(variant: str, features: str, flip: bool) -> None:
    """Against finite differences through an inner problem solved to the last digit."""
    problem = problem_of(variant, rig_features=features, flip=flip, clip_implicit=False)
    inner = standard.InnerProblem(problem)
    theta = newton(problem, standard.descend(inner, 3e-3, 600)[0], 5)
    gradient = standard.gradient_at(inner, theta, RATES)
    for part in ("images", "labels"):
        analytic = getattr(gradient, part)
        direction = analytic / analytic.norm()
        up, down = (
            outer_loss_at_rest(
                replace(problem, **{part: getattr(problem, part) + sign * 1e-4 * direction}),
                theta,
            )
            for sign in (1, -1)
        )
        assert (up - down) / 2e-4 == pytest.approx(float(analytic.norm()), rel=2e-3)


def test_the_inner_losses_are_what_the_docstring_says() -> None:
    for variant in ("vig", "rig"):
        problem = problem_of(variant, rig_features="trained")
        inner = standard.InnerProblem(problem)
        theta = problem.theta + 0.05 * torch.randn_like(problem.theta)
        x, y, lam = problem.images, problem.labels, problem.regulariser
        outputs, h = problem.jacobian.function(theta, x)
        moved = theta - problem.theta
        head_slice = problem.jacobian.layout.head
        if variant == "vig":
            expected = (y - outputs).square().sum() / 2 + lam / 2 * moved.square().sum()
        else:
            theta = problem.jacobian.layout.body(theta) + (
                problem.theta - problem.jacobian.layout.body(problem.theta)
            )
            moved = moved.clone()
            moved[head_slice] = 0
            layout = problem.jacobian.layout
            bias = theta[layout.slices[layout.names.index(f"{layout.head_name}.bias")]]
            system = h @ h.T + lam * torch.eye(len(h), dtype=h.dtype)
            head = h.T @ torch.linalg.solve(system, y - bias)
            fit = (y - bias - h @ head).square().sum()
            expected = (fit + lam * (head.square().sum() + moved.square().sum())) / 2
        assert float(inner.loss(theta, x, y)) == pytest.approx(float(expected / y.numel()))


def test_rig_as_run_is_rcig_but_for_the_linearisation() -> None:
    """At theta_0 both inner losses have one value and one gradient; so does a short way off."""
    rig = standard.InnerProblem(problem_of("rig"))
    problem = rig.problem
    quadratic = primal.Quadratic.of(problem_of("rcig"))
    images, labels = problem.support()
    move = quadratic.trained(torch.randn_like(problem.theta))
    move = move / move.norm()
    for size, close in ((0.0, 1e-12), (1e-4, 1e-4)):
        point = (problem.theta + size * move).requires_grad_()
        loss = rig.loss(point, images, labels)
        (gradient,) = torch.autograd.grad(loss, point)
        value, expected = quadratic.loss_and_gradient(size * move)
        assert loss.item() == pytest.approx(value, rel=close)
        assert relative_error(gradient, expected) < close
    # The head's weight takes no part: its place in theta is the ridge's.
    assert not quadratic.problem.jacobian.layout.body(gradient).equal(torch.zeros_like(gradient))
    assert not gradient[problem.jacobian.layout.head].any()
    moved = problem.theta + move
    assert not torch.allclose(rig.parts(moved, images)[0], torch.zeros_like(labels))


def test_vig_has_no_direct_gradient() -> None:
    problem = problem_of("vig")
    settings = problem.settings.model_copy(
        update={"solver": SolverSettings(name="adam", inner_steps=5, inverse_steps=0)}
    )
    gradient = standard.meta_gradient(replace(problem, settings=settings), RATES)
    assert not gradient.images.any() and not gradient.labels.any()
    assert gradient.log_temperature != 0


def test_batch_norm_runs() -> None:
    for variant in ("vig", "rig"):
        solver = SolverSettings(name="adam", inner_steps=5, inverse_steps=5)
        problem = small_problem(variant=variant, solver=solver, normalisation="batch")
        gradient = standard.meta_gradient(problem, RATES)
        assert gradient.images.isfinite().all() and gradient.images.any()
