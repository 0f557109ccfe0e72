"""What a row of a table asks for; the module of its paper says it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from potstill.config import PaperRow
from potstill.papers.rows import Row

Quantity = Literal[
    "accuracy", "synthesis", "iterations", "step", "hours", "memory", "membership", "continual"
]
"""An accuracy; of a run: the seconds for one image of every class, the iterations that its recipe
has, the seconds of one, the hours of all, and the most memory held at a time in GB; or a number of
an audit of that kind."""

TrainedOn = Literal["distilled", "members", "random"]


@dataclass(frozen=True)
class Asked:
    """Which distilled set a row is about, and what is measured of it.

    Attributes:
        sets: the set is the one whose recipe names one of these rows, the first that any does.
        quantity: what is measured.
        assignments: what is set in the recipe, as ``--set`` has it.
        protocol: protocol that an accuracy is measured under; the recipe's if None.
        attack: name of the attack, for membership inference; ``accuracy`` for the accuracy of the
            networks attacked.
        trained_on: what the networks learned from that are attacked.
        classes: number of classes learned, for continual learning.
    """

    sets: tuple[PaperRow, ...]
    quantity: Quantity = "accuracy"
    assignments: tuple[str, ...] = ()
    protocol: str | None = None
    attack: str = ""
    trained_on: TrainedOn = "distilled"
    classes: int = 0


def plainly(row: Row) -> Asked:
    """An accuracy of the set whose recipe names the row."""
    return Asked((row,))


@dataclass(frozen=True)
class Paper:
    """What is particular to a paper's tables.

    Attributes:
        tables: those whose rows are no plain accuracies of sets that recipes name.
        networks: evaluation networks by their names in tables, as settings: of a network of its
            own if there is a name among them, else what changes in the set's own. A network that
            is not listed, or is the one distilled for, is the set's own.
        networks_on: those of ``networks`` that are others on some data sets, by data set.
        published: how the paper came by a number, as far as its authors' code or logs show it;
            empty where they do not.
        epochs: epochs of its numbers, by protocol and data set, where the protocol's own number
            depends on the images.
        unanswered: why nothing here answers a table, and what comes near.
    """

    tables: Mapping[str, Callable[[Row], Asked]] = field(default_factory=dict)
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    networks_on: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    published: Callable[[Row], str] = lambda row: ""
    epochs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    unanswered: Mapping[str, str] = field(default_factory=dict)
