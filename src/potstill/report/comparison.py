"""Our numbers beside a paper's, with everything that keeps the two apart.

A paper's number is shown for the rows that a recipe names, and for no other. What the recipe or
the evaluation changed against the paper's setting is spelt out
(:mod:`potstill.papers.departures`), so that a difference is read for what it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from potstill.config import PaperRow
from potstill.papers import ACCURACY, SECONDS, Row, find, rows
from potstill.papers.answers import answer
from potstill.papers.departures import of_result, of_set
from potstill.results import Evaluation, standing
from potstill.runs.records import RunRecord


@dataclass(frozen=True)
class Comparison:
    """One row of a paper beside our result; accuracies are fractions.

    ``ours`` is None while there is no result to compare. ``departures`` are
    short phrases, empty where recipe and evaluation follow the paper.
    """

    row: Row
    paper_mean: float
    paper_std: float | None
    ours: Evaluation | None
    departures: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, a fraction."""
        return None if self.ours is None else self.ours.accuracy.mean - self.paper_mean


@dataclass(frozen=True)
class Cost:
    """The seconds that a paper's row counts for an image of every class, beside ours."""

    row: Row
    paper: float
    ours: float | None
    device: str
    departures: tuple[str, ...]


def compare(run: RunRecord) -> list[Comparison]:
    """A comparison for each row of a paper that the run's recipe names and the papers hold.

    Of the rows of several students, those that were evaluated, and in any case that of the
    recipe's own network.
    """
    comparisons: list[Comparison] = []
    for key in _named(run):
        for row in rows(paper=key.paper, table=key.table, metric=ACCURACY):
            if key.names(row):
                comparisons += _compared(key, row, run)
    return comparisons


def compare_cost(run: RunRecord) -> list[Cost]:
    """The run's seconds for an image of each class beside those of the rows that count them."""
    found = (find(key, SECONDS) for key in _named(run))
    return [
        Cost(row, row.value, run.seconds_per_image, run.device, of_set(row, run))
        for row in found
        if row is not None
    ]


def _named(run: RunRecord) -> tuple[PaperRow, ...]:
    return () if run.recipe is None else run.recipe.paper


def _compared(key: PaperRow, row: Row, run: RunRecord) -> Iterator[Comparison]:
    """The row beside what stands for it; nothing if it is another student's that there is not."""
    student = None if find(key) and key.eval_arch is None else answer(row)
    if student is None:
        ours = run.headline
    else:
        found = [one for one in run.results if one.network.name == student.network.name]
        wanted = run.evaluation
        ours = standing(
            found, network=student.network, protocol=wanted.protocol, epochs=wanted.epochs
        )
        if ours is None and run.network and student.network.name != run.network.name:
            return
    departures = of_set(row, run)
    if ours is not None:
        departures += of_result(row, run, ours)
    std = None if row.std is None else row.std / 100
    yield Comparison(row, row.value / 100, std, ours, departures)
