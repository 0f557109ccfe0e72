"""What a run's folder holds of a line: its number, and what that is taken from.

A number is the line's only if it was measured on the set that lies in the folder now, and as the
line's own measuring would. Results that were measured otherwise are passed over. Audits, which
take long and may be a command's, are taken for what they are, and say what they lack.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from potstill.data.distilled import DistilledDataset
from potstill.evaluation.protocol import named
from potstill.methods.recipe import Recipe
from potstill.report import audit_departures
from potstill.report.audit_departures import Unlike
from potstill.report.records import RunRecord
from potstill.reproduce.lines import Job
from potstill.results import Continual, Evaluation, Membership, Targets


@dataclass(frozen=True)
class Number:
    """What was measured for a line; accuracies are fractions. ``best`` is on the test set.

    ``result`` is the one it is taken from, ``unlike`` what sets an audit apart from the row's.
    """

    values: tuple[float, ...]
    how: str
    best: tuple[float, ...] = ()
    result: Evaluation | None = None
    unlike: Unlike = field(default_factory=Unlike)

    @property
    def whole(self) -> bool:
        """Whether it is the line's number, and no smaller one."""
        return not self.unlike.effort


@dataclass(frozen=True)
class Held:
    """A run's folder, read."""

    run: RunRecord

    @property
    def finished(self) -> bool:
        """Whether the set is there, whole."""
        return self.run.status == "finished"

    @cached_property
    def digest(self) -> str | None:
        """Of the set that lies there now."""
        return None if self.run.dataset is None else self.run.dataset.digest

    def number(self, job: Job, seed: int) -> Number | None:
        """What was measured of this; None if nothing was."""
        recipe = job.load(seed)
        if job.kind == "accuracy":
            return self._accuracy(job, seed, recipe.evaluation.networks)
        if job.kind == "membership":
            return _best(self._attack(job, audit) for audit in self._own(self.run.membership))
        if job.kind == "continual":
            return _best(self._task(job, audit) for audit in self._own(self.run.continual))
        return _of_run(job, self.run, recipe) if self.finished else None

    def _own(self, measured: Iterable[Any]) -> list[Any]:
        """Those of the set that lies there now, the newest first."""
        return [one for one in reversed(tuple(measured)) if one.artefact_digest == self.digest]

    def _accuracy(self, job: Job, seed: int, networks: int) -> Number | None:
        if self.run.dataset is None:
            return None
        wanted = (job.protocol, job.network, seed, epochs(job, self.run.dataset))
        for result in self._own(self.run.results):
            values, best = result.accuracy.values, result.best_on_test
            asked = (result.protocol, result.network, result.seed, result.epochs)
            enough = len(values) >= networks
            if asked == wanted and enough and not other_teacher(result.teacher, self.run.dataset):
                return Number(values, job.protocol, best.values if best else (), result)
        return None

    def _attack(self, job: Job, audit: Membership) -> Number | None:
        names = {"real": "members", "random": "random"}
        attacked: Targets | None = audit.distilled
        if job.trained_on != "distilled":
            attacked = audit.baselines.get(names[job.trained_on])
        if attacked is None:
            return None
        last = attacked.last
        scores = last.accuracy if job.attack == "accuracy" else last.auc.get(job.attack)
        if scores is None:
            return None
        unlike = audit_departures.of_membership(audit, self.run)
        return Number(scores.values, f"after {last.steps:,} steps", unlike=unlike)

    def _task(self, job: Job, audit: Continual) -> Number | None:
        unlike = audit_departures.of_continual(audit, self.run)
        for task in audit.tasks:
            if task.classes_so_far == job.classes:
                return Number(task.accuracy.values, audit.protocol, unlike=unlike)
        return None


def epochs(job: Job, dataset: DistilledDataset) -> int | None:
    """How many the line's own evaluation takes; None if its protocol counts none.

    Raises:
        RecipeError: there is no such protocol.
    """
    return named(job.protocol).epochs(dataset)


def other_teacher(teacher: Any, dataset: DistilledDataset) -> bool:
    """Whether labels are those of another teacher than the one the set was made from."""
    own = dataset.header.get("teacher")
    if not isinstance(own, dict) or teacher is None:
        return False
    return not isinstance(teacher, dict) or teacher.get("digest") != own.get("digest")


def _best(numbers: Iterable[Number | None]) -> Number | None:
    """The first that is the line's; if none is, the first."""
    there = [number for number in numbers if number is not None]
    return next((number for number in there if number.whole), there[0] if there else None)


def _of_run(job: Job, run: RunRecord, recipe: Recipe) -> Number | None:
    """What the run itself took."""
    device = str(run.machine.get("device_name") or run.machine.get("device", "unknown device"))
    if job.kind == "synthesis":
        parts = run.timing.parts
        spent = parts.get("synthesis", 0.0) + parts.get("adjustment", 0.0)
        return Number((spent / recipe.images_per_class,), device)
    if not run.iteration:
        return None
    unit = {"step": run.iteration, "hours": 3600}[job.kind]
    return Number((run.timing.total / unit,), device)
