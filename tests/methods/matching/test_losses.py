from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill import rng
from potstill.data import siamese
from potstill.data.siamese import ALL, Draw
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.losses import class_means, distribution_matching, squared_distances
from tests.methods.matching import problems
from tests.methods.matching.problems import (
    CHANNELS,
    CLASSES,
    IPC,
    SIDE,
    drawn,
    listed,
    pictures,
    problem,
)
from tests.reference import distribution_matching as reference


def network(seed=0, softplus_beta=None):
    return problems.network(seed, softplus_beta).requires_grad_(False)


def gradient(embed, real, synthetic, draws=None) -> Tensor:
    x = synthetic.clone().requires_grad_()
    loss = distribution_matching(embed, real, x, draws).sum()
    return torch.autograd.grad(loss, x)[0]


@pytest.mark.parametrize("seed", range(6))
def test_one_update_is_that_of_the_equation(seed):
    real, synthetic = problem(seed)
    features, draws = network(seed).features, drawn(seed)
    leaves, blocks = listed(synthetic)
    loss = reference.loss(features, real, blocks, draws)
    slow = torch.stack(torch.autograd.grad(loss, leaves))
    terms = distribution_matching(features, real, synthetic, draws)
    assert terms.shape == (CLASSES,)
    torch.testing.assert_close(terms.sum(), loss.detach())
    torch.testing.assert_close(gradient(features, real, synthetic, draws), slow)

    velocity = pictures(CLASSES * IPC, 9)
    images, moved = synthetic.clone(), synthetic - 10.0 * (0.5 * velocity + slow)
    momentum_step(images, velocity, slow, learning_rate=10.0, momentum=0.5)
    torch.testing.assert_close(images, moved)


def test_linear_features_have_the_gradient_in_closed_form():
    real, synthetic = problem()
    matrix = rng.normal((7, CHANNELS * SIDE * SIDE), rng.stream(0, "test/e"), dtype=torch.float64)
    found = gradient(lambda x: x.flatten(1) @ matrix.T, real, synthetic)
    for c, batch in enumerate(real):
        block = slice(c * IPC, (c + 1) * IPC)
        apart = (batch.mean(0) - synthetic[block].mean(0)).flatten()
        expected = (-2 / IPC * (matrix.T @ (matrix @ apart))).view(CHANNELS, SIDE, SIDE)
        for image in found[block]:
            torch.testing.assert_close(image, expected)


def test_the_expected_gradient_does_not_depend_on_the_number_of_real_images():
    real, synthetic = problem(real=5)
    features = network().features
    whole = gradient(features, real, synthetic)
    for size in (1, 2, 4):
        subsets = list(itertools.combinations(range(5), size))
        parts = [gradient(features, [b[list(rows)] for b in real], synthetic) for rows in subsets]
        torch.testing.assert_close(torch.stack(parts).mean(0), whole)
        assert not torch.allclose(parts[0], whole)


def test_the_gradient_is_that_of_finite_differences():
    real, synthetic = problem()
    features, draws = network(softplus_beta=5.0).features, drawn(3)

    def loss(x: Tensor) -> Tensor:
        return distribution_matching(features, real, x, draws).sum()

    found = gradient(features, real, synthetic, draws)
    for seed in range(3):
        direction = pictures(CLASSES * IPC, 20 + seed)
        step = 1e-5 * direction
        difference = (loss(synthetic + step) - loss(synthetic - step)) / 2e-5
        torch.testing.assert_close((found * direction).sum(), difference, rtol=1e-7, atol=1e-9)


@given(operation=st.sampled_from(ALL), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_the_real_batch_in_place_of_the_set_has_no_loss_under_a_shared_draw(operation, seed):
    real, _ = problem(seed)
    features = network(seed).features
    draws = [siamese.draw((operation,), SIDE, rng.stream(seed, "a", c)) for c in range(CLASSES)]
    same = torch.cat(real)
    assert distribution_matching(features, real, same, draws).max() < 1e-24
    assert gradient(features, real, same, draws).abs().max() < 1e-12
    assert distribution_matching(features, real, same).max() < 1e-24


@pytest.mark.parametrize("operation", ALL)
def test_different_draws_leave_a_loss(operation):
    pairs = {
        "colour": ([0.1, 0.5, 0.2], [0.9, 0.1, 0.8]),
        "crop": ([1, 0], [0, 1]),
        "cutout": ([2, 2], [6, 6]),
        "flip": ([True], [False]),
        "scale": ([1.2, 0.9], [0.9, 1.2]),
        "rotate": ([12.0], [-12.0]),
    }
    real, _ = problem()
    features = network().features
    views = [
        [siamese.apply(batch, Draw(operation, np.array([parameters]))) for batch in real]
        for parameters in pairs[operation]
    ]
    means = class_means(lambda x: [features(x)], views[0])[0]
    terms = squared_distances(means, features(torch.cat(views[1])))
    assert terms.min() > 1e-6


def test_a_class_has_the_draw_and_the_real_images_of_its_own():
    """Classes in another order give the same blocks in that order."""
    real, synthetic = problem()
    features, draws = network().features, drawn(1)
    found = gradient(features, real, synthetic, draws).view(CLASSES, IPC, CHANNELS, SIDE, SIDE)
    order = [2, 0, 1]
    blocks = synthetic.view(CLASSES, IPC, CHANNELS, SIDE, SIDE)[order].flatten(0, 1)
    turned = gradient(features, [real[c] for c in order], blocks, [draws[c] for c in order])
    torch.testing.assert_close(turned.view_as(found), found[order])


def test_many_images_in_parts_are_as_all_at_once():
    features = network().features
    batches = [pictures(37, 1), pictures(16, 2), pictures(3, 3)]
    expected = torch.stack([features(batch).mean(0) for batch in batches])
    (found,) = class_means(lambda x: [features(x)], iter(batches))
    torch.testing.assert_close(found, expected)
    synthetic = pictures(3 * 11, 4)
    x = synthetic.clone().requires_grad_()
    means = torch.stack([block.mean(0) for block in features(x).split(11)])
    (slow,) = torch.autograd.grad((expected - means).square().sum(), x)
    torch.testing.assert_close(gradient(features, batches, synthetic), slow)


def test_real_images_have_no_graph():
    features = network().requires_grad_(True).features
    assert not class_means(lambda x: [features(x)], problem()[0])[0].requires_grad
