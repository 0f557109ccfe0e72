"""Adam on the same problem: tends to the exact gradient; direct part alone is FRePo."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from potstill.methods.rcig import dual, primal
from potstill.methods.rcig.problem import Problem
from potstill.methods.rcig.rates import AdaptiveRate, Rates
from potstill.methods.rcig.settings import SolverSettings
from tests.methods.rcig.problems import relative_error, small_problem


def rates(inner: float = 3e-3, inverse: float = 0.1, *, found: bool = True) -> Rates:
    return Rates(AdaptiveRate(inner), AdaptiveRate(inverse), found)


def adam(steps: int, inverse_steps: int | None = None) -> SolverSettings:
    inverse = steps if inverse_steps is None else inverse_steps
    return SolverSettings(name="adam", inner_steps=steps, inverse_steps=inverse)


@pytest.mark.parametrize("variant", ["rcig", "cig"])
@pytest.mark.parametrize("flip", [False, True])
def test_tends_to_the_exact_gradient(variant: str, flip: bool) -> None:
    """As steps are added, until one of the two solves has converged.

    From there on Adam is no longer stable: while gradients vanish its mean of their squares
    fades, by 0.1 % a step, so that its steps grow until they throw it off and it converges
    anew. Rounding decides when. The inverse solve reaches 1e-9 after 300 to 400 steps.
    """
    exact, _ = dual.meta_gradient(small_problem(flip=flip))
    errors = []
    for steps in ((20, 20), (200, 60), (800, 200)):
        problem = small_problem(
            variant=variant, flip=flip, solver=adam(*steps), clip_implicit=False
        )
        gradient = primal.meta_gradient(problem, rates())
        errors.append(relative_error(gradient.images, exact.images))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2
    assert relative_error(gradient.labels, exact.labels) < 1e-2


def frepo_loss(problem: Problem, x: torch.Tensor, y: torch.Tensor, t: torch.Tensor):
    """Kernel ridge regression on the network's features, written plainly."""
    h_s = problem.jacobian.function(problem.theta, x)[1]
    h_t = problem.jacobian.function(problem.theta, problem.target_images)[1]
    system = h_s @ h_s.T + problem.regulariser * torch.eye(len(x), dtype=x.dtype)
    outputs = h_t @ h_s.T @ torch.linalg.solve(system, y)
    if problem.settings.outer_loss == "platt":
        return F.cross_entropy(outputs * t.exp(), problem.target_labels)
    wanted = F.one_hot(problem.target_labels, y.shape[1]).double() - 1 / y.shape[1]
    return (outputs - wanted).square().sum(1).mean() / 2


@pytest.mark.parametrize("loss", ["platt", "mse"])
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_frepo_is_the_gradient_of_ridge_regression(loss: str, normalisation: str) -> None:
    problem = small_problem(variant="frepo", outer_loss=loss, normalisation=normalisation)
    gradient = primal.meta_gradient(problem, rates())
    leaves = [
        leaf.clone().requires_grad_()
        for leaf in (problem.images, problem.labels, problem.log_temperature)
    ]
    value = frepo_loss(problem, *leaves)
    x, y, t = torch.autograd.grad(value, leaves, materialize_grads=True)
    assert gradient.metrics["loss"] == pytest.approx(value.item())
    assert relative_error(gradient.images, x) < 1e-9
    assert relative_error(gradient.labels, y) < 1e-9
    assert torch.allclose(gradient.log_temperature, t)


