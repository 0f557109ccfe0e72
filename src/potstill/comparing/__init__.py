"""Methods and sets side by side: what is missing is made and scored, then all is one table.

:func:`compare` does it, :func:`estimate` says what it would take. Below the output folder lie

    sets/dm/mnist-ipc1-cpu/1a2b3c4d-seed0   the run of a recipe and a seed
    teachers/1a2b3c4d5e6f7a8b               a teacher that several sets share
    comparison.json .csv .png .svg          what was found

Evaluations are kept in the sets. Everything that was done is found again, so that the same call
goes on after a stop, and one with more methods, seeds or protocols does what is new.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from potstill import execution, recipes
from potstill.api import inputs
from potstill.api.inputs import ProgressLike
from potstill.comparing.conditions import Condition, conditions, own
from potstill.comparing.lineup import Wanted, line_up, wanted_of
from potstill.comparing.table import tabulate
from potstill.comparing.wish import Asked, asked
from potstill.comparing.work import (
    Cell,
    Place,
    Problem,
    Unit,
    Working,
    alone,
    by_cost,
    making,
    require_source,
    results_of,
    scoring,
    teaching,
)
from potstill.comparison import DOCUMENT, OWN, TABLE, Comparison
from potstill.data.distilled import DistilledDataset
from potstill.errors import RecipeError
from potstill.evaluation.protocol import named
from potstill.files import atomic_write, make_folder
from potstill.methods.recipe import Recipe
from potstill.methods.squeeze import TEACHER, settings_of
from potstill.report import write_comparison
from potstill.reproduce import costs
from potstill.text import count, duration

__all__ = ["Asked", "Expected", "Place", "asked", "compare", "estimate"]

Say = Callable[[str], None]


def compare(
    methods: Sequence[str | Path],
    *,
    out: Path | str = "runs/comparison",
    images_per_class: Sequence[int] = (),
    seeds: Sequence[int] = (),
    protocols: Sequence[str] = (),
    network: str | None = None,
    networks: int | None = None,
    epochs: int | None = None,
    teacher: str | Path | None = None,
    settings: Sequence[str] = (),
    module: str | None = None,
    data_root: Path | str | None = None,
    device: str = "auto",
    download: bool = False,
    cache: Path | str | None = None,
    budget: float | None = None,
    workers: int = 1,
    say: Say = lambda _line: None,
    progress: ProgressLike = False,
) -> Comparison:
    """Set methods and distilled sets beside each other; make and score what is missing.

    Args:
        methods: recipes by name or file, folders of runs, distilled sets; or one YAML file that
            describes the comparison (:class:`Asked`), whose keys the arguments take the place of.
        out: the folder of the comparison, of which everything in it is taken up again.
        images_per_class: of the recipes' sets; each recipe's own if empty.
        seeds: of the recipes' sets; 0 if empty.
        protocols: ``own`` for each set's own, or protocols that are common to all; ``own`` if
            empty.
        network: that common protocols train, named as on the command line; the first method's if
            None.
        networks: to train on each set; if None, its own number, or under common protocols the
            first method's.
        epochs: of common protocols that count them; the protocol's own if None.
        teacher: who labels under common protocols: a teacher's file, or a recipe of a method with
            a teacher, which is then trained.
        settings: ``key=value``, set in every recipe.
        module: ``package.name:factory`` that makes the network of a teacher of your own.
        data_root: the folder that holds the data sets; else the environment says it.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        download: whether to fetch a data set that is absent.
        cache: a folder that keeps what took long; nothing is kept but in ``out`` if None.
        budget: seconds that this call may take: nothing is begun that would take longer.
        workers: sets that are worked on at a time, each in a process of its own if several (a
            script then needs ``if __name__ == "__main__"``). The result is the same.
        say: told in a line of what begins, fails or is left out.
        progress: True for a bar, or what is told of the steps, where there is one worker.

    Returns:
        The table, which also lies in ``out`` (``comparison.json``, ``.csv``, ``.png``, ``.svg``).
        A set that fails does not stop the others: it is among :attr:`Comparison.missing`.

    Raises:
        PotstillError: the comparison itself cannot be made: an unknown protocol or recipe, sets of
            different data, a damaged set, no data, no teacher where a protocol takes one.
        KeyboardInterrupt: what was done is kept, and the same call goes on.
    """
    until = None if budget is None else time.time() + budget
    wish = {
        "methods": [str(one) for one in methods],
        "images_per_class": tuple(images_per_class),
        "seeds": tuple(seeds),
        "protocols": tuple(protocols),
        "network": network,
        "networks": networks,
        "epochs": epochs,
        "teacher": None if teacher is None else str(teacher),
        "settings": tuple(settings),
    }
    root = inputs.data_root(data_root)
    place = Place(
        Path(out),
        data_root=None if root is None else Path(root),
        device=inputs.device_of(device),
        download=download,
        cache=None if cache is None else Path(cache),
        module=module,
    )
    job = _Job.of(asked(wish), place)
    job.require_data()
    problems: dict[tuple[str, str | None], Problem] = {}
    try:
        with inputs.shown(progress) as tell:
            working = Working(job.place, until, tell)
            for units in job.stages(problems):
                _work(units, working, workers, problems, say)
    finally:
        found = tabulate(job.sets, job.ways, job.place, [*problems.values()])
        _write(found, job.place.out)
    return found


@dataclass(frozen=True)
class Expected:
    """Something that is still to be done, and the seconds that it would take."""

    what: str
    seconds: float


def estimate(wish: Asked, place: Place) -> list[Expected]:
    """What :func:`compare` would do, in its order; nothing is made in the folder.

    Args:
        wish: what is asked for; see :func:`asked`.
        place: where.

    Raises:
        PotstillError: as :func:`compare`.
    """
    job = _Job.of(wish, place)
    teachers = {job.place.bench.teacher_folder(_recipe(unit)): unit for unit in job.teachers()}
    expected = [
        Expected(f"teacher of {unit.wanted.words}", teaching(_recipe(unit), job.place))
        for unit in teachers.values()
    ]
    for unit in by_cost(job.units({})):
        make, recipe = making(unit.wanted, job.place), unit.wanted.recipe
        if make and recipe is not None and job.place.bench.teacher_folder(recipe) in teachers:
            make -= teaching(recipe, job.place)
        if make:
            expected.append(Expected(f"make {unit.wanted.words}", make))
        for cell in unit.cells:
            beside = ", with random real images" if cell.random else ""
            words = f"score {unit.wanted.words}, {cell.condition.asked}{beside}"
            expected.append(Expected(words, scoring(unit.wanted, cell, job.place)))
    return expected


@dataclass(frozen=True)
class _Job:
    """A comparison that can be made: its sets, the ways they are scored in, and where."""

    sets: tuple[Wanted, ...]
    ways: tuple[Callable[[Wanted], Condition], ...]
    place: Place
    teacher: Wanted | None
    """Whose teacher is to be trained, to label under common protocols."""

    @classmethod
    def of(cls, wish: Asked, place: Place) -> _Job:
        """The comparison that is asked for, in a place that does not know its data yet.

        Raises:
            PotstillError: it cannot be made.
        """
        sets = line_up(wish, place.out)
        data = next((one.data for one in sets if one.recipe is not None), sets[0].data)
        place = replace(place, data=data)
        common = conditions(wish, sets, place.bench.shape(data).resolution)
        for one in sets:
            named(one.protocol)
        taught = [name for name, one in common.items() if one.rules.takes_teacher]
        teacher = None
        if taught:
            place, teacher = _with_labeller(wish, place, taught[0])
        ways = tuple(
            partial(own, asked=wish) if name == OWN else partial(_always, common[name])
            for name in wish.protocols
        )
        return cls(tuple(sets), ways, place, teacher)

    def require_data(self) -> None:
        """That the data is there, and that given sets and the teacher are of it.

        Raises:
            DataError: it is not so.
        """
        source = self.place.source
        for one in self.sets:
            if one.recipe is None:
                require_source(one, DistilledDataset.load(one.path), source)
        if self.teacher is None and self.place.labeller is not None:
            self.place.labeller.require_for(source)

    def stages(self, problems: dict[tuple[str, str | None], Problem]) -> Iterator[list[Unit]]:
        """Units that may be done side by side, stage after stage.

        When all was tried once, sets that fell out may leave others to be scored beside random
        real images.
        """
        yield self.teachers()
        for _ in range(2):
            yield by_cost(self.units(problems))

    def teachers(self) -> list[Unit]:
        """The teachers that are not there, each once."""
        found: dict[Path, Unit] = {}
        for one in (*([self.teacher] if self.teacher else ()), *self.sets):
            recipe = one.recipe
            if recipe is None or (one is not self.teacher and self.place.bench.made(_run(one))):
                continue
            if not self.place.bench.taught(recipe):
                teacher = costs.teacher_of(recipe)
                if teacher is not None:
                    found.setdefault(self.place.bench.teacher_folder(recipe), Unit(one, ()))
        return [*found.values()]

    def units(self, problems: dict[tuple[str, str | None], Problem]) -> list[tuple[Unit, float]]:
        """What is left of every set, with its estimated seconds.

        Under a common protocol one set of those with the same preprocessing is scored beside
        random real images, under its own protocol each.
        """
        teacher = self._labeller_digest()
        found = []
        beside: set[object] = set()
        for one in self.sets:
            if _tried(one, None, problems):
                continue
            held = {}
            for way in self.ways:
                condition = way(one)
                there = results_of(one, condition, teacher)
                result = there[1][0] if there and there[1] else None
                held[condition] = result
                if condition.common and result is not None and result.baseline is not None:
                    beside.add(_group(one, condition))
            found.append((one, held))
        units = []
        for one, held in found:
            cells = []
            for condition, result in held.items():
                if _tried(one, condition.asked, problems):
                    continue
                random = self._random_possible(one, condition)
                if condition.common and random:
                    group = _group(one, condition)
                    random = group not in beside
                    beside.add(group)
                if result is None or (random and result.baseline is None):
                    cells.append(Cell(condition, random))
            if cells or (one.recipe is not None and not self.place.bench.made(_run(one))):
                unit = Unit(one, tuple(cells))
                seconds = making(one, self.place)
                seconds += sum(scoring(one, cell, self.place) for cell in cells)
                units.append((unit, seconds))
        return units

    def _random_possible(self, one: Wanted, condition: Condition) -> bool:
        """Whether whoever labels the set's images can label random ones."""
        if condition.common or not condition.rules.takes_teacher or one.recipe is not None:
            return True
        return (one.path.parent / TEACHER).exists()

    def _labeller_digest(self) -> str | None:
        if self.place.teacher is None or not self.place.teacher.exists():
            return None
        return None if self.place.labeller is None else self.place.labeller.digest


