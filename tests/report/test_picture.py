"""The picture of a distilled set: where the tiles stand and what is in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from potstill import pictures
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Standardise
from potstill.pictures import picture
from tests.report import synthetic


def noise(classes: int, per_class: int, side: int, channels: int = 3) -> DistilledDataset:
    """Random 8-bit pictures, ``per_class`` for each class, in class-major order."""
    generator = torch.Generator().manual_seed(0)
    count = classes * per_class
    shape = (count, channels, side, side)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.eye(classes).repeat_interleave(per_class, 0) - 1 / classes
    statistics = torch.full((channels,), 0.5, dtype=torch.float64)
    of = synthetic.recipe(images_per_class=per_class)
    header = {
        "method": "rcig",
        "recipe": of.model_dump(mode="json"),
        "evaluation": {"protocol": "rcig-paper"},
        "source": {"name": "noise", "fingerprint": "00"},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    names = [f"class {c}" for c in range(classes)]
    return DistilledDataset(images, labels, names, Standardise(statistics, statistics), header)


def crop(image: Image.Image, layout: pictures.Layout, index: int) -> np.ndarray:
    left, top = layout.corners[index]
    return np.asarray(image.crop((left, top, left + layout.tile, top + layout.tile)).convert("RGB"))


def test_each_tile_is_its_image_in_natural_colours_enlarged_without_smoothing() -> None:
    dataset = noise(10, 2, 8)
    image, layout = picture(dataset), pictures.lay_out(dataset)
    assert image.size == (layout.width, layout.height)
    assert layout.tile == 64
    for index in range(len(dataset)):
        expected = (dataset.pixels()[index] * 255).round().byte().permute(1, 2, 0).numpy()
        enlarged = expected.repeat(8, axis=0).repeat(8, axis=1)
        np.testing.assert_array_equal(crop(image, layout, index), enlarged)


def test_preprocessing_is_undone_for_images_in_network_space() -> None:
    images, labels = synthetic.digits()
    dataset = synthetic.distilled(synthetic.recipe(), images, labels, synthetic.DIGITS)
    image, layout = picture(dataset), pictures.lay_out(dataset)
    first_zero = images[labels == 0][0, 0].numpy()
    np.testing.assert_array_equal(crop(image, layout, 0)[::8, ::8, 0], first_zero)


def test_a_row_a_class_in_the_order_of_the_largest_label() -> None:
    dataset = noise(3, 2, 8)
    swapped = DistilledDataset(
        dataset.images, dataset.labels.flip(0), dataset.class_names, dataset.preprocess,
        dataset.header,
    )  # fmt: skip
    corners = pictures.lay_out(swapped).corners
    tops = [top for _, top in corners]
    assert tops[0] == tops[1] > tops[2] == tops[3] > tops[4] == tops[5]
    assert corners[0][0] < corners[1][0]


def test_a_class_that_lost_its_images_keeps_its_row() -> None:
    dataset = noise(3, 1, 8)
    dataset.labels[1] = dataset.labels[0]
    layout = pictures.lay_out(dataset)
    assert [name.full for name in layout.names] == ["class 0", "class 1", "class 2"]
    assert layout.corners[0][1] == layout.corners[1][1] < layout.corners[2][1]


@pytest.mark.parametrize(
    ("classes", "per_class", "side", "least_tile"),
    [
        (10, 1, 8, 64),
        (10, 1, 28, 64),
        (10, 10, 32, 64),
        (10, 50, 32, 32),
        (100, 1, 32, 64),
        (100, 10, 32, 48),
        (100, 50, 32, 16),
        (200, 10, 64, 32),
        (10, 1, 128, 128),
        (10, 10, 128, 64),
        (1000, 1, 64, 48),
        (1000, 2, 64, 32),
        (5, 300, 16, 16),
    ],
)
def test_sizes_are_bounded_and_tiles_stay_legible(
    classes: int, per_class: int, side: int, least_tile: int
) -> None:
    dataset = noise(classes, per_class, side, channels=1)
    layout = pictures.lay_out(dataset)
    assert layout.width <= 3200 and layout.height <= 4096
    assert layout.tile >= least_tile
    assert len(set(layout.corners)) == len(dataset)
    for left, top in layout.corners:
        assert left >= 0 and left + layout.tile <= layout.width
        assert top >= 0 and top + layout.tile <= layout.height


@pytest.mark.parametrize("classes", [25, 100, 1000])
def test_tiles_and_names_do_not_overlap(classes: int) -> None:
    dataset = noise(classes, 1, 8)
    layout = pictures.lay_out(dataset)
    taken = np.zeros((layout.height, layout.width), dtype=int)
    for left, top in layout.corners:
        taken[top : top + layout.tile, left : left + layout.tile] += 1
    assert taken.max() == 1
    assert len(layout.names) == classes
    for name, (left, _) in zip(layout.names, layout.corners, strict=True):
        width = pictures._text_width(name.text, layout.font_size)
        row = taken[round(name.middle), max(0, name.right - width) : name.right]
        assert name.right < left and name.right - width >= 0 and row.max() == 0


def test_long_and_strange_names_fit_on_one_line() -> None:
    dataset = noise(3, 1, 8)
    names = ["a very long name of a class that nobody would ever read to its end" * 3, "a\nb", ""]
    renamed = DistilledDataset(
        dataset.images, dataset.labels, names, dataset.preprocess, dataset.header
    )
    texts = [name.text for name in pictures.lay_out(renamed).names]
    assert texts[0].endswith("…") and len(texts[0]) < 40
    assert texts[1:] == ["a b", "?"]
    picture(renamed)


def test_one_channel_is_drawn_gray() -> None:
    dataset = noise(2, 1, 8, channels=1)
    tile = crop(picture(dataset), pictures.lay_out(dataset), 1)
    assert (tile[..., 0] == tile[..., 1]).all() and (tile[..., 0] == tile[..., 2]).all()
