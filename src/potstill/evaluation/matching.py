"""The protocols of the matching methods: hard labels, SGD at two rates, views or none.

As the authors' published programs ran it (Zhao, Mopuri, Bilen, ICLR 2021; Zhao, Bilen, ICML 2021
and WACV 2023; Wang et al., CVPR 2022; Sajedi et al., ICCV 2023). With E epochs asked for there are
E + 1, numbered 0 to E. At the end of epoch E // 2 + 1 the learning rate falls to a tenth and the
optimiser is made anew, without momentum: E = 1000 means 502 epochs at 0.01 and 499 at 0.001,
E = 300 means 152 and 149.

| protocol | E | batch | views | used by |
| --- | --- | --- | --- | --- |
| dc | 300 | 256 | none | DC but on MNIST, coresets beside it |
| dc-mnist | 1000 | 256 | DC's own (:mod:`potstill.data.dc_views`) | DC and CAFE on MNIST |
| dsa | 1000 | 256 | siamese operations, parameters for each image | DSA, DM |
| cafe | 600 | 256 | none | CAFE but on MNIST |
| datadam-as-run | 1800 | 64 | as dsa | DataDAM |

Departures:

- A last batch of a single image joins the one before it, as in every training by epochs here
  (:mod:`potstill.train`); no set of 10, 100 or 200 balanced classes has one in batches of 256.
- CAFE's authors tested every 100 networks and DataDAM's every 2000 iterations on the test set, and
  which test stands in their papers is not known. Here the last set is scored after the last epoch.
- DataDAM's paper states a decay by 0.5 every 15 epochs, its program one fall to a tenth: the
  program's stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from potstill import rng
from potstill.data import dc_views, siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.siamese import Strategy
from potstill.errors import ArtefactError, RecipeError
from potstill.evaluation.in_turn import score_in_turn
from potstill.evaluation.plan import Assignment, Work
from potstill.evaluation.scores import accuracies
from potstill.hardware import sent
from potstill.networks.init import initialise_default, seeded_on
from potstill.networks.instance_norms import favour_group_norms
from potstill.progress import Progress, part
from potstill.results import Reached
from potstill.train import (
    EpochTraining,
    Loss,
    Optimisation,
    batches,
    favour_layout,
    in_favoured_layout,
)

Views = Literal["none", "siamese", "dc"]
"""How networks see the images: as they are; after one operation of the set's strategy, with
parameters of each image; or as DC's authors augment MNIST."""


@dataclass(frozen=True)
class MatchingTraining:
    """How one of these protocols trains a network on a set."""

    epochs: int
    """E; networks are trained for E + 1 epochs."""
    strategy: Strategy | None
    """Each batch is seen after one operation of these, with parameters drawn for each image; if
    None, not so."""
    dc_views: bool = False
    """Whether each image is seen as DC's authors augment MNIST."""
    learning_rate: float = 0.01
    batch_size: int = 256
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def phases(self) -> tuple[Optimisation, Optimisation]:
        """The epochs before and after the fall of the rate; of the later ones there may be none."""
        early = self.epochs // 2 + 2
        return (
            self._phase(self.learning_rate, early),
            self._phase(self.learning_rate / 10, self.epochs + 1 - early),
        )

    def _phase(self, rate: float, epochs: int) -> Optimisation:
        return Optimisation(
            "sgd",
            rate,
            epochs,
            self.batch_size,
            self.momentum,
            self.weight_decay,
            schedule="constant",
        )


