"""Results as rows of a table, one for each number that was measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from potstill.errors import PotstillError
from potstill.results import (
    Accuracy,
    Continual,
    Diversity,
    Document,
    Evaluation,
    Membership,
    RobustScores,
    Targets,
)

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def frame(results: Document | Sequence[Document]) -> pd.DataFrame:
    """One result, or several below each other, as a table of pandas.

    Raises:
        PotstillError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise PotstillError(
            "tables are made with pandas, which is not installed; pip install pandas, or take "
            "result.document()"
        ) from None
    several = [results] if isinstance(results, Document) else results
    return pd.DataFrame([row for result in several for row in rows(result)])


@singledispatch
def rows(result: Document) -> Iterator[Row]:
    """The numbers of a result, each in a row with what it is of.

    Evaluations and audits have ``trained_on`` (what networks were trained on) and ``network_index``
    beside every accuracy or area; fractions are of 1.
    """
    yield result.document()


@rows.register
def _evaluation(result: Evaluation) -> Iterator[Row]:
    facts = {
        "dataset": result.dataset,
        "protocol": result.protocol,
        "network": result.network.name,
        "normalisation": result.network.normalisation,
        "images_per_class": result.images_per_class,
        "steps": result.steps,
        "epochs": result.epochs,
        "seed": result.seed,
    }
    yield from _values(facts, "distilled images", result.accuracy)
    if result.baseline is not None:
        yield from _values(facts, result.baseline.kind, result.baseline)


@rows.register
def _scores(result: RobustScores) -> Iterator[Row]:
    for name in ("hlr", "ior", "lrs", "ars"):
        value = getattr(result, name).value
        yield {"dataset": result.dataset, "score": name.upper(), "value": value}


@rows.register
def _membership(result: Membership) -> Iterator[Row]:
    trained: dict[str, Targets] = {"distilled images": result.distilled, **result.baselines}
    for trained_on, targets in trained.items():
        for point in targets.curve:
            for attack, areas in point.auc.items():
                for index, area in enumerate(areas.values):
                    yield {
                        "dataset": result.dataset,
                        "trained_on": trained_on,
                        "steps": point.steps,
                        "attack": attack,
                        "network_index": index,
                        "auc": area,
                    }


@rows.register
def _continual(result: Continual) -> Iterator[Row]:
    for number, task in enumerate(result.tasks, start=1):
        facts = {
            "dataset": result.dataset,
            "protocol": result.protocol,
            "task": number,
            "classes_so_far": task.classes_so_far,
        }
        yield from _values(facts, "distilled images", task.accuracy)
        if task.baseline is not None:
            yield from _values(facts, task.baseline.kind, task.baseline)


@rows.register
def _diversity(result: Diversity) -> Iterator[Row]:
    for images, distances in (("distilled", result.distance), ("real", result.real)):
        for index, distance in enumerate(() if distances is None else distances.classes):
            yield {
                "dataset": result.dataset,
                "images": images,
                "class": index,
                "distance": distance,
            }


def _values(facts: Row, trained_on: str, accuracy: Accuracy) -> Iterator[Row]:
    for index, value in enumerate(accuracy.values):
        yield {**facts, "trained_on": trained_on, "network_index": index, "accuracy": value}
