"""A source data set in memory: what every reader returns and every method takes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.errors import DataError
from potstill.hashing import add_tensor


@dataclass(frozen=True)
class Split:
    """Images and their classes.

    images: (n, c, h, w) uint8. labels: (n,) int64, indices into the class names.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class SourceDataset:
    """Training and test images of square shape, 8 bits, 1 or 3 channels.

    ``fingerprint`` is :func:`fingerprint` of the two splits: a distilled set keeps it, so that
    it is not scored unawares against other images than those it came from.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    fingerprint: str

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
