"""Run folders as plain data.

A run may be unfinished or not evaluated: what is absent is named in
:attr:`RunRecord.missing`, what is present but unreadable is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

from potstill import methods
from potstill.config import DataRecipe, EvaluationRecipe, NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.importing import METHOD
from potstill.description import Description
from potstill.errors import RecipeError, RunError
from potstill.methods.describing import data_of, description_of, recipe_of
from potstill.methods.method import Work
from potstill.methods.recipe import Recipe, dump, parse, read_yaml
from potstill.results import (
    Audit,
    Continual,
    Diversity,
    Evaluation,
    Membership,
    RobustScores,
    standing,
)
from potstill.runs import again
from potstill.runs.documents import Record, Timing, checked_record
from potstill.runs.log import METRICS, read_log
from potstill.runs.measured import Measured, left_out, once
from potstill.runs.run import DISTILLED, RECIPE, RECORD, at_work
from potstill.text import data_set_text

Status = Literal["running", "finished", "stopped", "not recorded"]

_Audit = TypeVar("_Audit", bound=Audit)


@dataclass(frozen=True)
class Series:
    """One logged quantity; ``values`` may hold NaN where a number was not finite."""

    name: str
    iterations: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class RunRecord:
    """Everything that is known of one run.

    ``recipe`` is None for a set that no recipe made, or none of a method that is known here; there
    is a ``dataset`` then, whose header says what pages and comparisons ask for.
    """

    label: str
    recipe: Recipe | None
    status: Status
    iteration: int
    timing: Timing
    machine: dict[str, Any]
    versions: dict[str, Any]
    series: dict[str, Series]
    results: tuple[Evaluation, ...]
    dataset: DistilledDataset | None
    missing: tuple[str, ...]
    diversity: tuple[Diversity, ...] = ()
    scores: tuple[RobustScores, ...] = ()
    membership: tuple[Membership, ...] = ()
    continual: tuple[Continual, ...] = ()
    earlier: tuple[Evaluation, ...] = ()
    """Measured before the set was given the soft labels that it has."""
    peak_memory: int = 0
    """The most bytes held at a time while it was distilled; 0 where that was not recorded."""

    @property
    def header(self) -> Mapping[str, Any]:
        """The header of the distilled set; empty while there is none."""
        return {} if self.dataset is None else self.dataset.header

    @property
    def name(self) -> str:
        """The recipe's name, or method and data of a set that no recipe made."""
        if self.recipe is not None:
            return self.recipe.name
        named = self.header.get("recipe", {}).get("name")
        return str(named or f"{self.header['method']}/{self.header['source']['name']}")

    @property
    def data(self) -> DataRecipe:
        """The real data that the set stands for.

        Raises:
            ArtefactError: this version does not know such data.
        """
        if self.recipe is not None:
            return self.recipe.data
        return DataRecipe() if self.dataset is None else self.dataset.data_recipe

    @property
    def data_title(self) -> str:
        """The name of the data set: the one that papers use, or that of a folder of images."""
        data = self.data
        named = self.header["source"]["name"] if self.header else data.folder
        return data_set_text(Path(named).name if named else data.dataset)

    @property
    def images_per_class(self) -> int:
        """Images of each class, by the recipe or, on average and at least one, in the set."""
        if self.recipe is not None:
            return self.recipe.images_per_class
        return 1 if self.dataset is None else max(1, self.dataset.images_per_class)

    @cached_property
    def network(self) -> NetworkRecipe | None:
        """The network that the set is made to be scored with; None if it does not say."""
        if self.recipe is not None:
            return self.recipe.network
        stated = self.header["evaluation"].get("network")
        return None if stated is None else NetworkRecipe.model_validate(stated)

    @cached_property
    def evaluation(self) -> EvaluationRecipe:
        """The protocol that the set is made to be scored under."""
        if self.recipe is not None:
            return self.recipe.evaluation
        known = EvaluationRecipe.model_fields.keys()
        stated = {key: value for key, value in self.header["evaluation"].items() if key in known}
        return EvaluationRecipe.model_validate(stated)

    @property
    def seed(self) -> int:
        """Seed of the run's random draws."""
        return int(self.header["seed"]) if self.recipe is None else self.recipe.seed

    @property
    def headline(self) -> Evaluation | None:
        """The result that stands for the run."""
        wanted = self.evaluation
        return standing(
            self.results, network=self.network, protocol=wanted.protocol, epochs=wanted.epochs
        )

    @cached_property
    def description(self) -> Description:
        """What the set says of itself; before there is one, what its method will say."""
        if self.recipe is None or self.dataset is not None:
            return description_of(self.header)
        return methods.named(self.recipe.method.kind).describe(self.recipe, {})

    @property
    def planned(self) -> int | None:
        """The iterations of the whole run; None while it cannot be told."""
        if self._work is None:
            finished = self.recipe is not None and self.status == "finished"
            return self.iteration if finished else None
        return self._work.iterations

    @property
    def groups(self) -> int:
        """Parts of the set that share the iterations, as its recipe counts them."""
        return 1 if self._work is None else self._work.groups

    @cached_property
    def _work(self) -> Work | None:
        """What its recipe asks for; None without one, or while its data is not known."""
        data = None if self.recipe is None else data_of(self.recipe, self.header)
        if self.recipe is None or data is None:
            return None
        return methods.named(self.recipe.method.kind).work(self.recipe, data)

    @property
    def seconds_per_image(self) -> float | None:
        """Computing time for one image of every class, as Table 11 of DWA counts it.

        None for an unfinished run, or one of a method without such a count.
        """
        if self.recipe is None or self.status != "finished":
            return None
        cost = methods.named(self.recipe.method.kind).cost
        spent = [self.timing.parts[part] for part in cost if part in self.timing.parts]
        return math.fsum(spent) / self.recipe.images_per_class if spent else None

    @property
    def command(self) -> str | None:
        """The command line that starts the run again; None where no recipe made the set."""
        if self.recipe is None:
            return None
        made_in = self.header.get("surroundings", {})
        return again.command(self.recipe, made_in.get("threads"))

    @property
    def shipped(self) -> bool:
        """Whether the recipe is a shipped one, but for settings that :attr:`command` lists."""
        return self.recipe is not None and again.changes(self.recipe) is not None

    @property
    def recipe_text(self) -> str:
        """The recipe in full, as YAML; empty if no recipe made the set."""
        return "" if self.recipe is None else dump(self.recipe)

    @property
    def device(self) -> str:
        """The device that the run was computed on, by its name if it has one."""
        return str(self.machine.get("device_name") or self.machine.get("device", "unknown"))


