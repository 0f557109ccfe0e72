"""Networks that a user's own code makes, named by ``package.name:factory``."""

from __future__ import annotations

import importlib

import torch
from torch import Tensor, nn

from potstill.errors import NetworkError


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
        raise NetworkError(f"importing {module} failed ({one_line(error)}); mend it") from error
    if not callable(factory):
        raise NetworkError(f"{module} has no function {name!r}; correct the name in {spec}")
    try:
        network = factory(channels=channels, resolution=resolution, classes=classes)
    except (Exception, SystemExit) as error:
        raise NetworkError(
            f"{spec} failed ({one_line(error)}); it is called with channels, resolution and "
            "classes by name"
        ) from error
    if not isinstance(network, nn.Module):
        raise NetworkError(
            f"{spec} returned {type(network).__name__}; it must return a torch.nn.Module"
        )
    check_shapes(network, spec, channels, resolution, classes)
    return network


def check_shapes(
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
            f"the network of {spec} fails ({one_line(error)}); it must take {expected}"
        ) from error
    for module, mode in training.items():
        module.training = mode
    if not isinstance(outputs, Tensor) or outputs.shape != (2, classes):
        found = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise NetworkError(f"the network of {spec} gives {found}; it must take {expected}")


def one_line(error: BaseException) -> str:
    """The beginning of a foreign message."""
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, SystemExit):  # all that it says is a number
        text = f"exit with {text}"
    return text if len(text) <= 160 else f"{text[:157]}..."
