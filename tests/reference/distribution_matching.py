"""One update of distribution matching as its equation stands, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from potstill.data.siamese import Draw
from tests.reference.siamese import applied


def loss(
    features: Callable[[Tensor], Tensor],
    real: Sequence[Sequence[Tensor]],
    synthetic: Sequence[Sequence[Tensor]],
    draws: Sequence[Draw],
) -> Tensor:
    """Real and synthetic images (c, h, h), listed by class -> L."""
    total = torch.zeros((), dtype=torch.float64)
    for batch, block, draw in zip(real, synthetic, draws, strict=True):
        means = []
        for images in (batch, block):
            seen = [applied(x, draw.operation, draw.parameters[0].tolist()) for x in images]
            means.append(sum(features(x[None])[0] for x in seen) / len(seen))
        for a, b in zip(*means, strict=True):
            total = total + (a - b) ** 2
    return total
