"""The outer loss on a target batch, with its derivatives written out.

Platt (3.3): mean cross-entropy of f(x) exp(log tau) against the class. The learned
number multiplies, as in the authors' runs; the paper writes a division.
MSE (FRePo): mean over the batch of 1/2 |f(x) - (onehot - 1/C)|^2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.data.source import centred_one_hot


@dataclass(frozen=True)
class OuterLoss:
    """Sums over a chunk of a batch, divided by the size of the whole batch."""

    value: Tensor
    """scalar"""
    gradient: Tensor
    """dL/df, (b, C)"""
    log_temperature_gradient: Tensor
    """dL/d(log tau), scalar"""


def outer_loss(
    kind: Literal["platt", "mse"],
    outputs: Tensor,
    classes: Tensor,
    log_temperature: Tensor,
    batch: int,
) -> OuterLoss:
    """The loss of a chunk of a batch of ``batch`` images.

    Args:
        outputs: f (b, C).
        classes: (b,) int64.
        log_temperature: scalar; unused by ``mse``.
        batch: images in the whole batch, b or more.
    """
    if kind == "mse":
        residual = outputs - centred_one_hot(classes, outputs.shape[1], outputs.dtype)
        value = residual.square().sum() / (2 * batch)
        return OuterLoss(value, residual / batch, torch.zeros_like(log_temperature))
    scale = log_temperature.exp()
    log_probabilities = F.log_softmax(outputs * scale, dim=1)
    value = -log_probabilities.gather(1, classes[:, None]).sum() / batch
    residual = log_probabilities.exp()
    residual[torch.arange(len(classes), device=classes.device), classes] -= 1
    gradient = residual * (scale / batch)
    return OuterLoss(value, gradient, (gradient * outputs).sum())


def label_margin(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over S of min(top1 - top2, 1/(2C)), and its gradient; the loss subtracts it.

    Args:
        labels: y_S (n, C).

    Returns:
        scalar, and (n, C).
    """
    n, number = labels.shape
    values, places = labels.topk(2, dim=1)
    gap, cap = values[:, 0] - values[:, 1], 1 / (2 * number)
    open_ = (gap < cap).to(labels.dtype) / n
    gradient = torch.zeros_like(labels)
    gradient.scatter_(1, places, torch.stack([open_, -open_], dim=1))
    return gap.clamp(max=cap).mean(), gradient
