"""One update of gradient matching (DC, DSA) as its equation stands, row by row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.data.siamese import Draw
from tests.reference.siamese import applied


def distance(real: Sequence[Tensor], synthetic: Sequence[Tensor], epsilon: float) -> Tensor:
    """Sum over weight tensors and their rows of 1 - <a, b> / (|a| |b| + epsilon)."""
    total = torch.zeros((), dtype=torch.float64)
    for a, b in zip(real, synthetic, strict=True):
        for v, w in zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True):
            lengths = (v @ v).sqrt() * (w @ w).sqrt()
            total = total + 1 - (v @ w) / (lengths + epsilon)
    return total


def loss(
    network: nn.Module,
    real: Sequence[Sequence[Tensor]],
    synthetic: Sequence[Sequence[Tensor]],
    draws: Sequence[Draw] | None,
    epsilon: float = 1e-6,
) -> Tensor:
    """Real and synthetic images (c, h, h), listed by class -> L."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    total = torch.zeros((), dtype=torch.float64)
    for label, (batch, block) in enumerate(zip(real, synthetic, strict=True)):
        gradients = []
        for images in (batch, block):
            seen = list(images)
            if draws is not None:
                drawn = draws[label]
                seen = [applied(x, drawn.operation, drawn.parameters[0].tolist()) for x in images]
            outputs = network(torch.stack(seen))
            mean = F.cross_entropy(outputs, torch.full((len(seen),), label))
            gradients.append(torch.autograd.grad(mean, weights, create_graph=True))
        total = total + distance([g.detach() for g in gradients[0]], gradients[1], epsilon)
    return total
