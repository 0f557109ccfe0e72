"""RCIG's protocols: so many steps of Adam on the set's own labels, all networks at once.

They are those of Appendix C and of its authors' published runs, which differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from potstill.errors import RecipeError
from potstill.evaluation.augment import augment
from potstill.evaluation.plan import Assignment
from potstill.evaluation.scores import accuracies, summary
from potstill.networks.init import initialise
from potstill.train import Progress, Schedule, Training, train

# A set of this many images gets the short training.
_TINY = 10


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
    def takes_teacher(self) -> bool:
        """Never: the labels are the set's."""
        return False

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
        for given, what in (
            (assignment.teacher is not None, "takes no teacher: it has labels of its own"),
            (assignment.epochs is not None, "counts steps, not epochs"),
            (assignment.best, "has no epochs to choose the best of"),
        ):
            if given:
                raise RecipeError(
                    f"protocol {self.name} {what}; leave that out or take a dwa protocol"
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
        self._flip = _flip_trick(assignment.dataset.header["recipe"])

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> dict[str, Any]:
        """``accuracy`` alone."""
        given = self._assignment
        networks = [self._fresh(index) for index in range(given.networks)]
        if self._flip:
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
        return {"accuracy": summary(values)}

    def _fresh(self, index: int) -> nn.Module:
        network = self._assignment.build()
        initialise(network, self._assignment.seed, "evaluation/network", index)
        return network


def with_mirror_images(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n, c, h, w), (..., n, C) -> (..., 2n, c, h, w), (..., 2n, C): the flip trick."""
    return torch.cat([images, images.flip(-1)], -4), torch.cat([labels, labels], -2)


def _flip_trick(recipe: dict[str, Any]) -> bool:
    """Whether the set was distilled with its mirror images; other methods flip otherwise."""
    method = recipe.get("method", {})
    return method.get("kind", "rcig") == "rcig" and bool(method.get("flip", False))
