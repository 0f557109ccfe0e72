"""Networks and weights that a user brings along."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
import torchvision
from torch import Tensor, nn

from potstill.errors import NetworkError
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
        channels: of the images it must take.
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
            f"the weights of {name} cannot be fetched ({_one_line(error)}); check the connection, "
            "or put the file into the library's cache"
        ) from error
    remedy = "; set data.channels and data.resolution to what it takes"
    _check_shapes(built, name, channels, resolution, classes, remedy)
    return built


def _from_torchvision(name: str) -> tuple[int, Callable[[bool], nn.Module]]:
    if name not in torchvision.models.list_models(module=torchvision.models):
        raise NetworkError(
            f"torchvision has no classifier {name!r}; see torchvision.models.list_models()"
        )
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


def from_factory(spec: str, channels: int, resolution: int, classes: int) -> nn.Module:
    """What the user's ``package.name:factory`` makes of these three, passed by name.

    Raises:
        NetworkError: no such module or name, the factory raises, or what it returns is no
            module from (n, channels, resolution, resolution) to (n, classes).
    """
    module, _, name = spec.partition(":")
    if not module or not name:
        raise NetworkError(f"{spec!r} names no factory; write package.name:factory")
    try:
        factory = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise NetworkError(
            f"there is no module {error.name!r} to take {spec} from; install it, or add its "
            "folder to PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # the user's code may fail by anything
        raise NetworkError(f"importing {module} failed ({_one_line(error)}); mend it") from error
    if not callable(factory):
        raise NetworkError(f"{module} has no function {name!r}; correct the name in {spec}")
    try:
        network = factory(channels=channels, resolution=resolution, classes=classes)
    except (Exception, SystemExit) as error:
        raise NetworkError(
            f"{spec} failed ({_one_line(error)}); it is called with channels, resolution and "
            "classes by name"
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"{spec} returned {type(network).__name__}; it must return a torch.nn.Module"
        )
    _check_shapes(network, spec, channels, resolution, classes)
    return network


def _check_shapes(
    network: nn.Module, spec: str, channels: int, resolution: int, classes: int, remedy: str = ""
) -> None:
    """One pass in evaluation mode; ``remedy`` follows what the network must take."""
    size = f"{channels}, {resolution}, {resolution}"
    expected = f"images (n, {size}) to outputs (n, {classes}){remedy}"
    training = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            outputs = network.eval()(torch.zeros(2, channels, resolution, resolution))
    except (Exception, SystemExit) as error:
        raise NetworkError(
            f"the network of {spec} fails ({_one_line(error)}); it must take {expected}"
        ) from error
    for module, mode in training.items():
        module.training = mode
    if not isinstance(outputs, Tensor) or outputs.shape != (2, classes):
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise NetworkError(f"the network of {spec} gives {found}; it must take {expected}")


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
        reason = error.strerror or _one_line(error)
        raise NetworkError(f"cannot read {path}: {reason}; check the path") from None
    # A damaged pickle can raise anything.
    except Exception as error:
        raise NetworkError(
            f"{path} holds no weights that can be read safely ({_one_line(error)}); save "
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


def _one_line(error: BaseException) -> str:
    """The beginning of a foreign message."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SystemExit):  # all that it says is a number
        text = f"exit with {text}"
    return text if len(text) <= 160 else f"{text[:157]}..."
