from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from potstill import rng
from potstill.data.operations import rotation
from potstill.evaluation import augment as module
from potstill.evaluation.augment import OPERATIONS, Draw, apply, augment, draw


def nothing(n: int, **changes) -> Draw:
    fields = {
        "operation": np.zeros(n, np.int64),
        "matrix": np.tile(np.eye(2, 3), (n, 1, 1)),
        "brightness": np.zeros(n),
        "contrast": np.ones(n),
        "saturation": np.ones(n),
        "hole": np.full((n, 2), np.nan),
    }
    return Draw(**{**fields, **changes})


def pictures(n: int = 3, channels: int = 3, side: int = 8) -> torch.Tensor:
    return rng.normal((n, channels, side, side), rng.stream(0, "test/pictures"))


def affine(*rows: list[float]) -> np.ndarray:
    return np.array([rows], float)


def sampled(image: torch.Tensor, matrix: np.ndarray) -> torch.Tensor:
    """Pixel by pixel: where it comes from, and the mean of the four pixels about it.

    Outside the image stands the nearest pixel of its edge.
    """
    side = image.shape[-1]
    result = torch.zeros_like(image)
    for row in range(side):
        for column in range(side):
            place = np.array([(2 * column + 1) / side - 1, (2 * row + 1) / side - 1, 1])
            x, y = ((matrix @ place + 1) * side - 1) / 2
            for i in (math.floor(y), math.floor(y) + 1):
                for j in (math.floor(x), math.floor(x) + 1):
                    weight = (1 - abs(y - i)) * (1 - abs(x - j))
                    edge = [min(max(place, 0), side - 1) for place in (i, j)]
                    result[:, row, column] += weight * image[:, edge[0], edge[1]]
    return result


def test_parameters_that_change_nothing_change_nothing():
    images = pictures()
    assert apply(images, nothing(3)).equal(images)


def test_a_quarter_turn_is_a_quarter_turn():
    turned = apply(pictures(1), nothing(1, matrix=rotation(np.array([np.pi / 2]))))
    torch.testing.assert_close(turned, pictures(1).rot90(1, (2, 3)), rtol=0, atol=1e-5)


def test_a_mirror_image_is_a_mirror_image():
    mirrored = apply(pictures(1), nothing(1, matrix=affine([-1, 0, 0], [0, 1, 0])))
    torch.testing.assert_close(mirrored, pictures(1).flip(-1), rtol=0, atol=1e-5)


def test_a_translation_by_whole_pixels_moves_them_and_repeats_the_edge():
    moved = apply(pictures(1), nothing(1, matrix=affine([1, 0, 2 / 8], [0, 1, -4 / 8])))
    expected = torch.empty_like(moved)
    expected[:, :, 2:, :-1] = pictures(1)[:, :, :-2, 1:]
    expected[:, :, 2:, -1] = pictures(1)[:, :, :-2, -1]
    expected[:, :, :2] = expected[:, :, 2:3]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_every_drawn_change_of_shape_is_bilinear_sampling():
    n = 60
    images, drawn = pictures(n), draw(n, 3, rng.stream(0, "test/augment"))
    results = apply(images, drawn)
    shapes = [OPERATIONS.index(name) for name in ("flip", "zoom", "rotate", "translate")]
    chosen = np.flatnonzero(np.isin(drawn.operation, shapes))
    assert len(chosen) > 20
    for index in chosen:
        slow = sampled(images[index], drawn.matrix[index])
        torch.testing.assert_close(results[index], slow, rtol=0, atol=1e-5)


def test_colour_is_brightness_contrast_and_saturation_one_after_the_other():
    def contrast(image, factor):
        return image.mean() + factor * (image - image.mean())

    def saturation(image, factor):
        grey = image.mean(0, keepdim=True)
        return grey + factor * (image - grey)

    images = pictures(2)
    factors = {
        "brightness": np.array([0.2, 0.0]),
        "contrast": np.array([1.2, 1.0]),
        "saturation": np.array([0.8, 1.0]),
    }
    results = apply(images, nothing(2, **factors))
    torch.testing.assert_close(results[0], saturation(contrast(images[0] + 0.2, 1.2), 0.8))
    torch.testing.assert_close(results[0], contrast(saturation(images[0], 0.8) + 0.2, 1.2))
    assert results[1].equal(images[1])


