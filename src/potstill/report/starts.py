"""Runs that differ in nothing but their seed, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from potstill.results import Accuracy, Baseline, BestOnTest, Evaluation
from potstill.runs.records import RunRecord
from potstill.text import training_texts


@dataclass(frozen=True)
class Starts:
    """Runs of one recipe, each from another seed, all evaluated alike; or one run of any kind."""

    runs: tuple[RunRecord, ...]

    @property
    def label(self) -> str:
        """What the runs are called together."""
        first = self.runs[0]
        return first.label if len(self.runs) == 1 else first.name

    @property
    def result(self) -> Evaluation | None:
        """The result that stands for the run, or the pooled values of those of all runs."""
        results = [run.headline for run in self.runs if run.headline is not None]
        if len(results) < 2:
            return results[0] if results else None
        beside = [result.baseline for result in results if result.baseline is not None]
        best = [result.best_on_test for result in results if result.best_on_test is not None]
        whole = len(results)
        return results[0].model_copy(
            update={
                "accuracy": Accuracy.of(_values([result.accuracy for result in results])),
                "baseline": Baseline.of(_values(beside), kind=beside[0].kind)
                if len(beside) == whole
                else None,
                "best_on_test": BestOnTest.of(_values(best)) if len(best) == whole else None,
            }
        )

    @property
    def how(self) -> tuple[str, ...]:
        """What stands beside the accuracy; nothing if there is none."""
        result = self.result
        if result is None:
            return ()
        return training_texts(result.training, len(result.accuracy.values), len(self.runs))


def together(runs: Sequence[RunRecord]) -> list[Starts]:
    """The runs in order, each with those after it that differ in nothing but their seed."""
    found: list[list[RunRecord]] = []
    for run in runs:
        alike = (group for group in found if all(_another_start(run, other) for other in group))
        group = next(alike, None)
        if group is None:
            found.append([run])
        else:
            group.append(run)
    return [Starts(tuple(group)) for group in found]


def _another_start(run: RunRecord, other: RunRecord) -> bool:
    ours, theirs = run.headline, other.headline
    if ours is None or theirs is None or run.recipe is None or other.recipe is None:
        return False
    same = run.recipe.model_copy(update={"seed": other.recipe.seed}) == other.recipe
    measured = [
        (result.training, result.steps, result.labels, result.source_fingerprint)
        for result in (ours, theirs)
    ]
    return same and run.recipe.seed != other.recipe.seed and measured[0] == measured[1]


def _values(accuracies: Sequence[Accuracy]) -> list[float]:
    return [value for accuracy in accuracies for value in accuracy.values]
