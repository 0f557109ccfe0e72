"""Initialisation of a network from a named random stream."""

from __future__ import annotations

import math

import torch
from torch import nn

from potstill import rng


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
