from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.convnet import ConvNet, Softplus
from potstill.networks.init import initialise_default

KINDS = ("none", "batch", "instance", "group", "layer")
NORMS = {
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "group": nn.GroupNorm,
    "layer": nn.LayerNorm,
}


def build(name: str, normalisation: str = "none", resolution: int = 32, channels: int = 3, **more):
    recipe = NetworkRecipe(name=name, normalisation=normalisation, width=8)
    return zoo.build(recipe, channels=channels, resolution=resolution, classes=10, **more)


CONVOLUTIONAL = [name for name in zoo.names() if not name.startswith("deit")]
META = torch.device("meta")  # shapes without numbers
DEEP = ("resnet101", "vgg16")
TABLE_3 = ("vgg11", "alexnet", "resnet18")
# The deep share their blocks with the others; a few networks show the exchange of layers.
COMBINATIONS = [
    (name, kind)
    for name, kind in itertools.product(CONVOLUTIONAL, KINDS)
    if name not in DEEP
    and (kind == "batch" or name not in ("resnet50", "shufflenet_v2", "efficientnet_b0"))
]


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("name", "kind"), COMBINATIONS)
def test_every_network_in_every_normalisation_gives_outputs_and_gradients(name, kind):
    network = build(name, kind)
    images = torch.randn(2, 3, 32, 32)

    outputs = network(images)
    assert outputs.shape == (2, 10)
    network.eval()  # so that both calls see the same statistics
    torch.testing.assert_close(network.head(network.features(images)), network(images))

    network.train()
    network(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("convnet", 3),
        ("resnet18", 20),
        ("mobilenet_v2", 52),
        ("vgg11", 8),
        ("alexnet", 5),
        ("resnet18_rcig", 1),
        ("vgg11_rcig", 8),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_normalisation_layers_are_exchanged_and_none_is_forgotten(name, layers, kind):
    modules = list(build(name, kind).modules())
    for other, layer in NORMS.items():
        found = sum(isinstance(module, layer) for module in modules)
        assert found == (layers if other == kind else 0)


def test_layer_normalisation_spans_the_map_it_sees():
    body = build("resnet18", "layer").body
    assert body.bn1.normalized_shape == (64, 32, 32)
    assert body.layer4[1].bn2.normalized_shape == (512, 4, 4)


def test_sizes_are_those_known_of_the_small_image_forms():
    """Published counts for CIFAR-10 with batch norm; AlexNet is counted by hand."""
    published = {
        "resnet18": 11_173_962,
        "resnet50": 23_520_842,
        "resnet101": 42_512_970,
        "vgg11": 9_231_114,
        "vgg16": 14_728_266,
        # torchvision's, with 10 classes for 1000
        "mobilenet_v2": 3_504_872 - 990 * 1281,
        "shufflenet_v2": 2_278_604 - 990 * 1025,
        "efficientnet_b0": 5_288_548 - 990 * 1281,
    }
    with META:
        for name, count in published.items():
            assert parameters(build(name, "batch")) == count, name
    convolutions = [(3, 128, 5), (128, 192, 5), (192, 256, 3), (256, 192, 3), (192, 192, 3)]
    by_hand = sum(i * o * k * k + o for i, o, k in convolutions) + (192 * 4 * 4 + 1) * 10
    assert parameters(build("alexnet")) == by_hand


def test_the_students_of_rcigs_table_3_are_as_run():
    """Sizes by hand; average pooling; one norm in ResNet-18, whose last map is all features."""
    with META:
        vgg, alexnet, resnet = (build(f"{name}_rcig", "batch") for name in TABLE_3)
        plain = build("alexnet", "batch")
    convolutions = (3 * 9 + 1) * 128 + 7 * (128 * 9 + 1) * 128 + 8 * 2 * 128
    assert parameters(vgg) == convolutions + 129 * 10
    assert parameters(alexnet) == parameters(plain)
    for network, pools in ((vgg, 5), (alexnet, 3)):
        assert sum(isinstance(part, nn.AvgPool2d) for part in network.modules()) == pools
        assert not any(isinstance(part, nn.MaxPool2d) for part in network.modules())
    assert resnet.head.in_features == 512 * 4 * 4
    # The published size, less the norms of the blocks, and with a larger head.
    norms = 2 * (4 * 64 + 5 * 128 + 5 * 256 + 5 * 512)
    assert parameters(resnet) == 11_173_962 - norms + (512 * 16 - 512) * 10


def test_resnet_keeps_small_images_large_and_reduces_large_ones():
    small, large = build("resnet18", resolution=64).body, build("resnet18", resolution=65).body
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, nn.Identity)
    assert (large.conv1.kernel_size, large.conv1.stride) == ((7, 7), (2, 2))
    assert isinstance(large.maxpool, nn.MaxPool2d)


@pytest.mark.parametrize(
    ("name", "at_32", "at_64", "at_65"),
    [
        ("resnet18", 4, 8, 3),
        ("resnet50", 4, 8, 3),
        ("mobilenet_v2", 4, 8, 3),
        ("shufflenet_v2", 4, 8, 3),
        ("efficientnet_b0", 2, 4, 3),
        ("vgg16", 1, 2, 2),
        ("vgg11", 1, 2, 2),
    ],
)
def test_the_last_map_of_small_images_keeps_its_places(name, at_32, at_64, at_65):
    sides = {32: at_32, 64: at_64, 65: at_65}
    for resolution, side in sides.items():
        with META:
            body = build(name, "batch", resolution, channels=1).body
            images = torch.empty(2, 1, resolution, resolution)
        maps = []
        last = next(m for m in reversed(list(body.modules())) if isinstance(m, nn.BatchNorm2d))
        last.register_forward_hook(lambda _m, _i, out, maps=maps: maps.append(out.shape[2:]))
        body(images)
        if name.startswith("vgg"):  # a pooling layer follows
            side *= 2
        assert maps == [(side, side)]


