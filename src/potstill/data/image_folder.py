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

from potstill.data import pixels, statistics
from potstill.data.listing import Listing, class_files, require_text
from potstill.data.pixels import Fit, Seen
from potstill.data.source import Split
from potstill.data.survey import Survey
from potstill.errors import DataError
from potstill.progress import Progress, silent
from potstill.quoting import listed

_FILES_PER_TASK = 128
_MOST_THREADS = 8
_READING = "reading images"
_ANY_SIDE = 32


def read(
    folder: Path,
    *,
    resolution: int | None,
    channels: int | None,
    train_squashed: bool = False,
    test_resize: int | None = None,
    require_test: bool = True,
    survey: Survey | None = None,
    progress: Progress = silent,
) -> tuple[tuple[str, ...], Split, Split]:
    """Class names in sorted order, training and test split of a folder of images.

    Images come class by class, in the order of their paths. Files of other kinds and hidden
    ones are passed over (:mod:`potstill.data.listing`); folders within a class folder are searched.
    A test split that need not be there and is not is empty.

    Args:
        folder: holds ``train`` and ``test`` (or ``val``), each with one folder per class.
        resolution: side to resize to; if None, all images must be squares of one size.
        channels: 1 converts to gray, 3 asks for RGB; if None, 1 if every image is gray, else 3.
        train_squashed: squeeze training images into the square whole, whatever their form.
        test_resize: resize test images to this side before their middle is cut out.
        require_test: refuse a folder without a test split.
        survey: is told what was found, also where that is refused.
        progress: told of every image.

    Raises:
        DataError: a folder or split is missing, has no classes, an empty class or other classes
            than its companion; images cannot be read (all are counted, the first ones named) or
            one has another size; or every image is gray and 3 channels are asked for; or
            ``test_resize`` is less than the side.
    """
    train_fit, test_fit = _fits(resolution, train_squashed, test_resize)
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check data.folder and data root")
    require_text(folder.resolve())
    train_files = class_files(_split_folder(folder, ("train",)))
    names = tuple(train_files.classes)
    test_files = Listing()
    if require_test or any((folder / name).is_dir() for name in ("test", "val")):
        test_files = class_files(_split_folder(folder, ("test", "val")))
    survey = survey or Survey(folder)
    survey.skipped.update(train_files.skipped + test_files.skipped)
    survey.classes = {
        name: (len(train_files.classes.get(name, ())), len(test_files.classes.get(name, ())))
        for name in sorted({*names, *test_files.classes})
    }
    if test_files.classes:
        _compare(folder, names, tuple(test_files.classes))

    files = [
        (path, fit)
        for listing, fit in ((train_files, train_fit), (test_files, test_fit))
        for path in listing.files
    ]
    images = torch.from_numpy(_decode(files, channels, survey, progress))
    if channels == 3 and images.shape[1] == 1:
        raise DataError(
            f"every image in {folder} is grayscale; the recipe asks for 3 channels; "
            "set data.channels=1"
        )
    count = len(train_files.files)
    train = Split(images[:count], _labels(train_files))
    return names, train, Split(images[count:], _labels(test_files))


def check(
    folder: Path,
    *,
    resolution: int | None,
    channels: int | None,
    progress: Progress = silent,
) -> Survey:
    """What :func:`read` would find in a folder, which may be no more than class folders.

    Images that cannot be read are all named, and what else stands in the way is said, not raised.

    Args:
        folder: holds ``train`` and perhaps ``test`` (or ``val``), each with one folder per class.
        resolution: side to resize to.
        channels: 1 converts to gray, 3 asks for RGB.
        progress: told of every image.

    Returns:
        A survey, with statistics of the training images if all can be read.

    Raises:
        DataError: the folder does not exist.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check the path")
    survey = _checked(folder, resolution, channels, progress)
    if resolution is not None or survey.problem is None:
        return survey
    # It ends where sizes differ. At one size all images are seen.
    whole = _checked(folder, _ANY_SIDE, channels, progress)
    if whole.problem is None:
        whole.problem, whole.shape, whole.mean, whole.std = survey.problem, None, None, None
    return whole


def _checked(
    folder: Path, resolution: int | None, channels: int | None, progress: Progress
) -> Survey:
    survey = Survey(folder)
    try:
        _, train, _ = read(
            folder,
            resolution=resolution,
            channels=channels,
            require_test=False,
            survey=survey,
            progress=progress,
        )
        survey.mean, survey.std = (
            tuple(each.tolist()) for each in statistics.channel_statistics(train.images)
        )
        _, colours, height, width = train.images.shape
        survey.shape = (colours, height, width)
    except DataError as error:
        survey.problem = str(error)
    return survey


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
    found, fit = class_files(folder), Fit(resolution)
    images = _decode([(path, fit) for path in found.files], channels, Survey(folder), silent)
    return tuple(found.classes), Split(torch.from_numpy(images), _labels(found))


def sizes(folder: Path) -> tuple[int, int, int]:
    """Number of classes, of training and of test images of a folder, told from its files' names.

    Raises:
        DataError: as :func:`read`, but for what only opening an image shows.
    """
    if not folder.is_dir():
        raise DataError(f"image folder {folder} does not exist; check data.folder and data root")
    train = class_files(_split_folder(folder, ("train",)))
    tested = any((folder / name).is_dir() for name in ("test", "val"))
    test = class_files(_split_folder(folder, ("test", "val"))) if tested else Listing()
    return len(train.classes), len(train.files), len(test.files)


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


def _labels(listing: Listing) -> torch.Tensor:
    counts = torch.tensor([len(paths) for paths in listing.classes.values()], dtype=torch.int64)
    return torch.arange(len(counts)).repeat_interleave(counts)


@contextmanager
def _no_second_word() -> Iterator[None]:
    """Pillow does not warn: what it cannot read is refused, and the error says why."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_no_second_word()
