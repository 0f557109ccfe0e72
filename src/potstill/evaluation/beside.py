"""Other real images beside a set under a label regime: as many as its bytes buy, or all there are.

A regime shows every set equally many images, however many different ones there are among them, so
that accuracies on sets of different sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from potstill import rng
from potstill.data.source import SourceDataset, centred_one_hot, sample_per_class
from potstill.errors import DataError
from potstill.evaluation.plan import Assignment, EvaluationProtocol
from potstill.evaluation.regimes import regime_of
from potstill.progress import Progress
from potstill.results import Baseline, Price

Beside = Literal["equal-bytes", "full-data"]
"""``equal-bytes``: random real images with a soft label each (``sl``), as many as take the bytes
of the set and its labels, and of each class equally many as far as that comes out.
``full-data``: all training images, under the set's own regime."""


def planned(
    kind: Beside, given: Assignment, protocol: EvaluationProtocol, price: Price
) -> Callable[[Progress], Baseline]:
    """What trains a regime's networks on other real images than the set's, others for each.

    A network sees no more different images than it is shown: of more, so many are drawn.

    Args:
        given: as the set itself was scored.
        protocol: one of the label regimes.
        price: that of the set.

    Returns:
        A function of what is told of every step, over all networks, that gives their accuracy.

    Raises:
        RecipeError: the protocol is no label regime.
        DataError: there is no teacher for images that need one, or the bytes buy none.
    """
    regime = regime_of(protocol)
    if kind == "full-data":
        images, title = len(given.source.train), "all real images"
        draw = _anywhere(given.source, min(images, regime.presentations))
    else:
        images, title = min(price.random_images, len(given.source.train)), "equal-bytes random"
        regime = replace(regime, regime="sl")
        draw = _balanced(given.source, min(images, regime.presentations))
    plan = regime.plan(replace(given, baseline=True))

    def score(progress: Progress) -> Baseline:
        accuracy = plan.scores(*_drawn(given, draw, f"evaluation/{kind}"), progress).accuracy
        return Baseline(kind=title, **accuracy.given(), images=images, protocol=regime.name)

    return score


def _anywhere(source: SourceDataset, number: int) -> Callable[[np.random.Generator], Tensor]:
    """Draws of so many training images, whatever their classes."""
    return lambda generator: torch.from_numpy(
        generator.choice(len(source.train), size=number, replace=False)
    )


def _balanced(source: SourceDataset, number: int) -> Callable[[np.random.Generator], Tensor]:
    """Draws of so many training images, of each class equally many, the first one more if need be.

    A class that has fewer gives all of them, and no other stands in.
    """
    if not number:
        raise DataError(
            "the set takes fewer bytes than one real image with its label, so that there is "
            "nothing to compare it with; leave equal-bytes out"
        )
    each, left = divmod(number, source.classes)
    there = source.train.labels.bincount(minlength=source.classes).tolist()
    sizes = [min(each + (place < left), most) for place, most in enumerate(there)]
    return lambda generator: sample_per_class(source.train, source.classes, sizes, generator)


def _drawn(
    given: Assignment, draw: Callable[[np.random.Generator], Tensor], purpose: str
) -> tuple[Tensor, Tensor]:
    """A draw for each network: images (k, n, c, h, w) in network space, labels (k, n, C)."""
    train, classes = given.source.train, given.source.classes
    rows = [draw(rng.stream(given.seed, purpose, index)) for index in range(given.networks)]
    images = torch.stack([given.dataset.preprocess.apply(train.images[one]) for one in rows])
    return images, torch.stack([centred_one_hot(train.labels[one], classes) for one in rows])
