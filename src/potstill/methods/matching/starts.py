"""What the synthetic images are at first: noise, random real images, or a coreset."""

from __future__ import annotations

import torch
from torch import Tensor

from potstill import rng
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, members
from potstill.methods.coresets.choose import chosen_rows
from potstill.methods.matching.settings import MatchingSettings
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe, method_of
from potstill.teacher import Teacher


def start(
    recipe: Recipe, source: SourceDataset, preprocess: Preprocess, session: Session
) -> tuple[Tensor, Teacher | None]:
    """Images (C ipc, c, h, h) float32, network space, and the network a coreset is due to.

    Raises:
        DataError: a class has no images, or fewer than a start from real ones takes.
        NetworkError: a coreset's network has no features of images.
    """
    settings, per_class = method_of(recipe, MatchingSettings), recipe.images_per_class
    if settings.start == "noise":
        shape = (per_class, source.channels, source.resolution, source.resolution)
        streams = (rng.stream(recipe.seed, f"matching/start/{name}") for name in source.class_names)
        return torch.cat([rng.normal(shape, stream) for stream in streams]), None
    teacher = None
    if settings.selection is None:
        classes = members(source, per_class)
        chosen = torch.cat(
            [_some(rows, per_class, recipe.seed, name) for name, rows in classes.items()]
        )
    else:
        chosen, teacher = chosen_rows(recipe, source, settings.selection, preprocess, session)
    return preprocess.apply(source.train.images[chosen]), teacher


def _some(rows: Tensor, number: int, seed: int, name: str) -> Tensor:
    """Of these rows so many, without replacement."""
    generator = rng.stream(seed, f"matching/start/{name}")
    return rows[torch.from_numpy(generator.choice(len(rows), number, replace=False))]
