"""What a run's method says of it, as the page shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby

from potstill.runs.records import RunRecord, Series
from potstill.text import count, duration


def series(run: RunRecord) -> dict[str, Series]:
    """The log as it is drawn; where it repeats for every group of images, the mean over them."""
    period = run.description.period
    if period is None:
        return run.series
    return {name: folded(line, period) for name, line in run.series.items()}


def folded(line: Series, period: int) -> Series:
    """The mean of the finite values at each place of the period; NaN where there is none."""
    placed = sorted(
        ((iteration - 1) % period + 1, value)
        for iteration, value in zip(line.iterations, line.values, strict=True)
        if value == value
    )
    means = [
        (place, _mean(value for _, value in values))
        for place, values in groupby(placed, key=lambda entry: entry[0])
    ]
    return Series(line.name, tuple(place for place, _ in means), tuple(v for _, v in means))


def facts(run: RunRecord) -> list[tuple[str, str, str]]:
    """What a method adds to the facts at the head of its run: (name, value, detail)."""
    found: list[tuple[str, str, str]] = [*run.description.facts]
    seconds = run.seconds_per_image
    if seconds is not None:
        found.append(("Synthesis", duration(seconds), "for an image of each class"))
    if run.dataset is not None and run.dataset.soft_labels is not None:
        labels = run.dataset.soft_labels
        size = labels.numel() * labels.element_size() / 2**20
        detail = f"stored with the images, {size:,.1f} MiB"
        found.append(("Soft labels", f"of {count(len(labels), 'epoch')}", detail))
    return found


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
