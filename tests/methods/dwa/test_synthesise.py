from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill import rng
from potstill.errors import NumericalError
from potstill.methods.dwa.bn_statistics import MeasuredNetwork
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.dwa.synthesise import Objective, Range, synthesise, view
from tests.methods.dwa.test_bn_statistics import reference
from tests.methods.dwa.test_bn_statistics import teacher as float64_teacher

LABELS = torch.arange(5)
LIMIT = torch.full((3, 1, 1), 1.5, dtype=torch.float64)
VALID = Range(-LIMIT, LIMIT)


def settings(**changes: object) -> DWASettings:
    return DWASettings(**{"iterations": 4, "precision": "float32", "jitter": 2, **changes})


def draw(step: int) -> np.random.Generator:
    return rng.stream(3, "test/view", step)


def start() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(5, 3, 8, 8, dtype=torch.float64).clamp(-1.5, 1.5)


def by_hand(recipe: DWASettings) -> Tensor:
    """Eq. 16 and Adam, written out, with hooks and automatic differentiation."""
    teacher = float64_teacher()
    images = start()
    first, second = torch.zeros_like(images), torch.zeros_like(images)
    for step in range(recipe.iterations):
        leaf = images.clone().requires_grad_()
        generator = draw(step)
        shift = generator.integers(-recipe.jitter, recipe.jitter + 1, 2).tolist()
        outputs, layers = reference(teacher, torch.roll(leaf, shift, (2, 3)))
        loss = F.cross_entropy(outputs, LABELS)
        for place, layer in enumerate(layers):
            factor = recipe.first_layer_factor if place == 0 else 1.0
            loss = loss + recipe.mean_weight * factor * (layer.mean - layer.running_mean).norm()
            gap = layer.variance - layer.running_variance
            loss = loss + recipe.variance_weight * factor * gap.norm()
        gradient = torch.autograd.grad(loss, leaf)[0]
        rate = recipe.learning_rate * (1 + math.cos(math.pi * step / recipe.iterations)) / 2
        low, high = recipe.betas
        first = low * first + (1 - low) * gradient
        second = high * second + (1 - high) * gradient**2
        unbiased = first / (1 - low ** (step + 1))
        root = (second / (1 - high ** (step + 1))).sqrt()
        images = (images - rate * unbiased / (root + 1e-8)).clamp(-1.5, 1.5)
    return images


@pytest.mark.parametrize(
    "changes",
    [{}, {"variance_weight": 0.01}, {"first_layer_factor": 1.0, "mean_weight": 1.0}, {"jitter": 0}],
)
def test_the_last_iterate_is_that_of_the_written_out_loop(changes: dict[str, float]) -> None:
    recipe = settings(**changes)
    objective = Objective(recipe, MeasuredNetwork(float64_teacher()), None, LABELS)
    images = synthesise(start(), objective, recipe, VALID, draw)
    torch.testing.assert_close(images, by_hand(recipe), rtol=1e-9, atol=1e-9)
    assert (images - start()).abs().max() > 0.1


def test_statistics_of_the_unadjusted_pass() -> None:
    """Eq. 16 to the letter: cross-entropy through one network, moments through the other."""
    teacher = float64_teacher()
    moved = {name: value + 0.1 for name, value in teacher.named_parameters()}
    adjusted, plain = MeasuredNetwork(teacher, moved), MeasuredNetwork(teacher)
    one = Objective(settings(), adjusted, None, LABELS)(start())
    two = Objective(settings(), adjusted, plain, LABELS)(start())
    neither = Objective(settings(), plain, None, LABELS)(start())
    assert two.cross_entropy == one.cross_entropy != neither.cross_entropy
    assert two.variance == neither.variance != one.variance
    assert two.mean == neither.mean != one.mean


def test_the_loss_weighs_its_parts() -> None:
    recipe = settings(mean_weight=0.5, variance_weight=2.0)
    losses = Objective(recipe, MeasuredNetwork(float64_teacher()), None, LABELS)(start())
    expected = losses.cross_entropy + 0.5 * losses.mean + 2 * losses.variance
    assert losses.total(recipe) == expected
    assert losses.numbers(recipe)["loss"] == pytest.approx(expected.item())


def test_synthesis_lowers_the_loss_and_keeps_to_the_range() -> None:
    recipe = settings(iterations=30)
    objective = Objective(recipe, MeasuredNetwork(float64_teacher()), None, LABELS)
    seen: list[tuple[int, float]] = []
    images = synthesise(
        start(), objective, recipe, VALID, draw, lambda i, x: seen.append((i, x["loss"])), every=10
    )
    assert [iteration for iteration, _ in seen] == [1, 10, 20, 30]
    assert seen[-1][1] < 0.8 * seen[0][1]
    assert images.abs().max() <= 1.5
    assert not images.requires_grad


def test_range_is_per_channel() -> None:
    low, high = torch.tensor([-1.0, 0.0]).view(2, 1, 1), torch.tensor([1.0, 0.5]).view(2, 1, 1)
    images = torch.tensor([-3.0, 3.0]).view(1, 1, 1, 2).repeat(1, 2, 1, 1)
    clamped = Range(low, high).clamp_(images)
    assert clamped[0, 0, 0].tolist() == [-1.0, 1.0]
    assert clamped[0, 1, 0].tolist() == [0.0, 0.5]


def test_views_roll_and_flip_the_whole_batch_alike() -> None:
    recipe = settings(flip=True, jitter=3)
    images = torch.arange(2 * 64, dtype=torch.float64).view(2, 1, 8, 8)
    different = set()
    for step in range(40):
        seen = view(images, recipe, draw(step))
        assert torch.equal(seen[1] - seen[0], torch.full((1, 8, 8), 64.0, dtype=torch.float64))
        assert torch.equal(seen.flatten(1).sort(1).values, images.flatten(1))
        different.add(tuple(seen[0].flatten().tolist()))
    assert len(different) > 20


def test_no_view_is_the_image_itself() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(view(images, settings(jitter=0), draw(0)), images)


def test_a_resized_crop_keeps_the_shape_and_the_gradient() -> None:
    images = torch.randn(2, 3, 8, 8, requires_grad=True)
    seen = view(images, settings(resized_crop=True, jitter=0), draw(1))
    assert seen.shape == images.shape
    assert torch.autograd.grad(seen.sum(), images)[0].abs().sum() > 0


def test_nan_stops_the_synthesis() -> None:
    objective = Objective(settings(), MeasuredNetwork(float64_teacher()), None, LABELS)
    with pytest.raises(NumericalError, match=r"iteration 1: .* is not finite"):
        synthesise(start() * float("nan"), objective, settings(), VALID, draw)
