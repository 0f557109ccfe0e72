from __future__ import annotations

import pytest

from potstill.errors import RecipeError
from potstill.methods.matching.schedules import PUBLISHED, dynamic, fixed, frozen, lengths
from potstill.methods.matching.settings import DCSettings, DSASettings


class Told:
    """A visit that writes down what is done."""

    def __init__(self, accuracies=()) -> None:
        self.done: list[str] = []
        self._accuracies = iter(accuracies)

    def move(self) -> None:
        self.done.append("move")

    def training(self):
        self.done.append("training")
        return lambda: self.done.append("epoch")

    def accuracy(self) -> float:
        self.done.append("query")
        return next(self._accuracies)

    def capped(self) -> None:
        self.done.append("capped")


def told(schedule, accuracies=()) -> list[str]:
    visit = Told(accuracies)
    schedule(visit)
    assert next(visit._accuracies, None) is None  # all were asked for
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


CAFE = dynamic(settled=0.04, moved=0.03, most_updates=100, most_epochs=100)
MOVE, EPOCH = ["move", "query"], ["epoch", "query"]


def test_a_settled_network_is_left_after_ten_updates():
    """Each training moves the accuracy by more than 0.03 in its 10 epochs."""
    training = [0.0] * 9 + [0.1]
    accuracies = [0.5]
    for _ in range(9):
        accuracies += [*training, 0.52]
    expected = MOVE + (["training"] + 10 * EPOCH + MOVE) * 9
    assert told(CAFE, accuracies) == expected


def test_the_oldest_answer_is_dropped_and_windows_are_not_shared():
    # The first update is an outlier, so that an eleventh is needed; the first training rests
    # within 0.03 for 12 epochs and then moves.
    slow = [0.3 + 0.001 * epoch for epoch in range(12)] + [0.4]
    quick = [0.0] * 9 + [0.031]
    accuracies = [0.1, *slow, 0.5]
    for _ in range(9):
        accuracies += [*quick, 0.5]
    expected = MOVE + ["training"] + 13 * EPOCH + MOVE
    expected += (["training"] + 10 * EPOCH + MOVE) * 9
    assert told(CAFE, accuracies) == expected


def test_caps_end_what_never_ends_and_are_told():
    short = dynamic(settled=0.04, moved=0.03, most_updates=2, most_epochs=11)
    done = told(short, [0.5] * 13)
    assert done == [*MOVE, "training", *(11 * EPOCH), "capped", *MOVE, "capped"]


def test_limits_are_strict():
    """A spread of just lambda_1 does not settle, one of just lambda_2 does not end a training."""
    exact = dynamic(settled=0.5, moved=0.25, most_updates=11, most_epochs=10)
    moves, epochs = [0.0, 0.5] * 5 + [0.5], [0.0] * 9 + [0.25]
    accuracies = moves[:1]
    for move in moves[1:]:
        accuracies += [*epochs, move]
    done = told(exact, accuracies)
    assert done.count("move") == 11 and done.count("capped") == 10 + 1
