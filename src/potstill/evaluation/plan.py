"""What every protocol is given and what it gives back: a training that can be scored."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.networks import zoo
from potstill.teacher import Teacher
from potstill.train import Progress


@dataclass(frozen=True)
class Assignment:
    """A set, the data it is tested on, and what the caller asks for."""

    dataset: DistilledDataset
    source: SourceDataset
    network: NetworkRecipe
    networks: int
    """How many are trained."""
    seed: int
    device: torch.device
    baseline: bool = False
    """Whether other images than the set's will be trained on as well."""
    batched: bool | None = None
    teacher: Teacher | None = None
    epochs: int | None = None
    """The protocol's own number if None."""
    best: bool = False
    """Whether the best epoch on the test set is wanted beside the last."""

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
        """Of the training of one network."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the result says of the training besides, as JSON has it."""

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> dict[str, Any]:
        """Train fresh networks and test them on the source's test images.

        Args:
            images: (n, c, h, w) in network space, as many as the set has, or (k, n, c, h, w),
                others for each of the k networks.
            labels: (n, C) or (k, n, C), likewise; a class is the largest entry.
            progress: called with (steps done, steps in all) over all networks.

        Returns:
            ``accuracy``, a summary of the accuracies after the last step, and what the protocol
            measures beside it.

        Raises:
            NumericalError: a training left the finite numbers.
        """


class EvaluationProtocol(typing.Protocol):
    """A named way of training networks on a distilled set."""

    @property
    def name(self) -> str:
        """As results and artefacts have it."""

    @property
    def takes_teacher(self) -> bool:
        """Whether a teacher labels the images; others refuse one."""

    def plan(self, assignment: Assignment) -> Plan:
        """What will be done.

        Raises:
            RecipeError: the assignment asks for what this protocol does not have.
            DataError: it lacks what this protocol needs.
            ArtefactError: the set's soft labels do not belong to this protocol.
            NetworkError: the network does not fit the images.
        """
