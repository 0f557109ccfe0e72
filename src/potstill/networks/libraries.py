"""Networks of timm and torchvision as those libraries make them, without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import timm
import torchvision
from torch import nn

from potstill.errors import NetworkError
from potstill.networks.factory import check_shapes, one_line

# These train with outputs beside the one that counts, unless told otherwise.
_WITH_AUXILIARY = ("googlenet", "inception_v3")


def require_known(name: str) -> None:
    """Refuse a network that its library has not.

    Args:
        name: ``timm:NAME`` or ``torchvision:NAME``, as the library calls it.

    Raises:
        NetworkError: there is none of that name.
    """
    library, _, network = name.partition(":")
    listing, _ = _LIBRARIES[library]
    known = listing()
    if network in known:
        return
    close = get_close_matches(network, known)
    raise NetworkError(
        f"{library} has no classifier {network!r}; "
        + (f"did you mean {' or '.join(close)}? " if close else "")
        + f"{library}{'.models' if library == 'torchvision' else ''}.list_models() lists them"
    )


def from_library(name: str, channels: int, resolution: int, classes: int) -> nn.Module:
    """The library's network for square images, with new weights of its own law.

    Of timm's, those whose size is fixed when they are made are made for ``resolution``, and
    attention is not fused: PyTorch's fused form has no second derivatives, and no fixed result on
    a GPU. Of torchvision's, whose networks take RGB, the first convolution is replaced for other
    images, and drawn by PyTorch's law.

    Args:
        name: ``timm:NAME`` or ``torchvision:NAME``, as the library calls it.
        channels: c, of the images: 1 or 3.
        resolution: side of the images in pixels.
        classes: outputs, C.

    Raises:
        NetworkError: no network of that name, or one that does not fit such images.
    """
    require_known(name)
    library, _, network = name.partition(":")
    _, create = _LIBRARIES[library]
    remedy = "take images of another size (data.resolution) or another network"
    try:
        made = create(network, channels, resolution, classes)
    except Exception as error:  # each network refuses sizes in its own way
        raise NetworkError(
            f"{name} cannot be made for {channels}x{resolution}x{resolution} images "
            f"({one_line(error)}); {remedy}"
        ) from error
    check_shapes(made, name, channels, resolution, classes, f"; {remedy}")
    return made


def _from_timm(name: str, channels: int, resolution: int, classes: int) -> nn.Module:
    options: dict[str, Any] = {"in_chans": channels, "num_classes": classes}
    network: Any
    try:
        network = timm.create_model(name, img_size=resolution, **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        network = timm.create_model(name, **options)  # takes images of any size
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return network


def _from_torchvision(name: str, channels: int, resolution: int, classes: int) -> nn.Module:
    options: dict[str, Any] = {"num_classes": classes}
    if name.startswith("vit_"):
        options["image_size"] = resolution
    if name in _WITH_AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    network = torchvision.models.get_model(name, weights=None, **options)
    if channels != 3:
        _take_channels(network, channels)
    return network


def _take_channels(network: nn.Module, channels: int) -> None:
    """Exchange the first convolution for one of so many input channels."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels != 3:
                break
            stem = nn.Conv2d(
                channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                stride=module.stride,  # type: ignore[arg-type]
                padding=module.padding,  # type: ignore[arg-type]
                bias=module.bias is not None,
            )
            network.set_submodule(name, stem)
            return
    raise ValueError("its first convolution does not take RGB")


_LIBRARIES: Mapping[
    str, tuple[Callable[[], list[str]], Callable[[str, int, int, int], nn.Module]]
] = {
    "timm": (timm.list_models, _from_timm),
    "torchvision": (
        lambda: torchvision.models.list_models(module=torchvision.models),
        _from_torchvision,
    ),
}
"""What the library has, and how (name, channels, resolution, classes) is made of it."""