def _decode(
    files: Sequence[tuple[Path, Fit]], channels: int | None, survey: Survey, progress: Progress
) -> np.ndarray:
    """Decode all files, in threads but in order: (n, c, h, w) uint8, c = 1 if all are gray.

    All are fitted to squares of one side, or none is.
    """
    side = files[0][1].side
    if side is not None:
        pixels.require_room(len(files), 1, side)
    Image.init()  # loads Pillow's plugins, which threads must not do at the same time
    _require_possible(files, channels)
    result: np.ndarray | None = None
    first = files[0][0]
    for index, found in enumerate(_in_order(files, channels)):
        path = files[index][0]
        progress(_READING, index + 1, len(files))
        if isinstance(found, str):
            survey.broken.append((path, found))
            continue
        image, seen = found
        _count(survey, seen)
        height, width = image.shape[1:]
        if result is None:
            first = path
            _require_square(path, image)
            result = np.empty((len(files), 1, height, width), dtype=np.uint8)
        if image.shape[1:] != result.shape[2:]:
            raise DataError(
                f"{path} is {width}x{height} but {first} is {result.shape[3]}x{result.shape[2]}; "
                "set data.resolution to resize all images"
            )
        if len(image) > result.shape[1]:
            pixels.require_room(len(files), len(image), height)
            result = result.repeat(3, axis=1)
        result[index] = image
    if survey.broken or result is None:
        raise DataError(_unreadable(survey.broken, len(files)))
    return result


def _require_possible(files: Sequence[tuple[Path, Fit]], channels: int | None) -> None:
    """Refuse what the first image tells already, before all the others are read."""
    found = _read(*files[0], channels)
    if not isinstance(found, str):
        image, _ = found
        _require_square(files[0][0], image)
        pixels.require_room(len(files), *image.shape[:2])


def _require_square(path: Path, image: np.ndarray) -> None:
    height, width = image.shape[1:]
    if height != width:
        raise DataError(
            f"{path} is {width}x{height}, not square; set data.resolution to crop and resize"
        )


def _count(survey: Survey, seen: Seen) -> None:
    survey.formats[seen.format] += 1
    survey.modes[seen.mode] += 1
    survey.sizes[seen.size] += 1
    survey.turned += seen.turned


def _unreadable(broken: Sequence[tuple[Path, str]], files: int) -> str:
    """What to say of images that cannot be read: of one, why; of several, which."""
    if len(broken) == 1:
        path, reason = broken[0]
        return f"cannot read image {path} ({reason}); replace or remove the file"
    named = listed([f"{path} ({reason})" for path, reason in broken])
    return (
        f"cannot read {len(broken):,} of {files:,} images: {named}; replace or remove these files "
        "(potstill data check FOLDER lists all)"
    )


def _in_order(
    files: Sequence[tuple[Path, Fit]], channels: int | None
) -> Iterator[tuple[np.ndarray, Seen] | str]:
    def task(start: int) -> list[tuple[np.ndarray, Seen] | str]:
        return [_read(*file, channels) for file in files[start : start + _FILES_PER_TASK]]

    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as pool:
        for images in pool.map(task, range(0, len(files), _FILES_PER_TASK)):
            yield from images


def _read(path: Path, fit: Fit, channels: int | None) -> tuple[np.ndarray, Seen] | str:
    """The image, or why it cannot be read."""
    try:
        return pixels.read(path, fit, channels)
    # Pillow answers broken files with exceptions of a dozen types.
    except Exception as error:
        told = error.strerror if isinstance(error, OSError) else None
        return " ".join((told or str(error)).split()) or type(error).__name__
