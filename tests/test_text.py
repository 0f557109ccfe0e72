from __future__ import annotations

from itertools import product

from potstill.config import NetworkRecipe
from potstill.text import network_detail, network_text, short_network_text, steps_text


def test_a_text_says_what_the_network_is() -> None:
    growing = NetworkRecipe(depth=3, width=64)
    assert network_text(growing) == "ConvNet, depth 3, width 64 to 256, no norm"
    constant = NetworkRecipe(depth=3, width=128, growth=1, normalisation="instance")
    assert network_text(constant) == "ConvNet, depth 3, width 128, instance norm"
    resnet = NetworkRecipe(name="resnet18", normalisation="batch")
    assert network_text(resnet) == "resnet18, batch norm"
    for name in ("timm:resnet18", "torchvision:resnet18", "my.networks:small"):
        other = NetworkRecipe(name=name)
        assert network_text(other) == short_network_text(other) == name
        assert network_detail(other) == ""


def test_different_networks_have_different_texts() -> None:
    networks = [
        NetworkRecipe(depth=depth, width=width, growth=growth, normalisation=norm)
        for depth, width, growth, norm in product(
            (2, 3), (4, 8), (1, 2), ("none", "batch", "instance", "group", "layer")
        )
    ]
    assert len({network_text(network) for network in networks}) == len(networks)


def test_steps_of_groups_are_counted_as_a_recipe_counts_them() -> None:
    assert steps_text(10_000, 10_000, 10) == "10 x 1,000"
    assert steps_text(4_200, 10_000, 10) == "4,200 of 10 x 1,000"
    assert steps_text(7, None, 10) == "7"
    assert steps_text(7, 7) == "7"
