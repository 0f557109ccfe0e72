"""What is left to be done for a distilled set and its measurements, and the time it would take."""

from __future__ import annotations

from collections.abc import Sequence

from potstill.data.facts import DATASETS
from potstill.evaluation.protocol import named
from potstill.papers.answers import Measurement
from potstill.papers.audits import TASKS
from potstill.reproduce import costs
from potstill.reproduce.workplace import Workplace


def needs_run(measurement: Measurement) -> bool:
    """Whether there must be a distilled set."""
    return measurement.quantity != "iterations"


def lacks(measurement: Measurement, place: Workplace, seed: int) -> bool:
    """Whether it has to be evaluated or audited still; not so what the run itself measures.

    Raises:
        RunError, ArtefactError: its run is damaged.
    """
    if measurement.quantity not in ("accuracy", "membership", "continual"):
        return False
    number = place.measured(measurement, seed)
    return number is None or not number.whole


def remaining(measurements: Sequence[Measurement], place: Workplace, seeds: int) -> float | None:
    """Seconds that are left for all starts of a set; None where it cannot be told.

    Raises:
        NetworkError: a network does not fit the images.
        RunError, ArtefactError: a run is damaged.
    """
    if measurements[0].load().data.dataset not in DATASETS:
        return None
    if not any(map(needs_run, measurements)):
        return 0.0
    return sum(seconds(measurements, place, seed) for seed in range(seeds))


def seconds(measurements: Sequence[Measurement], place: Workplace, seed: int) -> float:
    """Seconds that one start of a set, and those measurements that are not there, would take."""
    recipe, watch = measurements[0].load(seed), place.stopwatch
    found = place.left(recipe, place.folder(measurements[0], seed))
    audited: set[str] = set()
    for one in measurements:
        if one.quantity in audited or not lacks(one, place, seed):
            continue
        protocol = named(one.protocol)
        if one.quantity == "accuracy":
            best = protocol.publishes_best
            found += costs.evaluating(recipe, one.network, protocol, watch, best=best)
            continue
        audited.add(one.quantity)
        if one.quantity == "membership":
            found += costs.attacking(recipe, watch)
        else:
            found += costs.learning(recipe, one.network, TASKS, watch)
    return found
