"""The units of a comparison: a teacher; or a set, with every way in which it is scored.

A unit is a function of what it names, and its results lie in files that are whole or not there: a
run's folder, and results in the set itself. What is there is not done again, so a unit may be
stopped, killed and begun anew, here or in any process that sees the same folders.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch

from potstill.comparing.conditions import Condition
from potstill.comparing.lineup import Wanted
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import DataError, PotstillError
from potstill.evaluation.cache import Cache
from potstill.evaluation.protocol import evaluate
from potstill.execution.executor import Tell
from potstill.methods.recipe import Recipe
from potstill.methods.squeeze import TEACHER
from potstill.progress import Progress, silent, staged
from potstill.reproduce import costs
from potstill.reproduce.bench import Bench
from potstill.results import Evaluation
from potstill.teacher import Teacher
from potstill.text import accuracy_text, duration


@dataclass(frozen=True)
class Place:
    """Where a comparison works; a few words, which can be sent to another process.

    Attributes:
        out: its folder.
        data_root: the folder that holds the data sets.
        device: "cpu" or "cuda".
        download: whether to fetch a data set that is absent.
        cache: the folder of what took long, for the next time; nothing is cached if None.
        module: ``package.name:factory`` that makes the network of a teacher of one's own.
        data: the images that all sets stand for.
        teacher: the file of who labels under common protocols, if there is one.
    """

    out: Path
    data_root: Path | None = None
    device: str = "cpu"
    download: bool = False
    cache: Path | None = None
    module: str | None = None
    data: DataRecipe = field(default_factory=DataRecipe)
    teacher: Path | None = None

    @cached_property
    def bench(self) -> Bench:
        """The bench in its folder."""
        cache = self.cache
        return Bench(
            self.out,
            data_root=self.data_root,
            device=self.device,
            download=self.download,
            caches=lambda name: Cache(None if cache is None else cache / name),
            whitenings=None if cache is None else WhiteningCache(cache / "whitenings"),
        )

    @cached_property
    def labeller(self) -> Teacher | None:
        """Who labels under common protocols.

        Raises:
            ArtefactError: the file is no teacher, or damaged.
        """
        if self.teacher is None:
            return None
        found = Teacher.load(self.teacher, self.module)
        found.network.to(self.device)
        return found

    @property
    def source(self) -> SourceDataset:
        """The real data.

        Raises:
            DataError: it is not there or damaged.
        """
        return self.bench.source(self.data)

    def __getstate__(self) -> dict[str, object]:
        """What was asked for, and not what was read since."""
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class Cell:
    """A set scored in one way, which is still to be done.

    ``random`` says whether random real images are to be scored beside it.
    """

    condition: Condition
    random: bool


@dataclass(frozen=True)
class Unit:
    """A set that is to be made, scored, or both; or, without cells, a teacher of its method."""

    wanted: Wanted
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Problem:
    """Why something of a unit is not there: ``asked`` of its set, or all if None."""

    wanted: Wanted
    asked: str | None
    why: str
    failed: bool


@dataclass(frozen=True)
class Done:
    """What became of a unit: what was done in how many seconds, in words, and what was not."""

    unit: Unit
    words: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Working:
    """Does units, as long as the time lasts; the same call in any process.

    Attributes:
        place: where.
        until: of :func:`time.time`: nothing is begun that would not be done by then.
        progress: told of the steps; silent in other processes.
    """

    place: Place
    until: float | None = None
    progress: Progress = field(default=silent)

    def __call__(self, unit: Unit, tell: Tell) -> Done:
        """Do what is left of the unit."""
        said: list[str] = []
        problems: list[Problem] = []
        for asked, seconds, work in self._parts(unit):
            start = time.perf_counter()
            try:
                left = seconds()
                if not self._fits(left):
                    problems.append(Problem(unit.wanted, asked, self._late(left), False))
                else:
                    said += [
                        f"{words} in {duration(time.perf_counter() - start)}" for words in work()
                    ]
            except PotstillError as error:
                problems.append(Problem(unit.wanted, asked, str(error), True))
            except torch.OutOfMemoryError:
                why = "the device is out of memory; use --device cpu or a larger device"
                problems.append(Problem(unit.wanted, asked, why, True))
            if asked is None and problems:
                break
            tell(1)
        return Done(unit, tuple(said), tuple(problems))

    def _parts(
        self, unit: Unit
    ) -> Iterator[tuple[str | None, Callable[[], float], Callable[[], Iterator[str]]]]:
        """Each with what it is asked for, its estimated seconds, and the work, which says what
        it did."""
        wanted, place = unit.wanted, self.place
        if wanted.recipe is not None:
            recipe = wanted.recipe
            if unit.cells:
                yield None, lambda: making(wanted, place), lambda: self._make(wanted)
            else:
                yield None, lambda: teaching(recipe, place), lambda: self._teach(recipe, wanted)
        for cell in unit.cells:
            yield (
                cell.condition.asked,
                partial(scoring, wanted, cell, place),
                partial(self._score, wanted, cell),
            )

    def _teach(self, recipe: Recipe, wanted: Wanted) -> Iterator[str]:
        told = _prefixed(self.progress, f"{wanted.words}: ")
        teacher = self.place.bench.teach(recipe, told)
        said = "" if teacher.accuracy is None else f" ({100 * teacher.accuracy:.1f} %)"
        yield f"teacher trained{said}"

    def _make(self, wanted: Wanted) -> Iterator[str]:
        assert wanted.recipe is not None
        folder = wanted.path.parent
        if not self.place.bench.made(folder):
            told = _prefixed(self.progress, f"{wanted.words}: ")
            self.place.bench.make(wanted.recipe, folder, told)
            yield "made"

    def _score(self, wanted: Wanted, cell: Cell) -> Iterator[str]:
        dataset = DistilledDataset.load(wanted.path)
        require_source(wanted, dataset, self.place.source)
        dataset = self.place.bench.refitted(dataset, self.place.source)
        condition = cell.condition
        result = evaluate(
            condition.scored(dataset),
            self.place.source,
            protocol=condition.rules,
            networks=condition.networks,
            network=condition.network,
            seed=wanted.seed,
            device=self.place.device,
            baseline=cell.random,
            teacher=labeller(wanted, condition, self.place),
            epochs=condition.epochs if condition.common else None,
            progress=staged(self.progress, f"{wanted.words}, {condition.asked}: step"),
        )
        # The set is scored in other words than its file has, and is the same set.
        result = result.model_copy(update={"artefact_digest": dataset.digest})
        DistilledDataset.add_result(wanted.path, result.document())
        yield f"{condition.asked} {accuracy_text(result.accuracy)} %"

    def _fits(self, seconds: float) -> bool:
        return self.until is None or time.time() + seconds <= self.until

    def _late(self, seconds: float) -> str:
        assert self.until is not None
        left = max(0.0, self.until - time.time())
        return f"takes about {duration(seconds)}, and {duration(left)} of the budget are left"


def labeller(wanted: Wanted, condition: Condition, place: Place) -> Teacher | None:
    """Who labels: under a common protocol the comparison's teacher, else that of the set's run.

    None where the set's own stored labels, or none, are what its protocol takes.

    Raises:
        ArtefactError: the file is no teacher, or damaged.
    """
    if not condition.rules.takes_teacher:
        return None
    if condition.common:
        return place.labeller
    if not (wanted.path.parent / TEACHER).exists():
        return None
    return place.bench.labeller(wanted.recipe, wanted.path.parent)


def require_source(wanted: Wanted, dataset: DistilledDataset, source: SourceDataset) -> None:
    """That a set was made of the data that all are compared on.

    Raises:
        DataError: it was not.
    """
    stated = dataset.header["source"]
    theirs = (dataset.class_names, tuple(dataset.shape[1:]), stated.get("fingerprint"))
    here = (source.class_names, tuple(source.test.images.shape[1:]), source.fingerprint)
    for what, own, other in zip(("classes", "shape of images", "data"), theirs, here, strict=True):
        if own != other:
            raise DataError(
                f"{wanted.path} is of {stated.get('name')} and has another {what} than "
                f"{source.name}, on which sets are compared; leave it out"
            )


# What it takes


def teaching(recipe: Recipe, place: Place) -> float:
    """Seconds to train the teacher of the recipe's method; 0 if it is there."""
    if place.bench.taught(recipe):
        return 0.0
    return costs.teaching(recipe, place.bench.stopwatch, place.bench.shape(recipe.data))


