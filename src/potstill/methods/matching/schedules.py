"""When the images move and when the network is trained on them: the life of one network.

A schedule is a function of a :class:`Visit`, what can be done under a network that was just made.
Nothing of a network outlives its schedule but the images and their momentum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from potstill.errors import RecipeError
from potstill.methods.matching.settings import TrainedSettings

PUBLISHED = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""T, steps of the images under each network, and I, epochs on the images between two of them, by
images per class, as DC's and DSA's authors ran them on every data set."""

WINDOW = 10
"""Answers that CAFE looks back on."""


class Visit(Protocol):
    """What can be done under one network."""

    def move(self) -> None:
        """One step of the images."""

    def training(self) -> Callable[[], None]:
        """A training of the network on the images as they are; each call is an epoch of it."""

    def accuracy(self) -> float:
        """The network's, from 0 to 1, on fresh training images."""

    def capped(self) -> None:
        """Told that something went on for as long as it may."""


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


def dynamic(*, settled: float, moved: float, most_updates: int, most_epochs: int) -> Schedule:
    """Steps and trainings for as long as the accuracy says (CAFE).

    After each step of the images, and after each epoch of a training, the network is queried.
    Over the last 10 answers to the first kind of query: if they differ by less than ``settled``,
    the network is left. Over those of one training: if they differ by more than ``moved``, it
    ends. So there are at least 10 steps, and 10 epochs between two of them. The authors have no
    caps; with many classes the second test may never be met.
    """

    def run(visit: Visit) -> None:
        answers = _Window()
        for update in range(most_updates):
            if update:
                _train(visit, moved, most_epochs)
            visit.move()
            spread = answers.add(visit.accuracy())
            if spread is not None and spread < settled:
                return
        visit.capped()

    return run


def _train(visit: Visit, moved: float, most_epochs: int) -> None:
    train, answers = visit.training(), _Window()
    for _ in range(most_epochs):
        train()
        spread = answers.add(visit.accuracy())
        if spread is not None and spread > moved:
            return
    visit.capped()


class _Window:
    """The last answers, 10 at most."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=WINDOW)

    def add(self, answer: float) -> float | None:
        """By how much they differ, once there are 10."""
        self._answers.append(answer)
        if len(self._answers) < WINDOW:
            return None
        return max(self._answers) - min(self._answers)


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
