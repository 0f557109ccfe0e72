"""Where a table's sets are distilled and scored: folders, data, teachers, one step after another.

Everything that was done is found again in the folders, so that nothing is done twice and a
stopped reproduction goes on where it was. Below the output folder lie

    rcig/mnist-ipc1/seed0        the run of a recipe and a seed
    rcig/mnist-ipc1-1a2b3c4d/    the same recipe with other settings
    teachers/1a2b3c4d5e6f7a8b/   a teacher that several recipes share
    kept/                        networks attacked, tasks learned
    costs.json                   timed steps
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from potstill import evaluation, runs
from potstill.config import DataRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS
from potstill.data.source import SourceDataset
from potstill.errors import DataError
from potstill.evaluation.cache import Cache
from potstill.evaluation.protocol import named
from potstill.files import make_folder
from potstill.methods.distilling import distill
from potstill.methods.recipe import Recipe
from potstill.methods.squeeze import TEACHER, squeeze
from potstill.networks.names import network_text
from potstill.progress import Progress, staged
from potstill.report.audit_departures import TASKS
from potstill.report.records import read
from potstill.reproduce import costs
from potstill.reproduce.auditing import Audit, audit, learner
from potstill.reproduce.found import Held, Number, other_teacher
from potstill.reproduce.lines import Job
from potstill.runs import Run
from potstill.teacher import Teacher

_READ = (runs.RECIPE, runs.RECORD, runs.DISTILLED, runs.METRICS)
_DESCRIPTIVE = {"name", "description", "paper", "seed"}


class Workshop:
    """The output folder with what is in it, the data, and the machine."""

    def __init__(
        self, out: Path, *, data_root: Path | None, device: str, download: bool = False
    ) -> None:
        """Nothing is made or read before it is needed, but the costs that ``out`` holds."""
        self.out, self.device = out, device
        self.stopwatch = costs.Stopwatch(out, device)
        self._root, self._download = data_root, download
        self._held: tuple[tuple[Any, ...], Held] | None = None
        self._source: tuple[DataRecipe, SourceDataset] | None = None
        self._absent: dict[str, str | None] = {}

    def folder(self, job: Job, seed: int) -> Path:
        """Of the run of the job's set."""
        name = job.recipe
        if job.assignments:
            name += f"-{_digest(job.load().model_dump(mode='json', exclude=_DESCRIPTIVE))[:8]}"
        return self.out / name / f"seed{seed}"

    def held(self, job: Job, seed: int) -> Held | None:
        """The run of the job's set; None if it has not begun. The one read last is kept.

        Raises:
            RunError, ArtefactError: it is damaged.
        """
        folder = self.folder(job, seed)
        if not (folder / runs.RECORD).exists():
            return None
        state = (folder, *(_stamp(folder / name) for name in _READ))
        if self._held is None or self._held[0] != state:
            self._held = None
            self._held = state, Held(read(folder))
        return self._held[1]

    def finished(self, job: Job, seed: int) -> bool:
        """Whether the job's set is distilled.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        held = self.held(job, seed)
        return held is not None and held.finished

    def absent(self, data: DataRecipe) -> str | None:
        """Why the data set is not to be had here; None if it is.

        Of an image folder only that it is there, since reading one can take minutes.
        """
        if data.dataset not in self._absent:
            self._absent[data.dataset] = self._missing(data)
        return self._absent[data.dataset]

    def _missing(self, data: DataRecipe) -> str | None:
        info = DATASETS.get(data.dataset)
        if info is None or info.reader != "image folder":
            try:
                self.source(data)
            except DataError as error:
                return str(error)
            return None
        if self._root is None:
            return f"{data.dataset} is read from a data root and none is given; pass --data-root"
        folder = self._root / info.folder
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
        """What the folders hold of this; None if it has not been measured.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        held = self.held(job, seed)
        return None if held is None else held.number(job, seed)

    def lacks_audit(self, job: Job, seed: int) -> bool:
        """Whether the job's number is an audit's that has not been made as the paper's.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        if job.kind not in ("membership", "continual"):
            return False
        number = self.measured(job, seed)
        return number is None or not number.whole

    # What it would cost

    def cost(self, jobs: Sequence[Job], seed: int) -> float:
        """Seconds that the set and those measurements would take that are not there.

        Raises:
            NetworkError: a network does not fit the images.
            RunError, ArtefactError: the run is damaged.
        """
        job, recipe = jobs[0], jobs[0].load(seed)
        seconds = 0.0
        if not self.finished(job, seed):
            seconds += self._distilling(recipe, self.held(job, seed))
            if not (self._teacher_folder(recipe) / TEACHER).exists():
                seconds += costs.teaching(recipe, self.stopwatch)
        for kind in sorted({job.kind for job in jobs if self.lacks_audit(job, seed)}):
            if kind == "membership":
                seconds += costs.attacking(recipe, self.stopwatch)
            else:
                seconds += costs.learning(recipe, learner(recipe), TASKS, self.stopwatch)
        for job in jobs:
            if job.kind == "accuracy" and self.measured(job, seed) is None:
                protocol = named(job.protocol)
                seconds += costs.evaluating(
                    recipe,
                    job.network or recipe.network,
                    protocol,
                    self.stopwatch,
                    best=protocol.counts_epochs,
                )
        return seconds

    def _distilling(self, recipe: Recipe, held: Held | None) -> float:
        """What is left of it; by its own pace where it has one."""
        planned = costs.work(recipe).iterations
        if held is not None and held.run.iteration:
            done = held.run.iteration
            return (planned - done) * held.run.timing.total / done
        return costs.distilling(recipe, self.stopwatch)

    # Work

    def distil(self, job: Job, seed: int, progress: Progress) -> None:
        """Distil the job's set, or go on with it; nothing if it is there.

        Raises:
            PotstillError: what the method raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        recipe = job.load(seed)
        source = self.source(recipe.data)
        teacher = None
        if costs.teacher_of(recipe) is not None and not self.finished(job, seed):
            teacher = self._teacher(recipe, source, progress)

        with Run.create(self.folder(job, seed), recipe, resume=True, device=self.device) as run:
            if not run.finished:
                distill(recipe, source, run, device=self.device, teacher=teacher, progress=progress)

    def evaluate(self, job: Job, seed: int, progress: Progress) -> None:
        """Score the job's set, and keep the result in set and run.

        Raises:
            PotstillError: what the evaluation raises.
        """
        folder = self.folder(job, seed)
        dataset = DistilledDataset.load(folder / runs.DISTILLED)
        protocol = named(job.protocol)
        wanted = protocol.takes_teacher and not _labelled(dataset)
        labeller = self._labeller(job, seed) if wanted else None
        stage = "evaluation step"
        if job.network is not None:
            stage = f"{network_text(job.network)}: {stage}"
        result = evaluation.evaluate(
            dataset,
            self.source(job.load(seed).data),
            protocol=protocol,
            network=job.network,
            seed=seed,
            device=self.device,
            teacher=labeller,
            best=protocol.counts_epochs,
            progress=staged(progress, stage),
        )
        document = result.document()
        dataset.with_result(document).save(folder / runs.DISTILLED)
        runs.record_result(folder, document)

    def audit(self, job: Job, seed: int, progress: Progress) -> None:
        """Make the job's audit of its set, and keep it in the run.

        Raises:
            PotstillError: what the audit raises.
            KeyboardInterrupt: the networks or tasks that were finished are kept.
        """
        kind: Audit = "membership" if job.kind == "membership" else "continual"
        folder, recipe = self.folder(job, seed), job.load(seed)
        wanted = kind == "continual" and named(recipe.evaluation.protocol).takes_teacher
        found = audit(
            kind,
            DistilledDataset.load(folder / runs.DISTILLED),
            self.source(recipe.data),
            recipe,
            self._labeller(job, seed) if wanted else None,
            device=self.device,
            cache=Cache(self.out / "kept"),
            progress=progress,
        )
        runs.record_audit(folder, found.document())

    def _labeller(self, job: Job, seed: int) -> Teacher:
        """The teacher that the job's run has kept."""
        wanted = costs.teacher_of(job.load(seed))
        factory = None if wanted is None else wanted.module
        labeller = Teacher.load(self.folder(job, seed) / TEACHER, factory)
        labeller.network.to(self.device)
        return labeller

    def _teacher(self, recipe: Recipe, source: SourceDataset, progress: Progress) -> Teacher:
        folder = self._teacher_folder(recipe)
        make_folder(folder)
        return squeeze(
            recipe,
            source,
            folder=folder,
            device=self.device,
            progress=progress,
        )

    def _teacher_folder(self, recipe: Recipe) -> Path:
        """Recipes with the same data, teacher and seed share one."""
        wanted = costs.teacher_of(recipe)
        teacher = {} if wanted is None else wanted.model_dump(mode="json")
        facts = {"data": recipe.data.model_dump(mode="json"), "seed": recipe.seed, **teacher}
        return self.out / "teachers" / _digest(facts)[:16]


def _labelled(dataset: DistilledDataset) -> bool:
    """Whether it stores the labels of the teacher it was made from."""
    labels = dataset.header.get("relabelling", {}).get("teacher")
    return dataset.soft_labels is not None and not other_teacher(labels, dataset)


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
