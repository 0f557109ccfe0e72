"""The papers' tables line by line: what each number would take to be measured here.

A line is one number of a table. Of the numbers that the papers measured for their own methods
each leads to a distilled set, that of a shipped recipe, and to one thing measured on it; the
numbers they quote for others lead to nothing. One distilled set serves every line that names it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Literal

from potstill import papers, recipes
from potstill.config import NetworkRecipe, PaperRow
from potstill.errors import RecipeError
from potstill.methods.recipe import Recipe
from potstill.papers import Row
from potstill.report import departures
from potstill.report.paper_audits import recipe_row

Kind = Literal["accuracy", "synthesis", "iterations", "step", "hours", "membership", "continual"]

ACCURACIES = ("accuracy_pct", "accuracy_pct_no_augmentation", "accuracy_pct_with_augmentation")
TRANSFER = "rcig-transfer-augmented"
"""The protocol of RCIG's Table 3: augmented, with Adam's rate 3e-4."""

_PROTOCOLS = {
    "accuracy_pct_no_augmentation": "rcig-paper",
    "accuracy_pct_with_augmentation": "rcig-paper-augmented",
}
_RUN_NUMBERS: Mapping[str, Kind] = MappingProxyType(
    {
        "training_iterations": "iterations",
        "seconds_per_iteration_rtx_a6000": "step",
        "total_hours_rtx_a6000": "hours",
    }
)
_ELSEWHERE = {
    "fig5": "potstill distill rcig/cifar100-ipc50 --set method.iterations=4000 with "
    "--set method.subset=200 or 5000; a run does not record its memory"
}


@dataclass(frozen=True)
class Job:
    """A distilled set, by its recipe and what is set in it, and what is measured of it.

    ``protocol`` and ``network`` are of an accuracy, ``attack`` names one of a membership audit,
    ``trained_on`` whom it attacks, and ``classes`` how many a continual one has seen.
    """

    recipe: str
    kind: Kind
    assignments: tuple[str, ...] = ()
    protocol: str = ""
    network: NetworkRecipe | None = None
    attack: str = ""
    trained_on: Literal["distilled", "real", "random"] = "distilled"
    classes: int = 0

    def load(self, seed: int = 0) -> Recipe:
        """The resolved recipe."""
        return recipes.load(self.recipe, [*self.assignments, f"seed={seed}"])


@dataclass(frozen=True)
class Line:
    """One number of a table; ``job`` is None if no recipe leads to it, and ``why`` says why."""

    row: Row
    job: Job | None
    why: str = ""

    @property
    def paper_row(self) -> PaperRow:
        """The line as recipes name it."""
        return recipe_row(self.row)

    @property
    def name(self) -> str:
        """Of its row, such as ``mnist-ipc1 RCIG``; patterns are matched against it."""
        row = self.row
        networks = " to ".join(part for part in (row.distill_arch, row.eval_arch) if part)
        quantity = "" if row.metric == "accuracy_pct" else row.metric
        size = f"{row.dataset.replace('_', '-')}-ipc{_images_per_class(row)}"
        return " ".join(part for part in (size, row.method, networks, quantity) if part)


def tables() -> tuple[str, ...]:
    """The names of all tables, such as ``rcig/2``, in the papers' order."""
    return tuple(dict.fromkeys(f"{row.paper}/{row.table}" for row in papers.rows()))


def select(
    table: str, pattern: str | None = None, assignments: Iterable[str] = ()
) -> tuple[Line, ...]:
    """The lines of ``table`` (``rcig/2``, ``dwa`` or ``all``) that fit ``pattern``.

    Args:
        table: one table, all of a paper's, or all.
        pattern: whole words of a line's name, or a glob for all of it; with a stroke, its
            recipe's name or a glob for that. Upper and lower case are alike.
        assignments: ``key=value``, set in every recipe.

    Raises:
        RecipeError: there is no such table, no such line, or an assignment is impossible.
    """
    chosen = [name for name in tables() if table in ("all", name, name.split("/")[0])]
    if not chosen:
        raise RecipeError(f"there is no table {table!r}; use one of {', '.join(tables())}, or all")
    extra = tuple(assignments)
    found = [
        _line(row, extra)
        for name in chosen
        for row in papers.rows(paper=name.split("/")[0], table=name.split("/")[1])
    ]
    lines = tuple(line for line in found if _fits(line, pattern))
    if not lines:
        wider = "" if pattern is None or _is_glob(pattern) else f"try *{pattern}*, or "
        raise RecipeError(
            f"no line of {table} fits {pattern!r}; {wider}leave --rows out to see all with --list"
        )
    return lines


