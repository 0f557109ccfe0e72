"""The exact meta-gradient: against dense Jacobians, and against finite differences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from potstill.errors import NumericalError
from potstill.methods.rcig import dual
from potstill.methods.rcig.problem import Problem
from tests.methods.rcig.problems import relative_error, small_problem
from tests.reference.dense import outer_value

NETWORKS = [
    {"normalisation": "none"},
    {"normalisation": "none", "beta": None},
    {"normalisation": "none", "general": True},
    {"normalisation": "batch"},
    {"normalisation": "instance"},
    {"normalisation": "group"},
    {"normalisation": "layer"},
]


def dense_gradients(problem: Problem) -> tuple[torch.Tensor, ...]:
    leaves = [problem.images, problem.labels, problem.log_temperature]
    x, y, t = (leaf.clone().requires_grad_() for leaf in leaves)
    support = (x, y)
    if problem.settings.flip:
        support = (torch.cat([x, x.flip(3)]), torch.cat([y, y]))
    loss = outer_value(
        problem.jacobian.function,
        problem.theta,
        support,
        t,
        (problem.target_images, problem.target_labels),
        problem.regulariser,
    )
    return torch.autograd.grad(loss, (x, y, t))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: "-".join(map(str, n.values())))
def test_equals_dense_jacobians(network: dict, flip: bool) -> None:
    problem = small_problem(flip=flip, **network)
    gradient, _ = dual.meta_gradient(problem)
    x, y, t = dense_gradients(problem)
    assert relative_error(gradient.images, x) < 1e-9
    assert relative_error(gradient.labels, y) < 1e-9
    assert relative_error(gradient.log_temperature, t) < 1e-9


@pytest.mark.parametrize("normalisation", ["none", "batch"])
@pytest.mark.parametrize("part", ["images", "labels", "log_temperature"])
def test_equals_finite_differences(part: str, normalisation: str) -> None:
    problem = small_problem(normalisation=normalisation)
    gradient = getattr(dual.meta_gradient(problem)[0], part)
    direction = torch.randn(
        gradient.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )

    def loss(step: float) -> float:
        moved = getattr(problem, part) + step * direction
        return dual.meta_gradient(replace(problem, **{part: moved}))[0].metrics["loss"]

    difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert difference == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


def test_a_warm_start_reaches_the_same_gradient_in_fewer_steps() -> None:
    cold, alpha = dual.meta_gradient(small_problem())
    warm, _ = dual.meta_gradient(small_problem(), alpha)
    assert warm.metrics["inner_steps"] < cold.metrics["inner_steps"]
    assert relative_error(warm.images, cold.images) < 1e-9


def test_the_recipe_tolerance_gives_nearly_the_exact_direction() -> None:
    exact, _ = dual.meta_gradient(small_problem())
    loose, _ = dual.meta_gradient(small_problem(solver={"tolerance": 1e-2}))
    assert loose.metrics["inner_steps"] < exact.metrics["inner_steps"] / 2
    cosine = torch.cosine_similarity(loose.images.flatten(), exact.images.flatten(), dim=0)
    assert cosine > 0.99


def test_the_mean_over_all_subsets_is_the_full_gradient() -> None:
    full, _ = dual.meta_gradient(small_problem())
    subsets = torch.combinations(torch.arange(6), 4)
    total = torch.zeros_like(full.images)
    for subset in subsets:
        part, _ = dual.meta_gradient(small_problem(draw_rows=lambda rows=subset: rows, subset=4))
        assert relative_error(part.labels, full.labels) < 1e-9
        total += part.images
    assert relative_error(total / len(subsets), full.images) < 1e-9


def test_numbers_that_are_not_finite_are_reported() -> None:
    problem = small_problem()
    with pytest.raises(NumericalError, match="not finite"):
        dual.meta_gradient(replace(problem, images=problem.images * float("nan")))
