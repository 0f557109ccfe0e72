"""Our accuracy beside a paper's, with everything that keeps the two apart.

A paper's number is shown for the rows that a recipe names, and for no other.
What the recipe or the evaluation changed against the paper's setting (Appendix C
and Table 7 of RCIG) is spelt out, so that a difference is read for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from potstill.config import NetworkRecipe, PaperRow, Recipe
from potstill.papers import paper_value, rows
from potstill.report.again import changes
from potstill.report.records import Result, RunRecord

_RCIG_DEPTHS = {"tiny_imagenet": 4, "imagenet64": 4, "imagenette": 5, "imagewoof": 5}
_RCIG_WIDTH = 128
_RCIG_TARGET_BATCH = 1024
# Changes that are spelt out against the paper itself.
_SPELT_OUT = (
    "data.dataset",
    "images_per_class",
    "method.iterations",
    "method.target_batch",
    "method.variant",
    "method.solver.",
    "network.",
    "evaluation.",
)


@dataclass(frozen=True)
class Comparison:
    """One row of a paper beside our result; accuracies are fractions.

    ``ours`` is None while there is no result to compare. ``departures`` are
    short phrases, empty where recipe and evaluation follow the paper.
    """

    row: PaperRow
    paper_mean: float
    paper_std: float | None
    ours: Result | None
    departures: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, a fraction."""
        return None if self.ours is None else self.ours.accuracy.mean - self.paper_mean


def compare(run: RunRecord) -> list[Comparison]:
    """A comparison for each row of a paper that the run's recipe names and the papers hold."""
    comparisons = []
    for row in run.recipe.paper:
        value = paper_value(row)
        if value is None:
            continue
        mean, std = value
        ours = run.headline
        departures = _recipe_departures(row, run.recipe, run.iteration)
        if ours is not None:
            departures += _evaluation_departures(row, run.recipe, ours)
        comparisons.append(
            Comparison(row, mean / 100, None if std is None else std / 100, ours, tuple(departures))
        )
    return comparisons


def unlike_paper(run: RunRecord) -> list[str]:
    """Why a run that stands for no row has none, if RCIG's paper has its data set and size."""
    recipe = run.recipe
    row = PaperRow(
        paper="rcig",
        table="7",
        dataset=recipe.data.dataset,
        images_per_class=recipe.images_per_class,
        method="RCIG",
    )
    if recipe.paper or _iterations(row) is None:
        return []
    return _recipe_departures(row, recipe, run.iteration)


def _recipe_departures(row: PaperRow, recipe: Recipe, iteration: int) -> list[str]:
    found = []
    if recipe.data.dataset != row.dataset:
        found.append(f"other data set ({recipe.data.dataset}; the row's is {row.dataset})")
    if recipe.images_per_class != row.images_per_class:
        found.append(
            f"other size ({recipe.images_per_class} per class; the row's is {row.images_per_class})"
        )
    if row.paper == "rcig":
        found += _network_departures("", recipe.network, _RCIG_DEPTHS.get(row.dataset, 3))
        if recipe.method.variant != "random":
            found += _effort_departures(row, recipe, iteration)
    found += [
        f"{key} changed to {value}"
        for key, value in (changes(recipe) or {}).items()
        if not key.startswith(_SPELT_OUT)
    ]
    return found


def _effort_departures(row: PaperRow, recipe: Recipe, iteration: int) -> list[str]:
    found = []
    paper = _iterations(row)
    if paper is not None and iteration != paper:
        word = "fewer" if iteration < paper else "more"
        found.append(f"{word} iterations ({iteration:,}; the paper's {paper:,})")
    if recipe.method.target_batch != _RCIG_TARGET_BATCH:
        word = "smaller" if recipe.method.target_batch < _RCIG_TARGET_BATCH else "larger"
        found.append(
            f"{word} target batch ({recipe.method.target_batch:,}; "
            f"the paper's {_RCIG_TARGET_BATCH:,})"
        )
    if recipe.method.solver.name != "adam" and recipe.method.variant != "frepo":
        found.append("exact inner solver (the paper's is 20 Adam steps)")
    return found


def _iterations(row: PaperRow) -> int | None:
    """The meta-iterations that Table 7 of RCIG gives for the row's data set and size."""
    found = rows(
        paper="rcig",
        table=7,
        dataset=row.dataset,
        ipc=row.images_per_class,
        metric="training_iterations",
    )
    return int(found[0].value) if found else None


def _evaluation_departures(row: PaperRow, recipe: Recipe, result: Result) -> list[str]:
    found = []
    if result.network != recipe.network:
        depth = _RCIG_DEPTHS.get(row.dataset, 3)
        found += _network_departures("evaluation: ", result.network, depth)
    if row.paper == "rcig" and not result.protocol.startswith("rcig-"):
        found.append(f"other protocol ({result.protocol})")
    return found


def _network_departures(prefix: str, network: NetworkRecipe, depth: int) -> list[str]:
    """What sets ``network`` apart from the paper's ConvNet of ``depth`` blocks (Appendix C)."""
    if network.name != "convnet":
        return [f"{prefix}other network ({network.name}; the paper's is a ConvNet)"]
    found = []
    if network.width != _RCIG_WIDTH:
        word = "narrower" if network.width < _RCIG_WIDTH else "wider"
        found.append(
            f"{prefix}{word} network ({network.width} channels; the paper's {_RCIG_WIDTH})"
        )
    if network.depth != depth:
        word = "shallower" if network.depth < depth else "deeper"
        found.append(f"{prefix}{word} network ({network.depth} blocks; the paper's {depth})")
    if network.normalisation != "none":
        found.append(
            f"{prefix}network with {network.normalisation} normalisation (the paper: none)"
        )
    return found