def making(wanted: Wanted, place: Place) -> float:
    """Seconds that are left to make the set; 0 if it is there.

    A set of the same recipe from another seed tells how long, where one was made here.
    """
    recipe, folder = wanted.recipe, wanted.path.parent
    if recipe is None or place.bench.made(folder):
        return 0.0
    begun = place.bench.record(folder)
    if begun is None or not begun.iteration:
        for other in _siblings(wanted):
            found = place.bench.record(other.parent)
            if found is not None and found.status == "finished":
                spent = found.timing.total - found.timing.parts.get("teacher", 0.0)
                return spent + teaching(recipe, place)
    return place.bench.left(recipe, folder)


def scoring(wanted: Wanted, cell: Cell, place: Place) -> float:
    """Seconds to score the set in one way, and as many random real images if they are wanted.

    What it took for the set of another seed tells, where that was done here.
    """
    condition, bench = cell.condition, place.bench
    rounds = 2 if cell.random else 1
    measured = _scored_before(wanted, condition)
    if measured is not None:
        return rounds * measured
    shape = bench.shape(place.data)
    mirrored = False
    if wanted.recipe is not None:
        mirrored = costs.work(wanted.recipe, shape).mirror_images
    return rounds * costs.scoring(
        wanted.images_per_class * shape.classes,
        condition.network,
        condition.rules,
        bench.stopwatch,
        shape,
        networks=condition.networks,
        epochs=condition.epochs,
        mirrored=mirrored,
        labeller=_labelling_network(wanted, condition, place),
    )


