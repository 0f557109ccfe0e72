"""How often networks are right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from potstill.data.preprocess import Preprocess
from potstill.data.source import Split
from potstill.hardware import sent
from potstill.train import favour_layout, images_at_once, in_favoured_layout


@torch.no_grad()
def accuracies(networks: Sequence[nn.Module], test: Split, preprocess: Preprocess) -> list[float]:
    """The fraction of ``test`` that each network, put in evaluation mode, gets right."""
    device = next(networks[0].parameters()).device
    correct = torch.zeros(len(networks), dtype=torch.int64, device=device)
    for network in networks:
        favour_layout(network.eval())
    size = images_at_once(test.images.shape[-1], device)
    for first in range(0, len(test.labels), size):
        part = slice(first, first + size)
        images = in_favoured_layout(preprocess.apply(sent(test.images[part], device)))
        labels = sent(test.labels[part], device)
        for index, network in enumerate(networks):
            correct[index] += (network(images).argmax(1) == labels).sum()
    return [hits / len(test.labels) for hits in correct.tolist()]
