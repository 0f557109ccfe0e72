"""A source data set in memory: what every reader returns and every method takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import DataError
from potstill.hashing import add_tensor
from potstill.progress import Progress, silent

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from potstill.data.in_memory import Pixels

IN_MEMORY = "in_memory"
"""``data.dataset`` of sets made from images that a caller gave, which no file holds."""


@dataclass(frozen=True)
class Split:
    """Images and their classes.

    images: (n, c, h, w) uint8. labels: (n,) int64, indices into the class names.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"Split({len(self):,} images of {_shape(self.images)})"


@dataclass(frozen=True)
class SourceDataset:
    """Training and test images of square shape, 8 bits, 1 or 3 channels.

    ``fingerprint`` is :func:`fingerprint` of the two splits: a distilled set keeps it, so that
    it is not scored unawares against other images than those it came from. ``in_memory``: whether
    a caller gave the images, so that no recipe finds them again.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str
    in_memory: bool = False

    @classmethod
    def from_tensors(
        cls,
        images: Pixels,
        labels: Pixels,
        test_images: Pixels | None = None,
        test_labels: Pixels | None = None,
        *,
        class_names: Sequence[str] | None = None,
        name: str = "tensors",
        resolution: int | None = None,
        channels: int | None = None,
    ) -> SourceDataset:
        """Images and labels that are in memory already; they are copied.

        Args:
            images: training images, (n, c, h, w) or (n, h, w); uint8, or floating point in [0, 1],
                which is rounded to 8 bits. Pixels, not normalised.
            labels: (n,) integers from 0, the classes.
            test_images: real images to score on, like ``images``; without them nothing can be
                scored.
            test_labels: their classes.
            class_names: a name for each class; "0", "1", ... if None.
            name: what results call the data.
            resolution: side of the square that the middle of each image is resized to; all are
                squares of one size if None.
            channels: 1 makes gray of colour.

        Raises:
            DataError: one line that says what does not fit, and the remedy.
        """
        from potstill.data import in_memory

        if (test_images is None) != (test_labels is None):
            raise DataError("test images and test labels belong together; pass both or neither")
        pairs = [(images, labels)]
        if test_images is not None and test_labels is not None:
            pairs.append((test_images, test_labels))
        return in_memory.of_tensors(pairs, class_names, name, resolution, channels)

    @classmethod
    def from_dataset(
        cls,
        train: Dataset[Any],
        test: Dataset[Any] | None = None,
        *,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
        resolution: int | None = None,
        channels: int | None = None,
        progress: Progress = silent,
    ) -> SourceDataset:
        """What torch Datasets yield: each item once, in their order.

        An item is (image, class), and what else it has is left aside. The image is a picture of
        Pillow's, or a tensor (c, h, w) or (h, w) as in :meth:`from_tensors`, or an array (h, w, c)
        or (h, w) as NumPy has pictures. Give Datasets that neither normalise nor augment.

        Args:
            train: training images.
            test: real images to score on; without them nothing can be scored.
            class_names: a name for each class; those of ``train.classes`` if None, else "0", ...
            name: what results call the data; that of the class of ``train`` if None.
            resolution: see :meth:`from_tensors`.
            channels: see :meth:`from_tensors`. If None, 1 if every image is gray.
            progress: told of every image.

        Raises:
            DataError: one line that says which item does not fit, and the remedy.
        """
        from potstill.data import in_memory

        return in_memory.of_datasets(train, test, class_names, name, resolution, channels, progress)

    def __repr__(self) -> str:
        classes = f"{self.classes} class{'' if self.classes == 1 else 'es'}"
        return (
            f"SourceDataset({self.name}: {len(self.train):,} training and {len(self.test):,} test "
            f"images of {_shape(self.train.images)}, {classes})"
        )

    @property
    def channels(self) -> int:
        """1 for grayscale, 3 for RGB."""
        return self.train.images.shape[1]

    @property
    def resolution(self) -> int:
        """Side of the square images."""
        return self.train.images.shape[2]

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def document(self) -> dict[str, Any]:
        """What distilled sets and teachers say of it, as JSON has it."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "classes": self.classes,
            "channels": self.channels,
            "resolution": self.resolution,
        }


def _shape(images: Tensor) -> str:
    return "x".join(map(str, images.shape[1:]))


def fingerprint(train: Split, test: Split) -> str:
    """SHA-256, in hexadecimal, over the shapes and bytes of both splits.

    ``train.images``, ``train.labels``, ``test.images`` and ``test.labels``, in this order, each
    as :func:`potstill.hashing.add_tensor` puts it.
    """
    digest = hashlib.sha256()
    for name, split in (("train", train), ("test", test)):
        add_tensor(digest, f"{name}.images", split.images)
        add_tensor(digest, f"{name}.labels", split.labels)
    return digest.hexdigest()


def members(source: SourceDataset, least: int = 1) -> dict[str, Tensor]:
    """The rows of each class among the training images, (N_c,) int64 ascending, by its name.

    Raises:
        DataError: a class has fewer images than ``least``.
    """
    labels = source.train.labels
    order = labels.argsort(stable=True)
    sizes = labels.bincount(minlength=source.classes).tolist()
    found = dict(zip(source.class_names, order.split(sizes), strict=True))
    for name, rows in found.items():
        if not len(rows):
            raise DataError(f"class {name} has no training images; add some, or remove the class")
        if len(rows) < least:
            raise DataError(
                f"class {name} has {len(rows)} images, fewer than the {least} asked for; ask for "
                "fewer images per class"
            )
    return found


def sample_per_class(
    split: Split, classes: int, per_class: int | Sequence[int], generator: np.random.Generator
) -> Tensor:
    """Draw different images of every class, uniformly: ``per_class``, or as many as it says.

    Returns:
        (n,) int64 indices into ``split``, class 0's first.

    Raises:
        DataError: a class has fewer images than asked for.
    """
    chosen = []
    sizes = [per_class] * classes if isinstance(per_class, int) else per_class
    for label, size in zip(range(classes), sizes, strict=True):
        members = (split.labels == label).nonzero().flatten()
        if len(members) < size:
            raise DataError(
                f"class {label} has {len(members)} images, fewer than the {size} asked for; "
                "ask for fewer images per class"
            )
        draw = generator.choice(len(members), size=size, replace=False)
        chosen.append(members[torch.from_numpy(draw)])
    return torch.cat(chosen)


def centred_one_hot(classes: Tensor, number: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Classes (n,) int64 of ``number`` C -> one-hot minus 1/C, (n, C) (RCIG 4.1)."""
    return F.one_hot(classes, number).to(dtype) - 1 / number
