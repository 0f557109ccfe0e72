"""Networks of timm and torchvision, without weights."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torchvision
from torch import nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.networks.jacobian import require_linearisable
from potstill.networks.libraries import from_library


def build(name: str, channels: int = 3, resolution: int = 32, **more: float) -> zoo.ForeignNetwork:
    network = zoo.build(
        NetworkRecipe(name=name), channels=channels, resolution=resolution, classes=10, **more
    )
    assert isinstance(network, zoo.ForeignNetwork)
    return network


def images(channels: int, resolution: int, count: int = 4) -> torch.Tensor:
    return rng.normal((count, channels, resolution, resolution), rng.stream(0, "test/images"))


@pytest.mark.parametrize(
    ("name", "channels", "resolution"),
    [
        ("timm:test_resnet", 1, 8),
        ("timm:test_vit", 1, 32),
        ("timm:test_vit", 3, 48),
        ("timm:test_efficientnet", 3, 28),
        ("torchvision:shufflenet_v2_x0_5", 1, 28),
        ("torchvision:squeezenet1_1", 3, 32),
    ],
)
def test_a_librarys_network_is_the_librarys(name: str, channels: int, resolution: int) -> None:
    """With the same weights it gives what the network that the library makes gives."""
    network = build(name, channels, resolution).eval()
    library, _, model = name.partition(":")
    if library == "timm":
        size = {"img_size": resolution} if model == "test_vit" else {}
        other = timm.create_model(model, in_chans=channels, num_classes=10, **size)
    else:
        other = torchvision.models.get_model(model, weights=None, num_classes=10)
        if channels == 1:
            other.conv1[0] = nn.Conv2d(1, 24, 3, stride=2, padding=1, bias=False)
    other.eval().load_state_dict(network.network.state_dict())
    seen = images(channels, resolution)
    assert network(seen).shape == (4, 10)
    torch.testing.assert_close(network(seen), other(seen), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["timm:test_vit", "torchvision:mnasnet0_5"])
def test_weights_are_drawn_from_the_named_stream(name: str) -> None:
    drawn = []
    for seed in (0, 0, 1):
        network = build(name)
        initialise_default(network, seed, "test/network")
        drawn.append(torch.cat([p.flatten() for p in network.parameters()]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


def test_weights_are_drawn_by_the_librarys_law() -> None:
    """torchvision's ResNets: normal, variance 2 / fan_out, where PyTorch's is 1 / (3 fan_in)."""
    network = build("torchvision:resnet18")
    initialise_default(network, 0, "test/network")
    weight = network.network.get_parameter("layer4.0.conv1.weight")  # (512, 256, 3, 3)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (9 * 512)), rel=0.01)


def test_activations_are_exchanged() -> None:
    assert not any(getattr(m, "inplace", False) for m in build("timm:test_resnet").modules())
    smooth = build("timm:test_resnet", softplus_beta=10.0)
    kinds = {type(module).__name__ for module in smooth.modules()}
    assert "Softplus" in kinds and "ReLU" not in kinds


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_resnet"])
def test_rcig_can_take_some(name: str) -> None:
    require_linearisable(build(name, softplus_beta=10.0), images(3, 32, 2))


def test_rcig_cannot_take_those_that_draw() -> None:
    with pytest.raises(NetworkError, match="drawn at random; turn its dropout off"):
        require_linearisable(build("torchvision:mobilenet_v2"), images(3, 32, 2))


@pytest.mark.parametrize(
    ("name", "resolution", "words"),
    [
        ("torchvision:alexnet", 32, "must take images (n, 3, 32, 32) to outputs (n, 10)"),
        ("torchvision:vit_b_32", 28, "cannot be made for 3x28x28 images (Input shape indiv"),
        ("timm:test_vit", 28, "should be divisible by patch size"),
        ("timm:resnet_18", 32, "timm has no classifier 'resnet_18'; did you mean resnet18"),
        ("torchvision:fcn_resnet50", 32, "torchvision has no classifier 'fcn_resnet50'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name: str, resolution: int, words: str) -> None:
    with pytest.raises(NetworkError) as caught:
        build(name, resolution=resolution)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_first_convolution_of_another_kind_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    monkeypatch.setattr(torchvision.models, "get_model", lambda *_, **__: flat)
    with pytest.raises(NetworkError, match="first convolution does not take RGB"):
        from_library("torchvision:resnet18", 1, 8, 10)


def test_a_librarys_network_has_its_own_normalisation() -> None:
    recipe = NetworkRecipe(name="timm:test_resnet", normalisation="batch")
    with pytest.raises(NetworkError, match=r"own normalisation, not batch; set network\.norm"):
        zoo.build(recipe, channels=3, resolution=32, classes=10)
