"""Any folder of images: ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (or ``val/``)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from potstill.data import pixels
from potstill.data.pixels import Fit
from potstill.data.source import Split
from potstill.errors import DataError
from potstill.quoting import is_text, quoted

_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_FILES_PER_TASK = 128
_MOST_THREADS = 8


def read(
    folder: Path,
    *,
    resolution: int | None,
    channels: int | None,
    train_squashed: bool = False,
    test_resize: int | None = None,
    require_test: bool = True,
) -> tuple[tuple[str, ...], Split, Split]:
    """Class names in sorted order, training and test split of a folder of images.

    Images come class by class, in the order of their paths. Files of other kinds and hidden
    ones are passed over; folders within a class folder are searched. A test split that need not
    be there and is not is empty.

    Args:
        folder: holds ``train`` and ``test`` (or ``val``), each with one folder per class.
        resolution: side to resize to; if None, all images must be squares of one size.
        channels: 1 converts to gray, 3 asks for RGB; if None, 1 if every image is gray, else 3.
        train_squashed: squeeze training images into the square whole, whatever their form.
        test_resize: resize test images to this side before their middle is cut out.
        require_test: refuse a folder without a test split.

    Raises:
        DataError: a folder or split is missing, has no classes, an empty class or other classes
            than its companion; an image cannot be read or has another size; or every image is
            gray and 3 channels are asked for; or ``test_resize`` is less than the side.
    """
    train_fit, test_fit = _fits(resolution, train_squashed, test_resize)
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check data.folder and data root")
    _require_text(folder.resolve())
    train_files = _class_files(_split_folder(folder, ("train",)))
    names = tuple(train_files)
    test_files: dict[str, list[Path]] = {}
    if require_test or any((folder / name).is_dir() for name in ("test", "val")):
        test_files = _class_files(_split_folder(folder, ("test", "val")))
        _compare(folder, names, tuple(test_files))

    files = [
        (path, fit)
        for split, fit in ((train_files, train_fit), (test_files, test_fit))
        for paths in split.values()
        for path in paths
    ]
    images = torch.from_numpy(_decode(files, channels))
    if channels == 3 and images.shape[1] == 1:
        raise DataError(
            f"every image in {folder} is grayscale; the recipe asks for 3 channels; "
            "set data.channels=1"
        )
    count = sum(map(len, train_files.values()))
    train = Split(images[:count], _labels(train_files))
    return names, train, Split(images[count:], _labels(test_files))


def read_classes(
    folder: Path, *, resolution: int | None, channels: int | None = None
) -> tuple[tuple[str, ...], Split]:
    """Class names in sorted order and the images of a folder ``CLASS/*.jpg``, without splits.

    Arguments and order are those of :func:`read`.

    Raises:
        DataError: as :func:`read`.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check the path")
    files, fit = _class_files(folder), Fit(resolution)
    images = _decode([(path, fit) for paths in files.values() for path in paths], channels)
    return tuple(files), Split(torch.from_numpy(images), _labels(files))


def sizes(folder: Path) -> tuple[int, int, int]:
    """Number of classes, of training and of test images of a folder, told from its files' names.

    Raises:
        DataError: as :func:`read`, but for what only opening an image shows.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check data.folder and data root")
    train = _class_files(_split_folder(folder, ("train",)))
    tested = any((folder / name).is_dir() for name in ("test", "val"))
    test = _class_files(_split_folder(folder, ("test", "val"))) if tested else {}
    return len(train), sum(map(len, train.values())), sum(map(len, test.values()))


def _fits(side: int | None, train_squashed: bool, test_resize: int | None) -> tuple[Fit, Fit]:
    """What becomes of training and of test images."""
    if test_resize is None:
        return Fit(side, train_squashed), Fit(side)
    if side is None or test_resize < side:
        raise DataError(
            f"data.test_resize is {test_resize}, and the middle of {side or 'no'} px is cut out "
            "of that; set data.resolution to less, or leave test_resize out"
        )
    return Fit(side, train_squashed), Fit(side, share=side / test_resize)


def _split_folder(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    wanted = " or ".join(f"{name}/" for name in names)
    raise DataError(
        f"image folder {folder} has no {wanted} in it; put one folder per class into {wanted}"
    )


def _class_files(split: Path) -> dict[str, list[Path]]:
    """The image files of each class, classes and files sorted."""
    try:
        classes = sorted(
            entry.name for entry in split.iterdir() if entry.is_dir() and entry.name[0] != "."
        )
        for name in classes:
            _require_text(split / name)
        found = {name: _images_below(split / name) for name in classes}
    except OSError as error:
        raise DataError(
            f"cannot read folder {error.filename}: {error.strerror}; check its permissions"
        ) from None
    if not found:
        raise DataError(f"{split} has no class folders; put the images of each class into one")
    for name, files in found.items():
        if not files:
            kinds = ", ".join(_SUFFIXES)
            raise DataError(
                f"class folder {split / name} holds no images ({kinds}); add some, or remove it"
            )
    return found


def _require_text(path: Path) -> None:
    """Refuse the name of a folder that would become the name of a class or of the data."""
    if not is_text(path.name):
        raise DataError(f"the name of folder {quoted(str(path))} is not UTF-8; rename it")


def _images_below(folder: Path) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and name.lower().endswith(_SUFFIXES)
        ]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _compare(folder: Path, train: tuple[str, ...], test: tuple[str, ...]) -> None:
    if train == test:
        return
    parts = []
    for place, names in (("train", set(train) - set(test)), ("test", set(test) - set(train))):
        if names:
            listed = ", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "")
            parts.append(f"only in {place}: {listed}")
    raise DataError(
        f"the class folders of training and test images in {folder} differ ({'; '.join(parts)}); "
        "give both the same"
    )


def _labels(files: dict[str, list[Path]]) -> torch.Tensor:
    counts = torch.tensor([len(paths) for paths in files.values()], dtype=torch.int64)
    return torch.arange(len(files)).repeat_interleave(counts)


@contextmanager
def _no_second_word() -> Iterator[None]:
    """Pillow does not warn: what it cannot read is refused, and the error says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_no_second_word()
def _decode(files: Sequence[tuple[Path, Fit]], channels: int | None) -> np.ndarray:
    """Decode all files, in threads but in order: (n, c, h, w) uint8, c = 1 if all are gray.

    All are fitted to squares of one side, or none is.
    """
    paths, side = [path for path, _ in files], files[0][1].side
    if side is not None:
        pixels.require_room(len(files), 1, side)
    Image.init()  # loads Pillow's plugins, which threads must not do at the same time
    first = _read(*files[0], channels)
    height, width = first.shape[1:]
    if height != width:
        raise DataError(
            f"{paths[0]} is {width}x{height}, not square; set data.resolution to crop and resize"
        )
    pixels.require_room(len(files), len(first), height)
    result = np.empty((len(files), 1, height, width), dtype=np.uint8)
    for index, image in enumerate(_in_order(files, channels)):
        if image.shape[1:] != (height, width):
            raise DataError(
                f"{paths[index]} is {image.shape[2]}x{image.shape[1]} but {paths[0]} is "
                f"{width}x{height}; set data.resolution to resize all images"
            )
        if len(image) > result.shape[1]:
            pixels.require_room(len(files), len(image), height)
            result = result.repeat(3, axis=1)
        result[index] = image
    return result


def _in_order(files: Sequence[tuple[Path, Fit]], channels: int | None) -> Iterator[np.ndarray]:
    def task(start: int) -> list[np.ndarray]:
        return [_read(*file, channels) for file in files[start : start + _FILES_PER_TASK]]

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for images in pool.map(task, range(0, len(files), _FILES_PER_TASK)):
            yield from images


def _read(path: Path, fit: Fit, channels: int | None) -> np.ndarray:
    try:
        return pixels.read(path, fit, channels)
    # Pillow answers broken files with exceptions of a dozen types.
    except Exception as error:
        told = error.strerror if isinstance(error, OSError) else None
        reason = " ".join((told or str(error)).split()) or type(error).__name__
        raise DataError(
            f"cannot read image {path} ({reason}); replace or remove the file"
        ) from error
