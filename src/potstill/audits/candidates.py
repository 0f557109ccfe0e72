"""The images that attacks guess at, the candidates: as many members as others, of every class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from potstill import rng
from potstill.data.source import SourceDataset
from potstill.errors import DataError

# Pairs in a fold: fewer say nothing.
_FEWEST = 10


@dataclass(frozen=True)
class Candidates:
    """Pairs of a member and another image of its class, in random order."""

    members: NDArray[np.int64]
    """(m,) rows of the training images."""
    others: NDArray[np.int64]
    """(m,) rows of the test images."""

    def folds(self, number: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """For each of so many parts: the pairs that are in it, and those that are not."""
        pairs = np.arange(len(self.members))
        for inside in np.array_split(pairs, number):
            yield inside, np.setdiff1d(pairs, inside)


def pair_up(source: SourceDataset, folds: int, seed: int) -> Candidates:
    """Random pairs of a member and another image, of every class as many as there can be.

    Args:
        source: training images are members, test images are not.
        folds: number of parts that there must be pairs for.
        seed: seed of streams "audits/membership/members", others and order.

    Raises:
        DataError: the pairs are too few for so many folds.
    """
    shuffled = []
    for kind, split in (("members", source.train), ("others", source.test)):
        rows = rng.stream(seed, f"audits/membership/{kind}").permutation(len(split))
        classes = split.labels.numpy()[rows]
        shuffled.append([rows[classes == label] for label in range(source.classes)])
    most = [min(map(len, rows)) for rows in zip(*shuffled, strict=True)]
    if sum(most) < _FEWEST * folds:
        raise DataError(
            f"{source.name} has {sum(most)} pairs of a training and a test image of one class, "
            f"too few for {folds} folds of {_FEWEST}; use fewer folds or more images"
        )
    order = rng.stream(seed, "audits/membership/order").permutation(sum(most))
    members, others = (
        np.concatenate([rows[:count] for rows, count in zip(of, most, strict=True)])[order]
        for of in shuffled
    )
    return Candidates(members, others)
