"""S and its optimiser: what is learned, how it moves, and its moving average."""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.optim import AdaBelief
from torch import Tensor

from potstill.checkpoints import load_moments
from potstill.methods.rcig.outer import label_margin
from potstill.methods.rcig.problem import MetaGradient
from potstill.methods.rcig.settings import RCIGSettings

_MEAN_DECAY = 0.9
"""Decay of AdaBelief's mean of gradients, beta1."""


class Coreset:
    """psi = {X_S, y_S, log tau} under AdaBelief, with an exponential moving average of S.

    The second moment is that of the gradient's distance to its mean before the step, as in the
    authors' library. timm's measures the distance to the mean after it, g - m_new =
    0.9 (g - m_old), so that its steps are 1/0.9 times as long, which rates of 0.9 times the
    recipe's undo. No rectification, no decay.

    Args:
        images: the start, (n, c, h, w) float32.
        labels: (n, C) float32.
    """

    def __init__(self, recipe: RCIGSettings, images: Tensor, labels: Tensor) -> None:
        self._recipe = recipe
        self.images, self.labels = images.clone(), labels.clone()
        self.log_temperature = torch.zeros((), device=images.device)
        self._mean_images = torch.zeros_like(images)
        self._mean_labels = torch.zeros_like(labels)
        self._updates = 0
        self._rates = (
            recipe.image_learning_rate,
            recipe.label_learning_rate,
            recipe.temperature_learning_rate,
        )
        parameters = (self.images, self.labels, self.log_temperature)
        self._optimiser = AdaBelief(
            [{"params": [p], "lr": r} for p, r in zip(parameters, self._rates, strict=True)],
            betas=(_MEAN_DECAY, 0.999),
            eps=1e-16,
            weight_decay=0.0,
            rectify=False,
        )

    def update(self, gradient: MetaGradient) -> None:
        """One AdaBelief step, then the moving average."""
        self.images.grad = gradient.images
        self.log_temperature.grad = gradient.log_temperature
        if self._recipe.learn_labels:
            self.labels.grad = gradient.labels
            if self._recipe.label_margin:
                self.labels.grad = gradient.labels - label_margin(self.labels)[1]
        for group, rate in zip(self._optimiser.param_groups, self.rates(), strict=True):
            group["lr"] = _MEAN_DECAY * rate
        self._optimiser.step()
        decay = self._recipe.ema_decay
        self._mean_images.lerp_(self.images, 1 - decay)
        self._mean_labels.lerp_(self.labels, 1 - decay)
        self._updates += 1

    def average(self) -> tuple[Tensor, Tensor]:
        """The bias-corrected moving average of S: what is stored and evaluated."""
        if self._updates == 0:
            return self.images, self.labels
        correction = 1 - self._recipe.ema_decay**self._updates
        return self._mean_images / correction, self._mean_labels / correction

    def finite(self) -> bool:
        """Whether every number that is learned is finite."""
        parts = (self.images, self.labels, self.log_temperature)
        return all(bool(part.isfinite().all()) for part in parts)

    def rates(self) -> list[float]:
        """Learning rates of images, labels and log tau in the next update.

        The paper's are constant; short runs at larger ones do better if these fall.
        """
        final = self._recipe.final_learning_rate
        progress = self._updates / max(self._recipe.iterations, 1)
        factor = final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2
        return [rate * factor for rate in self._rates]

    def state(self) -> dict[str, Any]:
        """Everything that updates change, for :meth:`restore`."""
        moments = self._optimiser.state_dict()["state"]
        return {
            "images": self.images,
            "labels": self.labels,
            "log_temperature": self.log_temperature,
            "mean_images": self._mean_images,
            "mean_labels": self._mean_labels,
            "updates": self._updates,
            "optimiser": {str(key): value for key, value in moments.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        for name in ("images", "labels", "log_temperature"):
            getattr(self, name).copy_(state[name])
        self._mean_images.copy_(state["mean_images"])
        self._mean_labels.copy_(state["mean_labels"])
        self._updates = state["updates"]
        load_moments(self._optimiser, {int(key): v for key, v in state["optimiser"].items()})
