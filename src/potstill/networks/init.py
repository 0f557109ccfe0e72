"""Initialisation of a network from a named random stream."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from potstill import rng
from potstill.errors import NetworkError


@torch.no_grad()
def initialise(network: nn.Module, seed: int, purpose: str, step: int = 0) -> None:
    """Draw every parameter of ``network`` anew, in place.

    Weights of convolutions and linear layers: truncated normal with variance
    1/fan_in; biases zero (RCIG, Appendix C). Normalisation layers: scale one,
    shift zero, running statistics reset. Parameters that belong to no such layer
    (class tokens, position embeddings) get truncated normals of deviation 0.02.
    """
    generator = rng.stream(seed, purpose, step)
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim <= 1 or isinstance(module, nn.LayerNorm):
                parameter.fill_(1.0 if name == "weight" else 0.0)
                continue
            layer = isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
            deviation = 1 / math.sqrt(parameter[0].numel()) if layer else 0.02
            draws = rng.truncated_normal(tuple(parameter.shape), generator, dtype=parameter.dtype)
            parameter.copy_(draws.mul_(deviation))
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.reset_running_stats()


@contextmanager
def seeded(seed: int, purpose: str, step: int = 0) -> Iterator[None]:
    """PyTorch's generator of the CPU is a named stream inside, and outside as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.integer_seed(seed, purpose, step))
        yield


@contextmanager
def seeded_on(device: torch.device, seed: int, purpose: str, step: int) -> Iterator[None]:
    """Dropout draws from a named stream inside; PyTorch's generators are as they were outside."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(rng.integer_seed(seed, purpose, step))
        yield


def initialise_default(network: nn.Module, seed: int, purpose: str, step: int = 0) -> None:
    """Draw every parameter of ``network`` anew, in place, by its library's own laws.

    PyTorch's for single layers, and above them torchvision's and timm's for their networks:
    what ``reset_parameters`` of each layer draws, then ``init_weights`` of each part that
    has it. Running statistics are reset. The draws are made on the CPU, and PyTorch's own
    generator is left as it was.

    Raises:
        NetworkError: a parameter that none of these methods draws.
    """
    twin = copy.deepcopy(network).cpu()
    with seeded(seed, purpose, step), torch.no_grad():
        forgotten = draw_anew(twin)
    if forgotten:
        raise NetworkError(
            f"nothing initialises {forgotten[0]!r} of {type(network).__name__}; give the network "
            "a method init_weights() that draws it"
        )
    network.load_state_dict(twin.state_dict())


def draw_anew(module: nn.Module, prefix: str = "") -> list[str]:
    """Draw its parameters in place, from PyTorch's generator, parts before wholes.

    Returns:
        The names of the parameters that no method has drawn, each behind ``prefix``.
    """
    own = [prefix + name for name, _ in module.named_parameters(recurse=False)]
    inner: list[str] = []
    for name, child in module.named_children():
        inner += draw_anew(child, f"{prefix}{name}.")
    # MultiheadAttention and its kin spell the method with an underscore.
    reset = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if callable(reset):
        reset()
        own = []
    if callable(whole := getattr(module, "init_weights", None)):
        whole()
        return []
    return own + inner
