"""Our numbers beside a paper's, with everything that keeps the two apart.

A paper's number is shown for the rows that a recipe names, and for no other.
What the recipe or the evaluation changed against the paper's setting is spelt out
(:mod:`potstill.report.departures`), so that a difference is read for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from potstill.config import PaperRow
from potstill.papers import paper_seconds, paper_value
from potstill.report import choice, departures, methods
from potstill.report.departures import unlike_paper
from potstill.report.records import RunRecord
from potstill.results import Evaluation

__all__ = ["Comparison", "Cost", "compare", "compare_cost", "unlike_paper"]


@dataclass(frozen=True)
class Comparison:
    """One row of a paper beside our result; accuracies are fractions.

    ``ours`` is None while there is no result to compare. ``departures`` are
    short phrases, empty where recipe and evaluation follow the paper.
    """

    row: PaperRow
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

    row: PaperRow
    paper: float
    ours: float | None
    device: str
    departures: tuple[str, ...]


def compare(run: RunRecord) -> list[Comparison]:
    """A comparison for each row of a paper that the run's recipe names and the papers hold.

    Of the rows of several students, those that were evaluated, and in any case that of the
    recipe's own network.
    """
    comparisons = []
    for row in run.recipe.paper:
        value = paper_value(row)
        if value is None:
            continue
        ours = _result(row, run)
        if ours is None and departures.student(row, run.recipe).name != run.recipe.network.name:
            continue
        mean, std = value
        found = departures.of_recipe(row, run)
        if ours is not None:
            found += departures.of_evaluation(row, run, ours)
        comparisons.append(
            Comparison(row, mean / 100, None if std is None else std / 100, ours, tuple(found))
        )
    return comparisons


def compare_cost(run: RunRecord) -> list[Cost]:
    """The same for the rows that count seconds."""
    costs = []
    for row in run.recipe.paper:
        paper = paper_seconds(row)
        if paper is not None:
            found = tuple(departures.of_recipe(row, run))
            device = str(run.machine.get("device_name") or run.machine.get("device", "unknown"))
            costs.append(Cost(row, paper, methods.seconds_per_image(run), device, found))
    return costs


def _result(row: PaperRow, run: RunRecord) -> Evaluation | None:
    """The result that stands for those on the row's network."""
    if row.eval_arch is None:
        return run.headline
    student = departures.student(row, run.recipe)
    found = [result for result in run.results if result.network.name == student.name]
    return choice.preferred(found, run.recipe, student)
