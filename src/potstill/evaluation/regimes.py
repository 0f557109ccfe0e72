"""Three label regimes under one training, so that any two sets of the same data can be compared.

What is a set worth with its classes alone, with one soft label for each image, and with a teacher
beside the student? Qin et al. (NeurIPS 2024) and others after them found that most of what large
distilled sets reach is owed to their labels. Each accuracy here names its regime, and random real
images are trained on in the same one, with the same teacher, views, batches and presentations.

=========  =====================================================================================
``hl``     the class of each image, an index; soft labels are never read, and where a set's
           labels are learned the class is the largest entry
``sl``     one fixed label for each image: softmax, without temperature, of what a teacher in
           evaluation mode puts out for the image as it is stored
``sl-kd``  the teacher's softmax, likewise, for the very view that the student sees
=========  =====================================================================================

The training is the same in all three, and neither method nor set has a say in it: cross-entropy
with the label; AdamW, rate 1e-3 falling to 0 along a cosine, decay 0.01; batches of 50; fresh
views by the operations of :mod:`potstill.data.siamese` that are usual for the data, one for a
batch, with parameters of each image's own; the network's own law of initialisation. A network is
shown 20,000 images, be they 10 or 500 different ones: each as often as any other, or once more,
all of them before any is shown again. That is 2,000 times each of 10 images, twice as often as
most papers show a set of that size, and 200 times each of 100; a ConvNet of width 32 takes 20
seconds over it on one core. ``hl:5000``, and so on, is ``hl`` with another number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import rng
from potstill.config import STEPS
from potstill.data import siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.siamese import Strategy
from potstill.errors import DataError, RecipeError
from potstill.evaluation.in_turn import score_in_turn
from potstill.evaluation.labelling import (
    LabelledViews,
    StoredLabels,
    TeacherLabels,
    ViewSettings,
)
from potstill.evaluation.plan import Assignment, EvaluationProtocol, Work
from potstill.evaluation.scores import accuracies
from potstill.networks.init import initialise_default, seeded_on
from potstill.networks.instance_norms import favour_group_norms
from potstill.progress import Progress
from potstill.results import Reached
from potstill.train import (
    Schedule,
    Trainer,
    favour_layout,
    images_at_once,
    in_favoured_layout,
)

Regime = Literal["hl", "sl", "sl-kd"]
Target = Callable[[Tensor, Tensor], Tensor]
"""(views (b, c, h, w), their rows (b,) int64) -> classes (b,) int64, or probabilities (b, C)."""

PRESENTATIONS = 20_000
BATCH_SIZE = 50
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 0.01

AS_STORED = ViewSettings("padded", 0, False, "none", 1.0, BATCH_SIZE)
"""Views that are the images as they are: what ``sl`` labels."""


@dataclass(frozen=True)
class RegimeProtocol:
    """A label regime, and how many images each network is shown."""

    regime: Regime
    presentations: int = PRESENTATIONS
    """Images shown to a network, each counted as often as it is shown."""
    augmented: bool = True

    @property
    def name(self) -> str:
        """The regime, and what differs from its usual training: ``hl``, ``sl-plain:5000``."""
        plain = "" if self.augmented else "-plain"
        other = "" if self.presentations == PRESENTATIONS else f":{self.presentations}"
        return f"{self.regime}{plain}{other}"

    @property
    def summary(self) -> str:
        """How it trains, and what it is for."""
        learned = {
            "hl": "each image's class, without a teacher",
            "sl": "one soft label of a teacher for each image",
            "sl-kd": "the soft labels of a teacher beside the student",
        }[self.regime]
        views = "augmented views" if self.augmented else "the images as they are"
        return (
            f"{self.presentations:,} images shown in batches of {BATCH_SIZE}, AdamW at "
            f"{LEARNING_RATE:g} falling to 0, on {views} and {learned}. A label regime, for any "
            "set: the training is the same whatever the method and the number of images."
        )

    @property
    def takes_teacher(self) -> bool:
        """Whether the labels are a teacher's."""
        return self.regime != "hl"

    @property
    def counts_epochs(self) -> bool:
        """Never: it counts images shown."""
        return False

    @property
    def publishes_best(self) -> bool:
        """Never: there are no epochs."""
        return False

    def epochs(self, dataset: DistilledDataset, asked: int | None = None) -> None:
        """None: the protocol counts images shown."""
        return None

    def cache_key(self, dataset: DistilledDataset, epochs: int | None) -> Mapping[str, Any]:
        """The regime and its training; views are those usual for the data."""
        training = (BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY)
        return {**asdict(self), "training": training}

    def work(
        self, images: int, channels: int, resolution: int, *, epochs: int | None, mirrored: bool
    ) -> Work:
        """As many images as are shown; each, each view, or none of them is labelled."""
        labelled = {"hl": 0, "sl": images, "sl-kd": self.presentations}[self.regime]
        return Work(self.presentations, labelled)

    def views_to_label(self, dataset: DistilledDataset, epochs: int | None) -> LabelledViews | None:
        """Under ``sl`` the images as they are, once; ``sl-kd`` has a label for every view.

        Raises:
            RecipeError: epochs are asked for.
        """
        self._refuse_epochs(epochs)
        return LabelledViews(AS_STORED, "eval", 1) if self.regime == "sl" else None

    def showing(self, presentations: int) -> RegimeProtocol:
        """The same with another number of images shown.

        Raises:
            RecipeError: fewer than one, or more than any training takes.
        """
        if not 1 <= presentations <= STEPS:
            raise RecipeError(
                f"cannot show a network {presentations} images; ask for 1 to {STEPS:,}"
            )
        return replace(self, presentations=presentations)

    def lasting_steps(self, steps: int) -> RegimeProtocol:
        """The same with so many batches of images shown.

        Raises:
            RecipeError: fewer than one, or more than any training takes.
        """
        return self.showing(steps * BATCH_SIZE)

    def with_augmentation(self) -> RegimeProtocol:
        """The protocol itself, or the one of which it is the plain form."""
        return self if self.augmented else replace(self, augmented=True)

    def without_augmentation(self) -> RegimeProtocol:
        """The protocol itself, or one named ``NAME-plain``: images are shown as they are."""
        return replace(self, augmented=False) if self.augmented else self

    def plan(self, assignment: Assignment) -> RegimePlan:
        """The training of the assignment's set. ``hl`` is given a teacher like the others, for
        one call serves all three, and does not ask it.

        Raises:
            RecipeError: epochs or the best of them are asked for.
            DataError: there is no teacher where one is needed, or one of other classes or images.
            ArtefactError: the labels that the set stores are not those of its images as they are.
        """
        self._refuse_epochs(assignment.epochs)
        if assignment.best:
            raise RecipeError(
                f"protocol {self.name} has no epochs to choose the best of; leave that out"
            )
        return RegimePlan(assignment, self, *self._labels(assignment))

    def _refuse_epochs(self, epochs: int | None) -> None:
        if epochs is not None:
            raise RecipeError(
                f"protocol {self.name} counts images shown, not epochs; leave epochs out, or name "
                f"{self.regime}:N for N images"
            )

    def _labels(
        self, given: Assignment
    ) -> tuple[TeacherLabels | StoredLabels | None, dict[str, Any]]:
        """Who labels, None for the classes, and what to say of it."""
        teacher, dataset = given.teacher, given.dataset
        if self.regime == "hl":
            return None, {"labels": "hard"}
        if teacher is not None:
            kind = "one an image" if self.regime == "sl" else "on the fly"
            label = TeacherLabels(teacher, dataset, "eval", given.device)
            return label, {"labels": kind, "teacher": teacher.summary()}
        if self.regime == "sl-kd":
            raise DataError(
                f"protocol {self.name} has a teacher beside the student; pass --teacher FILE, a "
                "teacher of the same data"
            )
        if given.baseline:
            raise DataError(
                f"protocol {self.name} needs the teacher to label random images; "
                "pass --teacher FILE or leave out the baseline"
            )
        if dataset.soft_labels is None:
            raise DataError(
                f"protocol {self.name} needs a soft label for each image and the set holds none; "
                "pass --teacher FILE or run potstill relabel --protocol sl"
            )
        stored = StoredLabels(dataset, AS_STORED, "eval", 1, given.device)
        labelled_by = dataset.header["relabelling"].get("teacher")
        return stored, {"labels": "stored", "teacher": labelled_by}