def _work(
    units: Sequence[Unit],
    working: Working,
    workers: int,
    problems: dict[tuple[str, str | None], Problem],
    say: Say,
) -> None:
    """Do the units; what could not be done joins ``problems``."""
    if not units:
        return
    several = min(workers, len(units)) > 1
    say(f"{count(len(units), 'unit')} to do, about {_total(units, working.place)}")
    executor = execution.in_processes(workers)
    with closing(executor.map(alone(working) if several else working, units, _deaf)) as results:
        for number, done in enumerate(results, start=1):
            words = done.unit.wanted.words
            if done.words:
                say(f"{number} of {len(units)}: {words}: {', '.join(done.words)}")
            for problem in done.problems:
                problems[problem.wanted.digest, problem.asked] = problem
                what = words + (f", {problem.asked}" if problem.asked else "")
                say(f"{what}: {'failed: ' if problem.failed else 'left out: '}{problem.why}")


def _total(units: Sequence[Unit], place: Place) -> str:
    return duration(
        sum(
            making(unit.wanted, place) + sum(scoring(unit.wanted, c, place) for c in unit.cells)
            if unit.cells
            else teaching(_recipe(unit), place)
            for unit in units
        )
    )


def _deaf(_steps: int) -> None:
    """Sets are counted when they are done."""


