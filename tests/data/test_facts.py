from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import torchvision
from PIL import Image

from potstill.config import DataRecipe
from potstill.data import datasets, torchvision_sets
from potstill.data.facts import DATASETS, DatasetInfo
from potstill.data.source import SourceDataset
from potstill.data.statistics import channel_statistics
from potstill.errors import DataError


def assert_told(info: DatasetInfo, source: SourceDataset) -> None:
    """The facts are those of the images that were read."""
    assert (info.classes, info.channels, info.resolution, info.training, info.test) == (
        source.classes,
        source.channels,
        source.resolution,
        len(source.train),
        len(source.test),
    )


def read_as(reader: str) -> list[str]:
    return [name for name, info in DATASETS.items() if info.reader == reader]


def test_every_data_set_but_ones_own_folder_has_its_facts() -> None:
    assert datasets.names() == (*DATASETS, "image_folder")
    assert len({info.title for info in DATASETS.values()}) == len(DATASETS)
    with pytest.raises(TypeError):
        DATASETS["mnist"] = DATASETS["digits"]  # type: ignore[index]


def test_the_embedded_digits_are_as_told() -> None:
    assert read_as("embedded") == ["digits"]
    assert_told(DATASETS["digits"], datasets.load(DataRecipe(dataset="digits"), None))


@pytest.mark.parametrize("name", read_as("image folder"))
def test_an_image_folder_is_read_by_its_name_at_its_side(name: str, tmp_path: Path) -> None:
    info = DATASETS[name]
    for split in ("train", "val"):
        for label in ("cat", "dog"):
            folder = tmp_path / info.folder / split / label
            folder.mkdir(parents=True)
            Image.new("RGB", (info.resolution + 5, 2 * info.resolution)).save(folder / "0.png")
    source = datasets.load(DataRecipe(dataset=name), tmp_path)
    assert source.name == name and source.class_names == ("cat", "dog")
    assert source.train.images.shape == (2, info.channels, info.resolution, info.resolution)
    smaller = datasets.load(DataRecipe(dataset=name, resolution=4), tmp_path)
    assert smaller.resolution == 4


@pytest.mark.parametrize("name", read_as("torchvision"))
def test_torchvision_finds_a_data_set_in_its_folder(name: str, tmp_path: Path) -> None:
    """The folder is torchvision's, and a folder that is there is opened and found empty."""
    info = DATASETS[name]
    with pytest.raises(DataError, match="pass --download") as absent:
        datasets.load(DataRecipe(dataset=name), tmp_path)
    assert info.folder in str(absent.value)
    kind = getattr(torchvision.datasets, torchvision_sets._SETS[name].kind)
    assert info.folder == getattr(kind, "base_folder", kind.__name__)
    (tmp_path / info.folder).mkdir()
    with pytest.raises(DataError, match=re.escape(f"{name} in {tmp_path / info.folder}")):
        datasets.load(DataRecipe(dataset=name), tmp_path)


def test_constants_are_one_for_each_channel() -> None:
    stated = {name: info for name, info in DATASETS.items() if info.mean is not None}
    assert [*stated] == ["mnist", "fashion_mnist", "cifar10", "cifar100", "tiny_imagenet"]
    for info in DATASETS.values():
        assert (info.mean is None) == (info.std is None)
    for info in stated.values():
        data = DataRecipe(mean=info.mean, std=info.std)  # refuses what cannot be
        assert data.mean is not None and len(data.mean) == info.channels
        assert all(0 < number < 1 for number in (*data.mean, *(data.std or ())))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_real_data_are_as_told(name: str) -> None:
    root = os.environ.get("POTSTILL_DATA_ROOT")
    if not root:
        pytest.skip("POTSTILL_DATA_ROOT is not set")
    source, info = datasets.load(DataRecipe(dataset=name), root), DATASETS[name]
    assert_told(info, source)
    assert source.train.labels.bincount().min() > 5000
    mean, std = channel_statistics(source.train.images)
    assert mean.tolist() == pytest.approx(info.mean, abs=1e-4)
    assert std.tolist() == pytest.approx(info.std, abs=1e-4)
