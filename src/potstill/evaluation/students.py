"""DWA's protocols: students that learn a teacher's soft labels of augmented views, by epochs.

Settings are those of Tables 6 to 8, by the size of the images. "As run" is what the authors'
published runs did; where the text is silent, ``dwa-paper`` does the same:

- The loss is PyTorch's ``kl_div`` with ``batchmean``, which is KL(teacher || student), the other
  way round than the text writes it.
- It is multiplied by T^2 for Tiny-ImageNet alone: SGD at 0.2 needs it, and AdamW does not notice.
- Tiny-ImageNet's weight decay; its batch of 128 is that of the other two.

``dwa-as-run`` differs from ``dwa-paper`` where the runs contradict the text: the CIFAR teacher
labels in training mode. ``hard-label`` shows the same views and needs no teacher: the
cross-entropy with the two mixed classes, in their shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from potstill import hardware
from potstill.data.distilled import DistilledDataset
from potstill.data.views import Mix
from potstill.errors import DataError, RecipeError
from potstill.evaluation.in_turn import score_in_turn
from potstill.evaluation.labelling import (
    LabelledViews,
    StoredLabels,
    Target,
    TeacherLabels,
    TeacherMode,
    Views,
    ViewSettings,
)
from potstill.evaluation.plan import Assignment, Work
from potstill.evaluation.scores import accuracies
from potstill.networks.init import initialise_default, seeded_on
from potstill.progress import Progress, part
from potstill.results import Reached
from potstill.train import (
    EpochTraining,
    Loss,
    Optimisation,
    favour_layout,
    in_favoured_layout,
)


@dataclass(frozen=True)
class StudentTraining:
    """How a student is trained on images of one size."""

    optimisation: Optimisation
    views: ViewSettings
    temperature: float
    """Temperature of teacher and student; soft labels only."""
    squared_temperature: bool = False
    """Whether the loss is multiplied by the temperature's square; soft labels only."""
    teacher_mode: TeacherMode = "eval"
    looks_every: int = 1
    """Of so many epochs, the first is looked at for the best on the test set, and the last."""

    def __post_init__(self) -> None:
        """Refuse views of other batches than those that are trained on."""
        if self.views.batch_size != self.optimisation.batch_size:
            raise ValueError("views and optimisation must have the same batch_size")

    def looked_at(self) -> tuple[int, ...]:
        """The epochs, counted from 1, among which the best on the test set is the published one."""
        last = self.optimisation.epochs
        return (*range(1, last, self.looks_every), last)

    def lasting(self, epochs: int | None) -> StudentTraining:
        """The training for so many epochs, at most a tenth of them for the warm-up."""
        if epochs is None:
            return self
        warmup = min(self.optimisation.warmup_epochs, epochs // 10)
        optimisation = replace(self.optimisation, epochs=epochs, warmup_epochs=warmup)
        return replace(self, optimisation=optimisation)


def by_size(channels: int, resolution: int) -> StudentTraining:
    """CIFAR's settings up to 32 px, Tiny-ImageNet's up to 64, ImageNet-1K's above.

    Grey images, which are digits and the like more often than scenes, are not flipped. CIFAR's
    and ImageNet-1K's students were tested in every tenth epoch, and ImageNet-1K's biases and
    norms did not decay.
    """
    padded = ViewSettings("padded", resolution // 8, channels > 1, "mixup", 0.8, 128)
    resized = replace(padded, crop="resized", padding=0, mix="cutmix", alpha=1.0)
    if resolution <= 32:
        adamw = Optimisation("adamw", 1e-3, 400, 128, weight_decay=0.01)
        return StudentTraining(adamw, padded, 30, looks_every=10)
    if resolution <= 64:
        sgd = Optimisation("sgd", 0.2, 200, 128, weight_decay=1e-4, warmup_epochs=5)
        return StudentTraining(sgd, resized, 20, squared_temperature=True)
    adamw = Optimisation("adamw", 1e-3, 300, 128, weight_decay=0.01, decay_vectors=False)
    return StudentTraining(adamw, resized, 20, looks_every=10)


def as_run(channels: int, resolution: int) -> StudentTraining:
    """The settings of :func:`by_size`, but up to 32 px the teacher labels in training mode."""
    return replace(
        by_size(channels, resolution), teacher_mode="train" if resolution <= 32 else "eval"
    )


@dataclass(frozen=True)
class StudentProtocol:
    """A named way of training students by epochs."""

    name: str
    labels: Literal["soft", "hard"]
    settings: Callable[[int, int], StudentTraining] = by_size
    """(channels, resolution) -> how students are trained on such images."""

    @property
    def summary(self) -> str:
        """How it trains, and what it is for."""
        small, middle, large = (self.settings(3, side) for side in (32, 64, 224))
        lasting = ", ".join(f"{one.optimisation.epochs}" for one in (small, middle, large))
        taught = {
            "soft": "on augmented views and the soft labels of a teacher, which is in training "
            "mode for images up to 32 px"
            if small.teacher_mode == "train"
            else "on augmented views and a teacher's soft labels",
            "hard": "on augmented views and each image's class, without a teacher",
        }[self.labels]
        origin = {
            "soft": "DWA's and SRe2L's, for sets that a teacher was inverted for.",
            "hard": "For any set: nothing but its images counts.",
        }[self.labels]
        return f"{lasting} epochs (up to 32, up to 64, above 64 px) {taught}. {origin}"

    @property
    def takes_teacher(self) -> bool:
        """Whether the labels are a teacher's."""
        return self.labels == "soft"

    @property
    def counts_epochs(self) -> bool:
        """Always: students are trained by epochs."""
        return True

    @property
    def publishes_best(self) -> bool:
        """With a teacher's labels, as DWA's tables do."""
        return self.takes_teacher

    def epochs(self, dataset: DistilledDataset, asked: int | None = None) -> int:
        """Epochs of training: those asked for, else the set's, else the protocol's own.

        Raises:
            RecipeError: no epochs.
        """
        return self.training(dataset, asked).optimisation.epochs

    def cache_key(self, dataset: DistilledDataset, epochs: int | None) -> Mapping[str, Any]:
        """How students are trained on such images for so long."""
        return asdict(self.training(dataset, epochs))

    def work(
        self, images: int, channels: int, resolution: int, *, epochs: int | None, mirrored: bool
    ) -> Work:
        """Each image once an epoch, without mirror images beside it."""
        training = self.settings(channels, resolution).lasting(epochs)
        shown = training.optimisation.epochs * images
        tests = len(training.looked_at())
        return Work(shown, labelled=shown if self.takes_teacher else 0, tests=tests)

    def views_to_label(self, dataset: DistilledDataset, epochs: int | None) -> LabelledViews | None:
        """The views that students see, if their labels are soft."""
        if not self.takes_teacher:
            return None
        training = self.training(dataset, epochs)
        return LabelledViews(training.views, training.teacher_mode, training.optimisation.epochs)

    def with_augmentation(self) -> StudentProtocol:
        """The protocol itself: its views are augmented."""
        return self

    def without_augmentation(self) -> StudentProtocol:
        """Named ``NAME-plain``: students see the images as they are, not cropped or mixed."""
        return replace(self, name=f"{self.name}-plain", settings=partial(_plain, self.settings))

    def lasting_steps(self, steps: int) -> StudentProtocol:
        """Never: it counts epochs.

        Raises:
            RecipeError: always.
        """
        raise RecipeError(
            f"protocol {self.name} counts epochs, not steps; pass --epochs instead of --steps"
        )

    def training(self, dataset: DistilledDataset, epochs: int | None = None) -> StudentTraining:
        """How to train on the set: for these epochs, else the set's, else the protocol's own.

        Raises:
            RecipeError: no epochs.
        """
        lasting = dataset.header["evaluation"].get("epochs") if epochs is None else epochs
        if lasting is not None and lasting < 1:
            raise RecipeError(f"cannot train for {lasting} epochs; ask for at least 1")
        return self.settings(*dataset.shape[1:3]).lasting(lasting)

    def plan(self, assignment: Assignment) -> Students:
        """The training of the assignment's set.

        Raises:
            RecipeError: there is a teacher for hard labels, or no epochs.
            DataError: there is none for soft labels, or one of other classes or images.
            ArtefactError: the set's soft labels do not belong to this protocol, or are too few.
        """
        training = self.training(assignment.dataset, assignment.epochs)
        return Students(assignment, training, *self._target(assignment, training))

    def _target(
        self, given: Assignment, training: StudentTraining
    ) -> tuple[Target | None, dict[str, Any]]:
        """Who labels, None for the images' own classes, and what to say of it."""
        teacher, dataset = given.teacher, given.dataset
        if self.labels == "hard":
            if teacher is not None:
                raise RecipeError(
                    f"protocol {self.name} takes hard labels and no teacher; leave the teacher out"
                )
            return None, {"labels": "hard"}
        if teacher is not None:
            target: Target = TeacherLabels(
                teacher, dataset, training.teacher_mode, given.device, given.precision
            )
            return target, {"labels": "on the fly", "teacher": teacher.summary()}
        if dataset.soft_labels is None:
            raise DataError(
                f"protocol {self.name} needs soft labels and the set holds none; "
                "pass --teacher FILE or run potstill relabel"
            )
        if given.baseline:
            raise DataError(
                f"protocol {self.name} needs the teacher to label random images; "
                "pass --teacher FILE or leave out the baseline"
            )
        epochs = training.optimisation.epochs
        mode = training.teacher_mode
        target = StoredLabels(dataset, training.views, mode, epochs, given.device)
        labelled_by = dataset.header["relabelling"].get("teacher")
        return target, {"labels": "stored", "teacher": labelled_by}


HARD_LABEL = StudentProtocol("hard-label", "hard")


def _plain(
    settings: Callable[[int, int], StudentTraining], channels: int, resolution: int
) -> StudentTraining:
    training = settings(channels, resolution)
    views = replace(training.views, crop="padded", padding=0, flip=False, mix="none")
    return replace(training, views=views)


class Students:
    """A student protocol applied to a set; see :class:`potstill.evaluation.plan.Plan`.

    Student i starts from stream "evaluation/network" at step i, for all images. Its views are
    its own, but stored labels belong to one row of views, which all students then see.

    8-bit images stay so: a batch at a time is standardised.
    """

    takes_compact = True

    def __init__(
        self,
        assignment: Assignment,
        training: StudentTraining,
        target: Target | None,
        facts: dict[str, Any],
    ) -> None:
        self._assignment, self._training, self._target = assignment, training, target
        self._epochs = training.optimisation.epochs
        self._precision = hardware.precision_of_training(assignment.precision, assignment.device)
        self.facts = {"epochs": self._epochs, **facts}
        if hardware.in_bfloat16(self._precision, assignment.device):
            self.facts["precision"] = "bfloat16"
        self.steps = self._steps(len(assignment.dataset))

    def scores(self, images: Tensor, labels: Tensor, progress: Progress) -> Reached:
        """The accuracy, and the best epochs' if asked for."""
        looked_at = self._training.looked_at()
        return score_in_turn(self._assignment, images, labels, self._train, progress, looked_at)

    def _train(
        self, index: int, images: Tensor, classes: Tensor, progress: Progress
    ) -> list[float]:
        """The accuracies of student ``index``: of the epochs looked at, or of the last alone."""
        given, views = self._assignment, self._views(index)
        network = given.build()
        initialise_default(network, given.seed, "evaluation/network", index)
        favour_layout(network, self._precision)
        training = EpochTraining(
            network,
            len(images),
            self._training.optimisation,
            self._loss(index, views, images, classes),
            seed=views.seed,
            purpose=views.purpose,
        )
        looked_at = self._training.looked_at() if given.best else (self._epochs,)
        history = []
        while training.epoch < self._epochs:
            training.run_epoch(part(progress, training.epoch, self._epochs))
            if training.epoch in looked_at:
                history += accuracies(
                    [network], given.source.test, given.dataset.preprocess, self._precision
                )
        return history

    def _steps(self, rows: int) -> int:
        return self._epochs * len(self._views(0).batches(rows, 0))

    def _views(self, index: int) -> Views:
        given, settings = self._assignment, self._training.views
        if isinstance(self._target, StoredLabels):
            return Views.of(given.dataset, settings, self._target.seed)
        return Views.of(given.dataset, settings, given.seed, index)

    def _loss(self, index: int, views: Views, images: Tensor, classes: Tensor) -> Loss:
        """The loss on a batch of ``images`` (n, c, h, w) of these ``classes`` (n,) int64."""
        training, target = self._training, self._target
        purpose = f"evaluation/dropout/{index}"

        def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
            places = hardware.sent(rows, images.device)
            shown = self._assignment.dataset.in_network_space(images[places])
            mix = views.of_batch(shown, epoch, step)
            with (
                seeded_on(images.device, self._assignment.seed, f"{purpose}/{epoch}", step),
                hardware.autocast(self._precision, images.device),
            ):
                outputs = network(in_favoured_layout(mix.images)).float()
            if target is None:
                return hard_loss(outputs, mix, classes[places])
            factor = training.temperature**2 if training.squared_temperature else 1.0
            return factor * soft_loss(outputs, target(mix, rows, epoch), training.temperature)

        return loss


def soft_loss(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Mean over the batch of KL(softmax(taught / T) || softmax(outputs / T)): (b, C) -> ()."""
    student, teacher = (F.log_softmax(logits / temperature, 1) for logits in (outputs, taught))
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def hard_loss(outputs: Tensor, mix: Mix, classes: Tensor) -> Tensor:
    """Cross-entropy (b, C) with the classes (b,) of images and partners, in their shares."""
    own, partners = classes, classes[mix.partners]
    return mix.share * F.cross_entropy(outputs, own) + (1 - mix.share) * F.cross_entropy(
        outputs, partners
    )
