"""Networks of other libraries, and weights that a user brings along."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from potstill.errors import NetworkError
from potstill.networks.factory import check_shapes, one_line
from potstill.networks.libraries import require_known
from potstill.networks.zoo import HeadedNetwork

_Load = Callable[[bool], nn.Module]

# What the last linear layer is called in torchvision, timm and the field's own code.
_HEADS = ("fc", "head", "linear", "classifier.1", "classifier")

# With weights torchvision builds them otherwise than without: no file of the weights alone fits.
_UNLIKE_THEIR_WEIGHTS = ("googlenet", "inception_v3")


def pretrained(
    name: str, channels: int, resolution: int, classes: int, *, weights: bool = True
) -> nn.Module:
    """A network of torchvision or timm with its default weights, downloaded unless at hand.

    Args:
        name: ``torchvision:NAME`` or ``timm:NAME``, as those libraries call it.
        channels: channels of the images that it must take, 1 or 3.
        resolution: their side.
        classes: how many it must tell apart.
        weights: False leaves them out: the network is to take others of its kind.

    Raises:
        NetworkError: unknown name, other images or number of classes, weights out of reach, or
            a network that cannot be stored.
    """
    library, _, network = name.partition(":")
    if library not in _LIBRARIES or not network:
        raise NetworkError(f"{name!r} names no network; write torchvision:NAME or timm:NAME")
    outputs, load = _LIBRARIES[library](network)
    if outputs != classes:
        raise NetworkError(
            f"{name} tells {outputs} classes apart, the data have {classes}; take data of its "
            "classes, or train a teacher on these"
        )
    try:
        built = load(weights)
    # Whatever a download can fail by: URL, HTTP and hub errors, a full disk, a broken file.
    except Exception as error:
        raise NetworkError(
            f"the weights of {name} cannot be fetched ({one_line(error)}); check the connection, "
            "or put the file into the library's cache"
        ) from error
    remedy = "; set data.channels and data.resolution to what it takes"
    check_shapes(built, name, channels, resolution, classes, remedy)
    return built


def _from_torchvision(name: str) -> tuple[int, Callable[[bool], nn.Module]]:
    require_known(f"torchvision:{name}")
    if name in _UNLIKE_THEIR_WEIGHTS:
        raise NetworkError(
            f"torchvision:{name} with weights is another network than without, so it cannot be "
            "stored; take another one, such as torchvision:resnet18"
        )
    weights = torchvision.models.get_model_weights(name)["DEFAULT"]
    return (
        len(weights.meta["categories"]),
        lambda full: torchvision.models.get_model(
            name, weights=weights if full else None, progress=False
        ),
    )


def _from_timm(name: str) -> tuple[int, Callable[[bool], nn.Module]]:
    try:
        settings = timm.models.get_pretrained_cfg(name) if timm.is_model(name) else None
    except RuntimeError:  # an unknown tag behind the dot
        settings = None
    if settings is None or not settings.has_weights:
        raise NetworkError(
            f"timm has no network {name!r} with weights; see timm.list_models(pretrained=True)"
        )
    return settings.num_classes, lambda full: timm.create_model(name, pretrained=full)


_LIBRARIES: Mapping[str, Callable[[str], tuple[int, Callable[[bool], nn.Module]]]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
}


def load_weights(network: nn.Module, path: Path | str) -> None:
    """Put the weights in a file into ``network``, all or none.

    The file is a state dict, by itself or under ``state_dict`` or ``model``; prefixes of
    DataParallel and of torch.compile fall off. A network of the zoo also takes the names
    that its library gives: ``conv1.weight`` for ``body.conv1.weight``, ``fc`` for ``head``.

    Args:
        network: any.
        path: .safetensors, .pt or .pth; the last two are read without running any code.

    Raises:
        NetworkError: unreadable, or its names and shapes are not the network's.
    """
    state = {_bare(name): tensor for name, tensor in _read(Path(path)).items()}
    wanted = network.state_dict()
    if isinstance(network, HeadedNetwork) and not any(n.startswith("body.") for n in state):
        state = {_in_body(name): tensor for name, tensor in state.items()}
    # Batch norms counted no batches before PyTorch 0.4.1.
    missing = [n for n in wanted if n not in state and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in state if n not in wanted]
    kind = type(network).__name__
    remedy = "take the file that belongs to this network, or the network that belongs to it"
    if missing:
        raise NetworkError(f"{path} lacks {_listed(missing)} of {kind}; {remedy}")
    if unexpected:
        raise NetworkError(f"{path} holds {_listed(unexpected)}, which {kind} has not; {remedy}")
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise NetworkError(
                f"{path} has {name} of shape {tuple(tensor.shape)}, {kind} of "
                f"{tuple(wanted[name].shape)}; {remedy}"
            )
    network.load_state_dict(state, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    """The state dict in a file."""
    document: Any
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise NetworkError(f"{path} is no file of weights; give a .safetensors, .pt or .pth file")
    try:
        if path.suffix == ".safetensors":
            document = safetensors.torch.load_file(path)
        else:
            document = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        reason = error.strerror or one_line(error)
        raise NetworkError(f"cannot read {path}: {reason}; check the path") from None
    # A damaged pickle can raise anything.
    except Exception as error:
        raise NetworkError(
            f"{path} holds no weights that can be read safely ({one_line(error)}); save "
            "network.state_dict() alone, best as .safetensors"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(document, Mapping) and isinstance(document.get(key), Mapping):
            document = document[key]
    if (
        not isinstance(document, Mapping)
        or not document
        or not all(isinstance(value, Tensor) for value in document.values())
    ):
        raise NetworkError(f"{path} holds no state dict; save network.state_dict() into it")
    return dict(document)


def _bare(name: str) -> str:
    while name.startswith(("module.", "_orig_mod.")):
        name = name.partition(".")[2]
    return name


def _in_body(name: str) -> str:
    """A name of the library's network -> its name in a :class:`HeadedNetwork`."""
    layer, _, kind = name.rpartition(".")
    return f"head.{kind}" if layer in _HEADS else f"body.{name}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{names[0]!r}{more}"