def _fits(line: Line, pattern: str | None) -> bool:
    if pattern is None:
        return True
    wanted, name = pattern.lower().strip(), line.name.lower()
    if "/" in wanted:
        # Every recipe of a paper has its name in its own; a line's name has no stroke.
        return line.job is not None and fnmatch.fnmatchcase(line.job.recipe, wanted)
    if _is_glob(wanted):
        return fnmatch.fnmatchcase(name, wanted)
    return f" {' '.join(wanted.split())} " in f" {name} "


def _is_glob(pattern: str) -> bool:
    return bool(set("*?[") & set(pattern))


def _line(row: Row, extra: tuple[str, ...]) -> Line:
    job = _job(row)
    if job is not None:
        job = replace(job, assignments=(*job.assignments, *extra))
        return Line(row, _completed(row, job))
    if row.table in _ELSEWHERE:
        return Line(row, None, _ELSEWHERE[row.table])
    why = "the whole data set" if row.method == "Full Dataset" else "another method's, quoted"
    return Line(row, None, why)


def _completed(row: Row, job: Job) -> Job:
    """An accuracy's network, and its protocol where the table names none."""
    if job.kind != "accuracy":
        return job
    named = _naming(row)
    recipe = job.load()
    student = departures.student(named[0] if named else Line(row, None).paper_row, recipe)
    return replace(job, network=student, protocol=job.protocol or recipe.evaluation.protocol)


def _job(row: Row) -> Job | None:
    if row.paper == "rcig":
        own: Mapping[str, Callable[[Row], Job | None]] = {
            "3": _transfer,
            "5": _membership,
            "6": _membership,
            "7": _of_the_run,
            "8": _of_the_run,
        }
        return own.get(row.table, _named)(row)
    return _continual(row) if row.table == "10" else _named(row)


def _named(row: Row) -> Job | None:
    """Of a line that a recipe names."""
    found = _naming(row)
    if found is None:
        return None
    if row.metric == "seconds_per_ipc_a100_40gb":
        return Job(found[1], "synthesis")
    return Job(found[1], "accuracy")


def _transfer(row: Row) -> Job | None:
    """Table 3 of RCIG: a set for CIFAR-10, distilled without and with batch norms."""
    if row.method != "RCIG":
        return None
    batch = row.distill_arch == "Conv-BN"
    assignments = ("network.normalisation=batch",) if batch else ()
    conv = row.eval_arch.startswith("Conv")
    how = "" if conv else TRANSFER
    return Job("rcig/cifar10-ipc10", "accuracy", assignments, how)


def _of_the_run(row: Row) -> Job | None:
    """Tables 7 and 8 of RCIG: cost, and both evaluations, of the sets of Tables 2 and 4."""
    name = f"rcig/{row.dataset.replace('_', '-')}-ipc{row.ipc}"
    if name not in recipes.names():
        return None
    if row.metric in _RUN_NUMBERS:
        return Job(name, _RUN_NUMBERS[row.metric])
    return Job(name, "accuracy", protocol=_PROTOCOLS[row.metric])


def _membership(row: Row) -> Job | None:
    """Tables 5 and 6 of RCIG: attacks on networks that saw the set, or real images."""
    whom: dict[str, Literal["distilled", "real", "random"]] = {
        "RCIG": "distilled",
        "Real": "real",
        "Subset": "random",
    }
    found = _naming(row, method="RCIG")
    if row.method not in whom or found is None:
        return None
    # The accuracy is that of the networks that are attacked.
    attack = row.metric.removeprefix("attack_auc_").removesuffix("_pct")
    return Job(found[1], "membership", attack=attack, trained_on=whom[row.method])


def _continual(row: Row) -> Job | None:
    """Table 10 of DWA: class-incremental CIFAR-100 with 20 images per class."""
    ends = {"DWA": "", "SRe2L": "-sre2l"}
    words = row.dataset.split()
    return Job(
        f"dwa/cifar100-ipc10-resnet18{ends[row.method]}",
        "continual",
        (f"images_per_class={row.ipc}",),
        classes=int(words[2]),
    )


def _naming(row: Row, method: str | None = None) -> tuple[PaperRow, str] | None:
    """The recipe that names this row, and as what."""
    key = (row.paper, row.table, row.dataset, _images_per_class(row), method or row.method)
    for named, recipe in _named_by().get(key, ()):
        if named.distill_arch in (None, row.distill_arch) and named.eval_arch in (
            None,
            row.eval_arch,
        ):
            return named, recipe
    return None


@cache
def _named_by() -> dict[tuple[str, str, str, int, str], list[tuple[PaperRow, str]]]:
    found: dict[tuple[str, str, str, int, str], list[tuple[PaperRow, str]]] = {}
    for name in recipes.names():
        for row in recipes.load(name).paper:
            key = (row.paper, row.table, row.dataset, row.images_per_class, row.method)
            found.setdefault(key, []).append((row, name))
    return found


def _images_per_class(row: Row) -> int:
    """Table 5 has more words than the number."""
    return int(row.ipc.split()[0])
