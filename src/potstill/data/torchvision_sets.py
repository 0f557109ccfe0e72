"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, in the folders torchvision keeps them in.

CIFAR is distributed as pickles. torchvision compares each with the MD5 of the published file
before it opens it, so nothing but the published pickles is ever unpickled.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill.data.facts import DATASETS
from potstill.data.source import Split
from potstill.errors import DataError


@dataclass(frozen=True)
class _Published:
    """torchvision's class, and what a user puts under the data root by hand."""

    kind: str
    files: str


_SETS = {
    "mnist": _Published("MNIST", "the four IDX files in MNIST/raw"),
    "fashion_mnist": _Published("FashionMNIST", "the four IDX files in FashionMNIST/raw"),
    "cifar10": _Published("CIFAR10", "the unpacked folder cifar-10-batches-py"),
    "cifar100": _Published("CIFAR100", "the unpacked folder cifar-100-python"),
}


def read(name: str, root: Path, *, download: bool) -> tuple[tuple[str, ...], Split, Split]:
    """Class names, training and test split of a published data set, as published.

    Args:
        name: one whose ``reader`` in :data:`potstill.data.facts.DATASETS` is torchvision.
        root: the data root, in torchvision's layout.
        download: fetch what is absent.

    Raises:
        DataError: absent and not to be downloaded, not to be had, incomplete, or damaged.
    """
    published, info = _SETS[name], DATASETS[name]
    folder = root / info.folder
    if not download and not folder.is_dir():
        raise DataError(
            f"{name} is not under the data root {root}; pass --download to fetch it, "
            f"or put {published.files} there"
        )
    try:
        _require_regular(folder)
        train = _open(published.kind, root, train=True, download=download)
        test = _open(published.kind, root, train=False, download=False)
        splits = tuple(_split(part, info.classes) for part in (train, test))
        class_names = tuple(str(label).split(" - ")[0] for label in train.classes)
    # torchvision lets through whatever a broken file or connection causes, of a dozen types.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if download:
            raise DataError(
                f"{name} can be neither read from {folder} nor downloaded ({reason}); check the "
                "connection and the free space, or delete the folder and repeat"
            ) from error
        raise DataError(
            f"{name} in {folder} is incomplete or damaged ({reason}); delete the folder and "
            "repeat with --download"
        ) from error
    return class_names, splits[0], splits[1]


def _require_regular(folder: Path) -> None:
    """Refuse pipes and devices, on which torchvision would wait."""
    for path in folder.rglob("*"):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ValueError(f"{path.name} is no regular file")


def _open(kind: str, root: Path, *, train: bool, download: bool) -> Any:
    from torchvision import datasets

    # Older torchvision prints the addresses it loads from; stdout is for results.
    with contextlib.redirect_stdout(sys.stderr):
        return getattr(datasets, kind)(str(root), train=train, download=download)


def _split(part: Any, classes: int) -> Split:
    images = torch.as_tensor(part.data)
    labels = torch.as_tensor(part.targets, dtype=torch.int64)
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()
    _check(images, labels, classes)
    return Split(images, labels)


def _check(images: Tensor, labels: Tensor, classes: int) -> None:
    if images.dtype != torch.uint8 or not len(images):
        raise ValueError("the images are not 8-bit pixels")
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise ValueError(f"labels outside 0 to {classes - 1}")
