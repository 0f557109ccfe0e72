"""Runs that differ in nothing but their seed, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potstill.results import Accuracy, Baseline, Evaluation
from potstill.runs.records import RunRecord
from potstill.text import training_texts

# What is one start's and says nothing of all together.
_OF_ONE = {"baseline": None, "best_on_test": None, "beside": ()}


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
        accuracies = [result.accuracy for result in results]
        pooled: dict[str, Any] = {"accuracy": Accuracy.of(_values(accuracies))}
        beside = [result.baseline for result in results if result.baseline is not None]
        if len(beside) == len(results):
            # Evaluations of the same seed draw the same random images, which count once.
            others = {baseline.values: baseline for baseline in beside}
            pooled["baseline"] = Baseline.of(_values([*others.values()]), kind=beside[0].kind)
        return results[0].model_copy(update={**_OF_ONE, **pooled})

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
