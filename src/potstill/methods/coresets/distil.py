"""A coreset from recipe to set: a trained network, a choice, and the images as they are."""

from __future__ import annotations

import torch

from potstill import hardware
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, centred_one_hot
from potstill.methods.coresets.choose import chosen_rows
from potstill.methods.coresets.settings import CoresetSettings
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.recipe import Recipe, method_of


def distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    """Choose real images of ``source`` as ``recipe`` says; they are stored as pixels.

    A run's folder keeps the network whose features they were chosen by.

    Raises:
        DataError: a class has too few images, or too few different ones for k-means; or the
            teacher was made for other data.
        NetworkError: the network has no features of images.
        KeyboardInterrupt: while the teacher was trained; it goes on where it was stopped.
    """
    hardware.prepare()
    device = torch.device(session.device)
    preprocess = fit(recipe.data, source.train.images, device=device, cache=session.whitenings)
    selection = method_of(recipe, CoresetSettings).selection
    rows, teacher = chosen_rows(recipe, source, selection, preprocess, session)
    return product(
        recipe,
        source,
        source.train.images[rows],
        centred_one_hot(source.train.labels[rows], source.classes),
        preprocess,
        iterations=0,
        teacher=teacher,
    )
