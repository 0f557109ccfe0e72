"""One update of CAFE as its equations stand, image by image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from potstill.networks.convnet import ConvNet
from tests.reference.attention_matching import activations


def loss(
    network: ConvNet,
    real: Sequence[Sequence[Tensor]],
    synthetic: Sequence[Sequence[Tensor]],
    weights: Sequence[float],
    centre_weight: float,
) -> Tensor:
    """Real and synthetic images (c, h, h), listed by class -> L."""
    total = torch.zeros((), dtype=torch.float64)
    centres, features = [], []
    for batch, block in zip(real, synthetic, strict=True):
        a, b = ([activations(network, x) for x in images] for images in (batch, block))
        for j, weight in enumerate(weights[:-1]):
            means = [sum(maps[j] for maps, _ in side) / len(side) for side in (a, b)]
            total = total + weight * ((means[0] - means[1]) ** 2).sum()
        means = [sum(h for _, h in side) / len(side) for side in (a, b)]
        total = total + weights[-1] * ((means[0] - means[1]) ** 2).sum()
        centres.append(means[1])
        features.append([h for _, h in a])
    for label, own in enumerate(features):
        for h in own:
            logits = torch.stack([h.detach() @ centre for centre in centres])
            total = total - centre_weight * logits.log_softmax(0)[label]
    return total
