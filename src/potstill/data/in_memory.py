"""Data sets made of images that a caller has in memory: tensors, arrays and torch Datasets.

What comes out are 8-bit pixels, as of every other data set. What looks like something else, such
as normalised images or channels that come last, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset

from potstill.config import SIDE
from potstill.data import pixels
from potstill.data.pixels import Fit
from potstill.data.source import SourceDataset, Split, fingerprint
from potstill.data.transforms import dtype_name
from potstill.errors import DataError
from potstill.progress import Progress
from potstill.quoting import is_text, quoted

Pixels: TypeAlias = Tensor | NDArray[Any]

_MOST_CLASSES = 1_000_000


def of_tensors(
    pairs: Sequence[tuple[Pixels, Pixels]],
    class_names: Sequence[str] | None,
    name: str,
    resolution: int | None,
    channels: int | None,
) -> SourceDataset:
    """See :meth:`SourceDataset.from_tensors`; the pairs are (images, labels) of the splits."""
    splits = []
    for what, (images, labels) in zip(("training", "test"), pairs, strict=False):
        where = f"{what} images"
        fitted = _fit(_eight_bits(_batch(images, where), where), resolution, channels, where)
        splits.append(Split(fitted.clone(), _classes(labels, len(fitted), f"{what} labels")))
    return _source(splits, class_names, name, channels)


def of_datasets(
    train: Dataset[Any],
    test: Dataset[Any] | None,
    class_names: Sequence[str] | None,
    name: str | None,
    resolution: int | None,
    channels: int | None,
    progress: Progress,
) -> SourceDataset:
    """See :meth:`SourceDataset.from_dataset`."""
    given = [(train, "training"), *([] if test is None else [(test, "test")])]
    splits = [_read(dataset, what, resolution, channels, progress) for dataset, what in given]
    if len(splits) > 1:
        splits = _alike(splits)
    inner = _innermost(train)
    stated = getattr(inner, "classes", None)
    if class_names is None and isinstance(stated, list | tuple) and all(map(_is_name, stated)):
        class_names = stated
    called = type(inner).__name__ if name is None else name
    return _source(splits, class_names, called, channels)


def _read(
    dataset: Dataset[Any],
    what: str,
    resolution: int | None,
    channels: int | None,
    progress: Progress,
) -> Split:
    """Every item of ``dataset``; gray ones become colour where others are."""
    total = len(dataset) if hasattr(dataset, "__len__") else 0
    images, classes = [], []
    for place, item in enumerate(_items(dataset, what)):
        where = f"{what} item {place}"
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise DataError(f"{where} is {_kind(item)}; a Dataset must yield (image, class)")
        images.append(_item(item[0], resolution, channels, where))
        classes.append(_class(item[1], where))
        if images[-1].shape[1:] != images[0].shape[1:]:
            raise DataError(
                f"{where} is {_size(images[-1])} and the first {_size(images[0])}; pass "
                "resolution to resize all images"
            )
        progress(f"reading {what} images", place + 1, max(total, place + 1))
    if not images:
        raise DataError(f"the Dataset of {what} images is empty; pass one with images")
    most = max(len(image) for image in images)
    stacked = torch.stack([image.expand(most, -1, -1) for image in images])
    return Split(stacked, torch.tensor(classes, dtype=torch.int64))


def _items(dataset: Dataset[Any], what: str) -> Iterator[Any]:
    if not hasattr(dataset, "__getitem__") and not hasattr(dataset, "__iter__"):
        raise DataError(
            f"{_kind(dataset)} is no Dataset of {what} images; pass a torch Dataset that yields "
            "(image, class), or use SourceDataset.from_tensors"
        )
    if hasattr(dataset, "__len__"):  # iteration by index has no end for those without IndexError
        yield from (dataset[index] for index in range(len(dataset)))
    else:
        yield from iter(dataset)


def _item(image: Any, resolution: int | None, channels: int | None, where: str) -> Tensor:
    """One image, (c, h, w) uint8."""
    if isinstance(image, Image.Image):
        try:
            read = pixels.of_pil(image, Fit(resolution), channels)
        except ValueError as error:
            raise DataError(f"{where} cannot be taken: {error}") from None
        fitted = torch.from_numpy(read.copy())
        _require_square(fitted, where)
        return fitted
    if isinstance(image, np.ndarray) and image.ndim == 3:
        image = image.transpose(2, 0, 1)
    if not isinstance(image, Tensor | np.ndarray) or image.ndim not in (2, 3):
        raise DataError(
            f"{where} is {_kind(image)}, no image; yield a picture of Pillow's or a tensor "
            "(channels, height, width)"
        )
    batch = _eight_bits(_batch(image[None], where), where)
    return _fit(batch, resolution, channels, where)[0]


def _batch(images: Any, what: str) -> Tensor:
    """(n, c, h, w), c = 1 or 3, of whatever type; gray ones may come without their channel."""
    if not isinstance(images, Tensor | np.ndarray):
        raise DataError(
            f"{what}: {_kind(images)} is none; pass a tensor (n, channels, height, width), or "
            "use SourceDataset.from_dataset for a Dataset"
        )
    if isinstance(images, np.ndarray) and images.dtype.kind not in "uif":
        raise DataError(
            f"{what}: type {images.dtype} is none of pixels; pass uint8, or floats in [0, 1]"
        )
    batch = torch.as_tensor(
        np.ascontiguousarray(images) if isinstance(images, np.ndarray) else images
    )
    batch = batch.detach().cpu()
    if batch.ndim == 3:
        batch = batch.unsqueeze(1)
    shape = tuple(batch.shape)
    if batch.ndim != 4 or not batch.numel():
        raise DataError(
            f"{what}: shape {tuple(images.shape)} is none of images; pass (n, channels, height, "
            "width)"
        )
    if shape[1] not in (1, 3):
        if shape[3] in (1, 3):
            raise DataError(
                f"{what}: shape {shape} has its channels last; pass images.permute(0, 3, 1, 2)"
            )
        raise DataError(f"{what}: shape {shape} has {shape[1]} channels; pass 1 (gray) or 3 (RGB)")
    return batch


def _eight_bits(images: Tensor, what: str) -> Tensor:
    """Pixels as uint8: floats in [0, 1] are rounded to the nearest of 256 levels."""
    if images.dtype == torch.uint8:
        return images
    if not images.is_floating_point():
        raise DataError(
            f"{what}: type {dtype_name(images.dtype)} is none of pixels; pass "
            "images.to(torch.uint8) if they are pixels of 0 to 255, or floats in [0, 1]"
        )
    low, high = float(images.min()), float(images.max())
    if not 0 <= low <= high <= 1:  # also NaN
        remedy = (
            "divide by 255"
            if low >= 0 and 1 < high <= 255
            else "pass them before they are normalised"
        )
        raise DataError(
            f"{what}: floats from {low:.3g} to {high:.3g}, where pixels lie in [0, 1]; {remedy}"
        )
    return images.mul(255).round().to(torch.uint8)


def _fit(images: Tensor, resolution: int | None, channels: int | None, what: str) -> Tensor:
    """(n, c, h, w) uint8 as asked for: the middle of each, resized; gray."""
    if channels not in (None, 1, 3):
        raise DataError(f"cannot convert to {channels} channels; pass 1, 3 or None")
    if channels == 1 and images.shape[1] == 3:
        images = pixels.luma(images)
    if resolution is None:
        _require_square(images[0], what)
        return images
    if not 4 <= resolution <= SIDE:
        raise DataError(f"cannot resize to {resolution} px; pass a resolution from 4 to {SIDE}")
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels.resize(images[:, :, top : top + side, left : left + side], resolution)


def _require_square(image: Tensor, what: str) -> None:
    height, width = image.shape[1:]
    if height != width:
        raise DataError(
            f"{what}: {width}x{height} is not square; pass resolution to crop and resize"
        )


def _classes(labels: Any, images: int, what: str) -> Tensor:
    """(n,) int64 from 0."""
    if not isinstance(labels, Tensor | np.ndarray | list | tuple):
        raise DataError(f"{what}: {_kind(labels)} is none; pass a tensor of integers (n,)")
    found = torch.as_tensor(np.asarray(labels) if not isinstance(labels, Tensor) else labels).cpu()
    if found.ndim == 2 and len(found) == images:
        raise DataError(
            f"{what}: shape {tuple(found.shape)} has columns; pass labels.argmax(1), "
            "one class for each image"
        )
    if found.shape != (images,):
        raise DataError(
            f"{what}: shape {tuple(found.shape)} for {images} images; pass one class for each image"
        )
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise DataError(
            f"{what}: type {dtype_name(found.dtype)} numbers no classes; pass integers, the classes"
        )
    found = found.to(torch.int64)
    if not 0 <= int(found.min()) <= int(found.max()) < _MOST_CLASSES:
        raise DataError(
            f"{what} go from {int(found.min())} to {int(found.max())}; number the classes from 0"
        )
    return found


def _class(label: Any, where: str) -> int:
    try:
        number = int(label)
        if isinstance(label, str) or number != float(label) or not 0 <= number < _MOST_CLASSES:
            raise ValueError
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{where} has class {quoted(label)}; yield a number, the classes counted from 0"
        ) from None
    return number


def _alike(splits: Sequence[Split]) -> list[Split]:
    """Gray images become colour where the other split has colour."""
    most = max(split.images.shape[1] for split in splits)
    return [Split(each.images.expand(-1, most, -1, -1), each.labels) for each in splits]


def _source(
    splits: Sequence[Split], class_names: Sequence[str] | None, name: str, channels: int | None
) -> SourceDataset:
    train = splits[0]
    images = train.images
    if channels == 3 and images.shape[1] == 1:
        raise DataError(
            f"every image of {quoted(name)} is grayscale and 3 channels are asked for; leave "
            "channels out"
        )
    test = splits[1] if len(splits) > 1 else Split(images[:0], train.labels[:0])
    if test.images.shape[1:] != images.shape[1:]:
        raise DataError(
            f"training images are {_size(images[0])} and test images {_size(test.images[0])}; "
            "make them alike, with resolution and channels"
        )
    highest = max(int(split.labels.max()) for split in splits)
    names = _names(class_names, highest)
    if not _is_name(name):
        raise DataError(f"the data cannot be called {quoted(name)}; pass a name")
    train, test = (
        Split(split.images.contiguous(), split.labels.contiguous()) for split in (train, test)
    )
    return SourceDataset(name, names, train, test, fingerprint(train, test), in_memory=True)


def _names(given: Sequence[str] | None, highest: int) -> tuple[str, ...]:
    if given is None:
        return tuple(str(number) for number in range(highest + 1))
    names = tuple(given)
    if isinstance(given, str) or not all(map(_is_name, names)):
        raise DataError(f"class_names are {quoted(given)}; pass a list of names")
    if highest >= len(names):
        raise DataError(
            f"there are {len(names)} class names, and a label is {highest}; name every class"
        )
    twice = next((one for place, one in enumerate(names) if one in names[:place]), None)
    if twice is not None:
        raise DataError(f"two classes are called {quoted(twice)}; give each a name of its own")
    return names


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= 255 and is_text(name) and "\x00" not in name


def _innermost(dataset: Dataset[Any]) -> Dataset[Any]:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    return dataset


def _size(image: Tensor) -> str:
    channels, height, width = image.shape
    return f"{width}x{height} with {channels} channel{'s' if channels != 1 else ''}"


def _kind(value: Any) -> str:
    return f"an object of type {type(value).__name__}"
