from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.init import initialise, initialise_default, seeded


def build(name: str) -> nn.Module:
    recipe = NetworkRecipe(name=name, width=8, normalisation=zoo.usual_normalisation(name))
    return zoo.build(recipe, channels=3, resolution=32, classes=10)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("convnet", initialise),
        ("deit_tiny_bn", initialise),
        *(
            (name, initialise_default)
            for name in ("convnet", "shufflenet_v2", "vgg11", "deit_tiny")
        ),
    ],
)
def test_weights_are_a_function_of_the_stream_alone(name, law):
    one, other = build(name), build(name)
    for module in one.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(3.0)
    before = torch.get_rng_state()
    law(one, 1, "test/network", 2)
    law(other, 1, "test/network", 2)
    assert equal(one, other)
    assert all(value.isfinite().all() for value in one.state_dict().values())
    law(other, 1, "test/network", 3)
    assert not torch.equal(one.head.weight, other.head.weight)
    assert torch.equal(torch.get_rng_state(), before)


def deviation(parameter: torch.Tensor) -> float:
    return float(parameter.detach().std())


def test_the_laws_are_those_of_the_libraries():
    resnet = build("resnet18")
    initialise_default(resnet, 0, "test")
    convolution = resnet.body.layer2[0].conv1.weight  # 64 -> 128, fan out 128 * 9
    assert deviation(convolution) == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
    assert resnet.head.weight.abs().max() <= 1 / math.sqrt(512)

    transformer = build("deit_tiny")
    initialise_default(transformer, 0, "test")
    assert deviation(transformer.body.blocks[0].attn.qkv.weight) == pytest.approx(0.02, rel=0.02)
    assert not transformer.head.bias.any()

    convnet = build("convnet")
    initialise_default(convnet, 0, "test")
    weight = convnet.blocks[1].conv.weight.detach()  # uniform within 1/sqrt(fan in)
    bound = 1 / math.sqrt(8 * 9)
    assert 0.99 * bound < float(weight.abs().max()) <= bound


def test_parts_are_drawn_again_and_statistics_forgotten():
    network = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(2), nn.MultiheadAttention(9, 3)
    )
    with torch.no_grad():
        for tensor in (*network.parameters(), network[1].running_var):
            tensor.fill_(7.0)
    initialise_default(network, 0, "test")
    assert not any((parameter == 7).any() for parameter in network.parameters())
    assert torch.equal(network[1].running_var, torch.ones(2))


def test_a_network_that_knows_its_own_law_is_asked_last():
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.empty(2))
            self.layer = nn.Linear(2, 2)

        def init_weights(self) -> None:
            nn.init.constant_(self.scale, 5.0)
            nn.init.zeros_(self.layer.weight)

    network = Own()
    initialise_default(network, 0, "test")
    assert network.scale.tolist() == [5.0, 5.0]
    assert not network.layer.weight.any() and network.layer.bias.any()


def test_a_parameter_that_nothing_draws_is_named():
    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.zeros(2))

    with pytest.raises(NetworkError, match=r"'0\.token'.*init_weights"):
        initialise_default(nn.Sequential(Forgetful()), 0, "test")


def test_seeded_gives_the_stream_and_gives_back_the_generator():
    before = torch.get_rng_state()
    with seeded(0, "test"):
        one = torch.rand(3)
    with seeded(0, "test"):
        assert torch.equal(torch.rand(3), one)
    with seeded(0, "test", 1):
        assert not torch.equal(torch.rand(3), one)
    assert torch.equal(torch.get_rng_state(), before)
