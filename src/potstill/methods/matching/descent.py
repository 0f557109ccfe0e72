"""How the synthetic images move."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def momentum_step(
    images: Tensor, velocity: Tensor, gradient: Tensor, learning_rate: float, momentum: float
) -> None:
    """One step of SGD, in place: v <- momentum v + g, S <- S - rate v.

    There is one ``velocity`` for the whole run, 0 at its start: it outlives the networks. No
    weight decay, no clamping: the images are free.
    """
    velocity.mul_(momentum).add_(gradient)
    images.add_(velocity, alpha=-learning_rate)