@dataclass(frozen=True)
class MatchingProtocol:
    """A named way of training on hard labels for so many epochs."""

    name: str
    lasting: int
    """E, unless the caller or the set says otherwise."""
    views: Views = "none"
    batch_size: int = 256

    @property
    def summary(self) -> str:
        """How it trains, and what it is for."""
        views = {
            "none": "the images as they are",
            "siamese": "views by the set's strategy (colour, crop, cutout, flip, scale, rotate)",
            "dc": "views as DC's authors augment MNIST",
        }[self.views]
        return (
            f"{self.lasting:,} epochs of SGD on {views} and each image's class, batches of "
            f"{self.batch_size}; the rate falls to a tenth half-way. As the matching methods' "
            "authors score their sets."
        )

    @property
    def takes_teacher(self) -> bool:
        """Never: the labels are the set's."""
        return False

    @property
    def counts_epochs(self) -> bool:
        """Always: E, one less than there are."""
        return True

    @property
    def publishes_best(self) -> bool:
        """Never: the numbers are those of the last epoch."""
        return False

    def epochs(self, dataset: DistilledDataset, asked: int | None = None) -> int:
        """E: what is asked for, else the set's, else the protocol's own.

        Raises:
            RecipeError: no epochs.
        """
        lasting = dataset.header["evaluation"].get("epochs") if asked is None else asked
        if lasting is not None and lasting < 1:
            raise RecipeError(f"cannot train for {lasting} epochs; ask for at least 1")
        return self.lasting if lasting is None else int(lasting)

    def cache_key(self, dataset: DistilledDataset, epochs: int | None) -> Mapping[str, Any]:
        """How networks are trained on the set for so long."""
        return asdict(self.training(dataset, epochs))

    def work(
        self, images: int, channels: int, resolution: int, *, epochs: int | None, mirrored: bool
    ) -> Work:
        """Each image once in each of E + 1 epochs, without mirror images beside it."""
        number = (self.lasting if epochs is None else epochs) + 1
        return Work(number * images, tests=number)

    def views_to_label(self, dataset: DistilledDataset, epochs: int | None) -> None:
        """None: the labels are hard, no teacher's."""

    def with_augmentation(self) -> MatchingProtocol:
        """The protocol itself, or one named ``NAME-augmented`` with siamese views."""
        if self.views != "none":
            return self
        return replace(self, name=f"{self.name}-augmented", views="siamese")

    def without_augmentation(self) -> MatchingProtocol:
        """The protocol itself, or one named ``NAME-plain``."""
        if self.views == "none":
            return self
        return replace(self, name=f"{self.name}-plain", views="none")

    def lasting_steps(self, steps: int) -> MatchingProtocol:
        """Never: it counts epochs.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"protocol {self.name} counts epochs, not steps; pass --epochs instead of --steps"
        )

    def training(self, dataset: DistilledDataset, epochs: int | None = None) -> MatchingTraining:
        """How to train on the set: for these epochs, else the set's, else the protocol's own.

        The strategy is the one that the set was made with, if its header names it
        (``evaluation.strategy``, a list of operations), else what is usual for its data:
        without flip for digits and MNIST, else all six operations.

        Raises:
            RecipeError: no epochs.
            ArtefactError: the set names a strategy that there is not.
        """
        return MatchingTraining(
            self.epochs(dataset, epochs),
            _strategy(dataset) if self.views == "siamese" else None,
            dc_views=self.views == "dc",
            batch_size=self.batch_size,
        )

    def plan(self, assignment: Assignment) -> MatchingPlan:
        """The training of the assignment's set.

        Raises:
            RecipeError: there is a teacher, or no epochs.
            ArtefactError: the set names a strategy that there is not.
        """
        if assignment.teacher is not None:
            raise RecipeError(
                f"protocol {self.name} takes hard labels and no teacher; leave the teacher out"
            )
        return MatchingPlan(assignment, self.training(assignment.dataset, assignment.epochs))


class MatchingPlan:
    """One of these protocols applied to a set; see :class:`potstill.evaluation.plan.Plan`.

    Network i starts from stream "evaluation/network" at step i, for all images, and sees orders
    and views of its own.
    """

    def __init__(self, assignment: Assignment, training: MatchingTraining) -> None:
        self._assignment, self._training = assignment, training
        self.facts: dict[str, Any] = {"epochs": training.epochs, "labels": "hard"}
        if training.strategy is not None:
            self.facts["strategy"] = list(training.strategy)
        self.steps = self._steps(len(assignment.dataset))

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> Reached:
        """The accuracy, and the best epochs' if asked for."""
        return score_in_turn(self._assignment, images, labels, self._train, progress)

    def _train(
        self, index: int, images: Tensor, classes: Tensor, progress: Progress
    ) -> list[float]:
        """The accuracies of network ``index``: after each epoch, or after the last one alone."""
        given = self._assignment
        network = given.build()
        initialise_default(network, given.seed, "evaluation/network", index)
        favour_layout(network)
        favour_group_norms(network)
        loss = self._loss(index, images, classes)
        history: list[float] = []
        end, epochs = 0, self._training.epochs + 1
        for phase in self._training.phases():
            training = EpochTraining(
                network,
                len(images),
                phase,
                loss,
                seed=given.seed,
                purpose=_purpose(index),
                epoch=end,
            )
            end += phase.epochs
            while training.epoch < end:
                training.run_epoch(part(progress, training.epoch, epochs))
                if given.best or training.epoch == epochs:
                    history += accuracies([network], given.source.test, given.dataset.preprocess)
        return history

    def _steps(self, rows: int) -> int:
        each = batches(rows, self._training.batch_size, self._assignment.seed, _purpose(0), 0)
        return (self._training.epochs + 1) * len(each)

    def _loss(self, index: int, images: Tensor, classes: Tensor) -> Loss:
        """The loss on a batch of ``images`` (n, c, h, h) of these ``classes`` (n,) int64."""
        given, training = self._assignment, self._training
        dropout = f"evaluation/dropout/{index}"

        def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
            places = sent(rows, images.device)
            seen = images[places]
            generator = rng.stream(given.seed, f"{_purpose(index)}/draw/{epoch}", step)
            if training.strategy is not None:
                drawn = siamese.draw(training.strategy, seen.shape[-1], generator, len(seen))
                seen = siamese.apply(seen, drawn)
            elif training.dc_views:
                seen = dc_views.augmented(seen, generator)
            with seeded_on(images.device, given.seed, f"{dropout}/{epoch}", step):
                outputs = network(in_favoured_layout(seen))
            return F.cross_entropy(outputs, classes[places])

        return loss


def _purpose(index: int) -> str:
    """What the streams of the order and of the views of a network begin with."""
    return f"evaluation/views/{index}"


def _strategy(dataset: DistilledDataset) -> Strategy:
    named = dataset.header["evaluation"].get("strategy")
    if named is None:
        return siamese.usual_strategy(str(dataset.header["source"].get("name")))
    try:
        return siamese.strategy_of(named)
    except (TypeError, ValueError) as error:
        raise ArtefactError(
            f"the set was made with an augmentation strategy this version does not know "
            f"({error}); take the version that made it, or another protocol"
        ) from None