def _scored_before(wanted: Wanted, condition: Condition) -> float | None:
    """Seconds that scoring a set of the same recipe took in this way; None if none was."""
    if wanted.recipe is None:
        return None
    for path in _siblings(wanted):
        for result in DistilledDataset.load(path).results if path.exists() else ():
            alike = (result.protocol, result.network, len(result.accuracy.values))
            if (
                alike == (condition.protocol, condition.network, condition.networks)
                and condition.epochs in (None, result.epochs)
                and result.seconds is not None
            ):
                return result.seconds / (2 if result.baseline else 1)
    return None


def _siblings(wanted: Wanted) -> list[Path]:
    """Where the sets of the same recipe from all seeds lie, made or not."""
    folder = wanted.path.parent
    alike = folder.parent.glob(f"{folder.name.partition('-')[0]}-seed*")
    return [one / wanted.path.name for one in sorted(alike)]


def _labelling_network(wanted: Wanted, condition: Condition, place: Place) -> NetworkRecipe | None:
    """The network of who labels, where it is known."""
    if not condition.rules.takes_teacher:
        return None
    if not condition.common:
        teacher = None if wanted.recipe is None else costs.teacher_of(wanted.recipe)
        return None if teacher is None else teacher.network
    if place.teacher is None or not place.teacher.exists() or place.labeller is None:
        return None
    stated = place.labeller.header["network"]
    known = {"name"} <= set(stated)
    return NetworkRecipe.model_validate(stated) if known else None


def results_of(
    wanted: Wanted, condition: Condition, teacher: str | None
) -> tuple[DistilledDataset, list[Evaluation]] | None:
    """The set and what was measured of it in this way, with random images first; None if no set.

    Raises:
        ArtefactError: it is damaged.
    """
    if not wanted.path.exists():
        return None
    dataset = DistilledDataset.load(wanted.path)
    return dataset, condition.found(dataset, wanted.seed, teacher)


def by_cost(units: Iterable[tuple[Unit, float]]) -> list[Unit]:
    """First seeds before second ones, and of these the cheap before the dear.

    So a comparison that is stopped has something of every method that its time allows.
    """
    first: dict[tuple[str, int], list[int]] = {}
    pairs = list(units)
    for unit, _ in pairs:
        seeds = first.setdefault((unit.wanted.name, unit.wanted.images_per_class), [])
        if unit.wanted.seed not in seeds:
            seeds.append(unit.wanted.seed)

    def rank(pair: tuple[Unit, float]) -> tuple[int, float]:
        wanted = pair[0].wanted
        return first[wanted.name, wanted.images_per_class].index(wanted.seed), pair[1]

    return [unit for unit, _ in sorted(pairs, key=rank)]


def _prefixed(progress: Progress, words: str) -> Progress:
    def tell(stage: str, done: int, total: int, **values: float) -> None:
        progress(words + stage, done, total, **values)

    return tell


def alone(working: Working) -> Working:
    """The same without progress, which does not reach from one process to another."""
    return replace(working, progress=silent)
