"""The data sets a recipe can name, read into memory as 8-bit images.

========================================  ====================================================
``digits``                                scikit-learn's 8x8 digits, embedded
``mnist fashion_mnist cifar10 cifar100``  under the data root, in torchvision's folders
``tiny_imagenet cub200 imagenette``       image folders of that name under the data root,
``imagewoof imagenet64 imagenet1k``       resized to the side that the papers use
``image_folder``                          any image folder (``data.folder``)
========================================  ====================================================

What is known of each but the last stands in :data:`potstill.data.facts.DATASETS`.

``data.channels=1`` converts colour to gray. ``data.channels=3`` on images that are all gray is
refused: three equal channels cost three times the work and add nothing.

``data.train_images`` takes so many of the training images, as many of each class, and the others
are not seen by anything: neither by the preprocessing nor by a baseline. Which they are is the
same for every recipe and seed, so that several sets can be distilled from the same images.
``data.train_chunk`` takes another part of so many: parts 0, 1, ... share no image, so that sets
distilled from them are independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from potstill import rng
from potstill.config import DataRecipe
from potstill.data import image_folder, pixels, torchvision_sets
from potstill.data.facts import DATASETS, DatasetInfo
from potstill.data.source import IN_MEMORY, SourceDataset, Split, fingerprint, sample_per_class
from potstill.data.survey import Survey
from potstill.errors import DataError
from potstill.files import expanded
from potstill.progress import Progress, silent
from potstill.quoting import quoted

__all__ = ["SourceDataset", "Split", "fingerprint", "load", "names", "sample_per_class"]

_Parts = tuple[tuple[str, ...], Split, Split]


def names() -> tuple[str, ...]:
    """Every value ``data.dataset`` may have."""
    return (*DATASETS, "image_folder")


def load(
    recipe: DataRecipe,
    root: Path | str | None = None,
    *,
    download: bool = False,
    require_test: bool = True,
    surveyed: Callable[[Survey], None] | None = None,
    progress: Progress = silent,
) -> SourceDataset:
    """Read the recipe's data set.

    Args:
        recipe: ``dataset``, ``folder``, ``train_images``, ``train_chunk``, ``resolution``,
            ``channels``, ``train_squashed`` and ``test_resize`` are used.
        root: the data root; ``digits`` needs none, nor does a folder that is found without.
        download: fetch a published data set that is absent.
        require_test: refuse an image folder without test images; otherwise its test split is
            empty, and only then.
        surveyed: given what was found in a folder of images, once it is read.
        progress: told of every image of a folder.

    Raises:
        DataError: one line that says what is missing, damaged or does not fit, and the remedy.
    """
    name = recipe.dataset
    root = None if root is None else expanded(root, DataError)
    if name == IN_MEMORY:
        raise DataError(
            "the data was in the memory of the Python script that distilled it, and no file holds "
            "it; pass the data to potstill's functions in Python"
        )
    if name not in names():
        raise DataError(f"unknown data set {quoted(name)}; choose one of {', '.join(names())}")
    if recipe.folder is not None and name != "image_folder":
        raise DataError(
            f"data.folder is for image_folder, not for {name}; remove it, or set "
            "data.dataset to image_folder"
        )
    info = DATASETS.get(name)
    if (recipe.train_squashed or recipe.test_resize) and info and info.reader != "image folder":
        raise DataError(
            f"data.train_squashed and data.test_resize are for folders of images, not for {name}; "
            "remove them"
        )
    if info is None or info.reader == "image folder":
        folder = _folder(recipe, root)
        survey = Survey(folder)
        class_names, train, test = image_folder.read(
            folder,
            resolution=recipe.resolution or (info.resolution if info else None),
            channels=recipe.channels,
            train_squashed=recipe.train_squashed,
            test_resize=recipe.test_resize,
            require_test=require_test,
            survey=survey,
            progress=progress,
        )
        if surveyed is not None:
            surveyed(survey)
        name = name if info else folder.resolve().name
    else:
        class_names, train, test = (
            _digits()
            if info.reader == "embedded"
            else torchvision_sets.read(name, _root(name, root, download), download=download)
        )
        train, test = (_fit_recipe(name, split, recipe) for split in (train, test))
    if recipe.train_images is not None:
        train = _chunk(name, train, len(class_names), recipe.train_images, recipe.train_chunk)
    return SourceDataset(name, class_names, train, test, fingerprint(train, test))


def own_facts(recipe: DataRecipe, root: Path | None) -> DatasetInfo:
    """What a folder of one's own holds, told from its files' names alone, as estimates need it.

    Raises:
        DataError: it is not there or has no classes, or the recipe names no side for its images.
    """
    folder = _folder(recipe, root)
    if recipe.resolution is None:
        raise DataError("data.resolution is not set, and only reading the images tells their side")
    classes, training, test = image_folder.sizes(folder)
    return DatasetInfo(
        title=folder.name,
        classes=classes,
        channels=recipe.channels or 3,
        resolution=recipe.resolution,
        training=recipe.train_images or training,
        test=test,
        reader="image folder",
        folder=str(folder),
    )


def _chunk(name: str, train: Split, classes: int, images: int, chunk: int) -> Split:
    """Part ``chunk`` of so many training images, as many of each class, in the order they had."""
    per_class, rest = divmod(images, classes)
    if rest:
        raise DataError(
            f"{images} training images are not balanced over the {classes} classes of {name}; "
            f"set data.train_images to a multiple of {classes}"
        )
    smallest = int(torch.bincount(train.labels, minlength=classes).min())
    if per_class > smallest:
        raise DataError(
            f"{name} has a class of {smallest} training images, fewer than the {per_class} that "
            f"data.train_images={images} takes; set it to {classes * smallest} at most"
        )
    if (chunk + 1) * per_class > smallest:
        raise DataError(
            f"{name} has a class of {smallest} training images, enough for {smallest // per_class} "
            f"parts of {images}; set data.train_chunk to {smallest // per_class - 1} at most"
        )
    left = torch.arange(len(train))
    for number in range(chunk + 1):
        # Of no recipe's seed: runs that differ in it are about the same images.
        generator = rng.stream(0, "data/subset", number)
        unused = Split(left, train.labels[left])  # rows in place of images
        rows = left[sample_per_class(unused, classes, per_class, generator).sort().values]
        left = left[torch.isin(left, rows, invert=True)]
    return Split(train.images[rows], train.labels[rows])


def _digits() -> _Parts:
    """scikit-learn's digits: pixels 0 to 16 scaled to 0 to 255 and rounded.

    The split is the library's own: of each class, in the order of the file, every fifth image
    is a test image (the 5th, 10th, ...).
    """
    from sklearn.datasets import load_digits

    document = load_digits()
    images = torch.from_numpy(document.images).mul(255 / 16).round().to(torch.uint8).unsqueeze(1)
    labels = torch.from_numpy(document.target).to(torch.int64)
    rank = torch.empty_like(labels)
    for label in range(10):
        members = labels == label
        rank[members] = torch.arange(int(members.sum()))
    test = rank % 5 == 4
    train = Split(images[~test], labels[~test])
    return tuple(str(digit) for digit in range(10)), train, Split(images[test], labels[test])


def _fit_recipe(name: str, split: Split, recipe: DataRecipe) -> Split:
    images = split.images
    if recipe.channels == 3 and images.shape[1] == 1:
        raise DataError(f"{name} is grayscale; the recipe asks for 3 channels; set data.channels=1")
    if recipe.channels == 1 and images.shape[1] == 3:
        images = pixels.luma(images)
    if recipe.resolution is not None:
        images = pixels.resize(images, recipe.resolution)
    return Split(images, split.labels)


def _folder(recipe: DataRecipe, root: Path | None) -> Path:
    """Where an image folder lies: relative to the data root if there is one."""
    if recipe.dataset in DATASETS:
        return _root(recipe.dataset, root) / DATASETS[recipe.dataset].folder
    if recipe.folder is None:
        raise DataError(
            "image_folder needs data.folder, the folder that holds train/ and test/; set it"
        )
    folder = expanded(recipe.folder, DataError)
    if root is None or folder.is_absolute():
        return folder
    return expanded(_root("image_folder", root) / folder, DataError)


def _root(name: str, root: Path | None, download: bool = False) -> Path:
    if root is None:
        raise DataError(
            f"{name} is read from a data root and none is given; pass --data-root, "
            "or set POTSTILL_DATA_ROOT"
        )
    if not root.is_dir() and not download:
        raise DataError(
            f"data root {root} is not a folder; create it, or pass another with --data-root"
        )
    return root