def read_all(paths: Sequence[Path]) -> list[RunRecord]:
    """Every run, in the order given, labelled by the shortest tail that tells the paths apart.

    Args:
        paths: folders of runs, or files of distilled sets, with their runs or alone.

    Raises:
        RunError: no folder is given, or one is no readable run.
        ArtefactError: a distilled set is damaged.
    """
    if not paths:
        raise RunError("no run to report on; name at least one run folder")
    places = [_place(path) for path in paths]
    return [read(place, label) for place, label in zip(places, _labels(places), strict=True)]


def _place(path: Path) -> Path:
    """The folder of the run whose set is in a file; any other path as it is."""
    in_run = path.name == DISTILLED and (path.parent / RECORD).exists()
    return path.parent if in_run and path.is_file() else path


def read(folder: Path, label: str | None = None) -> RunRecord:
    """The run in ``folder``, or what the file of a distilled set knows of its own.

    Raises:
        RunError: ``folder`` is no run, or its recipe, record or log is unreadable.
        ArtefactError: its distilled set is damaged.
    """
    if folder.is_file():
        return _alone(folder, label)
    if not folder.is_dir():
        raise RunError(f"{folder} is no folder; name a folder that `potstill distill` wrote")
    path = folder / RECORD
    record = checked_record(path)[0] if path.exists() else None
    series = _read_series(folder / METRICS)
    artefact = folder / DISTILLED
    dataset = DistilledDataset.load(artefact) if artefact.exists() else None
    recipe = _read_recipe(folder, dataset)
    found = _found(record, dataset)
    shown = found.of_set(dataset.digest if dataset else None)
    last = max((line.iterations[-1] for line in series.values()), default=0)
    return RunRecord(
        label=label or folder.resolve().name,
        recipe=recipe,
        status=_status(record, folder),
        iteration=record.iteration if record else last,
        timing=record.seconds if record else Timing(),
        machine=record.machine if record else {},
        versions=record.versions if record else {},
        series=series,
        results=shown.results,
        dataset=dataset,
        missing=(*_missing(record, series, dataset, shown.results), *left_out(found, shown)),
        diversity=shown.diversity,
        scores=shown.scores,
        membership=shown.membership,
        continual=shown.continual,
        earlier=once(dataset.earlier_results) if dataset else (),
        peak_memory=record.peak_memory if record else 0,
    )


