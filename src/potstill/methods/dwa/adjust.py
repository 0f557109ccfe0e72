"""Directed weight adjustment: from a teacher's weights to a neighbour's (DWA, eq. 12).

The invariant: weights in, weights out. Nothing that is handed in is changed, so that every group
of images starts from theta_T.
"""

from __future__ import annotations

import math
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

# Where the search for a rise begins (the paper's rho), and lengths at which it is given up: far
# beyond those of trained weights.
_FIRST_SIZE, _LONGEST = 15e-3, 1e4
# The rise is met to this share of it, or as well as lengths that differ by so little can.
_RISE_TOLERANCE, _SIZE_TOLERANCE = 1e-2, 1e-3


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


def rising_adjustment(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    rise: float,
    precision: Precision = "float32",
) -> Weights:
    """:func:`directed_adjustment` of the length at which the loss on S_0 has risen by ``rise``.

    One length moves teachers of different depth and width by different amounts; a rise asks the
    same of each. The length is doubled until the loss has risen too far, then the interval is
    halved until the rise is met to a hundredth; that takes some ten climbs.

    Args:
        rise: of the mean cross-entropy in evaluation mode, in float32.

    The other arguments, and what is returned, are those of :func:`directed_adjustment`.

    Raises:
        NumericalError: the loss has no finite gradient, or does not rise so far.
    """
    start = _loss(network, dict(network.named_parameters()), images, labels)
    below, above, size = 0.0, math.inf, _FIRST_SIZE
    while size <= _LONGEST:
        weights = directed_adjustment(
            network, images, labels, steps=steps, size=size, precision=precision
        )
        risen = _loss(network, weights, images, labels) - start
        if abs(risen - rise) <= _RISE_TOLERANCE * rise or above - below <= _SIZE_TOLERANCE * size:
            return weights
        if risen < rise:
            below = size
        else:
            above = size
        size = 2 * size if above == math.inf else (below + above) / 2
    raise NumericalError(
        f"no climb raises the teacher's loss on real images by {rise:g}; lower "
        "method.adjustment_rise"
    )


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


@torch.no_grad()
def _loss(network: nn.Module, weights: Weights, images: Tensor, labels: Tensor) -> float:
    """Mean cross-entropy in evaluation mode; the network's mode is left as it is."""
    was_training = network.training
    network.eval()
    try:
        return float(F.cross_entropy(functional_call(network, weights, (images,)), labels))
    finally:
        network.train(was_training)


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
