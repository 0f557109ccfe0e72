"""RCIG's protocols: so many steps of Adam on the set's own labels, all networks at once.

They are those of Appendix C and of its authors' published runs, which differ where they do not
augment: as run, networks were trained for 2,500 or 5,000 steps, the surplus at the last rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from potstill.data.distilled import DistilledDataset
from potstill.errors import RecipeError
from potstill.evaluation.augment import OUTSIDE, augment
from potstill.evaluation.plan import Assignment, Work
from potstill.evaluation.scores import accuracies
from potstill.networks.init import initialise
from potstill.progress import Progress
from potstill.results import Accuracy, Reached
from potstill.train import Schedule, Training, train

# A set of this many images gets the short training.
_TINY = 10
_AUGMENTED = "-augmented"


@dataclass(frozen=True)
class Protocol:
    """How networks are trained on a distilled set. Pairs: for 10 images in all, for more."""

    name: str
    augmented: bool
    steps: tuple[int, int] = (1000, 2000)
    schedule_length: tuple[int, int] = (1000, 2000)
    """The cosine ends here; steps beyond it are taken at its last rate."""
    learning_rate: float = 1e-4
    warmup: int = 500
    largest_full_batch: int = 256
    """Larger sets are trained on in batches of this size; mirror images do not count."""

    @property
    def summary(self) -> str:
        """How it trains, and what it is for."""
        tiny, others = self.steps
        views = "augmented images" if self.augmented else "the images as they are"
        return (
            f"{others:,} steps of Adam ({tiny:,} for sets of {_TINY} images) on {views} and the "
            f"set's own labels, by the squared error; rate {self.learning_rate:g} after a warm-up, "
            f"batches of {self.largest_full_batch} at most. RCIG's, for sets with learned labels."
        )

    @property
    def takes_teacher(self) -> bool:
        """Never: the labels are the set's."""
        return False

    @property
    def counts_epochs(self) -> bool:
        """Never: it counts steps."""
        return False

    @property
    def publishes_best(self) -> bool:
        """Never: there are no epochs."""
        return False

    def epochs(self, dataset: DistilledDataset, asked: int | None = None) -> None:
        """None: the protocol counts steps."""
        return None

    def cache_key(self, dataset: DistilledDataset, epochs: int | None) -> Mapping[str, Any]:
        """Its settings, and whether mirror images are trained on."""
        # So named when RCIG's sets alone had mirror images: what is cached stays valid.
        key = {**asdict(self), "method": "rcig", "flip": dataset.mirror_images}
        return {**key, "outside": OUTSIDE} if self.augmented else key

    def work(
        self, images: int, channels: int, resolution: int, *, epochs: int | None, mirrored: bool
    ) -> Work:
        """What the steps take, each of as many images as there are, up to a batch."""
        training = self.training(images)
        return Work(training.steps * (training.batch_size or images * (2 if mirrored else 1)))

    def views_to_label(self, dataset: DistilledDataset, epochs: int | None) -> None:
        """None: the labels are the set's."""
        return None

    def with_augmentation(self) -> Protocol:
        """The protocol itself, or one named ``NAME-augmented``."""
        if self.augmented:
            return self
        return replace(self, name=self.name + _AUGMENTED, augmented=True)

    def without_augmentation(self) -> Protocol:
        """The protocol itself, or one named without ``-augmented``, or else ``NAME-plain``."""
        if not self.augmented:
            return self
        base = self.name.removesuffix(_AUGMENTED)
        name = f"{self.name}-plain" if base == self.name else base
        return replace(self, name=name, augmented=False)

    def lasting_steps(self, steps: int) -> Protocol:
        """``NAME-N-steps``: the warm-up and the cosine as they are, squeezed into so many.

        Raises:
            RecipeError: fewer than one.
        """
        if steps < 1:
            raise RecipeError(f"cannot train for {steps} steps; ask for at least 1")
        warmup = self.warmup * steps // self.schedule_length[1]
        return replace(
            self,
            name=f"{self.name}-{steps}-steps",
            steps=(steps, steps),
            schedule_length=(steps, steps),
            warmup=warmup,
        )

    def training(self, images: int) -> Training:
        """What to do with a set of so many images, mirror images left out."""
        which = 0 if images == _TINY else 1
        return Training(
            steps=self.steps[which],
            schedule=Schedule(self.schedule_length[which], self.learning_rate, self.warmup),
            batch_size=None if images <= self.largest_full_batch else self.largest_full_batch,
            augment=augment if self.augmented else None,
        )

    def plan(self, assignment: Assignment) -> FixedSteps:
        """The training of the assignment's set.

        Raises:
            RecipeError: a teacher, epochs or the best of them are asked for.
        """
        for given, what, others in (
            (assignment.teacher is not None, "takes no teacher: its labels are the set's", "does"),
            (assignment.epochs is not None, "counts steps, not epochs", "counts epochs"),
            (assignment.best, "has no epochs to choose the best of", "counts epochs"),
        ):
            if given:
                raise RecipeError(
                    f"protocol {self.name} {what}; leave that out or take a protocol that {others}"
                )
        return FixedSteps(assignment, self.training(len(assignment.dataset)))


class FixedSteps:
    """An RCIG protocol applied to a set; see :class:`potstill.evaluation.plan.Plan`.

    Network i starts from stream "evaluation/network" at step i, for all images.
    """

    def __init__(self, assignment: Assignment, training: Training) -> None:
        self._assignment, self._training = assignment, training
        self.steps = training.steps
        self.facts: dict[str, Any] = {}

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> Reached:
        """Train all networks and test them; the accuracy alone, with no best epochs."""
        given = self._assignment
        networks = [self._fresh(index) for index in range(given.networks)]
        if given.dataset.mirror_images:
            images, labels = with_mirror_images(images, labels)
        train(
            networks,
            images,
            labels,
            self._training,
            seed=given.seed,
            purpose="evaluation",
            batched=given.batched,
            progress=progress,
        )
        values = accuracies(networks, given.source.test, given.dataset.preprocess)
        return Reached(accuracy=Accuracy.of(values))

    def _fresh(self, index: int) -> nn.Module:
        network = self._assignment.build()
        initialise(network, self._assignment.seed, "evaluation/network", index)
        return network


def with_mirror_images(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n, c, h, w), (..., n, C) -> (..., 2n, c, h, w), (..., 2n, C): the flip trick."""
    return torch.cat([images, images.flip(-1)], -4), torch.cat([labels, labels], -2)