def _write(found: Comparison, out: Path) -> None:
    make_folder(out)
    atomic_write(out / DOCUMENT, found.text().encode())
    atomic_write(out / TABLE, found.csv().encode())
    if found.rows:
        for form in ("png", "svg"):
            write_comparison(found, out / f"comparison.{form}")
            if any(row.bytes for row in found.rows):
                write_comparison(found, out / f"comparison-bytes.{form}", "bytes")


def _with_labeller(wish: Asked, place: Place, protocol: str) -> tuple[Place, Wanted | None]:
    """The place with who labels, and whose teacher that is where it is to be trained.

    Raises:
        RecipeError: nobody is named, or a recipe without a teacher or of other data.
        ArtefactError: the file is no teacher, or damaged.
    """
    if wish.teacher is None:
        raise RecipeError(
            f"protocol {protocol} has a teacher that labels; name one with --teacher: its file, or "
            "a recipe to train it from, such as dwa/mnist-ipc1-convnet-cpu"
        )
    if Path(wish.teacher).suffix == ".safetensors":
        place = replace(place, teacher=Path(wish.teacher))
        assert place.labeller is not None  # read now, so that a bad file is named at once
        return place, None
    recipe = recipes.load(wish.teacher, wish.settings)
    module = settings_of(recipe).module
    if recipe.data.pixels != place.data.pixels:
        raise RecipeError(
            f"the teacher of {wish.teacher} knows {recipe.data.dataset}, and sets of "
            f"{place.data.dataset} are compared; name one of the same data with --teacher"
        )
    file = place.bench.teacher_folder(recipe) / TEACHER
    return replace(place, teacher=file, module=module), wanted_of(recipe, place.out)


def _always(condition: Condition, _one: Wanted) -> Condition:
    """The common condition, whichever the set."""
    return condition


def _tried(one: Wanted, asked: str | None, problems: dict[tuple[str, str | None], Problem]) -> bool:
    """Whether there is a reason not to try it in this call."""
    return (one.digest, asked) in problems


def _group(one: Wanted, condition: Condition) -> object:
    """Sets of one group have the same random real images beside them."""
    return one.images_per_class, one.seed, condition.asked, one.data


def _run(one: Wanted) -> Path:
    return one.path.parent


def _recipe(unit: Unit) -> Recipe:
    assert unit.wanted.recipe is not None
    return unit.wanted.recipe
