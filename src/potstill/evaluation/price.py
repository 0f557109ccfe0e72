"""What a distilled set costs: bytes to keep, and operations to train on.

With n images of C classes, (c, h, w) each, and b bits for a number:

=============  ================================================================================
images         n c h w bytes at 8 bits, 4 n c h w in float32, which whitened images are
labels         classes n ceil(log2 C) / 8; one soft label an image n C b / 8, with b = 16 unless
               the set says otherwise; soft labels of stored views e n C b / 8 for e epochs. The
               views themselves are functions of a seed and take nothing
preprocessing  the tensors that the set cannot be used without: ZCA's, as the file has them;
               the matrix does not count where it is left out, to be fitted again on the source
labeller       what has to be there while students train: a teacher's weights and statistics
=============  ================================================================================

Bits per class are 8 times the total over C, the storage ratio is the total over the N c h w bytes
of all N training images. What lies in a file has the bytes that the file's data section gives it.
Operations are those of training one network: presentations (3 F + F_t), with F of a forward pass
of the student on one image (backward takes the double), and F_t of the teacher, if it labels every
view. A multiplication with its addition is two, as convolutions and products have them; what
layers do besides does not count. To distil is another matter, and takes seconds (the run's record).

The same bytes buy real images at 8 bits with a soft label each (Qin et al., NeurIPS 2024): what
random ones reach is the accuracy to beat. They are seen through the set's own preprocessing, and
so have to pay for it as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from potstill.data.distilled import DistilledDataset
from potstill.data.plausible import is_one_hot
from potstill.data.source import SourceDataset
from potstill.evaluation.plan import Assignment, Work
from potstill.results import Price
from potstill.teacher import Teacher

SOFT_BITS = 16
"""Bits of each number of a soft label, where no file says."""


def image_bytes(images: int, shape: Sequence[int], bits: int = 8) -> int:
    """Bytes of images of ``shape`` (c, h, w)."""
    return images * math.prod(shape) * bits // 8


def class_bytes(images: int, classes: int) -> int:
    """Bytes of the classes' indices, packed: n ceil(log2 C) bits, up to whole bytes."""
    return -(-images * (classes - 1).bit_length() // 8)


def soft_label_bytes(images: int, classes: int, epochs: int = 1, bits: int = SOFT_BITS) -> int:
    """Bytes of a soft label for each image in each epoch."""
    return epochs * images * classes * bits // 8


def tensor_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors, as a file's data section has them."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def bought(budget: int, shape: Sequence[int], classes: int) -> int:
    """How many 8-bit images of ``shape`` with a soft label each have room in ``budget`` bytes."""
    return budget // (image_bytes(1, shape) + soft_label_bytes(1, classes))


def training_operations(work: Work, student: float, teacher: float = 0.0) -> float:
    """Operations of training one network, with ``student`` and ``teacher`` of a forward pass."""
    return work.shown * 3 * student + work.labelled * teacher


@torch.no_grad()
def forward_operations(network: nn.Module, shape: Sequence[int]) -> int:
    """Operations of a pass of one image (c, h, w) through a network in evaluation mode."""
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape, device=device))
    operations: int = counter.get_total_flops()
    return operations


def price(given: Assignment, work: Work, labels: str | None, *, refitted: bool = False) -> Price:
    """The price of training one network on a set.

    Args:
        given: the set and its source, the network, and the teacher, if any.
        work: what the protocol makes of the set.
        labels: whose labels they are (:attr:`potstill.results.Evaluation.labels`); None for the
            set's own, learned or not.
        refitted: whether the preprocessing is fitted again on the source, and so takes no room.
    """
    dataset, source = given.dataset, given.source
    shape, classes = dataset.shape[1:], source.classes
    beside = given.teacher if labels == "on the fly" else None
    images = image_bytes(len(dataset), shape, 8 if dataset.space == "pixels" else 32)
    told = _label_bytes(dataset, labels)
    preprocessing = 0 if refitted else tensor_bytes(dataset.preprocess.tensors().values())
    labeller = 0 if beside is None else teacher_bytes(beside)
    total = images + told + preprocessing + labeller
    student = forward_operations(given.build().eval(), shape)
    teaching = 0 if beside is None else forward_operations(beside.network, shape)
    return Price(
        images=images,
        labels=told,
        preprocessing=preprocessing,
        labeller=labeller,
        total=total,
        bits_per_class=8 * total / classes,
        storage_ratio=total / _real_bytes(source),
        operations=training_operations(work, student, teaching),
        random_images=bought(total - preprocessing, shape, classes),
    )


def teacher_bytes(teacher: Teacher) -> int:
    """Bytes of a teacher: its weights and statistics, and its own preprocessing."""
    weights = teacher.network.state_dict().values()
    return tensor_bytes(weights) + tensor_bytes(teacher.preprocess.tensors().values())


def _label_bytes(dataset: DistilledDataset, labels: str | None) -> int:
    images, classes = dataset.labels.shape
    if labels == "on the fly":
        return 0
    if labels == "one an image":
        return soft_label_bytes(images, classes)
    if labels == "stored" and dataset.soft_labels is not None:
        return tensor_bytes([dataset.soft_labels])
    if labels == "hard" or is_one_hot(dataset.labels + 1 / classes):
        return class_bytes(images, classes)
    return tensor_bytes([dataset.labels])


def _real_bytes(source: SourceDataset) -> int:
    return image_bytes(len(source.train), source.train.images.shape[1:])
