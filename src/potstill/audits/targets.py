"""One target model: a network that is attacked, and what attacks on it came to."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator
from torch import nn

from potstill import rng
from potstill.audits import attacks
from potstill.audits.attacks import ATTACKS, FALSE_POSITIVE_RATES, Evidence
from potstill.audits.candidates import Candidates
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, Split


class Target(BaseModel):
    """A target model after some steps of its training, attacked; as the cache holds it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    accuracy: float
    """Accuracy on the test images, a fraction."""
    member_accuracy: float
    """Accuracy on the candidates that are members, a fraction."""
    areas: dict[str, list[float]]
    """Area under the curve of each attack, one for each fold."""
    curves: dict[str, list[list[float]]]
    """True positive rates of each attack at ``FALSE_POSITIVE_RATES``, for each fold."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if not {*ATTACKS} == self.areas.keys() == self.curves.keys():
            raise ValueError("there is not one of every attack")
        sizes = {len(of) for found in (self.areas, self.curves) for of in found.values()}
        if sizes != {self.folds}:
            raise ValueError("the attacks are not of the same folds")
        if any(len(one) != len(FALSE_POSITIVE_RATES) for of in self.curves.values() for one in of):
            raise ValueError("a curve is not of the false positive rates")
        return self

    @property
    def folds(self) -> int:
        """How many parts of the candidates were guessed at."""
        return len(self.areas[ATTACKS[0]])


def attack(
    network: nn.Module,
    source: SourceDataset,
    preprocess: Preprocess,
    candidates: Candidates,
    *,
    folds: int,
    seed: int,
    index: int,
) -> Target:
    """Let every attack guess at every fold; ``index`` is the network's."""
    tested = attacks.observe(network, source.test, preprocess)
    rows = torch.from_numpy(candidates.members)
    real = Split(source.train.images[rows], source.train.labels[rows])
    members = attacks.observe(network, real, preprocess)
    others = tested.rows(candidates.others)
    areas: dict[str, list[float]] = {name: [] for name in ATTACKS}
    curves: dict[str, list[list[float]]] = {name: [] for name in ATTACKS}
    for fold, (inside, outside) in enumerate(candidates.folds(folds)):
        asked, truth = _mixed(members, others, inside)
        known, known_truth = _mixed(members, others, outside)
        for name in ATTACKS:
            purpose, step = f"audits/membership/{name}", index * folds + fold
            fit_seed = rng.integer_seed(seed, purpose, step)
            scores = attacks.membership_scores(name, known, known_truth, asked, fit_seed)
            areas[name].append(attacks.area(truth, scores))
            curves[name].append(attacks.curve(truth, scores).tolist())
    return Target(
        accuracy=tested.accuracy, member_accuracy=members.accuracy, areas=areas, curves=curves
    )


def _mixed(
    members: Evidence, others: Evidence, rows: NDArray[np.int64]
) -> tuple[Evidence, NDArray[np.bool_]]:
    """These rows of both, and which of them are members."""
    mixed = attacks.joined(members.rows(rows), others.rows(rows))
    return mixed, np.repeat([True, False], len(rows))
