"""A pretrained head and data whose classes stand in another order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from potstill.config import DataRecipe
from potstill.data import datasets
from potstill.data.preprocess import Standardise, fit
from potstill.data.source import SourceDataset, Split
from potstill.errors import DataError
from potstill.methods.class_order import require_class_order


class Nearest(nn.Module):
    """Knows the mean image of every class, and gives class k the number ``order[k]``."""

    def __init__(self, source: SourceDataset, preprocess: Standardise, order: list[int]) -> None:
        super().__init__()
        images, labels = preprocess.apply(source.train.images), source.train.labels
        means = torch.stack([images[labels == k].mean(0).flatten() for k in range(source.classes)])
        self.register_buffer("means", means[torch.tensor(order).argsort()])

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(images.flatten(1), self.means)


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(DataRecipe(), None)


def test_classes_in_the_networks_order_pass(digits: SourceDataset) -> None:
    preprocess = fit(DataRecipe(), digits.train.images)
    network = Nearest(digits, preprocess, list(range(10))).train()
    require_class_order(network, "own", digits, preprocess)
    assert network.training


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4, 5, 6, 7, 8, 9], [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_classes_in_another_order_are_refused(digits: SourceDataset, order: list[int]) -> None:
    preprocess = fit(DataRecipe(), digits.train.images)
    network = Nearest(digits, preprocess, order)
    with pytest.raises(DataError, match="not in the order of torchvision:resnet18") as caught:
        require_class_order(network, "torchvision:resnet18", digits, preprocess)
    assert f"class 0 ('0') are its class {order[0]}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_network_that_is_merely_bad_is_not_refused(digits: SourceDataset) -> None:
    preprocess = fit(DataRecipe(), digits.train.images)
    one_answer = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    one_answer[1].bias.data[3] = 1e3
    require_class_order(one_answer, "own", digits, preprocess)
    shuffled = digits.train.labels[torch.randperm(len(digits.train), generator=_seeded())]
    source = replace(digits, train=Split(digits.train.images, shuffled))
    require_class_order(Nearest(digits, preprocess, list(range(10))), "own", source, preprocess)


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
