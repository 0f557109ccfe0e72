"""What every protocol says of itself, is given, and gives back: a training that can be scored."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from potstill.config import NetworkRecipe, Precision
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.evaluation.labelling import LabelledViews
from potstill.networks import zoo
from potstill.progress import Progress
from potstill.results import Reached
from potstill.teacher import Teacher


@dataclass(frozen=True)
class Assignment:
    """A set, the data it is tested on, and what the caller asks for."""

    dataset: DistilledDataset
    source: SourceDataset
    network: NetworkRecipe
    networks: int
    """Number of networks to train."""
    seed: int
    device: torch.device
    baseline: bool = False
    """Whether other images than the set's will be trained on as well."""
    batched: bool | None = None
    teacher: Teacher | None = None
    epochs: int | None = None
    """Epochs of training; the protocol's own number if None."""
    best: bool = False
    """Whether the best epoch on the test set is wanted beside the last."""
    precision: Precision | None = None
    """Of a student's training and tests, and of who labels its images; see
    :func:`potstill.hardware.precision_of_training` where it is None."""

    def build(self) -> nn.Module:
        """One of the networks, with ReLUs, on its device; not initialised."""
        network = zoo.build(
            self.network,
            channels=self.source.channels,
            resolution=self.source.resolution,
            classes=self.source.classes,
        )
        return network.to(self.device)


class Plan(typing.Protocol):
    """A protocol applied to an assignment, which it fits."""

    @property
    def steps(self) -> int:
        """Training steps of one network."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Those fields of the evaluation that it decides: ``epochs``, ``labels``, ``teacher``, and
        ``precision`` where it trains in another than float32."""

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> Reached:
        """Train fresh networks and test them on the source's test images.

        Args:
            images: (n, c, h, w) in network space, as many as the set has, or (k, n, c, h, w),
                others for each of the k networks. A plan whose ``takes_compact`` is true gets
                those of the set as :attr:`DistilledDataset.compact` has them.
            labels: (n, C), or (k, n, C) as the images; a class is the largest entry.
            progress: told of every step, over all networks.

        Raises:
            NumericalError: a training left the finite numbers.
        """


@dataclass(frozen=True)
class Work:
    """What it takes to train and test one network, for estimates."""

    shown: int
    """Images that the network learns from, each counted as often as it is shown."""
    labelled: int = 0
    """How many of the images shown a teacher labels."""
    tests: int = 1
    """How often the network is tested on all test images, if the best epoch is asked for."""


class EvaluationProtocol(typing.Protocol):
    """A named way of training networks on a distilled set.

    Whoever adds one to :data:`potstill.evaluation.PROTOCOLS` can use it wherever a protocol is
    asked for: it says of itself all that the commands want to know.
    """

    @property
    def name(self) -> str:
        """The protocol's name, in ``--protocol``, results and artefacts."""

    @property
    def summary(self) -> str:
        """How it trains, and what it is for: two sentences or so."""

    @property
    def takes_teacher(self) -> bool:
        """Whether a teacher labels the images; others refuse one."""

    @property
    def counts_epochs(self) -> bool:
        """Whether it lasts for epochs, which a caller may choose, and has a best one."""

    @property
    def publishes_best(self) -> bool:
        """Whether the papers that use it print the best epoch on the test set, not the last."""

    def epochs(self, dataset: DistilledDataset, asked: int | None = None) -> int | None:
        """Epochs that training on the set lasts if ``asked`` for so many; None if it counts none.

        Raises:
            RecipeError: fewer than one.
        """

    def cache_key(self, dataset: DistilledDataset, epochs: int | None) -> Mapping[str, Any]:
        """All settings that the networks' accuracies depend on, as JSON has them.

        Numbers are cached under them, beside data, network, seed and device. Whoever changes what
        a protocol computes changes them.
        """

    def work(
        self, images: int, channels: int, resolution: int, *, epochs: int | None, mirrored: bool
    ) -> Work:
        """What training one network on a set takes.

        Args:
            images: number of images in the set.
            channels: channels of an image.
            resolution: side of an image.
            epochs: epochs asked for; the protocol's own number if None.
            mirrored: whether the set is trained on with its mirror images.
        """

    def views_to_label(self, dataset: DistilledDataset, epochs: int | None) -> LabelledViews | None:
        """The views of which a set can store a teacher's labels; None if networks see no such.

        Raises:
            RecipeError: fewer than one epoch.
        """

    def with_augmentation(self) -> EvaluationProtocol:
        """The protocol with augmentation: itself if it has some.

        Raises:
            RecipeError: there is no such form.
        """

    def without_augmentation(self) -> EvaluationProtocol:
        """The protocol without augmentation: itself if it has none.

        Raises:
            RecipeError: there is no such form.
        """

    def lasting_steps(self, steps: int) -> EvaluationProtocol:
        """The protocol with so many steps, under another name, for a quick look.

        Raises:
            RecipeError: it counts no steps, or fewer than one is asked for.
        """

    def plan(self, assignment: Assignment) -> Plan:
        """The trainings that this protocol makes of an assignment.

        Raises:
            RecipeError: the assignment asks for what this protocol does not have.
            DataError: it lacks what this protocol needs.
            ArtefactError: the set's soft labels do not belong to this protocol.
            NetworkError: the network does not fit the images.
        """
