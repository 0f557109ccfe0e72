"""CAFE's loss against its equations, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from potstill.data import siamese
from potstill.methods.matching.alignment import centre_losses, feature_alignment
from tests.methods.matching.problems import (
    CLASSES,
    IPC,
    drawn,
    listed,
    network,
    pictures,
    problem,
)
from tests.reference import feature_alignment as reference

WEIGHTS = [0.1, 0.1, 1.0, 2.0]


def aligned(of, real, synthetic, draws=None, centre_weight=0.01):
    x = synthetic.clone().requires_grad_()
    terms = feature_alignment(
        of.activations, real, x, draws, weights=WEIGHTS, centre_weight=centre_weight
    )
    return terms.detach(), torch.autograd.grad(terms.sum(), x)[0]


@pytest.mark.parametrize("seed", range(3))
def test_one_update_is_that_of_the_equations(seed):
    real, synthetic = problem(seed)
    of = network(seed, depth=3)
    leaves, blocks = listed(synthetic)
    loss = reference.loss(of, real, blocks, WEIGHTS, 0.01)
    slow = torch.stack(torch.autograd.grad(loss, leaves))
    terms, gradient = aligned(of, real, synthetic)
    assert terms.shape == (CLASSES,)
    torch.testing.assert_close(terms.sum(), loss.detach())
    torch.testing.assert_close(gradient, slow)


def test_views_are_of_both_sides():
    real, synthetic = problem()
    of, draws = network(depth=3), drawn(4)
    seen = [siamese.apply(batch, draw) for batch, draw in zip(real, draws, strict=True)]
    blocks = zip(synthetic.split(IPC), draws, strict=True)
    images = torch.cat([siamese.apply(block, draw) for block, draw in blocks])
    terms, _ = aligned(of, real, synthetic, draws)
    torch.testing.assert_close(terms, aligned(of, seen, images)[0])


def test_many_real_images_are_added_up_part_by_part():
    batches = [pictures(37, 1), pictures(16, 2), pictures(3, 3)]
    of = network(depth=3)
    synthetic = pictures(CLASSES * IPC, 4)
    loss = reference.loss(of, batches, synthetic.split(IPC), WEIGHTS, 0.01).detach()
    torch.testing.assert_close(aligned(of, batches, synthetic)[0].sum(), loss)


def test_the_gradient_of_the_centres_is_in_closed_form():
    """(softmax - one-hot)^T H, and every image of a class gets 1/ipc of its row through J."""
    real, synthetic = problem()
    of = network(depth=3).requires_grad_(False)
    features = [of.features(batch) for batch in real]
    stacked = torch.cat(features)
    centres = of.features(synthetic).unflatten(0, (CLASSES, IPC)).mean(1).requires_grad_()
    (found,) = torch.autograd.grad(centre_losses(features, centres).sum(), centres)
    target = F.one_hot(torch.arange(CLASSES).repeat_interleave(4), CLASSES)
    expected = ((stacked @ centres.T).softmax(1) - target).T @ stacked
    torch.testing.assert_close(found, expected)

    difference = aligned(of, real, synthetic, centre_weight=1.0)[1]
    difference -= aligned(of, real, synthetic, centre_weight=0.0)[1]
    x = synthetic.clone().requires_grad_()
    back = expected.repeat_interleave(IPC, 0) / IPC
    (through,) = torch.autograd.grad(of.features(x), x, back)
    torch.testing.assert_close(difference, through)


def test_the_real_batch_in_place_of_the_set_leaves_no_distance():
    real, _ = problem()
    terms, gradient = aligned(network(depth=3), real, torch.cat(real), drawn(2), 0.0)
    assert terms.max() < 1e-24 and gradient.abs().max() < 1e-12
