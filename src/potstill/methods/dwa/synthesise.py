"""Images that a teacher recognises and whose batch statistics are its own (DWA, eq. 16).

One group, the unit of work: a batch of classes, one image of each, inverted together against
weights of its own. Over the images S the group minimises

    L(S) = CE(f_(theta_T + Delta)(view(S)), classes) + lambda_mean L_mean + lambda_var L_var

by Adam, with a fresh view at every step and S kept in the range of valid pixels. L_mean and
L_var (eq. 4) come from the same pass as the cross-entropy, as the authors ran it, or from a
second one through the unadjusted teacher, as eq. 16 has it.

A further term may be added that sees earlier groups (:mod:`~potstill.methods.dwa.sequence`).

SRe2L is the case Delta = 0, lambda_mean = lambda_var and S from noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill import hardware
from potstill.data import views
from potstill.errors import NumericalError
from potstill.methods.dwa.bn_statistics import MeasuredNetwork, distances
from potstill.methods.dwa.sequence import Term
from potstill.methods.dwa.settings import DWASettings

# Of the pixels, between black and white: at 4000 times DWA's learning rate there are still 30 %.
_LEAST_INSIDE = 0.01

Draw = Callable[[int], np.random.Generator]
"""From an iteration to the stream of its view."""
Observer = Callable[[int, dict[str, float]], None]
"""Called with an iteration's number, from 1, and its losses; see :func:`synthesise`."""


@dataclass(frozen=True)
class Range:
    """What valid pixels can be in network space: ``low`` and ``high``, (c, 1, 1)."""

    low: Tensor
    high: Tensor

    def clamp_(self, images: Tensor) -> Tensor:
        """``images`` (n, c, h, w), brought into the range in place."""
        return torch.maximum(torch.minimum(images, self.high, out=images), self.low, out=images)

    def inside(self, images: Tensor) -> float:
        """The fraction of ``images`` (n, c, h, w) between the ends of the range; NaN is not."""
        return ((images > self.low) & (images < self.high)).double().mean().item()


@dataclass(frozen=True)
class Losses:
    """The parts of eq. 16 before they are weighted, scalars, and the further term, if any."""

    cross_entropy: Tensor
    mean: Tensor
    variance: Tensor
    sequence: Tensor | None = None

    def total(self, settings: DWASettings) -> Tensor:
        """The loss that the images descend."""
        found = (
            self.cross_entropy
            + settings.mean_weight * self.mean
            + settings.variance_weight * self.variance
        )
        if self.sequence is None:
            return found
        return found + settings.sequence_weight * self.sequence

    def numbers(self, settings: DWASettings) -> dict[str, float]:
        """What a log keeps of them."""
        found = {
            "loss": self.total(settings).item(),
            "cross_entropy": self.cross_entropy.item(),
            "mean_term": self.mean.item(),
            "variance_term": self.variance.item(),
        }
        if self.sequence is not None:
            found["sequence_term"] = self.sequence.item()
        return found


class Objective:
    """Eq. 16 as a function of the images.

    Args:
        settings: the method's settings.
        adjusted: the teacher with weights theta_T + Delta.
        unadjusted: the teacher with weights theta_T; used if ``settings.statistics`` says so.
        labels: classes of the images, (n,) int64.
        further: a term that is added, weighted by ``settings.sequence_weight``; ``adjusted``
            measures features then.
    """

    def __init__(
        self,
        settings: DWASettings,
        adjusted: MeasuredNetwork,
        unadjusted: MeasuredNetwork | None,
        labels: Tensor,
        further: Term | None = None,
    ) -> None:
        self._settings, self._labels, self._further = settings, labels, further
        self._adjusted, self._unadjusted = adjusted, unadjusted

    def __call__(self, images: Tensor) -> Losses:
        """Images (n, c, h, w), network space, as the teacher is to see them."""
        outputs, moments = self._adjusted(images)
        if self._unadjusted is not None:
            _, moments = self._unadjusted(images)
        mean, variance = distances(moments, self._settings.first_layer_factor)
        sequence = None if self._further is None else self._further(self._adjusted.features)
        cross_entropy = F.cross_entropy(outputs.to(mean.dtype), self._labels)
        return Losses(cross_entropy, mean, variance, sequence)


def synthesise(
    images: Tensor,
    objective: Objective,
    settings: DWASettings,
    valid: Range,
    draw: Draw,
    observe: Observer | None = None,
    every: int = 100,
) -> Tensor:
    """The last iterate of Adam on ``objective`` from ``images``.

    Args:
        images: (n, c, h, w) float, network space; left as it is.
        objective: eq. 16.
        settings: learning rate (falling to 0 along a cosine), betas, iterations and views.
        valid: where the images are kept, after every step.
        draw: the stream of each iteration's view.
        observe: told of the losses at iterations 1, ``every``, 2 ``every``, ... and the last.
        every: see ``observe``; a look at the losses waits for the device.

    Raises:
        NumericalError: a loss is not finite, where they are looked at, or steps were so long that
            the images ended as black and white.
    """
    start = images
    images = images.clone(memory_format=torch.channels_last).requires_grad_()
    optimiser = torch.optim.Adam(
        [images], lr=settings.learning_rate, betas=settings.betas, fused=True
    )
    for step in range(settings.iterations):
        for group in optimiser.param_groups:
            group["lr"] = _rate(settings, step)
        with hardware.autocast(settings.precision, images.device):
            losses = objective(view(images, settings, draw(step)))
        images.grad = None
        torch.autograd.backward(losses.total(settings))
        optimiser.step()
        valid.clamp_(images.data)
        last = step + 1 == settings.iterations
        if step == 0 or (step + 1) % every == 0 or last:
            numbers = losses.numbers(settings)
            _require_finite(numbers, step + 1)
            if observe is not None:
                observe(step + 1, numbers)
    found = images.detach()
    if valid.inside(found) < _LEAST_INSIDE <= valid.inside(start) or not found.isfinite().all():
        raise NumericalError(
            f"after iteration {settings.iterations} the images have left the range of valid "
            "pixels, steps were so long; lower method.learning_rate"
        )
    return found


def view(images: Tensor, settings: DWASettings, generator: np.random.Generator) -> Tensor:
    """What the teacher sees of ``images`` (n, c, h, w) at one step; one draw for all of them."""
    if settings.resized_crop:
        images = views.random_resized_crop(images, generator, shared=True)
    if settings.flip and generator.random() < 0.5:
        images = images.flip(-1)
    if not settings.jitter:
        return images
    backwards = settings.jitter if settings.roll == "both" else 0
    return views.roll(images, settings.jitter, generator, backwards)


def _rate(settings: DWASettings, step: int) -> float:
    """A cosine from the full rate at step 0 to 0 at the end."""
    return settings.learning_rate * (1 + math.cos(math.pi * step / settings.iterations)) / 2


def _require_finite(numbers: dict[str, float], iteration: int) -> None:
    wrong = [name for name, value in numbers.items() if not math.isfinite(value)]
    if wrong:
        raise NumericalError(
            f"iteration {iteration}: {wrong[0]} of the synthesis is not finite; lower "
            "method.learning_rate or check the teacher"
        )
