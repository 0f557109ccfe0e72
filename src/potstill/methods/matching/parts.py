"""What sets one matching method apart from another: a loss and a schedule, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from potstill.data.siamese import Draw
from potstill.methods.matching import schedules
from potstill.methods.matching.gradients import gradient_matching
from potstill.methods.matching.losses import Matched, differentiated, distribution_matching
from potstill.methods.matching.schedules import Schedule
from potstill.methods.matching.settings import DMSettings, GradientSettings, MatchingSettings

Loss = Callable[[nn.Module, Iterable[Tensor], Tensor, Sequence[Draw] | None], Matched]
"""(network, B_c for each class, S ordered by class, A_c for each class or None) -> the loss."""


@dataclass(frozen=True)
class Parts:
    """A method, apart from its settings and its start."""

    loss: Loss
    schedule: Schedule


def parts_of(settings: MatchingSettings, images_per_class: int) -> Parts:
    """The parts of the method that these settings are of.

    Raises:
        RecipeError: there is no schedule for so many images per class.
    """
    return _PARTS[settings.kind](settings, images_per_class)


def _dm(settings: DMSettings, images_per_class: int) -> Parts:
    return Parts(distribution_loss, schedules.frozen)


def _gradients(settings: GradientSettings, images_per_class: int) -> Parts:
    updates, epochs = schedules.lengths(settings, images_per_class)
    loss = partial(gradient_matching, distance=settings.distance)
    return Parts(loss, schedules.fixed(updates, epochs))


_PARTS: dict[str, Callable[[Any, int], Parts]] = {
    "dm": _dm,
    "dc": _gradients,
    "dsa": _gradients,
}


def distribution_loss(
    network: nn.Module, real: Iterable[Tensor], synthetic: Tensor, draws: Sequence[Draw] | None
) -> Matched:
    """DM's loss, on the features of a frozen network."""
    embed: Any = network.features
    return differentiated(lambda x: distribution_matching(embed, real, x, draws), synthetic)