@given(side=st.integers(4, 33), row=st.floats(0, 1), column=st.floats(0, 1))
def test_a_hole_is_one_square_of_a_quarter_of_the_side(side, row, column):
    images = torch.ones(2, 3, side, side)
    holes = np.array([[row, column], [np.nan, np.nan]])
    results = apply(images, nothing(2, hole=holes))
    assert results[1].equal(images[1])
    zero = (results[0] == 0).nonzero()
    low, high = zero.min(0).values, zero.max(0).values
    assert len(zero) == 3 * (side // 4) ** 2
    assert (high - low + 1).tolist() == [3, side // 4, side // 4]


def test_holes_lie_everywhere_alike():
    n = 4000
    places = np.array([[value, 0.5] for value in rng.stream(0, "test/hole").uniform(0, 1, n)])
    zero = apply(torch.ones(n, 1, 8, 8), nothing(n, hole=places)) == 0
    first_rows = zero[:, 0].any(2).int().argmax(1)
    assert torch.bincount(first_rows, minlength=8).tolist()[7:] == [0]
    assert (torch.bincount(first_rows)[:7] / n - 1 / 7).abs().max() < 0.03


def test_each_operation_is_drawn_equally_often_and_within_its_range():
    n = 12_000
    drawn = draw(n, 3, rng.stream(0, "test/augment"))
    hit = {name: drawn.operation == index for index, name in enumerate(OPERATIONS)}
    assert all(abs(rows.mean() - 1 / 6) < 0.015 for rows in hit.values())

    matrix = drawn.matrix
    flip = matrix[hit["flip"]]
    assert abs((flip[:, 0, 0] == -1).mean() - 0.5) < 0.05
    assert (np.abs(flip[:, 0, 0]) == 1).all() and (flip[:, 1] == [0, 1, 0]).all()

    zoom = 1 / matrix[hit["zoom"], 0, 0]
    assert (zoom == 1 / matrix[hit["zoom"], 1, 1]).all()
    assert zoom.min() >= 0.8 and zoom.max() <= 1.25 and zoom.min() < 0.81 and zoom.max() > 1.24
    assert abs(np.log(zoom).mean()) < 0.01
    offset = np.abs(matrix[hit["zoom"], :, 2])
    assert (offset <= np.abs(1 - 1 / zoom)[:, None] + 1e-12).all()

    degrees = np.rad2deg(np.arctan2(matrix[hit["rotate"], 1, 0], matrix[hit["rotate"], 0, 0]))
    assert 14.5 < degrees.max() <= 15 and -15 <= degrees.min() < -14.5

    pixels = matrix[hit["translate"], :, 2] / 2
    assert 0.12 < pixels.max() <= 0.125 and -0.125 <= pixels.min() < -0.12

    assert 0.24 < drawn.brightness.max() <= 0.25 and -0.25 <= drawn.brightness.min() < -0.24
    for factor in (drawn.contrast, drawn.saturation):
        logarithm = np.log(factor[hit["colour"]])
        assert 0.24 < logarithm.max() <= 0.25 and -0.25 <= logarithm.min() < -0.24

    assert not (np.isnan(drawn.hole).any(1) == hit["cutout"]).any()


def test_an_operation_leaves_the_parameters_of_the_others_alone():
    drawn = draw(2000, 3, rng.stream(0, "test/augment"))
    for index, name in enumerate(OPERATIONS):
        rows = drawn.operation == index
        moved = (drawn.matrix[rows] != np.eye(2, 3)).any()
        tinted = (drawn.contrast[rows] != 1).any() or (drawn.brightness[rows] != 0).any()
        cut = not np.isnan(drawn.hole[rows]).all()
        assert moved == (name in ("flip", "zoom", "rotate", "translate"))
        assert tinted == (name == "colour")
        assert cut == (name == "cutout")


def test_grayscale_images_are_neither_mirrored_nor_coloured():
    drawn = draw(8000, 1, rng.stream(0, "test/augment"))
    counts = np.bincount(drawn.operation, minlength=len(OPERATIONS)) / 8000
    assert counts[:2].tolist() == [0, 0]
    assert (np.abs(counts[2:] - 1 / 4) < 0.02).all()
    assert (drawn.matrix[:, 0, 0] > 0).all()
    assert (drawn.brightness == 0).all() and (drawn.saturation == 1).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_a_pure_function_of_images_and_stream(channels):
    images = pictures(40, channels)
    kept = images.clone()
    results = augment(images, rng.stream(3, "test/augment", 7))
    assert images.equal(kept)
    assert results.shape == images.shape and results.dtype == images.dtype
    assert results.equal(augment(images, rng.stream(3, "test/augment", 7)))
    assert not results.equal(augment(images, rng.stream(3, "test/augment", 8)))
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(augment(last, rng.stream(3, "test/augment", 7)), results)


def test_the_numbers_of_the_paper():
    assert (module.BRIGHTNESS, module.LOG_CONTRAST, module.LOG_SATURATION) == (0.25, 0.25, 0.25)
    assert (module.ZOOM, module.DEGREES, module.TRANSLATION, module.HOLE) == (1.25, 15, 0.125, 4)


def test_what_is_drawn_goes_to_the_device_in_two_copies() -> None:
    class Copies(TorchDispatchMode):
        number = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            leaves = [x for x in tree_leaves(args) if isinstance(x, torch.Tensor)]
            if isinstance(result, torch.Tensor) and result.is_meta:
                self.number += any(x.device.type == "cpu" and x.ndim for x in leaves)
            return result

    with Copies() as copies:
        apply(torch.empty(40, 3, 32, 32, device="meta"), draw(40, 3, rng.stream(0, "test")))
    assert copies.number == 2
