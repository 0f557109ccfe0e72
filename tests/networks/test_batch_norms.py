from __future__ import annotations

import pytest
import torch
from torch import nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.batch_norms import batch_norms

WITH_BATCH_NORMS = {
    "convnet": 3,
    "resnet18": 20,
    "resnet50": 53,
    "mobilenet_v2": 52,
    "shufflenet_v2": 56,
    "efficientnet_b0": 49,
    "vgg16": 13,
    "deit_tiny_bn": 37,
}


class Backwards(nn.Module):
    """Calls its batch norms in another order than it defines them, one twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.BatchNorm2d(1)
        self.idle = nn.BatchNorm2d(1)
        self.first = nn.BatchNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.first(self.last(self.first(images)))


@pytest.mark.parametrize(("name", "count"), WITH_BATCH_NORMS.items())
def test_networks_define_their_batch_norms_in_the_order_of_the_pass(name, count):
    recipe = NetworkRecipe(name=name, width=4, normalisation="batch")
    network = zoo.build(recipe, channels=1, resolution=32, classes=2)
    defined = batch_norms(network)
    assert len(defined) == count
    assert defined == batch_norms(network, torch.zeros(1, 1, 32, 32))
    assert all(network.get_submodule(name) is norm for name, norm in defined)


def test_the_order_is_that_of_first_calls_and_the_network_stays_as_it_was():
    network = Backwards().train()
    network.first.eval()
    found = batch_norms(network, torch.ones(1, 1, 2, 2))
    assert [name for name, _ in found] == ["first", "last"]
    assert found[0][1] is network.first
    assert network.training and network.last.training and not network.first.training
    assert int(network.last.num_batches_tracked) == 0
    assert not network.first._forward_pre_hooks


def test_a_failing_pass_leaves_the_network_as_it_was():
    network = Backwards().train()
    with pytest.raises(ValueError, match="expected 4D"):
        batch_norms(network, torch.ones(3))
    assert network.training and not network.last._forward_pre_hooks


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.InstanceNorm2d(1)), "no batch norm.*normalisation"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)), "'0'.*running statistics"),
    ],
)
def test_a_network_without_them_is_refused_in_one_line(network, words):
    with pytest.raises(NetworkError, match=words) as caught:
        batch_norms(network)
    assert "\n" not in str(caught.value)