def test_the_direct_gradient_holds_at_any_theta() -> None:
    """With no inverse steps what remains is dL/dpsi at the theta that Adam reached."""
    problem = small_problem(solver=adam(3, 0))
    gradient = primal.meta_gradient(problem, rates())
    j = problem.jacobian.at(problem.theta, problem.images)
    quadratic = primal.Quadratic.of(problem)
    theta, _ = primal.inner_solve(quadratic, 3e-3, 3)

    def loss(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        moved = problem.jacobian.function
        outputs, h = torch.func.jvp(lambda p: moved(p, x), (problem.theta,), (theta,))[1], None
        h = moved(problem.theta, x)[1]
        system = h @ h.T + problem.regulariser * torch.eye(len(x), dtype=x.dtype)
        head = h.T @ torch.linalg.solve(system, y - outputs[0])
        h_t = moved(problem.theta, problem.target_images)[1]
        produced = torch.func.jvp(
            lambda p: moved(p, problem.target_images)[0], (problem.theta,), (theta,)
        )[1]
        logits = (produced + h_t @ head) * problem.log_temperature.exp()
        return F.cross_entropy(logits, problem.target_labels)

    x, y = problem.images.clone().requires_grad_(), problem.labels.clone().requires_grad_()
    dx, dy = torch.autograd.grad(loss(x, y), (x, y))
    assert j.outputs.shape == y.shape
    assert relative_error(gradient.images, dx) < 1e-9
    assert relative_error(gradient.labels, dy) < 1e-9


def test_the_implicit_gradient_is_clipped_to_the_direct_one() -> None:
    free = small_problem(solver=adam(20), clip_implicit=False)
    direct = primal.meta_gradient(replace_settings(free, solver=adam(20, 0)), rates())
    whole = primal.meta_gradient(free, rates(inverse=30.0))
    clipped = primal.meta_gradient(small_problem(solver=adam(20)), rates(inverse=30.0))
    implicit, bound = whole.images - direct.images, direct.images.norm()
    assert implicit.norm() > bound
    expected = direct.images + implicit * (bound / implicit.norm())
    assert relative_error(clipped.images, expected) < 1e-9


def replace_settings(problem: Problem, **settings: object) -> Problem:
    return replace(problem, settings=problem.settings.model_copy(update=settings))


def test_the_mean_over_all_subsets_is_the_full_gradient() -> None:
    """At theta and v that do not depend on the draw: FRePo, and one Hessian product."""
    full = primal.meta_gradient(small_problem(variant="frepo"), rates())
    subsets = torch.combinations(torch.arange(6), 2)
    total = torch.zeros_like(full.images)
    for subset in subsets:
        problem = small_problem(variant="frepo", draw_rows=lambda rows=subset: rows, subset=2)
        total += primal.meta_gradient(problem, rates()).images
    assert relative_error(total / len(subsets), full.images) < 1e-9

    v = torch.randn(len(problem.theta), dtype=torch.float64)
    exact = primal.Quadratic.of(small_problem())
    products = torch.stack(
        [
            primal.Quadratic.of(
                small_problem(draw_rows=lambda rows=subset: rows, subset=2)
            ).hessian(exact.trained(v))
            for subset in subsets
        ]
    )
    assert relative_error(products.mean(0), exact.hessian(exact.trained(v))) < 1e-9


def test_the_inner_loss_is_what_the_paper_writes() -> None:
    problem = small_problem(solver=adam(5))
    quadratic = primal.Quadratic.of(problem)
    theta = quadratic.trained(torch.randn(len(problem.theta), dtype=torch.float64) * 0.1)
    loss, gradient = quadratic.loss_and_gradient(theta)
    j = problem.jacobian.at(problem.theta, problem.images)
    r = problem.labels - j.jvp(theta)
    lam, h = problem.regulariser, j.features
    head = h.T @ torch.linalg.solve(h @ h.T + lam * torch.eye(6, dtype=h.dtype), r)
    fit = (r - h @ head).square().sum() / 2
    penalty = lam / 2 * (theta.square().sum() + head.square().sum())
    assert loss == pytest.approx(float((fit + penalty) / problem.labels.numel()))
    step = 1e-6 * torch.randn_like(theta)
    step = quadratic.trained(step)
    up, down = (quadratic.loss_and_gradient(theta + s * step)[0] for s in (1, -1))
    assert (up - down) / 2 == pytest.approx(float(gradient @ step), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_search_of_short_solves_ends(steps: int) -> None:
    """One loss alone never rises: the search looks at two."""
    found = rates(1e-5, 5e-5, found=False)
    primal.meta_gradient(small_problem(solver=adam(steps)), found)
    assert found.found and 1e-5 < found.inner.value < 1e3 and 5e-5 < found.inverse.value < 1e6


def test_rates_are_searched_once_and_then_kept() -> None:
    found = rates(1e-5, 5e-5, found=False)
    problem = small_problem(solver=adam(20))
    primal.meta_gradient(problem, found)
    assert found.found and found.inner.value > 1e-5 and found.inverse.value > 5e-5
    before = (found.inner.value, found.inverse.value)
    primal.meta_gradient(problem, found)
    assert (found.inner.value, found.inverse.value) == before
