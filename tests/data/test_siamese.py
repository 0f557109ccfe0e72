from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill import rng
from potstill.data import siamese
from potstill.data.siamese import ALL, WITHOUT_FLIP, Draw, apply, draw, strategy_of, usual_strategy
from tests.reference.siamese import applied

many = settings(max_examples=60)
operations = st.sampled_from(ALL)
seeds = st.integers(0, 10_000)
sides = st.integers(4, 13)
channels = st.sampled_from([1, 3])


def pictures(n: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    generator = rng.stream(seed, "test/pictures")
    return rng.normal((n, channels, side, side), generator, dtype=torch.float64)


def drawn(operation: str, side: int, seed: int, count: int = 1) -> Draw:
    return draw((operation,), side, rng.stream(seed, "test/draw"), count)


def one(operation: str, *parameters: float) -> Draw:
    return Draw(operation, np.array([parameters]))


@given(operation=operations, side=sides, channels=channels, n=st.integers(1, 3), seed=seeds)
@many
def test_a_siamese_draw_does_the_same_to_every_image_as_the_plain_loop(
    operation, side, channels, n, seed
):
    images, shared = pictures(n, channels, side, seed), drawn(operation, side, seed)
    assert shared.parameters.shape[0] == 1
    found = apply(images, shared)
    for image, result in zip(images, found, strict=True):
        slow = applied(image, operation, shared.parameters[0].tolist())
        torch.testing.assert_close(result, slow, rtol=0, atol=1e-12)


@given(operation=operations, side=sides, channels=channels, n=st.integers(2, 4), seed=seeds)
@many
def test_a_batch_draw_does_to_each_image_what_its_own_parameters_say(
    operation, side, channels, n, seed
):
    images, own = pictures(n, channels, side, seed), drawn(operation, side, seed, n)
    assert own.operation == operation and len(own.parameters) == n
    found = apply(images, own)
    for image, result, parameters in zip(images, found, own.parameters.tolist(), strict=True):
        slow = applied(image, operation, parameters)
        torch.testing.assert_close(result, slow, rtol=0, atol=1e-12)


@given(operation=operations, side=sides, channels=channels, batch=st.booleans(), seed=seeds)
@many
def test_operations_are_affine_in_the_images(operation, side, channels, batch, seed):
    count = 2 if batch else 1
    x, y = pictures(2, channels, side, seed), pictures(2, channels, side, seed + 1)
    fixed, a = drawn(operation, side, seed, count), 0.3
    between = apply(a * x + (1 - a) * y, fixed)
    torch.testing.assert_close(between, a * apply(x, fixed) + (1 - a) * apply(y, fixed))


@given(operation=operations, side=sides, channels=channels, batch=st.booleans(), seed=seeds)
@many
def test_gradients_are_those_of_the_linear_part(operation, side, channels, batch, seed):
    """<L u, v> = <u, L^T v>, L u = A(u) - A(0), L^T from autograd."""
    fixed = drawn(operation, side, seed, 2 if batch else 1)
    u, v = pictures(2, channels, side, seed), pictures(2, channels, side, seed + 1)
    zero = torch.zeros_like(u)
    x = u.clone().requires_grad_()
    (transposed,) = torch.autograd.grad(apply(x, fixed), x, v)
    linear = apply(u, fixed) - apply(zero, fixed)
    assert (linear * v).sum().item() == pytest.approx((u * transposed).sum().item(), abs=1e-11)
    assert x.detach().equal(u)


@given(operation=operations, side=sides, n=st.integers(1, 3), m=st.integers(1, 3), seed=seeds)
@many
def test_real_and_synthetic_images_are_treated_alike(operation, side, n, m, seed):
    real, synthetic = pictures(n, 3, side, seed), pictures(m, 3, side, seed + 1)
    shared = drawn(operation, side, seed)
    together = apply(torch.cat([real, synthetic]), shared)
    apart = torch.cat([apply(real, shared), apply(synthetic, shared)])
    torch.testing.assert_close(together, apart, rtol=0, atol=1e-14)


@pytest.mark.parametrize("side", [5, 8, 28])
@pytest.mark.parametrize(
    "nothing",
    [
        one("scale", 1.0, 1.0),
        one("rotate", 0.0),
        one("crop", 0, 0),
        one("flip", False),
        one("colour", 0.5, 0.5, 0.5),
    ],
    ids=lambda draw: draw.operation,
)
def test_parameters_that_change_nothing_change_nothing(nothing, side):
    images = pictures(2, 3, side)
    torch.testing.assert_close(apply(images, nothing), images, rtol=0, atol=1e-13)
    own = Draw(nothing.operation, np.repeat(nothing.parameters, 2, 0))
    torch.testing.assert_close(apply(images, own), images, rtol=0, atol=1e-13)


def test_what_comes_from_outside_is_zero_and_not_black():
    ones = torch.ones(1, 1, 28, 28)
    assert apply(ones, one("crop", 4, -3))[0, 0, -4:].abs().max() == 0
    assert apply(ones, one("crop", 4, -3))[0, 0, :24, :3].abs().max() == 0
    assert apply(ones, one("scale", 1.2, 1.0))[0, 0, :, 0].abs().max() == 0
    assert apply(ones, one("rotate", 15.0))[0, 0, 0, 0] == 0
    assert apply(ones, one("cutout", 0, 0))[0, 0].sum() == 28 * 28 - 7 * 7


def test_grey_images_have_no_saturation():
    images = pictures(2, 1, 8)
    pale, garish = (apply(images, one("colour", 0.2, kappa, 0.7)) for kappa in (0.0, 1.0))
    assert pale.equal(garish)
    coloured = pictures(2, 3, 8)
    grey = apply(coloured, one("colour", 0.5, 0.0, 0.5))
    torch.testing.assert_close(grey, coloured.mean(1, keepdim=True).expand_as(coloured))


@pytest.mark.parametrize(
    ("side", "reach", "hole", "last"),
    [(28, 4, 14, 28), (32, 4, 16, 32), (64, 8, 32, 64), (9, 1, 5, 8)],
)
def test_each_parameter_has_its_range(side, reach, hole, last):
    def column(operation):
        return drawn(operation, side, 1, 4000).parameters

    assert set(column("crop").ravel()) == set(range(-reach, reach + 1))
    assert set(column("cutout").ravel()) == set(range(last + 1))
    middle = one("cutout", side // 2, side // 2)
    assert (apply(torch.ones(1, 1, side, side), middle) == 0).sum() == hole**2
    assert abs(column("flip").mean() - 0.5) < 0.03
    for values, low, high in (
        (column("colour"), 0, 1),
        (column("scale"), 1 / 1.2, 1.2),
        (column("rotate"), -15, 15),
    ):
        assert low <= values.min() < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * (high - low)
    assert np.abs(np.corrcoef(column("scale").T)[0, 1]) < 0.05


@pytest.mark.parametrize("strategy", [ALL, WITHOUT_FLIP, ("crop", "rotate")])
def test_one_operation_for_a_draw_and_each_equally_often(strategy):
    n = 6000
    operations = [draw(strategy, 8, rng.stream(0, "test/draw", i)).operation for i in range(n)]
    assert set(operations) == set(strategy)
    for name in strategy:
        assert abs(operations.count(name) / n - 1 / len(strategy)) < 0.02


def test_strategies_by_name_and_by_data_set():
    assert strategy_of(["rotate", "crop", "crop"]) == ("crop", "rotate")
    assert strategy_of(reversed(ALL)) == ALL and set(ALL) - {"flip"} == set(WITHOUT_FLIP)
    for names, words in ((["crop", "blur"], "'blur'"), ([], "no operation")):
        with pytest.raises(ValueError, match=words):
            strategy_of(names)
    for dataset in ("digits", "mnist"):
        assert usual_strategy(dataset) == WITHOUT_FLIP
    for dataset in ("fashion_mnist", "cifar10", "tiny_imagenet", "my photographs"):
        assert usual_strategy(dataset) == ALL


def test_parameters_for_other_images_are_refused():
    with pytest.raises(ValueError, match="3 images"):
        apply(pictures(2, 1, 8), drawn("crop", 8, 0, 3))


@pytest.mark.parametrize("operation", ALL)
@pytest.mark.parametrize("count", [1, 6])
def test_any_layout_and_precision_gives_the_same_up_to_rounding(operation, count):
    images, fixed = pictures(6, 3, 8), drawn(operation, 8, 2, count)
    wanted = apply(images, fixed)
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(apply(last, fixed), wanted)
    single = apply(images.float(), fixed)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), wanted, rtol=0, atol=1e-5)


def test_a_siamese_draw_of_four_operations_samples_nothing(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(siamese, "warp", refuse)
    monkeypatch.setattr(siamese, "cropped", refuse)
    for operation in ("colour", "crop", "cutout", "flip"):
        apply(pictures(2, 3, 8), drawn(operation, 8, 0))