REGIMES = tuple(RegimeProtocol(regime) for regime in ("hl", "sl", "sl-kd"))


def regime_of(protocol: EvaluationProtocol) -> RegimeProtocol:
    """The protocol, which must be one of these.

    Raises:
        RecipeError: it is another.
    """
    if not isinstance(protocol, RegimeProtocol):
        raise RecipeError(
            f"protocol {protocol.name} shows larger sets more images; only under hl, sl and sl-kd "
            "can sets of other sizes stand beside this one"
        )
    return protocol


class RegimePlan:
    """A regime applied to a set; see :class:`potstill.evaluation.plan.Plan`.

    Network i starts from stream "evaluation/network" at step i, for all images, and sees orders
    and views of its own.
    """

    def __init__(
        self,
        assignment: Assignment,
        protocol: RegimeProtocol,
        labels: TeacherLabels | StoredLabels | None,
        facts: dict[str, Any],
    ) -> None:
        self._assignment, self._protocol, self._labels = assignment, protocol, labels
        self._strategy = _strategy(assignment, protocol)
        self.steps = -(-protocol.presentations // BATCH_SIZE)
        self.facts = {"presentations": protocol.presentations, **facts}
        if self._strategy is not None:
            self.facts["strategy"] = list(self._strategy)

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> Reached:
        """The accuracy alone: there are no epochs to choose a best one of."""
        return score_in_turn(self._assignment, images, labels, self._train, progress)

    def _train(
        self, index: int, images: Tensor, classes: Tensor, progress: Progress
    ) -> list[float]:
        """The accuracy of network ``index`` after its last step."""
        given = self._assignment
        network = given.build()
        initialise_default(network, given.seed, "evaluation/network", index)
        favour_layout(network)
        favour_group_norms(network)
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=0.0, weight_decay=WEIGHT_DECAY, fused=True
        )
        trainer = Trainer(
            optimiser,
            Schedule(self.steps, LEARNING_RATE, warmup=0, floor=0.0),
            steps=self.steps,
            name_loss=lambda _round, step, _network: f"the loss of training step {step + 1}",
        )
        network.train()
        trainer.run_round(self._loss(network, index, images, classes), progress)
        return accuracies([network], given.source.test, given.dataset.preprocess)

    def _loss(
        self, network: nn.Module, index: int, images: Tensor, classes: Tensor
    ) -> Callable[[int], Tensor]:
        """Step -> cross-entropy on its views of ``images`` (n, c, h, h), a scalar."""
        given, target = self._assignment, self._target(images, classes)
        # Of equal size, up to one: none is so small that batch norms have nothing to divide by.
        batches = self._order(index, len(images)).to(images.device).tensor_split(self.steps)

        def loss(step: int) -> Tensor:
            rows = batches[step]
            seen = self._view(images[rows], index, step)
            with seeded_on(images.device, given.seed, f"evaluation/dropout/{index}", step):
                outputs = network(in_favoured_layout(seen))
            return F.cross_entropy(outputs, target(seen, rows))

        return loss

    def _order(self, index: int, images: int) -> Tensor:
        """The rows of all presentations, (presentations,) int64: permutations in a row."""
        given, total = self._assignment, self._protocol.presentations
        purpose = f"evaluation/views/{index}/order"
        rounds = (
            torch.from_numpy(rng.stream(given.seed, purpose, number).permutation(images))
            for number in range(-(-total // images))
        )
        return torch.cat(list(rounds))[:total]

    def _view(self, images: Tensor, index: int, step: int) -> Tensor:
        if self._strategy is None:
            return images
        generator = rng.stream(self._assignment.seed, f"evaluation/views/{index}/draw", step)
        drawn = siamese.draw(self._strategy, images.shape[-1], generator, len(images))
        return siamese.apply(images, drawn)

    def _target(self, images: Tensor, classes: Tensor) -> Target:
        """What the regime has students learn of views of ``images``."""
        labels = self._labels
        if labels is None:
            return lambda _seen, rows: classes[rows]
        if isinstance(labels, TeacherLabels):
            if self._protocol.regime == "sl-kd":
                return lambda seen, _rows: labels.of(seen).softmax(1)
            size = images_at_once(images.shape[-1], images.device)
            outputs = torch.cat([labels.of(part) for part in images.split(size)])
        else:
            outputs = labels.of_epoch(0)
        fixed = outputs.softmax(1)
        return lambda _seen, rows: fixed[rows]


def _strategy(given: Assignment, protocol: RegimeProtocol) -> Strategy | None:
    """The operations that are usual for the data, whatever the set was made with."""
    return siamese.usual_strategy(given.source.name) if protocol.augmented else None
