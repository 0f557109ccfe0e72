"""The training set as the outer problem draws from it."""

from __future__ import annotations

import torch
from torch import Tensor

from potstill import rng
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, centred_one_hot, sample_per_class
from potstill.hardware import sent
from potstill.methods.coresets.choose import chosen_rows
from potstill.methods.method import Session
from potstill.methods.rcig.settings import RCIGSettings
from potstill.methods.recipe import Recipe, method_of
from potstill.teacher import Teacher

# Preprocessed images of more bytes than this are made anew for every batch.
CACHE_BYTES = 2 << 30


class TargetImages:
    """Random batches of preprocessed training images.

    Args:
        source: its training split is drawn from.
        preprocess: pixels to network inputs.
    """

    def __init__(
        self, source: SourceDataset, preprocess: Preprocess, seed: int, device: torch.device
    ) -> None:
        self._pixels, self._preprocess = source.train.images, preprocess
        self._labels = source.train.labels.to(device)
        self._seed, self._device = seed, device
        small = self._pixels.numel() * 4 <= CACHE_BYTES
        self._ready = preprocess.apply(self._pixels.to(device)) if small else None

    def batch(self, size: int, iteration: int) -> tuple[Tensor, Tensor]:
        """(b, c, h, w) float32 and (b,) int64, drawn without repeats; b at most the set."""
        generator = rng.stream(self._seed, "rcig/target", iteration)
        total = len(self._labels)
        rows = torch.from_numpy(generator.choice(total, min(size, total), replace=False))
        places = sent(rows, self._device)
        labels = self._labels[places]
        if self._ready is not None:
            return self._ready[places], labels
        return self._preprocess.apply(sent(self._pixels[rows], self._device)), labels


def start(
    recipe: Recipe, source: SourceDataset, preprocess: Preprocess, session: Session
) -> tuple[Tensor, Tensor, Teacher | None]:
    """The first images (n, c, h, w) and labels (n, C), and the network a coreset is due to.

    Raises:
        DataError: a class has no images, or fewer than a start from real ones takes.
        NetworkError: a coreset's network has no features of images.
    """
    settings, per_class = method_of(recipe, RCIGSettings), recipe.images_per_class
    if settings.selection is not None:
        rows, teacher = chosen_rows(recipe, source, settings.selection, preprocess, session)
        return *_real(source, preprocess, rows), teacher
    if settings.start == "real":
        return *real_start(source, preprocess, per_class, recipe.seed), None
    return *noise_start(source, per_class, recipe.seed), None


def real_start(
    source: SourceDataset, preprocess: Preprocess, per_class: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Random real images of each class and their centred labels, (n, c, h, w) and (n, C)."""
    generator = rng.stream(seed, "rcig/start")
    rows = sample_per_class(source.train, source.classes, per_class, generator)
    return _real(source, preprocess, rows)


def noise_start(source: SourceDataset, per_class: int, seed: int) -> tuple[Tensor, Tensor]:
    """0.3 times standard normal noise, labelled as :func:`real_start`."""
    classes = torch.arange(source.classes).repeat_interleave(per_class)
    shape = (len(classes), source.channels, source.resolution, source.resolution)
    images = rng.normal(shape, rng.stream(seed, "rcig/start")).mul_(0.3)
    return images, centred_one_hot(classes, source.classes)


def _real(source: SourceDataset, preprocess: Preprocess, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The training images of these rows (n,), preprocessed, and their centred labels."""
    labels = centred_one_hot(source.train.labels[rows], source.classes)
    return preprocess.apply(source.train.images[rows]), labels
