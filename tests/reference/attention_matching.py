"""One update of DataDAM as its equations stand, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.data.siamese import Draw
from potstill.networks.convnet import ConvNet
from tests.reference.siamese import applied


def activations(network: ConvNet, image: Tensor) -> tuple[list[Tensor], Tensor]:
    """Image (c, h, w) -> what each ReLU gives (width, h_j, w_j), by hooks, and features (d,)."""
    seen: list[Tensor] = []
    hooks = [
        block.activation.register_forward_hook(lambda _m, _i, out: seen.append(out[0]))
        for block in network.blocks
    ]
    features = network.features(image[None])[0]
    for hook in hooks:
        hook.remove()
    return seen, features


def attention(maps: Tensor, power: int) -> Tensor:
    """Maps (channels, h, w) -> z (h w,)."""
    total = sum(channel.abs() ** power for channel in maps).flatten()
    return total / max(total.norm(), torch.tensor(1e-12, dtype=total.dtype))


def loss(
    network: ConvNet,
    real: Sequence[Sequence[Tensor]],
    synthetic: Sequence[Sequence[Tensor]],
    draws: Sequence[Draw],
    power: int,
    feature_weight: float,
) -> Tensor:
    """Real and synthetic images (c, h, h), listed by class -> L_SAM + lambda L_MMD."""
    total = torch.zeros((), dtype=torch.float64)
    for batch, block, draw in zip(real, synthetic, draws, strict=True):
        sides = []
        for images in (batch, block):
            seen = [applied(x, draw.operation, draw.parameters[0].tolist()) for x in images]
            found = [activations(network, x) for x in seen]
            maps = [
                sum(attention(one[0][j], power) for one in found) / len(found)
                for j in range(len(network.blocks) - 1)
            ]
            sides.append((maps, sum(one[1] for one in found) / len(found)))
        (a, ha), (b, hb) = sides
        total = total + sum(((x - y) ** 2).sum() for x, y in zip(a, b, strict=True))
        total = total + feature_weight * ((ha - hb) ** 2).sum()
    return total
