"""Bodies of convolutional networks: images (n, c, h, w) to features (n, H).

Each is torchvision's network without its last linear layer, with a stem for small images.
Up to 64 px the stem has stride 1, and no pooling follows it; above, all is as torchvision has
it. Nothing in a body is random in its forward pass: torchvision's dropout and stochastic depth
(both 0.2, in MobileNetV2 and EfficientNet) are left out, so that a network is a function of
weights and images and a resumed run needs no generator's state. As run for DWA, EfficientNet had
both on CIFAR as well; ``torchvision:NAME`` has them, and stands in ImageNet-1K's rows.

Last maps at 32 and 64 px: ResNets, MobileNetV2 and ShuffleNetV2 4 and 8, EfficientNet-B0 2 and
4, VGG 1 and 2 (then their mean), AlexNet 4 and 8 (laid out as features).

Three bodies are those that RCIG's Table 3 was measured on, which are others than their names in
it say: ``resnet18_rcig``, ``vgg11_rcig`` and ``alexnet_rcig``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import nn
from torchvision.models import efficientnet, mobilenet, resnet, shufflenetv2, vgg

SMALL = 64  # px; the largest images that take the small-image form


def _resnet(create: Callable[[], resnet.ResNet], channels: int, resolution: int) -> nn.Module:
    """Up to 64 px a 3x3 stem of stride 1 and no max-pooling; torchvision's stem above."""
    network = create()
    if resolution <= SMALL:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.set_submodule("maxpool", nn.Identity())
    else:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    network.set_submodule("fc", nn.Identity())
    return network


def _resnet18_rcig(channels: int, resolution: int) -> nn.Module:
    """ResNet-18 with one norm, after the stem, and its last map laid out as features, as run.

    No block normalises, and no mean is taken over the last map.
    """
    network = _resnet(resnet.resnet18, channels, resolution)
    norms = [name for name, part in network.named_modules() if isinstance(part, nn.BatchNorm2d)]
    for name in norms[1:]:
        network.set_submodule(name, nn.Identity())
    network.set_submodule("avgpool", nn.Identity())
    return network


def _mobilenet_v2(channels: int, resolution: int) -> nn.Module:
    """Up to 64 px the stem and the first stage of stride 2 have stride 1: 8 in all.

    As run for DWA; there the network had plain ReLUs and linear shortcuts between
    stages besides, here it is torchvision's.
    """
    # expansion, channels, blocks, stride (MobileNetV2, Table 2)
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, 2],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    if resolution <= SMALL:
        stages[1][3] = 1
    network = mobilenet.mobilenet_v2(inverted_residual_setting=stages)
    network.features.set_submodule("0.0", _stem(channels, 32, resolution))
    network.set_submodule("classifier", nn.Identity())
    return network


def _shufflenet_v2(channels: int, resolution: int) -> nn.Module:
    """Width 1.0; up to 64 px no max-pooling either: 8 in all.

    The paper's tables name ShuffleNetV2; as run, DWA trained the first ShuffleNet with two groups
    on CIFAR, and ShuffleNetV2 of width 0.5, torchvision's, on ImageNet-1K.
    """
    network = shufflenetv2.shufflenet_v2_x1_0()
    network.conv1[0] = _stem(channels, 24, resolution)
    if resolution <= SMALL:
        network.set_submodule("maxpool", nn.Identity())
    network.set_submodule("fc", nn.Identity())
    return network


def _efficientnet_b0(channels: int, resolution: int) -> nn.Module:
    """Up to 64 px the stem alone has stride 1, as run for DWA: 16 in all."""
    network = efficientnet.efficientnet_b0(stochastic_depth_prob=0.0)
    network.features.set_submodule("0.0", _stem(channels, 32, resolution))
    network.set_submodule("classifier", nn.Identity())
    return network


def _vgg(configuration: Sequence[str | int], channels: int, resolution: int) -> nn.Module:
    """The convolutions of a VGG, then the mean over what is left of the image.

    Args:
        configuration: widths of the convolutions, and M where the image is pooled.
        channels: of the images.
        resolution: their side in pixels.
    """
    layers = vgg.make_layers(list(configuration), batch_norm=True)
    width = int(configuration[0])
    layers[0] = nn.Conv2d(channels, width, 3, padding=1 + _extra_padding(channels, resolution))
    network = nn.Sequential()
    network.add_module("features", layers)
    network.add_module("pool", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    return network


def _vgg11_rcig(channels: int, resolution: int) -> nn.Module:
    """VGG-11 whose convolutions all have 128 channels, with average pooling, as run."""
    configuration = [part if part == "M" else 128 for part in vgg.cfgs["A"]]
    return _averaging(_vgg(configuration, channels, resolution))


def _averaging(network: nn.Module) -> nn.Module:
    """``network`` with average pooling where it took maxima."""
    for name, part in list(network.named_modules()):
        if isinstance(part, nn.MaxPool2d):
            network.set_submodule(name, nn.AvgPool2d(2))
    return network


def _alexnet(channels: int, resolution: int) -> nn.Module:
    """AlexNet as the field has it at 32 px: five convolutions, no hidden linear layers."""
    padding = 2 + _extra_padding(channels, resolution)
    return nn.Sequential(
        *_convolution(channels, 128, 5, padding),
        nn.MaxPool2d(2),
        *_convolution(128, 192, 5, 2),
        nn.MaxPool2d(2),
        *_convolution(192, 256, 3, 1),
        *_convolution(256, 192, 3, 1),
        *_convolution(192, 192, 3, 1),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )


BODIES: Mapping[str, Callable[[int, int], nn.Module]] = {
    "resnet18": lambda c, side: _resnet(resnet.resnet18, c, side),
    "resnet50": lambda c, side: _resnet(resnet.resnet50, c, side),
    "resnet101": lambda c, side: _resnet(resnet.resnet101, c, side),
    "mobilenet_v2": _mobilenet_v2,
    "shufflenet_v2": _shufflenet_v2,
    "efficientnet_b0": _efficientnet_b0,
    "vgg11": lambda c, side: _vgg(vgg.cfgs["A"], c, side),
    "vgg16": lambda c, side: _vgg(vgg.cfgs["D"], c, side),
    "alexnet": _alexnet,
    "resnet18_rcig": _resnet18_rcig,
    "vgg11_rcig": _vgg11_rcig,
    "alexnet_rcig": lambda c, side: _averaging(_alexnet(c, side)),
}
"""(channels, resolution) -> a body with batch norms."""


def _stem(channels: int, outputs: int, resolution: int) -> nn.Conv2d:
    """The 3x3 convolution that a mobile network begins with."""
    stride = 1 if resolution <= SMALL else 2
    return nn.Conv2d(channels, outputs, 3, stride=stride, padding=1, bias=False)


def _convolution(inputs: int, outputs: int, kernel: int, padding: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def _extra_padding(channels: int, resolution: int) -> int:
    """A one-channel 28 px image is padded to 32 px, as in the ConvNet."""
    return 2 if (channels == 1 and resolution == 28) else 0
