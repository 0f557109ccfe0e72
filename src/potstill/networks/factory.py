"""Networks that a user's own code makes, named by ``package.name:factory``, or given in Python."""

from __future__ import annotations

import copy
import hashlib
import importlib
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks.init import draw_anew

Factory = Callable[..., nn.Module]
"""A function or a class, called with ``channels``, ``resolution`` and ``classes`` by name."""

# What callers gave that cannot be imported, by the names that recipes have for it.
_given: dict[str, Factory] = {}


def given(
    network: Factory | nn.Module, *, channels: int, resolution: int, classes: int
) -> NetworkRecipe:
    """The recipe, in this process, of a network that a caller has in Python.

    It is named by where its code stands, ``module:name``. What cannot be imported from there, a
    lambda or a module that is ready, has a digest of its structure behind that, so that results of
    different networks are not taken for those of one.

    Args:
        network: a :data:`Factory`, which is asked for every network anew; or a module, whose
            copies draw their parameters anew by ``reset_parameters`` of its layers, or by
            ``init_weights`` of its parts. Its own weights count for nothing.
        channels: c of the images.
        resolution: side of the images in pixels.
        classes: outputs, C.

    Raises:
        NetworkError: it cannot be made or copied, does not take such images, or is a module with
            parameters that none of its methods draws.
    """
    spec = _place(network)
    factory: Factory = _Copies(spec, network) if isinstance(network, nn.Module) else network
    with torch.random.fork_rng(devices=[]):
        made = _made(factory, spec, channels, resolution, classes)
    if not _importable(network, spec):
        shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
        spec += f"@{hashlib.sha256(f'{made!r} {shapes}'.encode()).hexdigest()[:8]}"
        _given[spec] = factory
    return NetworkRecipe(name=spec)


def _place(network: Any) -> str:
    code = type(network) if isinstance(network, nn.Module) else network
    code = getattr(code, "func", code)  # of functools.partial
    name = getattr(code, "__qualname__", type(code).__qualname__)
    return f"{getattr(code, '__module__', None) or '__main__'}:{name}"


def _importable(network: Any, spec: str) -> bool:
    """Whether ``spec`` names just this in a module that has been imported."""
    module, _, name = spec.partition(":")
    return getattr(sys.modules.get(module), name, None) is network


class _Copies:
    """A factory of copies of a module, with other weights each."""

    def __init__(self, spec: str, network: nn.Module) -> None:
        try:
            self._network = copy.deepcopy(network).cpu()
        except Exception as error:
            raise NetworkError(
                f"the network {spec} cannot be copied ({one_line(error)}); pass a function that "
                "makes it, of channels, resolution and classes"
            ) from error
        self._spec = spec

    def __call__(self, channels: int, resolution: int, classes: int) -> nn.Module:
        """A copy on the CPU, ready to be trained."""
        made = copy.deepcopy(self._network).train().requires_grad_(True)
        forgotten = draw_anew(made)
        if forgotten:
            raise NetworkError(
                f"nothing draws {forgotten[0]!r} of {self._spec} anew; give the network a method "
                "init_weights() that does, or pass a function that makes it, of channels, "
                "resolution and classes"
            )
        return made


def from_factory(spec: str, channels: int, resolution: int, classes: int) -> nn.Module:
    """What the user's ``package.name:factory`` makes of these three, passed by name.

    Raises:
        NetworkError: no such module or name, the factory raises, or what it returns is no
            module from (n, channels, resolution, resolution) to (n, classes).
    """
    return _made(_given.get(spec) or _imported(spec), spec, channels, resolution, classes)


def _imported(spec: str) -> Factory:
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
    return factory


def _made(factory: Factory, spec: str, channels: int, resolution: int, classes: int) -> nn.Module:
    try:
        network = factory(channels=channels, resolution=resolution, classes=classes)
    except NetworkError:
        raise
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
