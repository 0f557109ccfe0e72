"""Real images chosen for a recipe: a coreset's own, or those that a method starts from."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from potstill import rng
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, members
from potstill.errors import DataError, NetworkError
from potstill.methods.coresets import select
from potstill.methods.coresets.settings import Selection
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe
from potstill.methods.squeeze import squeeze_in
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.networks.instance_norms import favour_group_norms
from potstill.teacher import Teacher
from potstill.train import favour_layout, in_favoured_layout

Features = Callable[[Tensor], Tensor]
"""Images (n, c, h, w) uint8 -> (n, d) float64 on the CPU."""

_BATCH, _BATCH_CPU = 1000, 100


def chosen_rows(
    recipe: Recipe,
    source: SourceDataset,
    selection: Selection,
    preprocess: Preprocess,
    session: Session,
) -> tuple[Tensor, Teacher | None]:
    """Training images of each class, as many as the recipe has, and the network they are due to.

    All images are as many as each class has, which need not be equally many.

    Args:
        preprocess: of pixels, for features that are not a trained teacher's.
        session: has the teacher, or says where one is trained and kept.

    Returns:
        (C ipc,) int64, ordered by class, in the order of choice within it.

    Raises:
        DataError: a class has too few images, too few different ones for k-means, or the teacher
            was made for other data; or of all images there are not as many as the recipe says.
        NetworkError: the network has no features of images.
        KeyboardInterrupt: while the teacher was trained; it goes on where it was stopped.
    """
    if selection.algorithm == "all":
        _require_average(recipe, source)
        return torch.cat([*members(source).values()]), None
    classes = members(source, recipe.images_per_class)
    teacher = None
    features: Features = pixel_features(preprocess)
    if selection.teacher is not None:
        teacher = _teacher(recipe, source, session)
        features = network_features(teacher.network, teacher.preprocess, session.device)
    elif selection.features == "random":
        network = _untrained(recipe, source, selection)
        features = network_features(network, preprocess, session.device)
    chosen = []
    for done, (name, rows) in enumerate(classes.items(), 1):
        try:
            places = _places(name, source.train.images[rows], selection, features, recipe)
        except DataError as error:
            raise DataError(f"class {name}: {error}") from None
        chosen.append(rows[torch.from_numpy(places)])
        session.progress("class", done, len(classes))
    return torch.cat(chosen), teacher


def _require_average(recipe: Recipe, source: SourceDataset) -> None:
    average = len(source.train) // source.classes
    if recipe.images_per_class != average:
        raise DataError(
            f"all images of {source.name} are {average} per class on average, and the recipe says "
            f"{recipe.images_per_class}; set images_per_class={average}"
        )


def pixel_features(preprocess: Preprocess) -> Features:
    """The preprocessed pixels."""
    return lambda images: preprocess.apply(images).flatten(1).double()


def network_features(network: nn.Module, preprocess: Preprocess, device: str) -> Features:
    """What the network's last layer sees, in evaluation mode.

    Raises:
        NetworkError: it has no such features.
    """
    if not zoo.has_features(network):
        raise NetworkError(
            f"{type(network).__name__} does not tell what its last layer sees, by which images "
            "are compared; take one of potstill's own networks, such as convnet, or set features "
            "to pixels"
        )
    twin = copy.deepcopy(network).to(device).eval()
    favour_layout(twin)
    favour_group_norms(twin)
    embed: Any = twin.features
    size = _BATCH_CPU if device == "cpu" else _BATCH

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        parts = [
            embed(in_favoured_layout(preprocess.apply(part).to(device))).double().cpu()
            for part in images.split(size)
        ]
        return torch.cat(parts)

    return features


def _places(
    name: str, images: Tensor, selection: Selection, features: Features, recipe: Recipe
) -> select.Rows:
    """Places among the images (N_c, c, h, w) uint8 of the class of this name."""
    count, purpose = recipe.images_per_class, f"coreset/{name}"
    if selection.algorithm == "random":
        return select.random(len(images), count, rng.stream(recipe.seed, purpose))
    seen = features(images).numpy()
    if selection.algorithm == "k-means":
        return select.k_means(seen, count, rng.integer_seed(recipe.seed, purpose))
    return {"herding": select.herding, "k-center": select.k_center}[selection.algorithm](
        seen, count
    )


def _untrained(recipe: Recipe, source: SourceDataset, selection: Selection) -> nn.Module:
    """The extractor's network with weights as they are drawn."""
    network = zoo.build(
        selection.extractor.network,
        channels=source.channels,
        resolution=source.resolution,
        classes=source.classes,
    )
    initialise_default(network, recipe.seed, "coreset/network")
    return network


def _teacher(recipe: Recipe, source: SourceDataset, session: Session) -> Teacher:
    """The session's, else one that is trained, or was trained in the run's folder."""
    given = session.teacher
    if given is None:
        return squeeze_in(session, recipe, source)
    given.require_for(source)
    return given
