"""Directed weight adjustment: from a teacher's weights to a neighbour's (DWA, eq. 12).

The invariant: weights in, weights out. Nothing that is handed in is changed, so that every group
of images starts from theta_T.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from potstill import hardware, rng
from potstill.config import Precision
from potstill.errors import NumericalError

Weights = dict[str, Tensor]


def directed_adjustment(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    size: float,
    precision: Precision = "float32",
) -> Weights:
    """theta_T + Delta_K: K steps up the loss on S_0, each of length rho / K (Algorithm 1, line 8).

        Delta_k = Delta_(k-1) + (rho / K) g / |g|,
        g = gradient of the cross-entropy on S_0 at theta_T + Delta_(k-1).

    The paper's line 8 has g alone; its text says that the magnitude is normalised, and the
    authors ran it so, with the norm over all weights together. Where g vanishes there is no
    direction, and Delta stays. All steps see the same images.

    Args:
        network: the teacher; used in evaluation mode, left as it is.
        images: S_0 (n, c, h, w), network space.
        labels: (n,) int64.
        steps: K.
        size: rho.
        precision: precision of convolutions and products; weights and their sum stay as they are.

    Returns:
        Every parameter by name, detached copies.

    Raises:
        NumericalError: the loss has no finite gradient.
    """
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    was_training = network.training
    network.eval()
    try:
        for _ in range(steps):
            with hardware.autocast(precision, images.device):
                gradient = _gradient(network, weights, images, labels)
            length = _norm(gradient)
            if not bool(length.isfinite()):
                raise NumericalError(
                    "the teacher's loss on real images has no finite gradient; train the teacher "
                    "again, with a lower method.teacher.learning_rate"
                )
            if length > 0:
                for name, value in weights.items():
                    value.add_(gradient[name] * (size / steps / length))
    finally:
        network.train(was_training)
    return weights


def random_adjustment(network: nn.Module, length: float, generator: np.random.Generator) -> Weights:
    """theta_T plus a Gaussian direction of the given length over all weights (Table 3)."""
    weights = {name: value.detach() for name, value in network.named_parameters()}
    draw = {
        name: rng.normal(tuple(value.shape), generator).to(value) for name, value in weights.items()
    }
    scale = length / _norm(draw)
    return {name: value + scale * draw[name] for name, value in weights.items()}


def adjustment_length(network: nn.Module, weights: Mapping[str, Tensor]) -> float:
    """|Delta|, over all weights together."""
    change = {n: weights[n] - value.detach() for n, value in network.named_parameters()}
    return float(_norm(change))


def _gradient(network: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> Weights:
    """Gradient of the mean cross-entropy, by weight; zero where the loss does not depend on it."""
    leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
    outputs = functional_call(network, leaves, (images,))
    loss = F.cross_entropy(outputs.to(next(iter(weights.values())).dtype), labels)
    gradients = torch.autograd.grad(
        loss, list(leaves.values()), allow_unused=True, materialize_grads=True
    )
    return dict(zip(leaves, gradients, strict=True))


def _norm(weights: Mapping[str, Tensor]) -> Tensor:
    return torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(value) for value in weights.values()])
    )
