"""The numbers of the papers' tables that belong beside an audit, or a student, of a run."""

from __future__ import annotations

from typing import NamedTuple

from potstill import papers
from potstill.config import NetworkRecipe, PaperRow
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.rcig.settings import RCIGSettings
from potstill.methods.recipe import Recipe
from potstill.report import departures
from potstill.report.records import RunRecord

_MEMBERS = 10_000
_PRIVACY_TABLES = {"mnist": "5", "fashion_mnist": "6"}
_TRAINED_ON = {"distilled": "RCIG", "random": "Subset", "members": "Real"}
_CONTINUAL_IMAGES = 20


class Printed(NamedTuple):
    """A mean and its deviation, as a table prints them, and which table."""

    mean: float
    std: float | None
    table: str


def attack_areas(run: RunRecord) -> tuple[str, dict[str, dict[str, Printed]]] | None:
    """Tables 5 and 6 of RCIG: whom networks learned from, then each attack's area.

    The key ``accuracy`` beside the attacks' has the networks' test accuracy in percent. None
    for runs on other data or of other sizes than the tables'.
    """
    recipe = run.recipe
    table = _PRIVACY_TABLES.get(recipe.data.dataset)
    fits = (recipe.images_per_class, recipe.data.train_images) == (50, _MEMBERS)
    if table is None or not fits:
        return None
    found: dict[str, dict[str, Printed]] = {}
    for name, method in _TRAINED_ON.items():
        for row in papers.rows(paper="rcig", table=table, method=method):
            key = row.metric.removeprefix("attack_auc_").removesuffix("_pct")
            found.setdefault(name, {})[key] = Printed(row.value, row.std, table)
    return f"RCIG, Table {table}", found


def continual_accuracies(run: RunRecord) -> tuple[str, dict[int, float]] | None:
    """Table 10 of DWA: the classes so far, and percent; None for other data, sizes, methods."""
    recipe, method = run.recipe, run.recipe.method
    fits = (recipe.data.dataset, recipe.images_per_class) == ("cifar100", _CONTINUAL_IMAGES)
    if not isinstance(method, DWASettings) or not fits:
        return None
    name = "SRe2L" if method.variant == "sre2l" else "DWA"
    rows = papers.rows(paper="dwa", table="10", method=name)
    return f"DWA, Table 10: {name}", {int(row.dataset.split()[2]): row.value for row in rows}


def student_accuracy(run: RunRecord, network: NetworkRecipe) -> Printed | None:
    """What a table prints for the run's set on ``network``, if one compares networks."""
    recipe = run.recipe
    for row in recipe.paper:
        value = papers.paper_value(row)
        if (
            value is not None
            and row.eval_arch is not None
            and departures.student(row, recipe) == network
        ):
            return Printed(*value, f"{row.paper.upper()}, Table {row.table}")
    return None if run.imported else _transfer(recipe, network)


def _transfer(recipe: Recipe, network: NetworkRecipe) -> Printed | None:
    """RCIG's Table 3, which is about one set."""
    method = recipe.method
    fits = (recipe.data.dataset, recipe.images_per_class) == ("cifar10", 10)
    if not isinstance(method, RCIGSettings) or method.variant != "rcig" or not fits:
        return None
    trained = {"none": "Conv-NN", "batch": "Conv-BN"}.get(recipe.network.normalisation)
    for row in papers.rows(paper="rcig", table="3", method="RCIG", distill_arch=trained or ""):
        named = recipe_row(row)
        if departures.student(named, recipe) == network:
            return Printed(row.value, row.std, "RCIG, Table 3")
    return None


def recipe_row(row: papers.Row) -> PaperRow:
    """A line of a table as recipes name it."""
    return PaperRow(
        paper="rcig" if row.paper == "rcig" else "dwa",
        table=row.table,
        dataset=row.dataset,
        images_per_class=int(row.ipc.split()[0]),
        method=row.method,
        distill_arch=row.distill_arch or None,
        eval_arch=row.eval_arch or None,
    )
