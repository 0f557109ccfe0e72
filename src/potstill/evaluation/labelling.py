"""The views that students see, and who labels them.

A view is an image as it comes out of crop, flip and mixture. Which images stand in batch b of
epoch e, and what becomes of them, is a function of (seed, purpose, e, b): the teacher labels
the very view that the student sees, beside it or long before, and the label is the same.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from torch import Tensor, nn

from potstill import hardware, rng
from potstill.config import BATCH, SIDE, Precision
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess
from potstill.data.views import (
    Mix,
    cutmix,
    fill_value,
    mixup,
    random_crop,
    random_flip,
    random_resized_crop,
)
from potstill.errors import ArtefactError, DataError
from potstill.teacher import Teacher
from potstill.train import batches, favour_layout, in_favoured_layout

TeacherMode = Literal["eval", "train"]
Target = Callable[[Mix, Tensor, int], Tensor]
"""(a batch of views (b, c, h, w), its rows (b,), epoch) -> outputs (b, C) before the softmax."""

# Of the way in which views are drawn: what was stored under another number fits other views.
_DRAWS = 1


@dataclass(frozen=True)
class ViewSettings:
    """What is done to each batch of images, in this order."""

    crop: Literal["padded", "resized"]
    """A random place in the padded image, or RandomResizedCrop's part of it."""
    padding: Annotated[int, Field(ge=0, le=SIDE)]
    """Black pixels around the image; ``padded`` only."""
    flip: bool
    mix: Literal["mixup", "cutmix", "none"]
    alpha: Annotated[float, Field(gt=0, le=1e6)]
    """The share of the partners is Beta(alpha, alpha); not of ``none``."""
    batch_size: Annotated[int, Field(ge=1, le=BATCH)]

    def document(self) -> dict[str, Any]:
        """The settings as an artefact has them, beside the labels of such views."""
        return {**asdict(self), "draws": _DRAWS}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> ViewSettings:
        """The inverse of :meth:`document`.

        Raises:
            ArtefactError: this version cannot draw such views.
        """
        try:
            settings = _SETTINGS.validate_json(json.dumps(document), strict=True)
        except ValidationError:
            settings = None
        if settings is None or settings.document() != document:
            raise ArtefactError(
                "the soft labels belong to views that this version cannot draw; "
                "run potstill relabel, or take the version that made them"
            )
        return settings


_SETTINGS = TypeAdapter(ViewSettings)


@dataclass(frozen=True)
class LabelledViews:
    """Which views a teacher labels, and how."""

    settings: ViewSettings
    teacher_mode: TeacherMode
    """Whether the teacher's batch norms normalise by the batch (``train``) or not."""
    epochs: int


@dataclass(frozen=True)
class Views:
    """The batches of one student's training on a set."""

    settings: ViewSettings
    fill: Tensor
    """(c,) a black pixel in network space."""
    seed: int
    student: int = 0
    """Each student sees views of its own; stored labels are those of student 0's."""

    @classmethod
    def of(
        cls, dataset: DistilledDataset, settings: ViewSettings, seed: int, student: int = 0
    ) -> Views:
        """Views of images in the network space of ``dataset``."""
        return cls(settings, fill_value(dataset.preprocess), seed, student)

    @property
    def purpose(self) -> str:
        """What the streams of the order and of the views begin with."""
        return f"evaluation/views/{self.student}"

    def batches(self, rows: int, epoch: int) -> list[Tensor]:
        """The rows (b,) int64 of each batch, as :class:`potstill.train.EpochTraining` has them."""
        return batches(rows, self.settings.batch_size, self.seed, self.purpose, epoch)

    def of_batch(self, images: Tensor, epoch: int, step: int) -> Mix:
        """The views of a batch of images (b, c, h, w): the batch ``step`` of ``epoch``."""
        settings = self.settings
        generator = rng.stream(self.seed, f"{self.purpose}/batch/{epoch}", step)
        if settings.crop == "padded":
            images = random_crop(images, settings.padding, self.fill, generator)
        else:
            images = random_resized_crop(images, generator)
        if settings.flip:
            images = random_flip(images, generator)
        if settings.mix == "none":
            return Mix(images, torch.arange(len(images), device=images.device), 1.0)
        mix = mixup if settings.mix == "mixup" else cutmix
        return mix(images, generator, settings.alpha)


