from __future__ import annotations

import pytest

from potstill.errors import RecipeError
from potstill.methods.matching.schedules import PUBLISHED, fixed, frozen, lengths
from potstill.methods.matching.settings import DCSettings, DSASettings


class Told:
    """A visit that writes down what is done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def move(self) -> None:
        self.done.append("move")

    def training(self):
        self.done.append("training")
        return lambda: self.done.append("epoch")


def told(schedule) -> list[str]:
    visit = Told()
    schedule(visit)
    return visit.done


def test_a_frozen_network_sees_one_step():
    assert told(frozen) == ["move"]


def test_nothing_is_trained_after_the_last_step():
    training = ["training", "epoch", "epoch"]
    assert told(fixed(1, 50)) == ["move"]
    assert told(fixed(3, 2)) == ["move", *training, "move", *training, "move"]


def test_lengths_are_the_settings_else_the_authors():
    assert lengths(DCSettings(), 10) == lengths(DSASettings(), 10) == (10, 50)
    assert lengths(DCSettings(updates=3), 10) == (3, 50)
    assert lengths(DCSettings(epochs=7), 50) == (50, 7)
    assert lengths(DCSettings(updates=5, epochs=10), 7) == (5, 10)
    assert lengths(DCSettings(updates=1), 7) == (1, 0)
    for only in ({}, {"updates": 2}, {"epochs": 2}):
        with pytest.raises(RecipeError, match=r"7 images .* set method\.updates and method\.ep"):
            lengths(DCSettings(**only), 7)


def test_one_image_per_class_never_trains_a_network():
    assert {per_class: updates for per_class, (updates, _) in PUBLISHED.items()} == {
        per_class: per_class for per_class in PUBLISHED
    }
