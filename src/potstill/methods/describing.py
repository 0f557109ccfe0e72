"""The description of a set, also where its file is from before sets described themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from potstill import methods
from potstill.config import DataRecipe
from potstill.data.facts import DATASETS, DatasetInfo
from potstill.description import Description, Fact
from potstill.errors import RecipeError
from potstill.methods.recipe import Recipe, parse


def recipe_of(header: Mapping[str, Any]) -> Recipe | None:
    """The recipe that a set was made by; None if none was, or none that is known here.

    Files from before sets described themselves have a recipe without a method for imports.
    """
    document = header.get("recipe")
    if not isinstance(document, Mapping) or header.get("method") not in methods.names():
        return None
    try:
        return parse(document, source="the set's recipe")
    except RecipeError:  # of a later version, or of another package's
        return None


def data_of(recipe: Recipe, header: Mapping[str, Any]) -> DatasetInfo | None:
    """The data that a recipe works on, as far as work depends on it; None if it is not known.

    Args:
        header: header of the distilled set, which tells of data of one's own; or empty.
    """
    data, known = recipe.data, DATASETS.get(recipe.data.dataset)
    source = header.get("source", {})
    if source.keys() >= {"name", "classes", "channels", "resolution"}:
        return DatasetInfo(
            title=source["name"],
            classes=source["classes"],
            channels=source["channels"],
            resolution=source["resolution"],
            training=data.train_images or (known.training if known else 0),
            test=known.test if known else 0,
            reader="image folder",
            folder="",
        )
    return published(data)


def published(data: DataRecipe) -> DatasetInfo | None:
    """A published data set, with the channels and images that are asked for; else None."""
    known = DATASETS.get(data.dataset)
    if known is None:
        return None
    return replace(
        known,
        channels=data.channels or known.channels,
        resolution=data.resolution or known.resolution,
        training=data.train_images or known.training,
    )


def description_of(header: Mapping[str, Any]) -> Description:
    """What a set says of itself, or what its method says of it today."""
    if "description" in header:
        return Description.model_validate(header["description"])
    recipe = recipe_of(header)
    if recipe is not None:
        return methods.named(recipe.method.kind).describe(recipe, header)
    return _before(header)


def _before(header: Mapping[str, Any]) -> Description:
    """The description of a set without a recipe that is known, from before sets had one."""
    stated = header.get("import")
    if stated is None:
        return Description(title=header["method"])
    kind = stated.get("label_kind", "unknown")
    odd = (
        Fact("Odd", check["check"], check["value"])
        for check in stated.get("checks", ())
        if check["verdict"] == "warning"
    )
    said = Fact("Said to be", stated.get("space", "unknown"), f"labels {kind}")
    return Description(
        title="imported",
        detail="made by other code",
        facts=(said, *odd),
        learned_labels=kind != "hard",
    )
