"""Where a table's sets are distilled and scored: folders, data, teachers, one step after another.

Everything that was done is found again in the folders, so that nothing is done twice and a
stopped reproduction goes on where it was. Below the output folder lie

    rcig/mnist-ipc1/seed0        the run of a recipe and a seed
    rcig/mnist-ipc1-1a2b3c4d/    the same recipe with other settings
    teachers/1a2b3c4d5e6f7a8b/   a teacher that several recipes share
    costs.json                   timed steps
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from potstill import evaluation, pipeline, runs
from potstill.config import DataRecipe, DWARecipe, Recipe
from potstill.data import datasets, torchvision_sets
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.dwa.squeeze import TEACHER, squeeze
from potstill.errors import DataError
from potstill.evaluation.protocol import named
from potstill.evaluation.students import StudentProtocol
from potstill.files import make_folder
from potstill.reproduce import costs
from potstill.reproduce.lines import Job
from potstill.runs import Run
from potstill.teacher import Teacher

Tell = Callable[[str, int, int], None]
"""Told of the stage, what is done of it, and all of it."""

_DESCRIPTIVE = {"name", "description", "paper", "seed"}


@dataclass(frozen=True)
class Number:
    """What was measured for a line; accuracies are fractions. ``best`` is on the test set."""

    values: tuple[float, ...]
    how: str
    best: tuple[float, ...] = ()


class Workshop:
    """The output folder with what is in it, the data, and the machine."""

    def __init__(
        self, out: Path, *, data_root: Path | None, device: str, download: bool = False
    ) -> None:
        """Nothing is made or read before it is needed, but the costs that ``out`` holds.

        Raises:
            RunError: they are damaged.
        """
        self.out, self.device = out, device
        self.stopwatch = costs.Stopwatch(out, device)
        self._root, self._download = data_root, download
        self._source: tuple[DataRecipe, SourceDataset] | None = None
        self._absent: dict[str, str | None] = {}

    def folder(self, job: Job, seed: int) -> Path:
        """Of the run of the job's set."""
        name = job.recipe
        if job.assignments:
            name += f"-{_digest(job.load().model_dump(mode='json', exclude=_DESCRIPTIVE))[:8]}"
        return self.out / name / f"seed{seed}"

    def record(self, job: Job, seed: int) -> dict[str, Any]:
        """The record of the run; empty if it has not begun.

        Raises:
            RunError: it is damaged.
        """
        folder = self.folder(job, seed)
        return runs.read_record(folder) if (folder / runs.RECORD).exists() else {}

    def absent(self, data: DataRecipe) -> str | None:
        """Why the data set is not to be had here; None if it is.

        Of an image folder only that it is there, since reading one can take minutes.
        """
        if data.dataset not in self._absent:
            self._absent[data.dataset] = self._missing(data)
        return self._absent[data.dataset]

    def _missing(self, data: DataRecipe) -> str | None:
        if data.dataset in torchvision_sets.names() or data.dataset == "digits":
            try:
                self.source(data)
            except DataError as error:
                return str(error)
            return None
        if self._root is None:
            return f"{data.dataset} is read from a data root and none is given; pass --data-root"
        folder = self._root / data.dataset
        if not (folder / "train").is_dir():
            return f"{data.dataset} is not under the data root; put it into {folder}"
        return None

    def source(self, data: DataRecipe) -> SourceDataset:
        """The data set; the one that was used last is kept.

        Raises:
            DataError: it is not there or damaged.
        """
        if self._source is None or self._source[0] != data:
            self._source = None
            self._source = data, datasets.load(data, self._root, download=self._download)
        return self._source[1]

    # What is there

    def measured(self, job: Job, seed: int) -> Number | None:
        """What the folders hold of this; None if it has not been measured."""
        recipe = job.load(seed)
        if job.kind == "iterations":
            return Number((float(recipe.method.iterations),), "the recipe's")
        record = self.record(job, seed)
        finished = record.get("status") == "finished"
        if job.kind == "accuracy":
            return _accuracy(job, record, seed, recipe.evaluation.networks)
        if job.kind in ("membership", "continual"):
            return _of_audit(job, record)
        return _of_record(job, record, recipe) if finished else None

    # What it would cost

    def cost(self, jobs: Sequence[Job], seed: int) -> float:
        """Seconds that the set and those measurements would take that are not there.

        Raises:
            NetworkError: a network does not fit the images.
        """
        job, recipe, record = jobs[0], jobs[0].load(seed), self.record(jobs[0], seed)
        seconds = 0.0
        if record.get("status") != "finished":
            seconds += self._distilling(recipe, record)
            if not (self._teacher_folder(recipe) / TEACHER).exists():
                seconds += costs.teaching(recipe, self.stopwatch)
        for job in jobs:
            if job.kind == "accuracy" and self.measured(job, seed) is None:
                protocol = named(job.protocol)
                seconds += costs.evaluating(
                    recipe,
                    job.network or recipe.network,
                    protocol,
                    self.stopwatch,
                    best=isinstance(protocol, StudentProtocol),
                )
        return seconds

    def _distilling(self, recipe: Recipe, record: Mapping[str, Any]) -> float:
        """What is left of it; by its own pace where it has one."""
        planned = recipe.method.iterations
        if isinstance(recipe.method, DWARecipe):
            shape = costs.shape_of(recipe)
            batches = -(-shape.classes // recipe.method.class_batch)
            planned *= recipe.images_per_class * batches
        done = record.get("iteration", 0)
        if done:
            return (planned - done) * float(record["seconds"]["total"]) / done
        return costs.distilling(recipe, self.stopwatch)

    # Work

    def distil(self, job: Job, seed: int, tell: Tell) -> None:
        """Distil the job's set, or go on with it; nothing if it is there.

        Raises:
            PotstillError: what the method raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        recipe = job.load(seed)
        source = self.source(recipe.data)
        teacher = None
        finished = self.record(job, seed).get("status") == "finished"
        if isinstance(recipe.method, DWARecipe) and not finished:
            teacher = self._teacher(recipe, source, tell)

        def progress(stage: str, done: int, total: int, values: dict[str, float]) -> None:
            tell(stage, done, total)

        with Run.create(self.folder(job, seed), recipe, resume=True, device=self.device) as run:
            if not run.finished:
                pipeline.distil(
                    recipe, source, run, device=self.device, teacher=teacher, progress=progress
                )

    def evaluate(self, job: Job, seed: int, tell: Tell) -> None:
        """Score the job's set, and keep the result in set and run.

        Raises:
            PotstillError: what the evaluation raises.
        """
        folder = self.folder(job, seed)
        dataset = DistilledDataset.load(folder / runs.DISTILLED)
        protocol = named(job.protocol)
        labeller = None
        if protocol.takes_teacher and dataset.soft_labels is None:
            method = job.load(seed).method
            factory = method.teacher.module if isinstance(method, DWARecipe) else None
            labeller = Teacher.load(folder / TEACHER, factory)
            labeller.network.to(self.device)
        result = evaluation.evaluate(
            dataset,
            self.source(job.load(seed).data),
            protocol=protocol,
            network=job.network,
            seed=seed,
            device=self.device,
            teacher=labeller,
            best=isinstance(protocol, StudentProtocol),
            progress=lambda done, total: tell("evaluation step", done, total),
        )
        dataset.with_result(result).save(folder / runs.DISTILLED)
        runs.record_result(folder, result)

    def _teacher(self, recipe: Recipe, source: SourceDataset, tell: Tell) -> Teacher:
        folder = self._teacher_folder(recipe)
        make_folder(folder)
        return squeeze(
            recipe,
            source,
            folder=folder,
            device=self.device,
            progress=lambda done, epochs, values: tell("teacher epoch", done, epochs),
        )

    def _teacher_folder(self, recipe: Recipe) -> Path:
        """Recipes with the same data, teacher and seed share one."""
        method = recipe.method
        teacher = method.teacher.model_dump(mode="json") if isinstance(method, DWARecipe) else {}
        facts = {"data": recipe.data.model_dump(mode="json"), "seed": recipe.seed, **teacher}
        return self.out / "teachers" / _digest(facts)[:16]


def _accuracy(job: Job, record: Mapping[str, Any], seed: int, networks: int) -> Number | None:
    wanted = None if job.network is None else job.network.model_dump(mode="json")
    for result in reversed(record.get("results", ())):
        values = result["accuracy"]["values"]
        same = (result["protocol"], result["network"]) == (job.protocol, wanted)
        if same and result["seed"] == seed and len(values) >= networks:
            best = result.get("best_on_test", {}).get("values", ())
            return Number(tuple(values), job.protocol, tuple(best))
    return None


def _of_record(job: Job, record: Mapping[str, Any], recipe: Recipe) -> Number | None:
    seconds, iteration = record["seconds"], record["iteration"]
    device = str(record["machine"].get("device_name") or record["machine"]["device"])
    if job.kind == "synthesis":
        parts = seconds["parts"]
        spent = parts.get("synthesis", 0.0) + parts.get("adjustment", 0.0)
        return Number((spent / recipe.images_per_class,), device)
    if not iteration:
        return None
    value = seconds["total"] / (iteration if job.kind == "step" else 3600)
    return Number((value,), device)


def _of_audit(job: Job, record: Mapping[str, Any]) -> Number | None:
    """From the newest audit of the kind that has it."""
    for audit in reversed(record.get("audits", ())):
        if audit.get("kind") == job.kind:
            found = _attack(job, audit) if job.kind == "membership" else _task(job, audit)
            if found is not None:
                return found
    return None


def _attack(job: Job, audit: Mapping[str, Any]) -> Number | None:
    names = {"real": "members", "random": "random"}
    if job.trained_on == "distilled":
        attacked = audit["distilled"]
    else:
        attacked = audit.get("baselines", {}).get(names[job.trained_on])
    if attacked is None:
        return None
    last = attacked["curve"][-1]
    scores = last["accuracy"] if job.attack == "accuracy" else last["auc"][job.attack]
    return Number(tuple(scores["values"]), f"after {last['steps']:,} steps")


def _task(job: Job, audit: Mapping[str, Any]) -> Number | None:
    for task in audit["tasks"]:
        if task["classes_so_far"] == job.classes:
            return Number(tuple(task["accuracy"]["values"]), str(audit["protocol"]))
    return None


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
