"""Five attacks that guess from a network's outputs which images it was trained on.

They are those of TensorFlow Privacy that RCIG's Tables 5 and 6 name: a threshold on the loss,
logistic regression, a multi-layer perceptron, a random forest and nearest neighbours. What an
attacker sees of an image is what the network puts out for it, half the squared error against the
label, and the label.

TensorFlow Privacy searches a small grid for the settings of each fitted attack; here each has one
setting from the middle of that grid, so that an attack is one fit.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import nn

from potstill.data.preprocess import Preprocess
from potstill.data.source import Split, centred_one_hot
from potstill.train import favour_layout, images_at_once, in_favoured_layout

ATTACKS = ("threshold", "lr", "mlp", "rf", "knn")
"""Attacks as the papers' tables name them: threshold on the loss, logistic regression, multi-layer
perceptron, random forest, k nearest neighbours."""

FALSE_POSITIVE_RATES = (
    *(0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(round(0.1 + 0.025 * step, 3) for step in range(37)),
)
"""Where curves are kept; dense at the left, where an attacker who is sure of a few shows."""


@dataclass(frozen=True)
class Evidence:
    """What an attacker sees of n images of C classes."""

    outputs: NDArray[np.float64]
    """(n, C) the network's outputs."""
    losses: NDArray[np.float64]
    """(n,) half the squared error against the centred label."""
    labels: NDArray[np.int64]
    """(n,) the true classes."""

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, chosen: NDArray[np.int64]) -> Evidence:
        """The evidence on the images in the rows ``chosen`` (m,)."""
        return Evidence(self.outputs[chosen], self.losses[chosen], self.labels[chosen])

    @property
    def accuracy(self) -> float:
        """The fraction of images that the network gets right."""
        return float((self.outputs.argmax(1) == self.labels).mean())

    @property
    def features(self) -> NDArray[np.float64]:
        """(n, 2 C + 1): outputs, loss, and the label as one of C."""
        one_of = np.eye(self.outputs.shape[1])[self.labels]
        return np.concatenate([self.outputs, self.losses[:, None], one_of], 1)


def joined(one: Evidence, other: Evidence) -> Evidence:
    """The images of ``one``, then those of ``other``."""
    return Evidence(
        np.concatenate([one.outputs, other.outputs]),
        np.concatenate([one.losses, other.losses]),
        np.concatenate([one.labels, other.labels]),
    )


@torch.no_grad()
def observe(network: nn.Module, split: Split, preprocess: Preprocess) -> Evidence:
    """What ``network``, put in evaluation mode, shows of the images, without augmentation."""
    device = next(network.parameters()).device
    favour_layout(network.eval())
    size = images_at_once(split.images.shape[-1], device)
    parts = [
        network(in_favoured_layout(preprocess.apply(images.to(device)))).double().cpu()
        for images in split.images.split(size)
    ]
    outputs = torch.cat(parts)
    wanted = centred_one_hot(split.labels, outputs.shape[1], torch.float64)
    losses = (outputs - wanted).square().sum(1) / 2
    return Evidence(outputs.numpy(), losses.numpy(), split.labels.numpy())


def membership_scores(
    attack: str, known: Evidence, is_member: NDArray[np.bool_], asked: Evidence, seed: int
) -> NDArray[np.float64]:
    """How much each image looks like a member to an attacker.

    Args:
        attack: one of ``ATTACKS``.
        known: what the attack is fitted on; the threshold on the loss needs no fit.
        is_member: (n,) the truth about ``known``.
        asked: what it is asked about.
        seed: seed of the attacks that draw.

    Returns:
        (m,) for the images of ``asked``; more is more likely a member.
    """
    if attack == "threshold":
        return -asked.losses
    model = _model(attack, seed)
    # Several threads sum in any order, and a fit turns on the last bit.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(known.features, is_member)
        guesses: NDArray[np.float64] = model.predict_proba(asked.features)[:, 1]
    return guesses


def area(is_member: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Area under the curve of true over false positives: 1/2 for an attack that guesses."""
    return float(roc_auc_score(is_member, scores))


def curve(is_member: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true positive rate at each of ``FALSE_POSITIVE_RATES``."""
    false, true, _ = roc_curve(is_member, scores)
    # Where the curve is vertical, interpolation takes its upper end.
    return np.asarray(np.interp(FALSE_POSITIVE_RATES, false, true), dtype=np.float64)


def _model(attack: str, seed: int) -> Pipeline:
    """An unfitted classifier on standardised features."""
    classifiers: dict[str, Any] = {
        "lr": LogisticRegression(max_iter=1000),
        "mlp": MLPClassifier(
            (64,),
            alpha=1e-3,
            learning_rate_init=5e-3,
            early_stopping=True,
            n_iter_no_change=15,
            random_state=seed,
        ),
        "rf": RandomForestClassifier(100, max_depth=10, min_samples_leaf=2, random_state=seed),
        "knn": KNeighborsClassifier(5),
    }
    return make_pipeline(StandardScaler(), classifiers[attack])