@pytest.mark.parametrize("name", ["convnet", "alexnet"])
def test_a_grayscale_image_of_28_px_is_padded_to_32(name):
    at_28 = build(name, resolution=28, channels=1).head.in_features
    assert at_28 == build(name, resolution=32, channels=1).head.in_features
    assert build(name, resolution=28, channels=3).head.in_features < at_28


def test_vgg_takes_28_px_only_through_its_padding():
    outputs = build("vgg11", resolution=28, channels=1)(torch.zeros(2, 1, 28, 28))
    assert outputs.shape == (2, 10)
    with pytest.raises(NetworkError, match="28 px"):
        build("vgg11", resolution=28, channels=3)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_softplus_replaces_every_relu(name):
    with META:
        modules = list(build(name, softplus_beta=60.0).modules())
    assert not any(isinstance(module, nn.ReLU | nn.ReLU6) for module in modules)
    if name == "efficientnet_b0":
        assert sum(isinstance(module, nn.SiLU) for module in modules) == 49
        return
    activations = [module for module in modules if isinstance(module, Softplus)]
    assert activations and all(module.beta == 60.0 for module in activations)


def test_softplus_under_a_ceiling_is_a_smooth_relu6():
    with META:
        network = build("mobilenet_v2", softplus_beta=60.0)
    capped = {module.ceiling for module in network.modules() if isinstance(module, Softplus)}
    assert capped == {6.0}
    x = torch.linspace(-3, 9, 241)
    smooth = Softplus(60.0, 6.0)(x)
    torch.testing.assert_close(smooth, nn.functional.relu6(x), rtol=0, atol=0.012)
    assert float(smooth[120]) == pytest.approx(3.0)  # by symmetry about 3


@pytest.mark.parametrize("name", [name for name in CONVOLUTIONAL if name not in DEEP])
def test_forward_mode_agrees_with_finite_differences(name):
    """Also: nothing is random or works in place, which forward mode would trip over.

    With norms, without which the images leave no trace in the outputs of the deeper networks.
    The step is short because the largest of several numbers, which VGG and AlexNet pool, has no
    derivative where two of them are equal; rounding then makes up to 2e-7 of the difference.
    """
    network = build(name, "group", softplus_beta=10.0).double()
    initialise_default(network, 0, "test/zoo/network")
    draws = rng.stream(0, "test/zoo/images")
    images, tangent = rng.normal((2, 1, 3, 32, 32), draws, dtype=torch.float64)
    product = torch.func.jvp(network, (images,), (tangent,))[1]
    step = 1e-7
    with torch.no_grad():
        difference = network(images + step * tangent) - network(images - step * tangent)
    assert (product - difference / (2 * step)).norm() < 1e-5 * product.norm()


@pytest.mark.parametrize(("growth", "widths"), [(2, [4, 8]), (1, [4, 4])])
def test_convnet_takes_depth_width_and_growth_from_the_recipe(growth, widths):
    recipe = NetworkRecipe(depth=2, width=4, growth=growth, normalisation="batch")
    network = zoo.build(recipe, channels=1, resolution=8, classes=5, softplus_beta=60.0)
    assert isinstance(network, ConvNet)
    assert [block.conv.out_channels for block in network.blocks] == widths
    assert network.head.weight.shape == (5, widths[-1] * 2 * 2)


@pytest.mark.parametrize("kind", ["batch", "instance"])
@pytest.mark.parametrize(
    ("channels", "resolution", "classes", "depth", "size"),
    [
        (1, 28, 10, 3, 317_706),  # MNIST and Fashion-MNIST
        (3, 32, 10, 3, 320_010),  # CIFAR-10
        (3, 32, 100, 3, 504_420),  # CIFAR-100
        (3, 64, 200, 4, 857_160),  # Tiny-ImageNet
    ],
)
def test_the_convnet_of_one_width_has_its_published_size(
    kind, channels, resolution, classes, depth, size
):
    recipe = NetworkRecipe(growth=1, normalisation=kind, depth=depth)
    network = zoo.build(recipe, channels=channels, resolution=resolution, classes=classes)
    assert parameters(network) == size


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
def test_digits_of_8_px_fit(name):
    outputs = build(name, "batch", resolution=8, channels=1)(torch.zeros(2, 1, 8, 8))
    assert outputs.shape == (2, 10)


@pytest.mark.parametrize("name", zoo.names())
def test_gray_images_of_28_px_fit_every_network(name):
    with META:
        network = build(name, zoo.usual_normalisation(name), resolution=28, channels=1)
        assert network(torch.empty(2, 1, 28, 28)).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "kind", "resolution", "words"),
    [
        ("lenet", "none", 32, ["lenet", "resnet18"]),
        ("vgg11", "none", 16, ["vgg11", "16 px", "another network"]),
        ("vgg16", "batch", 8, ["vgg16", "8 px", "another network"]),
        ("alexnet", "batch", 4, ["alexnet", "4 px"]),
        ("resnet18", "instance", 8, ["resnet18", "instance", "8 px", "another normalisation"]),
        ("convnet", "none", 4, ["4 px", "network.depth"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, kind, resolution, words):
    with pytest.raises(NetworkError) as caught:
        build(name, kind, resolution)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words)


def test_the_probe_leaves_the_network_as_it_was():
    network = build("resnet18", "batch")
    assert network.training
    assert network.body.bn1.num_batches_tracked == 0
    assert all(p.device.type == "cpu" for p in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())
