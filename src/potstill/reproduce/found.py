"""What a run's folder holds of a measurement: its number, and what that is taken from.

A number is the row's only if it was measured on the set that lies in the folder now, and as the
row's own measuring would. Results that were measured otherwise are passed over. Audits, which
take long and may be a command's, are taken for what they are, and say what they lack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from potstill.data.distilled import DistilledDataset
from potstill.evaluation.protocol import named
from potstill.papers import audits
from potstill.papers.answers import Measurement
from potstill.papers.audits import Unlike
from potstill.results import Continual, Evaluation, Membership
from potstill.runs.records import RunRecord


@dataclass(frozen=True)
class Number:
    """What was measured for a row; accuracies are fractions. ``best`` is on the test set.

    ``result`` is the one it is taken from, ``unlike`` what sets an audit apart from the row's.
    """

    values: tuple[float, ...]
    how: str
    best: tuple[float, ...] = ()
    result: Evaluation | None = None
    unlike: Unlike = field(default_factory=Unlike)

    @property
    def whole(self) -> bool:
        """Whether it is the row's number, and no smaller one."""
        return not self.unlike.effort


def number_in(run: RunRecord, wanted: Measurement, seed: int) -> Number | None:
    """What was measured of this in a run of the set and the seed; None if nothing was."""
    if wanted.quantity == "accuracy":
        return _accuracy(run, wanted, seed)
    if wanted.quantity == "membership":
        return _best(_attack(run, wanted, audit) for audit in _own(run, run.membership))
    if wanted.quantity == "continual":
        return _best(_task(run, wanted, audit) for audit in _own(run, run.continual))
    return _of_run(run, wanted) if run.status == "finished" else None


def other_teacher(teacher: Any, dataset: DistilledDataset) -> bool:
    """Whether labels are those of another teacher than the one the set was made from."""
    own = dataset.header.get("teacher")
    if not isinstance(own, dict) or teacher is None:
        return False
    return not isinstance(teacher, dict) or teacher.get("digest") != own.get("digest")


def _own(run: RunRecord, measured: Iterable[Any]) -> list[Any]:
    """What was measured on the set that lies there now, the newest first."""
    digest = None if run.dataset is None else run.dataset.digest
    return [one for one in reversed(tuple(measured)) if one.artefact_digest == digest]


def _accuracy(run: RunRecord, wanted: Measurement, seed: int) -> Number | None:
    if run.dataset is None:
        return None
    epochs = named(wanted.protocol).epochs(run.dataset)
    for result in _own(run, run.results):
        asked = (result.protocol, result.network, result.seed, result.epochs)
        if (
            asked == (wanted.protocol, wanted.network, seed, epochs)
            and len(result.accuracy.values) >= wanted.networks
            and not other_teacher(result.teacher, run.dataset)
        ):
            best = result.best_on_test
            values = result.accuracy.values
            return Number(values, wanted.protocol, best.values if best else (), result)
    return None


def _attack(run: RunRecord, wanted: Measurement, audit: Membership) -> Number | None:
    attacked = {"distilled": audit.distilled, **audit.baselines}.get(wanted.trained_on)
    if attacked is None:
        return None
    last = attacked.last
    scores = last.accuracy if wanted.attack == "accuracy" else last.auc.get(wanted.attack)
    if scores is None:
        return None
    unlike = audits.of_membership(audit, run)
    return Number(scores.values, f"after {last.steps:,} steps", unlike=unlike)


def _task(run: RunRecord, wanted: Measurement, audit: Continual) -> Number | None:
    unlike = audits.of_continual(audit, run, wanted.row)
    for task in audit.tasks:
        if task.classes_so_far == wanted.classes:
            return Number(task.accuracy.values, audit.protocol, unlike=unlike)
    return None


def _best(numbers: Iterable[Number | None]) -> Number | None:
    """The first that is the row's; if none is, the first."""
    there = [number for number in numbers if number is not None]
    return next((number for number in there if number.whole), there[0] if there else None)


def _of_run(run: RunRecord, wanted: Measurement) -> Number | None:
    """The number that the run itself gives: its seconds, hours or memory."""
    if wanted.quantity == "memory":
        memory = run.peak_memory / 1e9
        return Number((memory,), f"peak on {run.device}") if memory else None
    if wanted.quantity == "synthesis":
        seconds = run.seconds_per_image
    elif not run.iteration:
        return None
    else:
        seconds = run.timing.total / (run.iteration if wanted.quantity == "step" else 3600)
    return None if seconds is None else Number((seconds,), run.device)
