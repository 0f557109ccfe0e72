from __future__ import annotations

import pytest
import torch

from potstill.data.source import SourceDataset, Split, fingerprint, members
from potstill.errors import DataError


def source(labels: list[int], names: tuple[str, ...]) -> SourceDataset:
    split = Split(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), torch.tensor(labels))
    return SourceDataset("test", names, split, split, fingerprint(split, split))


def test_the_rows_of_each_class_ascend() -> None:
    found = members(source([1, 0, 2, 1, 0, 1], ("a", "b", "c")))
    assert {name: rows.tolist() for name, rows in found.items()} == {
        "a": [1, 4],
        "b": [0, 3, 5],
        "c": [2],
    }


def test_a_class_with_too_few_images_is_named() -> None:
    with pytest.raises(DataError, match="class c has no training images"):
        members(source([0, 1, 1], ("a", "b", "c")))
    with pytest.raises(DataError, match="class a has 1 images, fewer than the 2 asked for"):
        members(source([0, 1, 1], ("a", "b")), 2)
