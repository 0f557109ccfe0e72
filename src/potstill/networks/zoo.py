"""Networks by name, in the small-image forms of the field (RCIG, Table 3).

Every network built here has ``features(images)`` and a last linear layer ``head``.
Apart from the ConvNet they are torchvision's layers with another stem and another
end: what normalises and what activates is exchanged module by module afterwards, so
that one description of an architecture serves all normalisations.

To add a network, write a function (channels, resolution) -> body, a module from
images (n, c, h, w) to features (n, H) with batch norms and ReLUs, and enter it in
``_BODIES``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import resnet, vgg

from potstill.config import NetworkRecipe, Normalisation
from potstill.errors import NetworkError
from potstill.networks.convnet import ConvNet, Softplus


class HeadedNetwork(nn.Module):
    """A body from images to features, and one linear layer on top of it."""

    def __init__(self, body: nn.Module, head: nn.Linear) -> None:
        super().__init__()
        self.body = body
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> h(x) (n, H), what the last layer sees."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> outputs (n, C)."""
        outputs: Tensor = self.head(self.features(images))
        return outputs


def names() -> tuple[str, ...]:
    """Every name that :func:`build` knows."""
    return ("convnet", *_BODIES)


def build(
    recipe: NetworkRecipe,
    *,
    channels: int,
    resolution: int,
    classes: int,
    softplus_beta: float | None = None,
) -> nn.Module:
    """A new network for square images; initialise it before use.

    Args:
        recipe: name and normalisation; depth and width concern the convnet alone.
        channels: of the images, c.
        resolution: side of the images in pixels.
        classes: outputs, C.
        softplus_beta: activation softplus(beta x)/beta, ReLU if None.

    Raises:
        NetworkError: unknown name, or a network that does not fit the images.
    """
    if recipe.name == "convnet":
        return ConvNet(
            channels,
            resolution,
            classes,
            recipe.depth,
            recipe.width,
            recipe.normalisation,
            softplus_beta,
        )
    if recipe.name not in _BODIES:
        raise NetworkError(f"unknown network {recipe.name!r}; use one of {', '.join(names())}")
    body = _BODIES[recipe.name](channels, resolution)
    maps, width = _probe(body, recipe.name, channels, resolution)
    for name, shape in maps.items():
        body.set_submodule(name, _norm(recipe, resolution, shape))
    for name, module in list(body.named_modules()):
        if isinstance(module, nn.ReLU):
            body.set_submodule(name, _activation(softplus_beta))
    return HeadedNetwork(body, nn.Linear(width, classes))


def _resnet18(channels: int, resolution: int) -> nn.Module:
    """Up to 64 px a 3x3 stem of stride 1 and no max-pooling; torchvision's stem above."""
    network: resnet.ResNet = resnet.resnet18()
    if resolution <= 64:
        network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        network.set_submodule("maxpool", nn.Identity())
    else:
        network.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    network.set_submodule("fc", nn.Identity())
    return network


def _vgg11(channels: int, resolution: int) -> nn.Module:
    """The convolutions of VGG-11, then the mean over what is left of the image."""
    layers = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
    layers[0] = nn.Conv2d(channels, 64, 3, padding=1 + _extra_padding(channels, resolution))
    return nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


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


_BODIES: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet18": _resnet18,
    "vgg11": _vgg11,
    "alexnet": _alexnet,
}


def _convolution(inputs: int, outputs: int, kernel: int, padding: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=padding)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU()


def _extra_padding(channels: int, resolution: int) -> int:
    """A one-channel 28 px image is padded to 32 px, as in the ConvNet."""
    return 2 if (channels == 1 and resolution == 28) else 0


def _probe(
    body: nn.Module, name: str, channels: int, resolution: int
) -> tuple[dict[str, tuple[int, ...]], int]:
    """The map (c, h, w) that each batch norm of ``body`` sees, and the number of features.

    Runs on a copy without storage: nothing is computed and ``body`` is left alone.
    """
    twin = copy.deepcopy(body).to("meta").train()
    maps: dict[str, tuple[int, ...]] = {}
    for layer, module in twin.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(
                lambda _m, _i, out, layer=layer: maps.update({layer: tuple(out.shape[1:])})
            )
    try:
        features = twin(torch.empty(2, channels, resolution, resolution, device="meta"))
    except (RuntimeError, ValueError):
        raise NetworkError(
            f"{name} does not fit images of {resolution} px; "
            "take larger images (data.resolution) or another network"
        ) from None
    return maps, int(features.shape[1])


def _norm(recipe: NetworkRecipe, resolution: int, shape: tuple[int, ...]) -> nn.Module:
    """The layer that takes a batch norm's place on maps (c, h, w) of this ``shape``."""
    if recipe.normalisation == "instance" and shape[1:] == (1, 1):
        raise NetworkError(
            f"{recipe.name} reduces {resolution} px to single pixels, which instance normalisation "
            "would erase; take larger images (data.resolution) or another normalisation"
        )
    layers: dict[Normalisation, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "batch": lambda: nn.BatchNorm2d(shape[0]),
        "instance": lambda: nn.InstanceNorm2d(shape[0], affine=True),
        "group": lambda: nn.GroupNorm(1, shape[0]),
        "layer": lambda: nn.LayerNorm(list(shape)),
    }
    return layers[recipe.normalisation]()


def _activation(softplus_beta: float | None) -> nn.Module:
    """Out of place, so that derivatives of every kind can be taken through it."""
    return nn.ReLU() if softplus_beta is None else Softplus(softplus_beta)
