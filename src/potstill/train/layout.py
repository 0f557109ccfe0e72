"""The order in memory in which this device trains networks fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from potstill.networks.convnet import channels_last


def favour_layout(network: nn.Module) -> None:
    """Put the weights into the layout that this device convolves fastest, in place.

    On CPUs that is channels-last: a ConvNet of width 32 trains 1.2 to 1.4 times and
    is tested twice as fast, one of width 128 up to 1.1 and 1.3 times.
    """
    if next(network.parameters()).device.type == "cpu":
        network.to(memory_format=torch.channels_last)


def in_favoured_layout(images: Tensor) -> Tensor:
    """Images (n, c, h, w), in the layout that goes with :func:`favour_layout`."""
    return channels_last(images) if images.device.type == "cpu" else images
