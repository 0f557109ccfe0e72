"""A teacher's soft labels, stored with the set: then it is used without the teacher.

One label is kept for each image, mixed as it is, in each epoch; students see the same views in
the same batches (Shen and Xing's FKD). What is kept are outputs before the softmax, so that the
temperature stays the protocol's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from potstill import hardware
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, RecipeError
from potstill.evaluation.labelling import (
    StoredLabels,
    TeacherLabels,
    Views,
    ViewSettings,
)
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import made_for, named
from potstill.progress import Progress, silent
from potstill.teacher import Teacher


def relabel(
    dataset: DistilledDataset,
    teacher: Teacher,
    *,
    protocol: str | EvaluationProtocol | None = None,
    epochs: int | None = None,
    seed: int = 0,
    precision: Literal["float16", "float32"] = "float16",
    device: str | torch.device = "cpu",
    progress: Progress = silent,
) -> DistilledDataset:
    """The set with the teacher's labels of every epoch's views, instead of those it had.

    A student that trains on float32 labels on the same kind of device learns to the bit what
    student 0 of an evaluation with the teacher and this ``seed`` learns.

    Args:
        dataset: the distilled set.
        teacher: a teacher of the same data.
        protocol: the protocol whose views are labelled; the artefact's if None.
        epochs: epochs to label; the artefact's number if None, and if it has none, the protocol's.
        seed: seed of the views.
        precision: number format of the e n C labels. float16 takes half the room and moves
            an output by at most 1 part in 2000, far less than a temperature of 20 notices.
        device: where the teacher labels.
        progress: told of every "relabelling epoch".

    Returns:
        A set with other content and so without results.

    Raises:
        RecipeError: the protocol has no soft labels, is unknown, or no epochs; or the labels are
            more than main memory holds.
        ArtefactError: the set does not say what it was made for, or outputs are not finite in
            this precision.
        DataError: the teacher knows other classes or other images.
    """
    chosen = named(made_for(dataset, "protocol") if protocol is None else protocol)
    shown = chosen.views_to_label(dataset, epochs)
    if shown is None:
        raise RecipeError(
            f"protocol {chosen.name} has no soft labels to store; take one that takes a teacher"
        )
    where = torch.device(device)
    label = TeacherLabels(teacher, dataset, shown.teacher_mode, where)
    views = Views.of(dataset, shown.settings, seed)
    images, total = dataset.compact.to(where), shown.epochs
    stored = _room(total, *dataset.labels.shape, dtype=getattr(torch, precision))
    for epoch in range(total):
        for step, rows in enumerate(views.batches(len(images), epoch)):
            batch = dataset.in_network_space(images[hardware.sent(rows, where)])
            mix = views.of_batch(batch, epoch, step)
            stored[epoch, rows] = label(mix, rows, epoch).to("cpu", stored.dtype)
        progress("relabelling epoch", epoch + 1, total)
    relabelling = {
        "protocol": chosen.name,
        "seed": seed,
        "teacher": teacher.summary(),
        "teacher_mode": shown.teacher_mode,
        "views": shown.settings.document(),
    }
    return dataset.with_soft_labels(stored, relabelling)


def _room(*shape: int, dtype: torch.dtype) -> Tensor:
    """An empty tensor that main memory holds."""
    size = math.prod(shape) * dtype.itemsize
    if size > hardware.memory():
        epochs, images, classes = shape
        raise RecipeError(
            f"labels of {epochs} epochs x {images} images x {classes} classes take "
            f"{size / 2**30:.0f} GiB, more than this machine has; store fewer epochs, or have "
            "students ask the teacher"
        )
    return torch.empty(shape, dtype=dtype)


def labelled_views(dataset: DistilledDataset, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch, with their stored labels: for a training loop of one's own.

    Args:
        dataset: with soft labels.
        epoch: from 0 to the number of epochs stored, excluded.

    Yields:
        Views (b, c, h, w) float32 in network space, and the teacher's outputs (b, C) float32
        before the softmax.

    Raises:
        ArtefactError: the set has no soft labels, none of this epoch, or of views that this
            version cannot draw.
    """
    relabelling = dataset.header.get("relabelling")
    if dataset.soft_labels is None or relabelling is None:
        raise ArtefactError("the set holds no soft labels; run potstill relabel")
    settings = ViewSettings.from_document(relabelling.get("views", {}))
    mode = relabelling.get("teacher_mode", "eval")
    labels = StoredLabels(dataset, settings, mode, epoch + 1, torch.device("cpu"))
    views = Views.of(dataset, settings, labels.seed)
    for step, rows in enumerate(views.batches(len(dataset), epoch)):
        mix = views.of_batch(dataset.images[rows], epoch, step)
        yield mix.images, labels(mix, rows, epoch)
