"""DataDAM's loss against its equations, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from potstill import rng
from potstill.methods.matching.attention import attention, attention_matching
from potstill.methods.matching.losses import distribution_matching
from tests.methods.matching.problems import (
    CLASSES,
    IPC,
    drawn,
    listed,
    network,
    pictures,
    problem,
)
from tests.reference import attention_matching as reference


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return rng.normal(shape, rng.stream(seed, "test/maps"), dtype=torch.float64)


def net(seed: int = 0, **changes: object):
    return network(seed, **changes).requires_grad_(False)


def terms_and_gradient(of, real, synthetic, draws=None, **options):
    x = synthetic.clone().requires_grad_()
    terms = attention_matching(of.activations, real, x, draws, **options)
    return terms.detach(), torch.autograd.grad(terms.sum(), x)[0]


@pytest.mark.parametrize("power", [1, 2, 4])
def test_one_update_is_that_of_the_equations(power):
    real, synthetic = problem(power)
    of, draws = net(power, depth=3), drawn(power)
    leaves, blocks = listed(synthetic)
    loss = reference.loss(of, real, blocks, draws, power, 0.01)
    slow = torch.stack(torch.autograd.grad(loss, leaves))
    options = {"power": power, "feature_weight": 0.01}
    terms, gradient = terms_and_gradient(of, real, synthetic, draws, **options)
    assert terms.shape == (CLASSES,)
    torch.testing.assert_close(terms.sum(), loss.detach())
    torch.testing.assert_close(gradient, slow)


def test_activations_are_those_before_pooling():
    of, images = net(depth=3), pictures(3, 0)
    maps, features = of.activations(images)
    assert [one.shape[1:] for one in maps] == [(4, 8, 8), (4, 4, 4), (4, 2, 2)]
    assert features.equal(of.features(images))
    for place, image in enumerate(images):
        wanted, _ = reference.activations(of, image)
        for one, expected in zip(maps, wanted, strict=True):
            torch.testing.assert_close(one[place], expected)


@given(factor=st.floats(1e-3, 1e3), power=st.sampled_from([1, 2, 4]))
def test_attention_does_not_depend_on_the_scale_of_activations(factor, power):
    maps = noise(2, 3, 4, 4)
    torch.testing.assert_close(
        attention(factor * maps, power), attention(maps, power), rtol=1e-13, atol=1e-14
    )


@pytest.mark.parametrize("power", [1, 2, 4])
def test_attention_of_one_channel_and_of_one_place(power):
    maps = noise(3, 1, 4, 4).abs()
    torch.testing.assert_close(attention(maps, power), normalize(maps.flatten(1) ** power))
    points = noise(3, 5, 1, 1).requires_grad_()
    z = attention(points, power)
    assert z.equal(torch.ones(3, 1, dtype=torch.float64))
    assert torch.autograd.grad(z.sum(), points)[0].abs().max() < 1e-15
    assert not attention(torch.zeros(1, 2, 3, 3), power).any()


@pytest.mark.parametrize("power", [1, 2, 4])
def test_the_gradient_of_attention_is_that_of_finite_differences(power):
    maps = (noise(2, 3, 2, 2).abs() + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: attention(x, power), maps)


def test_without_attention_it_is_distribution_matching():
    real, synthetic = problem()
    of, draws = net(depth=1), drawn(1)  # one block: features alone
    terms, _ = terms_and_gradient(of, real, synthetic, draws, power=4, feature_weight=0.3)
    torch.testing.assert_close(
        terms, 0.3 * distribution_matching(of.features, real, synthetic, draws)
    )


@pytest.mark.parametrize("normalisation", ["instance", "batch"])
def test_the_real_batch_in_place_of_the_set_has_no_loss(normalisation):
    real, _ = problem()
    of = net(normalisation=normalisation)
    options = {"power": 4, "feature_weight": 0.01, "coupled": normalisation == "batch"}
    terms, gradient = terms_and_gradient(of, real, torch.cat(real), drawn(2), **options)
    assert terms.max() < 1e-24 and gradient.abs().max() < 1e-12
    other, _ = terms_and_gradient(of, real, pictures(CLASSES * IPC, 5), drawn(2), **options)
    assert other.min() > 1e-4


def test_batch_norm_sees_all_classes_at_once_real_and_synthetic_apart():
    of = net(normalisation="batch")
    real, synthetic = problem()
    found = distribution_matching(of.features, real, synthetic, coupled=True)
    means = [of.features(images).unflatten(0, (CLASSES, -1)).mean(1) for images in
             (torch.cat(real), synthetic)]  # fmt: skip
    torch.testing.assert_close(found, (means[0] - means[1]).square().sum(1))
    apart = distribution_matching(of.features, real, synthetic)
    assert not torch.allclose(found, apart)