def _status(record: Record | None, folder: Path) -> Status:
    """The recorded one; of a run whose process was killed, that it stopped."""
    if record is None:
        return "not recorded"
    killed = record.status == "running" and not at_work(folder)
    return "stopped" if killed else record.status


def _alone(path: Path, label: str | None) -> RunRecord:
    """A set whose file lies in no run's folder."""
    dataset = DistilledDataset.load(path)
    shown = _found(None, dataset).of_set(dataset.digest)
    return RunRecord(
        label=label or path.stem,
        recipe=recipe_of(dataset.header),
        status="not recorded",
        iteration=dataset.header["iterations"],
        timing=Timing(),
        machine={},
        versions={},
        series={},
        results=shown.results,
        dataset=dataset,
        missing=("The set's file lies in no run's folder: times, curves and audits are unknown.",),
        earlier=once(dataset.earlier_results),
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while len({p[-depth:] for p in parts}) < len(set(parts)):
        depth += 1
    return ["/".join(p[-depth:]) for p in parts]


def _read_recipe(folder: Path, dataset: DistilledDataset | None) -> Recipe | None:
    path = folder / RECIPE
    if not path.exists():
        if dataset is not None:
            return recipe_of(dataset.header)
        raise RunError(
            f"{folder} is no run: it holds no {RECIPE}; name a folder that `potstill distill` wrote"
        )
    if dataset is not None and dataset.header["method"] not in methods.names():
        return None
    try:
        return parse(read_yaml(path), source=str(path))
    except RecipeError as error:
        raise RunError(str(error)) from None


def _read_series(path: Path) -> dict[str, Series]:
    """The log by quantity."""
    columns: dict[str, list[tuple[int, float]]] = {}
    for _, entry in read_log(path):
        for name, value in entry.values.items():
            finite = math.nan if value is None or not math.isfinite(value) else value
            columns.setdefault(name, []).append((entry.iteration, finite))
    return {
        name: Series(name, tuple(i for i, _ in column), tuple(v for _, v in column))
        for name, column in columns.items()
    }


def _found(record: Record | None, dataset: DistilledDataset | None) -> Measured:
    """What the set and the record have kept, of this set or of another."""
    own, earlier = (dataset.results, dataset.earlier_results) if dataset else ((), ())
    recorded = [result for result in record.results if result not in earlier] if record else ()
    return Measured(
        results=once(_merge(own, recorded)),
        diversity=_audits(Diversity, record),
        scores=_audits(RobustScores, record),
        membership=_audits(Membership, record),
        continual=_audits(Continual, record),
    )


def _audits(model: type[_Audit], record: Record | None) -> tuple[_Audit, ...]:
    """The audits of the model's kind, each once."""
    found = [audit for audit in record.audits if isinstance(audit, model)] if record else []
    return tuple(audit for place, audit in enumerate(found) if audit not in found[:place])


def _merge(first: Sequence[Evaluation], then: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """Both lists, each result once, in order."""
    return tuple(first) + tuple(result for result in then if result not in first)


def _missing(
    record: Record | None,
    series: dict[str, Series],
    dataset: DistilledDataset | None,
    results: Sequence[Evaluation],
) -> list[str]:
    missing = []
    if record is None:
        missing.append("The run has left no record: status, timing and machine are unknown.")
    elif record.status != "finished":
        missing.append("The run is unfinished; potstill distill with --resume goes on with it.")
    imported = dataset is not None and dataset.header["method"] == METHOD
    if not series and not imported:
        missing.append("Nothing has been logged, so there are no curves.")
    if dataset is None:
        missing.append("There is no distilled set yet, so there are no images and labels to show.")
    elif not results:
        since = " since its labels were stored" if dataset.earlier_results else ""
        missing.append(
            f"The distilled set has not been evaluated{since}; potstill evaluate does it."
        )
    elif all(result.baseline is None for result in results):
        missing.append("Random real images have not been measured under the same protocol.")
    return missing
