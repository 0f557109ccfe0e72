"""Where tables' sets are distilled and measured: folders, data, teachers, one thing after another.

Everything that was done is found again in the folders, so that nothing is done twice and a
stopped reproduction goes on where it was. Below the output folder lie

    rcig/mnist-ipc1/seed0        the run of a recipe and a seed
    rcig/mnist-ipc1-1a2b3c4d/    the same recipe with other settings
    teachers/1a2b3c4d5e6f7a8b/   a teacher that several recipes share
    units/1a2b3c4d5e6f7a8b/      finished units of work that sets of several sizes share

and in caches, of the names that commands use: ``timings`` of networks, networks of ``attacks``,
``classes`` learned.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from potstill import evaluation, methods, runs
from potstill.config import DataRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import DataError
from potstill.evaluation.cache import Cache
from potstill.evaluation.protocol import named
from potstill.files import make_folder
from potstill.methods.distilling import distill
from potstill.methods.recipe import DESCRIPTIVE, Recipe
from potstill.methods.squeeze import TEACHER, squeeze
from potstill.papers.answers import Measurement
from potstill.progress import Progress, staged
from potstill.reproduce import costs
from potstill.reproduce.auditing import audit
from potstill.reproduce.found import Number, number_in, other_teacher
from potstill.runs import Run
from potstill.runs.records import RunRecord, read
from potstill.teacher import Teacher
from potstill.text import network_text

_READ = (runs.RECIPE, runs.RECORD, runs.DISTILLED, runs.METRICS)
_CACHES = {"membership": "attacks", "continual": "classes"}


class Workplace:
    """The output folder with what is in it, the data, and the machine."""

    def __init__(
        self,
        out: Path,
        *,
        data_root: Path | None,
        device: str,
        download: bool = False,
        caches: Callable[[str], Cache] = lambda _name: Cache(),
        whitenings: WhiteningCache | None = None,
    ) -> None:
        """Nothing is made or read before it is needed.

        Args:
            out: the folder of the runs.
            data_root: the folder that holds the data sets.
            device: "cpu" or "cuda".
            download: whether to fetch a data set that is absent.
            caches: the cache of a name; nothing is cached unless it is given.
            whitenings: the cache of fitted preprocessing.
        """
        self.out, self.device = out, device
        self.stopwatch = costs.Stopwatch(caches("timings"), device)
        self._caches, self._root, self._download = caches, data_root, download
        self._whitenings = whitenings
        self._read: tuple[tuple[Any, ...], RunRecord] | None = None
        self._source: tuple[DataRecipe, SourceDataset] | None = None
        self._absent: dict[str, str | None] = {}

    # What is there

    def folder(self, measurement: Measurement, seed: int) -> Path:
        """The folder of the run of the measurement's set."""
        name = measurement.recipe
        if measurement.assignments:
            settings = measurement.load().model_dump(mode="json", exclude={*DESCRIPTIVE, "seed"})
            name += f"-{_digest(settings)[:8]}"
        return self.out / name / f"seed{seed}"

    def run(self, measurement: Measurement, seed: int) -> RunRecord | None:
        """The run of the measurement's set; None if it has not begun. The last one is kept in mind.

        Raises:
            RunError, ArtefactError: it is damaged.
        """
        folder = self.folder(measurement, seed)
        if not (folder / runs.RECORD).exists():
            return None
        state = (folder, *(_stamp(folder / name) for name in _READ))
        if self._read is None or self._read[0] != state:
            self._read = None
            self._read = state, read(folder)
        return self._read[1]

    def finished(self, measurement: Measurement, seed: int) -> bool:
        """Whether the measurement's set is distilled.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        run = self.run(measurement, seed)
        return run is not None and run.status == "finished" and run.dataset is not None

    def measured(self, measurement: Measurement, seed: int) -> Number | None:
        """What the folders hold of this; None if it has not been measured.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        run = self.run(measurement, seed)
        return None if run is None else number_in(run, measurement, seed)

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
        """The data set; the one that was used last is kept in memory.

        Raises:
            DataError: it is not there or damaged.
        """
        if self._source is None or self._source[0] != data:
            self._source = None
            self._source = data, datasets.load(data, self._root, download=self._download)
        return self._source[1]

    def teacher_folder(self, recipe: Recipe) -> Path:
        """Recipes with the same data, teacher and seed share one."""
        wanted = costs.teacher_of(recipe)
        teacher = {} if wanted is None else wanted.model_dump(mode="json")
        facts = {"data": recipe.data.model_dump(mode="json"), "seed": recipe.seed, **teacher}
        return self.out / "teachers" / _digest(facts)[:16]

    def units_folder(self, recipe: Recipe) -> Path | None:
        """Sets share one that differ in their images per class alone; None if they do not nest."""
        if not methods.named(recipe.method.kind).nests:
            return None
        aside = {*DESCRIPTIVE, "images_per_class", "network", "evaluation", "checkpoint_every"}
        return self.out / "units" / _digest(recipe.model_dump(mode="json", exclude=aside))[:16]

    # Work

    def distil(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Distil the measurement's set, or go on with it; nothing if it is there.

        Raises:
            PotstillError: what the method raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        if self.finished(measurement, seed):
            return
        recipe = measurement.load(seed)
        source = self.source(recipe.data)
        teacher = None
        if costs.teacher_of(recipe) is not None:
            shared = self.teacher_folder(recipe)
            make_folder(shared)
            teacher = squeeze(recipe, source, folder=shared, device=self.device, progress=progress)
        folder = self.folder(measurement, seed)
        with Run.create(folder, recipe, resume=True, device=self.device) as run:
            distill(
                recipe,
                source,
                run,
                device=self.device,
                teacher=teacher,
                whitenings=self._whitenings,
                units=self.units_folder(recipe),
                progress=progress,
            )

    def evaluate(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Score the measurement's set, and keep the result in it.

        Raises:
            PotstillError: what the evaluation raises.
        """
        folder = self.folder(measurement, seed)
        dataset = DistilledDataset.load(folder / runs.DISTILLED)
        protocol = named(measurement.protocol)
        wanted = protocol.takes_teacher and not _labelled(dataset)
        stage = f"{network_text(measurement.network)}: evaluation step"
        result = evaluation.evaluate(
            dataset,
            self.source(measurement.load(seed).data),
            protocol=protocol,
            network=measurement.network,
            seed=seed,
            device=self.device,
            teacher=self._labeller(measurement, seed) if wanted else None,
            best=protocol.publishes_best,
            progress=staged(progress, stage),
        )
        DistilledDataset.add_result(folder / runs.DISTILLED, result.document())

    def audit(self, measurement: Measurement, seed: int, progress: Progress) -> None:
        """Make the audit that the measurement is a number of, and keep it in the run.

        Raises:
            PotstillError: what the audit raises.
            KeyboardInterrupt: the networks or tasks that were finished are in the cache.
        """
        folder, kind = self.folder(measurement, seed), measurement.quantity
        wanted = kind == "continual" and named(measurement.protocol).takes_teacher
        found = audit(
            measurement,
            DistilledDataset.load(folder / runs.DISTILLED),
            self.source(measurement.load(seed).data),
            self._labeller(measurement, seed) if wanted else None,
            seed=seed,
            device=self.device,
            cache=self._caches(_CACHES[kind]),
            progress=progress,
        )
        runs.record_audit(folder, found.document())

    def _labeller(self, measurement: Measurement, seed: int) -> Teacher:
        """The teacher that the measurement's run has in its folder."""
        wanted = costs.teacher_of(measurement.load(seed))
        factory = None if wanted is None else wanted.module
        labeller = Teacher.load(self.folder(measurement, seed) / TEACHER, factory)
        labeller.network.to(self.device)
        return labeller


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
