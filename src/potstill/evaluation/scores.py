"""How often networks are right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from potstill import hardware
from potstill.config import Precision
from potstill.data.preprocess import Preprocess
from potstill.data.source import Split
from potstill.train import favour_layout, images_at_once, in_favoured_layout


@torch.no_grad()
def accuracies(
    networks: Sequence[nn.Module],
    test: Split,
    preprocess: Preprocess,
    precision: Precision = "float32",
) -> list[float]:
    """The fraction of ``test`` that each network, put in evaluation mode, gets right.

    The test images stay 8-bit: a batch at a time is standardised, where the networks are.
    """
    device = next(networks[0].parameters()).device
    correct = torch.zeros(len(networks), dtype=torch.int64, device=device)
    for network in networks:
        favour_layout(network.eval(), precision)
    size = images_at_once(test.images.shape[-1], device)
    for first in range(0, len(test.labels), size):
        part = slice(first, first + size)
        images = in_favoured_layout(preprocess.apply(hardware.sent(test.images[part], device)))
        labels = hardware.sent(test.labels[part], device)
        for index, network in enumerate(networks):
            with hardware.autocast(precision, device):
                outputs = network(images)
            correct[index] += (outputs.argmax(1) == labels).sum()
    return [hits / len(test.labels) for hits in correct.tolist()]
