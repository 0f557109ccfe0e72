"""What sets a run, and what was measured of its set, apart from a row of a paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from potstill import methods, recipes
from potstill.config import TeacherRecipe
from potstill.methods.recipe import Recipe
from potstill.papers.answers import Measurement, answer
from potstill.papers.differences import differences
from potstill.papers.rows import Row, rows
from potstill.results import Continual, Evaluation
from potstill.runs.records import RunRecord
from potstill.text import count

_OTHER_METHOD = ("other method",)
_UNKNOWN_TEACHER = "teacher of unknown settings"


def paper_recipe(row: Row) -> Recipe | None:
    """How the paper made the set of a row; None if no recipe answers it.

    As that recipe does, but for what it says that it departs in.
    """
    found = answer(row)
    return None if found is None else _as_in_paper(found)


def of_set(row: Row, run: RunRecord) -> tuple[str, ...]:
    """What sets the run's set, and how far it is, apart from the row's."""
    if run.recipe is None:
        return _OTHER_METHOD
    paper = paper_recipe(row)
    theirs = _document(paper) if paper is not None else _of_row(row)
    ours = _document(run.recipe)
    found = [] if _took_its_teacher(ours, run.header.get("teacher")) else [_UNKNOWN_TEACHER]
    found += differences(ours, theirs)
    if run.status != "finished":
        found.append(f"unfinished, after {count(run.iteration, 'iteration')}")
    return tuple(found)


def of_result(row: Row, run: RunRecord, result: Evaluation | Continual) -> tuple[str, ...]:
    """What sets an evaluation, or a series of them, apart from the row's beyond :func:`of_set`."""
    measured = answer(row)
    if measured is None:
        return ()
    paper = _as_in_paper(measured)
    networks = result.networks if isinstance(result, Continual) else len(result.accuracy.values)
    ours = _evaluation(result.protocol, result.network, result.epochs, networks)
    theirs = _evaluation(
        _paper_protocol(measured, paper),
        measured.network,
        measured.paper_epochs,
        measured.networks,
    )
    if result.network == run.network and measured.network == paper.network:
        # Each is the set's own, which the recipes say.
        del ours["network"]
    return differences({"evaluation": ours}, {"evaluation": theirs})


def alike(run: RunRecord, among: Iterable[Row]) -> tuple[Row, ...]:
    """The rows, of those passed, that are about a set like the run's.

    That is one of the same method, data and size; of several, the one with the fewest settings
    that differ. None for a run without a recipe.
    """
    recipe = run.recipe
    if recipe is None:
        return ()
    sets: dict[Any, list[Row]] = {}
    for row in among:
        if (row.dataset, row.images_per_class) == (recipe.data.dataset, recipe.images_per_class):
            measured = answer(row)
            if measured is not None and _like(
                _as_in_paper(measured), recipe, run.description.title
            ):
                sets.setdefault(measured.key, []).append(row)

    def unlikeness(about: list[Row]) -> int:
        return len(of_set(about[0], run))

    nearest = min(sets.values(), key=unlikeness, default=None)
    return () if nearest is None else tuple(nearest)


def of_nearest(run: RunRecord) -> tuple[str, ...]:
    """Why a run that stands for no row has none, if a paper has a set like its own."""
    if run.recipe is None or run.recipe.paper:
        return ()
    near = alike(run, rows())
    return of_set(near[0], run) if near else ()


def _paper_protocol(measured: Measurement, paper: Recipe) -> str:
    """The protocol of the paper's number, which its recipe may depart from.

    Of audits it is the recipe's: what they were made under, no paper says.
    """
    own = measured.load().evaluation.protocol
    departs = measured.quantity == "accuracy" and measured.protocol == own
    return paper.evaluation.protocol if departs else measured.protocol


@cache
def _as_in_paper(measured: Measurement) -> Recipe:
    return measured.load().as_in_paper()


def _like(paper: Recipe, recipe: Recipe, title: str) -> bool:
    """Whether both are of one method, by its title ``title``, and see as many training images."""
    if paper.method.kind != recipe.method.kind:
        return False
    described = methods.named(paper.method.kind).describe(paper, {})
    return described.title == title and paper.data.train_images == recipe.data.train_images


def _document(recipe: Recipe) -> dict[str, Any]:
    """What decides which set a recipe makes, but for which start it is: seed and chunk."""
    found = recipe.model_dump(mode="json", exclude={*recipes.ASIDE, "evaluation"})
    del found["data"]["train_chunk"]
    return found


def _of_row(row: Row) -> dict[str, Any]:
    """All that is known of the set of a row that no recipe answers."""
    return {"data": {"dataset": row.dataset}, "images_per_class": row.images_per_class}


def _took_its_teacher(document: dict[str, Any], known: Mapping[str, Any] | None) -> bool:
    """Put the teacher that the set was made from in place of the recipe's, if the set says.

    False if this version does not know its settings, so that they cannot be compared.
    """
    method = document["method"]
    if "teacher" not in method or not known or "settings" not in known:
        return True
    try:
        teacher = TeacherRecipe.model_validate(known["settings"])
    except ValidationError:  # those of another version
        del method["teacher"]
        return False
    method["teacher"] = teacher.model_dump(mode="json")
    if not (teacher.pretrained or teacher.checkpoint):
        method["teacher"]["epochs"] = known.get("epochs", teacher.epochs)
    return True


def _evaluation(protocol: str, network: Any, epochs: int | None, networks: int) -> dict[str, Any]:
    """An evaluation as a setting to compare, without epochs if they are not known."""
    found = {"protocol": protocol, "network": network.model_dump(mode="json")}
    return {**found, **({} if epochs is None else {"epochs": epochs}), "networks": networks}
