"""Distilled images in the files that other code leaves: folders, ``.pt``, ``.npz`` and ``.npy``.

Nothing is unpickled but plain tensors, and what memory would not hold is not read at all
(:mod:`potstill.archives`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill import archives
from potstill.data import image_folder
from potstill.errors import DataError

# What other code calls the two tensors of one file, in lower case.
_IMAGES = ("images", "image", "image_syn", "images_syn", "syn_images", "data", "x", "x_train")
_LABELS = ("labels", "label", "label_syn", "labels_syn", "syn_labels", "targets", "y", "y_train")
_BYTES = torch.float32.itemsize  # of a number, whatever it was stored as
_COPIES = 6  # of the images, held at a time until the set is written: measured
_SUFFIXES = (".pt", ".pth", ".npz", ".npy")


@dataclass(frozen=True)
class Foreign:
    """What a file or folder holds, axes in order, numbers as they are.

    images: (n, c, h, h), uint8 or float32. labels: (n,) int64 or (n, C) float32.
    """

    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...] | None
    """Names of the class folders, sorted; None for tensors."""
    layout: str
    """How the axes of the images were read, such as ``n, h, w, c``."""
    sets: int = 1
    """How many sets the file holds, of which this is the last."""


def read(
    path: Path,
    labels: Path | None = None,
    *,
    resolution: int | None = None,
    channels: int | None = None,
) -> Foreign:
    """Read images and labels.

    A folder has one folder of images for each class; its labels are the places of the class
    folders in sorted order. Files hold images (n, c, h, w), (n, h, w, c) or (n, h, w), and
    labels (n,), (n, 1) or (n, C): both in one file, as a mapping or a pair, or the labels in
    another. Of several sets in a list under ``data``, as the matching methods' authors save those
    of all their starts, it is the last. Which axis is the channels' is told by its length, 1 or 3.

    Args:
        path: a folder, or a file.
        labels: the file with the labels, if they are not in ``path``.
        resolution: side to crop and resize to, for folders alone.
        channels: 1 converts to gray, for folders alone.

    Raises:
        DataError: no such file, one that holds something else or cannot be read without
            unpickling, or labels that are missing or do not fit the images.
    """
    if path.is_dir():
        if labels is not None:
            raise DataError(
                f"{path} is a folder, whose class folders are the labels; leave out --labels"
            )
        names, split = image_folder.read_classes(path, resolution=resolution, channels=channels)
        return Foreign(split.images, split.labels, names, "n, c, h, w")
    content, sets = _last(_load(path))
    images, own = _pair(content, path, alone=labels is not None)
    if labels is not None:
        own = _single(_load(labels), labels)
    if own is None:
        raise DataError(f"{path} holds images and no labels; pass --labels FILE")
    plain = _plain_images(images, path)
    arranged, layout = _arrange(plain, path)
    return Foreign(arranged, _plain_labels(own, len(arranged), labels or path), None, layout, sets)


def of_tensors(images: Tensor, labels: Tensor) -> Foreign:
    """Images and labels that are in memory, as :func:`read` takes those of a file.

    Raises:
        DataError: they are none, or do not go together.
    """
    place = Path("memory")
    arranged, layout = _arrange(_plain_images(images.cpu(), place), place)
    return Foreign(arranged, _plain_labels(labels.cpu(), len(arranged), place), None, layout)


def _load(path: Path) -> Any:
    """The mapping, sequence or array in a file."""
    if path.suffix not in _SUFFIXES:
        raise DataError(
            f"cannot import {path}: it is neither a folder nor one of {', '.join(_SUFFIXES)}; "
            "check the path, or convert it"
        )
    try:
        if path.suffix in (".pt", ".pth"):
            return archives.read_pt(path)
        if path.suffix == ".npz":
            arrays = archives.read_npz(path, _COPIES)
            return {name: _tensor(one) for name, one in arrays.items() if one.dtype.kind != "U"}
        return _tensor(archives.read_npy(path, _COPIES))
    except archives.Refused as refusal:
        raise DataError(f"{path} {refusal}") from None
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror or 'damaged'}; check the path"
        ) from None
    except (ValueError, TypeError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        kind = type(error).__name__
        raise DataError(
            f"{path} is damaged or holds more than arrays of numbers ({kind}); save it again"
        ) from None
    # The unpickler refuses with exceptions of many types, and advice that nobody should follow.
    except Exception:
        raise DataError(
            f"{path} is damaged or holds more than tensors, which is not unpickled; save plain "
            "tensors, such as torch.save({'images': images, 'labels': labels}, FILE)"
        ) from None


def _tensor(array: NDArray[Any]) -> Tensor:
    """The same numbers in this machine's byte order, the only one that PyTorch takes."""
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _last(content: Any) -> tuple[Any, int]:
    """The last of the sets that stand in a list, and how many there are.

    DC, DSA, DM and DataDAM save ``{"data": [[images, labels], ...], ...}``, or one pair there.
    """
    listed = content.get("data") if isinstance(content, Mapping) else None
    if not isinstance(listed, list | tuple) or not listed:
        return content, 1
    if isinstance(listed[-1], list | tuple):
        return listed[-1], len(listed)
    return listed, 1