class TeacherLabels:
    """A teacher's outputs on views of a set's images; a :data:`Target`.

    The teacher sees the views in its own network space. In ``train`` mode its batch norms
    normalise by the batch itself, as the authors ran CIFAR; nothing else of it trains. It is a
    copy: the teacher stays as it was.

    Args:
        teacher: the teacher, trained on the same classes and shape of images.
        dataset: the set whose images it labels.
        mode: mode of its batch norms.
        device: where it labels.
        precision: of its convolutions and products; if None, see
            :func:`potstill.hardware.precision_of_training`.

    Raises:
        DataError: the teacher knows other classes or other images.
    """

    def __init__(
        self,
        teacher: Teacher,
        dataset: DistilledDataset,
        mode: TeacherMode,
        device: torch.device,
        precision: Precision | None = None,
    ) -> None:
        _check_teacher(teacher, dataset)
        self._device, self._precision = device, hardware.precision_of_training(precision, device)
        self._network = copy.deepcopy(teacher.network).to(device).eval()
        favour_layout(self._network, self._precision)
        if mode == "train":
            for module in self._network.modules():
                module.train(isinstance(module, nn.modules.batchnorm._BatchNorm))
        self._translate = _translation(dataset.preprocess, teacher.preprocess)

    def __call__(self, mix: Mix, rows: Tensor, epoch: int) -> Tensor:
        """(b, C) float32; rows and epoch do not matter."""
        return self.of(mix.images)

    @torch.no_grad()
    def of(self, images: Tensor) -> Tensor:
        """Outputs before the softmax, (b, C) float32, for (b, c, h, w) in the set's space."""
        images = in_favoured_layout(self._translate(images))
        with hardware.autocast(self._precision, self._device):
            outputs: Tensor = self._network(images)
        return outputs.float()


class StoredLabels:
    """The soft labels that a set carries; a :data:`Target`.

    Args:
        dataset: with soft labels.
        settings: the views that will be shown.
        mode: the mode of the teacher that the protocol asks for.
        epochs: number of epochs that will be asked for.
        device: where the labels are wanted.

    Raises:
        ArtefactError: the labels belong to other views or another mode, or are too few.
    """

    def __init__(
        self,
        dataset: DistilledDataset,
        settings: ViewSettings,
        mode: TeacherMode,
        epochs: int,
        device: torch.device,
    ) -> None:
        if dataset.soft_labels is None:
            raise ArtefactError("the set holds no soft labels; run potstill relabel")
        self._labels, self._device = dataset.soft_labels, device
        relabelling = dataset.header["relabelling"]
        self.seed = relabelling.get("seed", 0)
        """Seed of the views."""
        if not stored_for(dataset, LabelledViews(settings, mode, epochs)):
            raise ArtefactError(
                f"the soft labels belong to the views of protocol {relabelling.get('protocol')}; "
                "take that one, pass --teacher FILE or run potstill relabel"
            )
        if epochs > len(self._labels):
            raise ArtefactError(
                f"the set holds soft labels of {len(self._labels)} epochs, not {epochs}; pass "
                f"--epochs {len(self._labels)} or --teacher FILE, or run potstill relabel"
            )

    def __call__(self, mix: Mix, rows: Tensor, epoch: int) -> Tensor:
        """(b, C) float32; the views themselves do not matter."""
        return hardware.sent(self._labels[epoch, rows], self._device).float()

    def of_epoch(self, epoch: int) -> Tensor:
        """Outputs before the softmax, (n, C) float32, for all images in their order."""
        return self._labels[epoch].to(self._device).float()


def stored_for(dataset: DistilledDataset, shown: LabelledViews) -> bool:
    """Whether the set stores labels of such views, for however many epochs."""
    relabelling = dataset.header.get("relabelling", {})
    views = relabelling.get("views"), relabelling.get("teacher_mode")
    return dataset.soft_labels is not None and views == (
        shown.settings.document(),
        shown.teacher_mode,
    )


def _check_teacher(teacher: Teacher, dataset: DistilledDataset) -> None:
    if tuple(teacher.class_names) != dataset.class_names:
        raise DataError(
            f"the teacher knows {_classes(teacher.class_names)}, the set has "
            f"{_classes(dataset.class_names)}; pass a teacher of the same data"
        )
    ours = tuple(dataset.shape[1:])
    its = (teacher.channels, teacher.resolution, teacher.resolution)
    if its != ours:
        raise DataError(
            f"the teacher is for images of shape {its}, the set's have {ours} (channels, height, "
            "width); pass a teacher of the same data"
        )


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names)} classes ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"


def _translation(ours: Preprocess, its: Preprocess) -> Callable[[Tensor], Tensor]:
    """From one network space to another; nothing where they are the same."""
    if _same(ours.describe(), its.describe()) and _same(ours.tensors(), its.tensors()):
        return lambda images: images
    return lambda images: its.apply(ours.invert(images))


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    def equal(a: Any, b: Any) -> bool:
        return a.equal(b) if isinstance(a, Tensor) and isinstance(b, Tensor) else bool(a == b)

    return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
