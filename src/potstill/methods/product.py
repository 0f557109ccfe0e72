"""A distilled set with everything that it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from torch import Tensor

from potstill import methods
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset
from potstill.methods.recipe import Recipe
from potstill.surroundings import versions
from potstill.teacher import Teacher


def product(
    recipe: Recipe,
    source: SourceDataset,
    images: Tensor,
    labels: Tensor,
    preprocess: Preprocess,
    *,
    iterations: int,
    mirror_images: bool = False,
    teacher: Teacher | None = None,
    evaluation: Mapping[str, Any] | None = None,
) -> DistilledDataset:
    """The set that ``recipe`` made of ``source``, described by its method.

    Args:
        images: (n, c, h, w), network space (floating point) or pixels (uint8).
        labels: (n, C) floating point, centred.
        preprocess: from pixels to network space.
        iterations: how many the method took; of groups of images, each.
        mirror_images: whether the set was made to be trained on with its mirror images.
        teacher: the network it was made with, if any.
        evaluation: what the protocol that it is made for has to know besides the recipe.
    """
    header = facts(recipe, source)
    header |= {"iterations": iterations, "mirror_images": mirror_images}
    header["evaluation"] |= evaluation or {}
    if teacher is not None:
        header["teacher"] = teacher.summary()
    description = methods.named(recipe.method.kind).describe(recipe, header)
    header["description"] = description.model_dump(mode="json")
    return DistilledDataset(images.cpu(), labels.cpu(), source.class_names, preprocess, header)


def facts(recipe: Recipe, source: SourceDataset) -> dict[str, Any]:
    """What is known of a set before it is made, as its header has it.

    Where files lie is the machine's business: of absolute paths only the last part stays. To
    score a set made from an image folder, name the folder above it as data root.
    """
    document = recipe.model_dump(mode="json")
    document["data"]["folder"] = portable(recipe.data.folder)
    teacher = document["method"].get("teacher")
    if isinstance(teacher, dict) and "checkpoint" in teacher:
        teacher["checkpoint"] = portable(teacher["checkpoint"])
    evaluation = recipe.evaluation.model_dump(mode="json", exclude_none=True)
    return {
        "method": recipe.method.kind,
        "recipe": document,
        "data": document["data"],
        "evaluation": {**evaluation, "network": recipe.network.model_dump(mode="json")},
        "source": source.document(),
        "versions": versions(),
        "seed": recipe.seed,
    }


def portable(path: str | None) -> str | None:
    """The last part of an absolute path; a relative one as it is."""
    return PurePath(path).name if path and PurePath(path).is_absolute() else path
