from __future__ import annotations

from typing import Any

import pytest

from potstill.config import NetworkRecipe
from potstill.errors import PotstillError
from potstill.networks import zoo
from potstill.networks.parsing import parse_network, parse_networks


def convnet(**changes: Any) -> NetworkRecipe:
    """The ConvNet of the name alone at 32 px, with changes."""
    facts = {"depth": 3, "width": 128, "growth": 1, "normalisation": "batch"}
    return NetworkRecipe(name="convnet", **{**facts, **changes})


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("convnet", convnet()),
        ("convnet:none", convnet(normalisation="none")),
        ("convnet,width=64", convnet(width=64)),
        (
            " convnet:instance , growth=2, depth=4,width=8 ",
            convnet(normalisation="instance", growth=2, depth=4, width=8),
        ),
        ("resnet18", NetworkRecipe(name="resnet18", normalisation="batch")),
        ("vgg11:none", NetworkRecipe(name="vgg11", normalisation="none")),
        ("deit_tiny", NetworkRecipe(name="deit_tiny", normalisation="layer")),
        ("timm:test_resnet", NetworkRecipe(name="timm:test_resnet")),
        ("torchvision:regnet_y_400mf", NetworkRecipe(name="torchvision:regnet_y_400mf")),
        ("my.networks:small", NetworkRecipe(name="my.networks:small")),
    ],
)
def test_a_name_is_one_network(text: str, network: NetworkRecipe) -> None:
    assert parse_network(text, resolution=32) == network
    assert parse_networks(text, resolution=32) == [network]


@pytest.mark.parametrize(("side", "depth"), [(8, 3), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_the_convnet_deepens_with_the_images_and_changes_in_nothing_else(
    side: int, depth: int
) -> None:
    assert parse_network("convnet", resolution=side) == convnet(depth=depth)
    assert parse_network("convnet,depth=2", resolution=side) == convnet(depth=2)
    zoo.build(parse_network("convnet", resolution=side), channels=1, resolution=side, classes=2)


def test_every_network_of_potstills_is_named_by_its_name() -> None:
    for name in zoo.names():
        found = parse_network(name, resolution=32)
        assert (found.name, found.normalisation) == (name, zoo.usual_normalisation(name))


def test_settings_belong_to_the_network_before_them() -> None:
    found = parse_networks(
        "own, resnet18,convnet:none,width=8,growth=2,timm:test_vit,own,convnet", resolution=32
    )
    assert found == [
        None,
        NetworkRecipe(name="resnet18", normalisation="batch"),
        convnet(normalisation="none", width=8, growth=2),
        NetworkRecipe(name="timm:test_vit"),
        None,
        convnet(),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown network ''"),
        ("resnet18,", "unknown network ''"),
        ("width=3,convnet", "unknown network 'width=3'"),
        ("resnet19", "'resnet19'; did you mean resnet18"),
        ("resnet19:batch", "'resnet19'; did you mean resnet18"),
        ("foo", "'foo'; use one of convnet"),
        ("resnet18:weight", "'weight' of resnet18; use one of none, batch"),
        ("resnet18:", "unknown normalisation ''"),
        ("resnet18,width=4", "width is for convnet, and resnet18 has a shape of its own"),
        ("my.networks:small,depth=2", "depth is for convnet, and my.networks:small has"),
        ("convnet,size=4", "'size=4' behind convnet is no setting; use width=N"),
        ("convnet,width=wide", "'convnet': width: Input"),
        ("convnet,width=-3", "'convnet': width: Input"),
        ("convnet,depth=0", "'convnet': depth: Input"),
        ("convnet,growth=3", "'convnet': growth: Input should be 1 or 2"),
        ("own,width=3", "takes no settings"),
        ("timm:resnet18x", "timm has no classifier 'resnet18x'; did you mean resnet18"),
        ("timm:hf-hub:who/what", "timm has no classifier 'hf-hub:who/what'"),
        ("timm:", "timm has no classifier ''"),
        ("torchvision:resnet", "torchvision has no classifier 'resnet'; did you mean resnet"),
        ("torchvision:resnet18:batch", "no classifier 'resnet18:batch'; did you mean resnet18"),
        ("torchvision:resnet18,width=3", "width is for convnet, and torchvision:resnet18 has"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(text: str, words: str) -> None:
    with pytest.raises(PotstillError) as caught:
        parse_networks(text, resolution=32)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_one_network_is_neither_several_nor_the_sets_own() -> None:
    with pytest.raises(PotstillError, match="names several networks; name one"):
        parse_network("convnet,width=3,resnet18", resolution=32)
    with pytest.raises(PotstillError, match="network that a distilled set was made for"):
        parse_network("own", resolution=32)