def _pair(content: Any, path: Path, *, alone: bool) -> tuple[Tensor, Tensor | None]:
    """Images and, if they are there, labels; ``alone``: the labels stand elsewhere."""
    if isinstance(content, Tensor):
        return content, None
    if isinstance(content, Mapping):
        images, labels = (_entry(content, known) for known in (_IMAGES, _LABELS))
        if images is None and alone and len(content) == 1:
            images = next(iter(content.values()))
        if isinstance(images, Tensor) and (labels is None or isinstance(labels, Tensor)):
            return images, labels
        found = ", ".join(map(str, list(content)[:6])) or "nothing"
        raise DataError(
            f"{path} holds {found}; name its tensors images and labels, (n, c, h, w) and (n,) "
            "or (n, classes)"
        )
    if isinstance(content, tuple | list) and len(content) == 2:
        images, labels = content
        if isinstance(images, Tensor) and isinstance(labels, Tensor):
            return images, labels
    raise DataError(
        f"{path} holds {_name(content)}; save a tensor, a pair of images and labels, or a "
        "dictionary of both"
    )


def _single(content: Any, path: Path) -> Tensor:
    """The labels in a file of their own."""
    if isinstance(content, Mapping):
        entry = _entry(content, _LABELS)
        if entry is None and len(content) == 1:
            entry = next(iter(content.values()))
        content = entry
    if not isinstance(content, Tensor):
        raise DataError(f"{path} holds no tensor of labels; save one, (n,) or (n, classes)")
    return content


def _entry(content: Mapping[Any, Any], known: tuple[str, ...]) -> Any:
    """The entry with the first of the known names."""
    lower = {str(name).lower(): value for name, value in content.items()}
    return next((lower[name] for name in known if name in lower), None)


def _dense(tensor: Tensor, what: str, path: Path) -> Tensor:
    """The tensor with its numbers in memory, every one of which it must hold."""
    wrong = (
        ("quantised", "tensor.dequantize()", tensor.is_quantized),
        ("nested", "tensor.to_padded_tensor(0)", tensor.is_nested),
        ("sparse", "tensor.to_dense()", tensor.layout != torch.strided),
        ("without numbers (device meta)", "a tensor with numbers", tensor.is_meta),
    )
    for kind, remedy, found in wrong:
        if found:
            raise DataError(f"the {what} in {path} are {kind}; save {remedy} instead")
    # One number, repeated, may stand for any size in the file.
    try:
        archives.require_room(tensor.numel() * _BYTES, _COPIES)
    except archives.Refused as refusal:
        raise DataError(f"the tensor of {what} in {path} {refusal}") from None
    # The file may change from here on: its tensors are mapped from it.
    return tensor.clone(memory_format=torch.contiguous_format)


def _plain_images(images: Tensor, path: Path) -> Tensor:
    """The images as uint8 or float32."""
    images = _dense(images.detach(), "images", path)
    if images.is_floating_point():
        return images.float()
    if images.dtype == torch.uint8:
        return images
    if images.dtype == torch.bool or images.is_complex() or not images.numel():
        raise DataError(f"the images in {path} are {_name(images)}; save numbers, one a pixel")
    images = images.long()  # unsigned 16 bits have no minimum
    low, high = int(images.min()), int(images.max())
    if low < 0 or high > 255:
        raise DataError(
            f"the images in {path} are whole numbers from {low} to {high}; save pixels from 0 "
            "to 255, or floating-point numbers"
        )
    return images.to(torch.uint8)


def _arrange(images: Tensor, path: Path) -> tuple[Tensor, str]:
    """Images (n, c, h, h), and the order in which their axes were."""
    shape, layout = tuple(images.shape), "n, c, h, w"
    if images.ndim == 3:
        images, layout = images[:, None], "n, h, w"
    elif images.ndim == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        images, layout = images.movedim(3, 1), "n, h, w, c"
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not len(images):
        raise DataError(
            f"the images in {path} have shape {shape}; save (n, channels, height, width) with 1 "
            "or 3 channels"
        )
    if images.shape[2] != images.shape[3]:
        raise DataError(
            f"the images in {path} are {images.shape[2]}x{images.shape[3]}, not square; crop or "
            "resize them first"
        )
    return images.contiguous(), layout


def _plain_labels(labels: Tensor, count: int, path: Path) -> Tensor:
    """Labels (n,) int64, or (n, C) float32."""
    labels = _dense(labels.detach(), "labels", path)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim not in (1, 2) or len(labels) != count or labels.is_complex():
        raise DataError(
            f"the labels in {path} have shape {tuple(labels.shape)} and there are {count} "
            f"images; save ({count},) or ({count}, classes)"
        )
    if labels.ndim == 2:
        return labels.float()
    if labels.is_floating_point() and not bool((labels == labels.long()).all()):
        raise DataError(
            f"the labels in {path} are one number for each image, but no whole numbers; save "
            "classes from 0, or (n, classes) for soft labels"
        )
    return labels.long()


def _name(content: Any) -> str:
    if isinstance(content, Tensor):
        return f"{str(content.dtype).removeprefix('torch.')} of shape {tuple(content.shape)}"
    return f"a {type(content).__name__}"
