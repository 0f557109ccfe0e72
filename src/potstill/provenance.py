"""What every distilled set says about where it comes from."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from potstill.config import DWARecipe, Recipe
from potstill.data.source import SourceDataset
from potstill.runs import versions


def header(recipe: Recipe, source: SourceDataset, iterations: int) -> dict[str, Any]:
    """The header of a set that ``recipe`` made of ``source`` in so many iterations.

    Where files lie is the machine's business: of absolute paths only the last part stays. To
    score a set made from an image folder, name the folder above it as data root.
    """
    document = recipe.model_dump(mode="json")
    document["data"]["folder"] = _portable(recipe.data.folder)
    if isinstance(recipe.method, DWARecipe):
        teacher = document["method"]["teacher"]
        teacher["checkpoint"] = _portable(teacher["checkpoint"])
    evaluation = recipe.evaluation.model_dump(mode="json", exclude_none=True)
    return {
        "method": recipe.method.kind,
        "recipe": document,
        "evaluation": {**evaluation, "network": recipe.network.model_dump(mode="json")},
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "classes": source.classes,
            "channels": source.channels,
            "resolution": source.resolution,
        },
        "versions": versions(),
        "seed": recipe.seed,
        "iterations": iterations,
    }


def _portable(path: str | None) -> str | None:
    return PurePath(path).name if path and PurePath(path).is_absolute() else path
