from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from potstill import rng
from potstill.config import DataRecipe
from potstill.data import views
from potstill.data.preprocess import fit
from potstill.rng import stream

shapes = st.tuples(
    st.integers(1, 9), st.sampled_from([1, 3]), st.integers(3, 12), st.integers(3, 12)
)


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Tensor:
    return rng.normal(shape, stream(0, "test/batch"), dtype=dtype)


class Scripted(np.random.Generator):
    """A generator that remembers the integers it drew."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.Philox(seed))
        self.drawn: list[np.ndarray] = []

    def integers(self, *args: object, **kwargs: object) -> np.ndarray:  # type: ignore[override]
        self.drawn.append(np.asarray(super().integers(*args, **kwargs)))  # type: ignore[arg-type]
        return self.drawn[-1]


VIEWS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "crop": lambda x, g: views.random_crop(x, 2, torch.arange(x.shape[1]) - 0.5, g),
    "flip": views.random_flip,
    "resized": views.random_resized_crop,
    "resized shared": lambda x, g: views.random_resized_crop(x, g, shared=True),
    "roll": lambda x, g: views.roll(x, 2, g),
    "mixup": lambda x, g: views.mixup(x, g, 0.8).images,
    "cutmix": lambda x, g: views.cutmix(x, g, 1.0).images,
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_functions_of_images_and_stream_and_leave_the_images_alone(name: str) -> None:
    images = batch((5, 3, 6, 7), torch.float32)
    before = images.clone()
    results = [VIEWS[name](images, stream(1, "test/view", step)) for step in (0, 0, 1)]
    assert torch.equal(images, before)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert results[0].shape == images.shape and results[0].dtype == images.dtype
    strided = VIEWS[name](images.to(memory_format=torch.channels_last), stream(1, "test/view"))
    torch.testing.assert_close(strided, results[0])


@pytest.mark.parametrize("name", VIEWS)
def test_views_have_the_right_gradients(name: str) -> None:
    images = batch((3, 2, 4, 5)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: VIEWS[name](x, stream(2, "test/view")), images)


@given(shapes, st.integers(0, 4), st.integers(0, 99))
def test_crop_is_padding_and_slicing(shape: tuple[int, ...], padding: int, seed: int) -> None:
    images, generator = batch(shape), Scripted(seed)
    fill = torch.arange(shape[1]) + 0.25
    result = views.random_crop(images, padding, fill, generator)
    corners = generator.drawn[0]
    assert corners.shape == (2, shape[0]) and corners.min() >= 0 and corners.max() <= 2 * padding
    for image, found, top, left in zip(images, result, *corners, strict=True):
        padded = torch.stack(
            [
                F.pad(channel, [padding] * 4, value=value.item())
                for channel, value in zip(image, fill, strict=True)
            ]
        )
        assert torch.equal(found, padded[:, top : top + shape[2], left : left + shape[3]])


def test_crop_reaches_every_place_alike() -> None:
    images = torch.zeros(9000, 1, 3, 3)
    images[:, 0, 1, 1] = 1
    moved = views.random_crop(images, 1, torch.zeros(1), stream(0, "test"))
    counts = moved.sum((0, 1))
    assert counts.sum() == 9000
    assert (counts - 1000).abs().max() < 120  # four deviations


def test_black_fills_what_lies_outside() -> None:
    pixels = torch.from_numpy(stream(0, "test").integers(0, 256, (20, 3, 4, 4), np.uint8))
    fitted = fit(DataRecipe(), pixels)
    black = fitted.apply(torch.zeros(1, 3, 1, 1, dtype=torch.uint8))
    torch.testing.assert_close(views.fill_value(fitted), black.flatten())
    white = fit(DataRecipe(preprocess="zca"), pixels)
    assert torch.equal(views.fill_value(white), torch.zeros(3))


def test_flip_mirrors_half_of_the_images() -> None:
    images = batch((1000, 1, 3, 4))
    result = views.random_flip(images, stream(0, "test"))
    mirrored = (result == images.flip(-1)).all((1, 2, 3))
    assert ((result == images).all((1, 2, 3)) ^ mirrored).all()
    assert 420 < mirrored.sum() < 580


def reference_resized(image: Tensor, box: tuple[int, ...]) -> Tensor:
    top, left, rows, columns = box
    cut = image[None, :, top : top + rows, left : left + columns]
    return F.interpolate(cut, image.shape[1:], mode="bilinear", align_corners=False)[0]


@given(shapes, st.booleans(), st.integers(0, 99))
def test_resized_crop_is_cutting_and_interpolating(
    shape: tuple[int, ...], shared: bool, seed: int
) -> None:
    images = batch(shape)
    result = views.random_resized_crop(images, stream(seed, "test"), shared=shared)
    boxes = views._rectangles(
        1 if shared else shape[0], shape[2:], (0.08, 1.0), (3 / 4, 4 / 3), stream(seed, "test")
    )
    for index, found in enumerate(result):
        box = tuple(int(numbers[0 if shared else index]) for numbers in boxes)
        torch.testing.assert_close(found, reference_resized(images[index], box))


@settings(max_examples=50)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([(0.08, 1.0), (0.5, 0.6), (1.0, 1.0)]),
    st.sampled_from([(3 / 4, 4 / 3), (2.0, 3.0), (0.25, 0.5)]),
    st.integers(0, 9),
)
def test_rectangles_lie_inside(
    size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float], seed: int
) -> None:
    top, left, rows, columns = views._rectangles(30, size, scale, ratio, stream(seed, "test"))
    assert (rows >= 1).all() and (columns >= 1).all() and (top >= 0).all() and (left >= 0).all()
    assert (top + rows <= size[0]).all() and (left + columns <= size[1]).all()


def test_rectangles_follow_torchvisions_law() -> None:
    from torchvision.transforms import RandomResizedCrop

    scale, ratio, size = (0.08, 1.0), (3 / 4, 4 / 3), (64, 64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = torch.empty(1, *size)
        theirs = np.array(
            [RandomResizedCrop.get_params(image, list(scale), list(ratio)) for _ in range(3000)]
        )
    ours = np.stack(views._rectangles(3000, size, scale, ratio, stream(0, "test")), 1)
    for column in range(4):
        limits = np.arange(0, 65, 4)
        ranks = [np.searchsorted(np.sort(x[:, column]), limits) / 3000 for x in (ours, theirs)]
        assert np.abs(ranks[0] - ranks[1]).max() < 0.042  # Kolmogorov-Smirnov at 1 %


@pytest.mark.parametrize("backwards", [None, 0])
def test_roll_is_one_shift_in_the_limits(backwards: int | None) -> None:
    images = batch((3, 2, 7, 8))
    seen = set()
    for step in range(300):
        rolled = views.roll(images, 2, stream(0, "test", step), backwards)
        shifts = [
            (down, across)
            for down in range(-2, 3)
            for across in range(-2, 3)
            if torch.equal(rolled, images.roll((down, across), (2, 3)))
        ]
        assert len(shifts) == 1
        seen.add(shifts[0])
    assert len(seen) == (25 if backwards is None else 9)
    assert backwards is None or min(map(min, seen)) == 0


@given(shapes, st.sampled_from([0.2, 0.8, 1.0]), st.integers(0, 99))
def test_mixup_blends_each_image_with_its_partner(
    shape: tuple[int, ...], alpha: float, seed: int
) -> None:
    images = batch(shape)
    mix = views.mixup(images, stream(seed, "test"), alpha)
    assert sorted(mix.partners.tolist()) == list(range(shape[0]))
    for found, own, partner in zip(mix.images, images, mix.partners, strict=True):
        expected = mix.share * own + (1 - mix.share) * images[partner]
        torch.testing.assert_close(found, expected)


@given(shapes, st.integers(0, 99))
def test_cutmix_pastes_one_rectangle_of_each_partner(shape: tuple[int, ...], seed: int) -> None:
    images = torch.arange(shape[0], dtype=torch.float64).view(-1, 1, 1, 1).expand(shape)
    mix = views.cutmix(images, stream(seed, "test"), 1.0)
    assert sorted(mix.partners.tolist()) == list(range(shape[0]))
    moved = (mix.partners != torch.arange(shape[0])).nonzero().flatten()
    for index in moved.tolist():
        pasted = mix.images[index] != index
        assert (mix.images[index][pasted] == mix.partners[index]).all()
        assert pasted[0].double().mean().item() == pytest.approx(1 - mix.share)
        rows, columns = pasted[0].any(1), pasted[0].any(0)
        assert torch.equal(pasted, (rows[:, None] & columns).expand_as(pasted))
        for mask in (rows, columns):
            assert mask.int().diff().abs().sum() <= 2  # one piece


def test_shares_are_beta_distributed() -> None:
    images = batch((2, 1, 32, 32))
    up, cut = (
        np.array([mix(images, stream(0, "test", i), 1.0).share for i in range(2000)])
        for mix in (views.mixup, views.cutmix)
    )
    assert up.mean() == pytest.approx(0.5, abs=0.03) and up.std() == pytest.approx(0.289, abs=0.02)
    # A rectangle that hangs over the edge loses a part: more of the image is left.
    assert 0.55 < cut.mean() < 0.75 and cut.min() >= 0 and cut.max() <= 1
    peaked = [views.mixup(images, stream(0, "test", i), 50.0).share for i in range(200)]
    assert np.std(peaked) == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize("size", [1, 2, 7, 32])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_matrices_have_the_bits_of_the_dense_formula(size: int, dtype: torch.dtype) -> None:
    generator = stream(size, "test")
    length = generator.integers(1, size + 1, 40)
    start = generator.integers(0, size - length + 1)
    length[:2], start[:2] = (size, 1), (0, size - 1)  # all of it, and the last pixel alone
    places = views._places(start, length, size)
    dense = np.maximum(0, 1 - np.abs(places[:, :, None] - np.arange(size)))
    matrices = views._interpolation(torch.from_numpy(places), dtype)
    assert torch.equal(matrices, torch.from_numpy(dense).to(dtype))
    torch.testing.assert_close(matrices.sum(2), torch.ones(40, size, dtype=dtype))


def test_resized_crop_is_exact_within_a_reduced_precision() -> None:
    images = batch((4, 3, 8, 8), torch.float32)
    expected = views.random_resized_crop(images, stream(0, "test"))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(views.random_resized_crop(images, stream(0, "test")), expected)
