"""Where sets are made: the data, shared teachers, and how long a set would take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from potstill import methods, runs
from potstill.config import DataRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS, DatasetInfo
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import DataError
from potstill.evaluation.cache import Cache
from potstill.files import make_folder
from potstill.methods.describing import published
from potstill.methods.distilling import distill
from potstill.methods.recipe import DESCRIPTIVE, Recipe
from potstill.methods.squeeze import TEACHER, squeeze
from potstill.progress import Progress
from potstill.reproduce import costs
from potstill.runs import Run
from potstill.runs.records import RunRecord, read
from potstill.teacher import Teacher

_READ = (runs.RECIPE, runs.RECORD, runs.DISTILLED, runs.METRICS)


class Bench:
    """An output folder with runs in it and the teachers that they share, the data, the machine."""

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

    def record(self, folder: Path) -> RunRecord | None:
        """The run in a folder; None if it has not begun. The last one is kept in mind.

        Raises:
            RunError, ArtefactError: it is damaged.
        """
        if not (folder / runs.RECORD).exists():
            return None
        state = (folder, *(_stamp(folder / name) for name in _READ))
        if self._read is None or self._read[0] != state:
            self._read = None
            self._read = state, read(folder)
        return self._read[1]

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
        pixels = data.pixels
        if self._source is None or self._source[0] != pixels:
            self._source = None
            self._source = pixels, datasets.load(data, self._root, download=self._download)
        return self._source[1]

    def shape(self, data: DataRecipe) -> DatasetInfo:
        """What estimates have to know of the data; one's own images are read for that.

        Raises:
            DataError: they are not there or damaged.
        """
        known = published(data)
        if known is not None:
            return known
        source = self.source(data)
        return DatasetInfo(
            title=source.name,
            classes=source.classes,
            channels=3 if source.channels == 3 else 1,
            resolution=source.resolution,
            training=len(source.train),
            test=len(source.test),
            reader="image folder",
            folder="",
        )

    # Teachers

    def teacher_folder(self, recipe: Recipe) -> Path:
        """Recipes with the same data, teacher and seed share one."""
        wanted = costs.teacher_of(recipe)
        teacher = {} if wanted is None else wanted.model_dump(mode="json")
        facts = {"data": recipe.data.model_dump(mode="json"), "seed": recipe.seed, **teacher}
        return self.out / "teachers" / digest(facts)[:16]

    def units_folder(self, recipe: Recipe) -> Path | None:
        """Sets share one that differ in their images per class alone; None if they do not nest."""
        nests = methods.named(recipe.method.kind).nests
        if nests is None or not nests(recipe.method):
            return None
        aside = {*DESCRIPTIVE, "images_per_class", "network", "evaluation", "checkpoint_every"}
        return self.out / "units" / digest(recipe.model_dump(mode="json", exclude=aside))[:16]

    def teach(self, recipe: Recipe, progress: Progress) -> Teacher:
        """The teacher that the recipe's method takes; it is trained, or the training goes on.

        Raises:
            PotstillError: what the training raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        folder = self.teacher_folder(recipe)
        make_folder(folder)
        return squeeze(
            recipe,
            self.source(recipe.data),
            folder=folder,
            device=self.device,
            whitenings=self._whitenings,
            progress=progress,
        )

    def taught(self, recipe: Recipe) -> bool:
        """Whether there is nothing to teach any more."""
        return costs.teacher_of(recipe) is None or (self.teacher_folder(recipe) / TEACHER).exists()

    def labeller(self, recipe: Recipe | None, folder: Path) -> Teacher:
        """The teacher that lies in a run's folder, on the device.

        Raises:
            ArtefactError: there is none, or it is damaged.
        """
        wanted = None if recipe is None else costs.teacher_of(recipe)
        factory = None if wanted is None else wanted.module
        teacher = Teacher.load(folder / TEACHER, factory)
        teacher.network.to(self.device)
        return teacher

    # Sets

    def make(self, recipe: Recipe, folder: Path, progress: Progress) -> None:
        """Distil the recipe's set into the folder, or go on with it; nothing if it is there.

        Raises:
            PotstillError: what the method raises.
            KeyboardInterrupt: after a checkpoint was written.
        """
        if self.made(folder):
            return
        source = self.source(recipe.data)
        teacher = None if costs.teacher_of(recipe) is None else self.teach(recipe, progress)
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

    def refitted(self, dataset: DistilledDataset, source: SourceDataset) -> DistilledDataset:
        """The set with its ZCA at hand: fitted again, or from the cache, where its file has none.

        Raises:
            ArtefactError: the source is other data than it was made of.
        """
        return dataset.refitted(source, device=self.device, cache=self._whitenings)

    def made(self, folder: Path) -> bool:
        """Whether the set in a folder is distilled.

        Raises:
            RunError, ArtefactError: its run is damaged.
        """
        run = self.record(folder)
        return run is not None and run.status == "finished" and run.dataset is not None

    def left(self, recipe: Recipe, folder: Path) -> float:
        """Seconds that are left to make a set; by its own pace where it has one.

        A teacher of its own that is not there counts, whoever else it serves.
        """
        if self.made(folder):
            return 0.0
        run, shape = self.record(folder), self.shape(recipe.data)
        if run is not None and run.iteration:
            planned = costs.work(recipe, shape).iterations
            seconds = (planned - run.iteration) * run.timing.total / run.iteration
        else:
            seconds = costs.distilling(recipe, self.stopwatch, shape)
        if self.taught(recipe):
            return seconds
        return seconds + costs.teaching(recipe, self.stopwatch, shape)


def digest(facts: Any) -> str:
    """SHA-256 of what JSON has of ``facts``."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes when the file does; None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
