"""Networks by name, in the small-image forms of the field (RCIG, Table 3; DWA, Tables 2 to 4, 9).

Every network of potstill's has ``features(images)`` and a last linear layer ``head``.
Apart from the ConvNet they are torchvision's and timm's, with another stem and another
end. In torchvision's, what normalises and what activates is exchanged module by module
afterwards, so that one description of an architecture serves all normalisations.

To add a network, write a function (channels, resolution) -> body with batch norms and
enter it in ``bodies.BODIES``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

import torch
from torch import Tensor, nn

from potstill.config import NetworkRecipe, Normalisation
from potstill.errors import NetworkError
from potstill.networks.bodies import BODIES
from potstill.networks.convnet import ConvNet, Softplus
from potstill.networks.factory import from_factory
from potstill.networks.libraries import from_library
from potstill.networks.vision_transformer import NORMALISATIONS, vision_transformer

_Parts = tuple[nn.Module, nn.Linear]


class HeadedNetwork(nn.Module):
    """A body from images to features, and one linear layer on top of it.

    Args:
        construct: makes body and head, each time with new weights.
    """

    def __init__(self, construct: Callable[[], _Parts]) -> None:
        super().__init__()
        self._construct = construct
        self.body, self.head = construct()

    def init_weights(self) -> None:
        """Draw all weights anew by the laws they were made by, from PyTorch's generator."""
        self.load_state_dict(HeadedNetwork(self._construct).state_dict())

    def features(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> h(x) (n, H), what the last layer sees."""
        features: Tensor = self.body(images)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> outputs (n, C)."""
        outputs: Tensor = self.head(self.features(images))
        return outputs


class ForeignNetwork(nn.Module):
    """A network of a user's or of another library, as its own code makes it.

    Args:
        construct: makes it, each time with new weights.
    """

    def __init__(self, construct: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._construct = construct
        self.network = construct()

    def init_weights(self) -> None:
        """Draw all weights anew as its own code does, from PyTorch's generator."""
        self.load_state_dict(ForeignNetwork(self._construct).state_dict())

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) -> outputs (n, C)."""
        outputs: Tensor = self.network(images)
        return outputs


def names() -> tuple[str, ...]:
    """Every name that :func:`build` knows."""
    return ("convnet", *BODIES, *NORMALISATIONS)


def has_features(network: nn.Module) -> bool:
    """Whether it is one of potstill's own, which tell what their last layer sees."""
    return isinstance(network, ConvNet | HeadedNetwork)


def unknown(name: str) -> str:
    """What to say of a name that is none of these, in one line."""
    close = get_close_matches(name, names())
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    return (
        f"unknown network {name!r}; {meant}use one of {', '.join(names())}, timm:NAME, "
        "torchvision:NAME, or package.name:factory for one of your own"
    )


def usual_normalisation(name: str) -> Normalisation:
    """What a network of this name normalises by where nobody says otherwise."""
    return NORMALISATIONS.get(name, "batch")


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
        recipe: name and normalisation; depth, width and growth concern the convnet alone.
            Of the transformers, deit_tiny is asked for with normalisation layer and
            deit_tiny_bn with batch; networks of timm and torchvision with none, which
            leaves them their own.
        channels: c, of the images: 1 or 3.
        resolution: side of the images in pixels.
        classes: outputs, C.
        softplus_beta: activation softplus(beta x)/beta in place of ReLU, with the
            ceiling that a ReLU6 has; SiLU and GELU, smooth by themselves, stay. In a
            network of a user's or of another library, of its activations only those that
            are modules.

    Raises:
        NetworkError: unknown name, a network that does not fit the images, another
            normalisation than the network can have, or a user's that cannot be made.
    """
    if recipe.library and recipe.normalisation != "none":
        raise NetworkError(
            f"{recipe.name} comes with its own normalisation, not {recipe.normalisation}; "
            "set network.normalisation to none"
        )
    if recipe.foreign or recipe.library:
        make = from_library if recipe.library else from_factory
        return ForeignNetwork(
            partial(_foreign, make, recipe.name, channels, resolution, classes, softplus_beta)
        )
    if recipe.name == "convnet":
        return ConvNet(
            channels,
            resolution,
            classes,
            recipe.depth,
            recipe.width,
            recipe.normalisation,
            softplus_beta,
            recipe.growth,
        )
    if recipe.name not in names():
        raise NetworkError(unknown(recipe.name))
    if recipe.name in NORMALISATIONS:
        return HeadedNetwork(partial(vision_transformer, recipe, channels, resolution, classes))
    return HeadedNetwork(
        partial(_convolutional, recipe, channels, resolution, classes, softplus_beta)
    )


def _convolutional(
    recipe: NetworkRecipe,
    channels: int,
    resolution: int,
    classes: int,
    softplus_beta: float | None,
) -> _Parts:
    """A body with its norms and activations exchanged, and a head of PyTorch's own law."""
    body = BODIES[recipe.name](channels, resolution)
    maps, width = _probe(body, recipe.name, channels, resolution)
    for name, shape in maps.items():
        body.set_submodule(name, _norm(recipe, resolution, shape))
    _exchange_activations(body, softplus_beta)
    return body, nn.Linear(width, classes)


def _foreign(
    make: Callable[[str, int, int, int], nn.Module],
    name: str,
    channels: int,
    resolution: int,
    classes: int,
    softplus_beta: float | None,
) -> nn.Module:
    """A user's network, or a library's, with its activations exchanged."""
    network = make(name, channels, resolution, classes)
    _exchange_activations(network, softplus_beta)
    return network


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


def _exchange_activations(network: nn.Module, softplus_beta: float | None) -> None:
    for name, module in list(network.named_modules()):
        if name and isinstance(module, nn.ReLU | nn.ReLU6 | nn.SiLU):
            network.set_submodule(name, _activation(module, softplus_beta))


def _activation(module: nn.Module, softplus_beta: float | None) -> nn.Module:
    """Out of place, so that derivatives of every kind can be taken through it."""
    if isinstance(module, nn.SiLU):
        return nn.SiLU()
    capped = isinstance(module, nn.ReLU6)
    if softplus_beta is None:
        return nn.ReLU6() if capped else nn.ReLU()
    return Softplus(softplus_beta, 6.0 if capped else None)
