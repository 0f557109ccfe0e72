"""What sets one matching method apart from another: a loss and a schedule, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from potstill.data.siamese import Draw
from potstill.methods.matching import schedules
from potstill.methods.matching.alignment import feature_alignment
from potstill.methods.matching.attention import attention_matching
from potstill.methods.matching.gradients import gradient_matching
from potstill.methods.matching.losses import Matched, differentiated, distribution_matching
from potstill.methods.matching.schedules import Schedule
from potstill.methods.matching.settings import (
    CAFESettings,
    DataDAMSettings,
    DMSettings,
    GradientSettings,
    MatchingSettings,
)
from potstill.networks.functional import couples_batch

Draws = Sequence[Draw] | None
Loss = Callable[[nn.Module, Iterable[Tensor], Tensor, Draws], Matched]
"""(network, B_c for each class, S ordered by class, A_c for each class or None) -> the loss."""


@dataclass(frozen=True)
class Parts:
    """A method, apart from its settings and its start."""

    loss: Loss
    schedule: Schedule
    maps: bool = False
    """Whether the loss looks into the blocks of a ConvNet."""
    couples: bool = False
    """Whether it may take a network that ties the images of a batch together."""


def parts_of(settings: MatchingSettings, images_per_class: int) -> Parts:
    """The parts of the method that these settings are of.

    Raises:
        RecipeError: there is no schedule for so many images per class.
    """
    return _PARTS[settings.kind](settings, images_per_class)


def _dm(settings: DMSettings, images_per_class: int) -> Parts:
    def loss(
        network: nn.Module, real: Iterable[Tensor], synthetic: Tensor, draws: Draws
    ) -> Matched:
        embed: Any = network.features
        coupled = couples_batch(network)
        return differentiated(
            lambda x: distribution_matching(embed, real, x, draws, coupled=coupled), synthetic
        )

    return Parts(loss, schedules.frozen, couples=True)


def _datadam(settings: DataDAMSettings, images_per_class: int) -> Parts:
    def loss(
        network: nn.Module, real: Iterable[Tensor], synthetic: Tensor, draws: Draws
    ) -> Matched:
        activations: Any = network.activations
        options: dict[str, Any] = {
            "power": settings.power,
            "feature_weight": settings.feature_weight,
            "coupled": couples_batch(network),
        }
        return differentiated(
            lambda x: settings.scale * attention_matching(activations, real, x, draws, **options),
            synthetic,
        )

    return Parts(loss, schedules.frozen, maps=True, couples=True)


def _cafe(settings: CAFESettings, images_per_class: int) -> Parts:
    def loss(
        network: nn.Module, real: Iterable[Tensor], synthetic: Tensor, draws: Draws
    ) -> Matched:
        activations: Any = network.activations
        blocks: Any = network.blocks
        weights = [
            *[settings.map_weight] * (len(blocks) - 1),
            settings.last_map_weight,
            settings.feature_weight,
        ]
        centre_weight = settings.centre_weight
        return differentiated(
            lambda x: feature_alignment(
                activations, real, x, draws, weights=weights, centre_weight=centre_weight
            ),
            synthetic,
        )

    return Parts(loss, _cafe_schedule(settings, images_per_class), maps=True)


def _cafe_schedule(settings: CAFESettings, images_per_class: int) -> Schedule:
    if settings.schedule == "fixed":
        return schedules.fixed(*schedules.lengths(settings, images_per_class))
    return schedules.dynamic(
        settled=settings.settled,
        moved=settings.moved,
        most_updates=settings.most_updates,
        most_epochs=settings.most_epochs,
    )


def _gradients(settings: GradientSettings, images_per_class: int) -> Parts:
    updates, epochs = schedules.lengths(settings, images_per_class)
    loss = partial(gradient_matching, distance=settings.distance)
    return Parts(loss, schedules.fixed(updates, epochs))


_PARTS: dict[str, Callable[[Any, int], Parts]] = {
    "dc": _gradients,
    "dsa": _gradients,
    "dm": _dm,
    "cafe": _cafe,
    "datadam": _datadam,
}
