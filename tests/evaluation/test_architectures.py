from __future__ import annotations

import pytest

from potstill.config import NetworkRecipe
from potstill.errors import RecipeError
from potstill.evaluation import parse_architectures


def test_names_become_networks_with_their_usual_normalisation():
    found = parse_architectures("resnet18, mobilenet_v2,deit_tiny,vgg11:none", resolution=32)
    assert [(one.name, one.normalisation) for one in found] == [
        ("resnet18", "batch"),
        ("mobilenet_v2", "batch"),
        ("deit_tiny", "layer"),
        ("vgg11", "none"),
    ]


@pytest.mark.parametrize(("side", "depth"), [(8, 3), (28, 3), (32, 3), (64, 4), (128, 5)])
def test_the_convnet_of_dwa_deepens_with_the_images(side, depth):
    for made_for in (None, NetworkRecipe(name="resnet18", normalisation="batch")):
        [found] = parse_architectures("convnet", resolution=side, made_for=made_for)
        assert found == NetworkRecipe(depth=depth, width=128, growth=1, normalisation="batch")


def test_a_convnet_is_the_sets_own_if_it_has_one():
    own = NetworkRecipe(depth=2, width=8, normalisation="none")
    found = parse_architectures("convnet,convnet:instance", resolution=8, made_for=own)
    assert found == [own, own.model_copy(update={"normalisation": "instance"})]


def test_networks_of_ones_own_are_named_by_their_factories():
    found = parse_architectures("my.networks:small,resnet18:batch", resolution=8)
    assert [(one.name, one.foreign) for one in found] == [
        ("my.networks:small", True),
        ("resnet18", False),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown network ''"),
        ("resnet18,", "unknown network ''"),
        ("resnet19", "'resnet19'; use one of convnet"),
        ("resnet19:batch", "'resnet19'; use one of convnet"),
        ("resnet18:weight", "'weight' of resnet18; use one of none, batch"),
        ("resnet18:", "unknown normalisation ''"),
    ],
)
def test_what_is_no_network_is_refused(text, words):
    with pytest.raises(RecipeError) as caught:
        parse_architectures(text, resolution=32)
    assert words in str(caught.value) and "\n" not in str(caught.value)
