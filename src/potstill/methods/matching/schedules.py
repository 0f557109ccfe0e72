"""When the images move and when the network is trained on them: the life of one network.

A schedule is a function of a :class:`Visit`, what can be done under a network that was just made.
Nothing of a network outlives its schedule but the images and their momentum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from potstill.errors import RecipeError
from potstill.methods.matching.settings import TrainedSettings

PUBLISHED = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""T, steps of the images under each network, and I, epochs on the images between two of them, by
images per class, as DC's and DSA's authors ran them on every data set."""


class Visit(Protocol):
    """What can be done under one network."""

    def move(self) -> None:
        """One step of the images."""

    def training(self) -> Callable[[], None]:
        """A training of the network on the images as they are; each call is an epoch of it."""


Schedule = Callable[[Visit], None]


def frozen(visit: Visit) -> None:
    """One step of the images; the network is never trained (DM, DataDAM)."""
    visit.move()


def fixed(updates: int, epochs: int) -> Schedule:
    """So many steps of the images, and between two of them so many epochs (DC, DSA)."""

    def run(visit: Visit) -> None:
        for update in range(updates):
            if update:
                train = visit.training()
                for _ in range(epochs):
                    train()
            visit.move()

    return run


def lengths(settings: TrainedSettings, images_per_class: int) -> tuple[int, int]:
    """T and I, as the settings say, else as the authors ran so many images per class.

    Raises:
        RecipeError: neither says it.
    """
    updates, epochs = settings.updates, settings.epochs
    if updates is not None and (epochs is not None or updates == 1):
        return updates, epochs or 0
    if images_per_class not in PUBLISHED:
        known = ", ".join(map(str, PUBLISHED))
        raise RecipeError(
            f"for {images_per_class} images per class no schedule is published (for {known} there "
            "is one); set method.updates and method.epochs"
        )
    usual = PUBLISHED[images_per_class]
    return updates or usual[0], usual[1] if epochs is None else epochs
