"""Random views of batches of images: crops, flips, rolls, and mixtures of two images.

Images are (n, c, h, w) floats in network space, of one dtype in and out. Every view is a pure
function of the images and of a NumPy generator, drawn on the CPU, so that a named stream gives
the same view on every device; and it is differentiable in the images, backwards in an order of
additions that is always the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.operations import cropped
from potstill.data.preprocess import Preprocess, Standardise
from potstill.hardware import sent

# Draws of a crop that may miss the image before the largest crop is taken (torchvision's number).
_ATTEMPTS = 10


@dataclass(frozen=True)
class Mix:
    """Each image of a batch mixed with a partner from the same batch.

    images: (n, c, h, w). partners: (n,) int64, the places of the partners. share: the weight of
    an image's own label, ``1 - share`` that of its partner's.
    """

    images: Tensor
    partners: Tensor
    share: float


def fill_value(preprocess: Preprocess) -> Tensor:
    """A black pixel in network space, (c,) float32: what crops have around the image.

    Whitening has no one value for black; whitened images get 0, the mean image.
    """
    if isinstance(preprocess, Standardise):
        return (-preprocess.mean / preprocess.std).float()
    return torch.zeros(len(preprocess.mean))


def random_crop(
    images: Tensor, padding: int, fill: Tensor, generator: np.random.Generator
) -> Tensor:
    """Move each image by up to ``padding`` pixels in each axis, the rest is ``fill`` (c,).

    The same as padding every side and cropping to the old size at a uniformly random place.
    """
    corner = torch.from_numpy(generator.integers(0, 2 * padding + 1, (2, len(images))))
    return cropped(images, sent(corner, images.device), padding, fill)


def random_flip(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Mirror each image left to right with probability 1/2."""
    mirrored = sent(torch.from_numpy(generator.random(len(images)) < 0.5), images.device)
    return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)


def random_resized_crop(
    images: Tensor,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    shared: bool = False,
) -> Tensor:
    """Cut a random rectangle out of each image and resize it, bilinearly, to the old size.

    The law is torchvision's RandomResizedCrop: the rectangle's share of the image is uniform in
    ``scale``, the logarithm of width over height in that of ``ratio``; a rectangle that does not
    fit is drawn again, ten times at most, and then the largest of an allowed ratio is taken.
    A crop is never larger than the image, so there is nothing to antialias.

    Interpolation is linear in each axis: Y X Z^T with a matrix for the rows and one for the
    columns of each image. The device makes them of the places that each row and column is taken
    from, which are all that is copied there.

    Args:
        shared: one rectangle for the whole batch.
    """
    height, width = images.shape[2:]
    count = 1 if shared else len(images)
    top, left, rows, columns = _rectangles(count, (height, width), scale, ratio, generator)
    places = np.concatenate([_places(top, rows, height), _places(left, columns, width)], 1)
    on_device = sent(torch.from_numpy(places), images.device).split([height, width], 1)
    down, across = (_interpolation(axis, images.dtype) for axis in on_device)
    with torch.autocast(images.device.type, enabled=False):
        return down[:, None] @ images @ across[:, None].mT


def roll(
    images: Tensor, limit: int, generator: np.random.Generator, backwards: int | None = None
) -> Tensor:
    """Shift the whole batch cyclically, by one of -backwards..limit pixels in each axis.

    Args:
        backwards: ``limit`` if None.
    """
    lowest = -limit if backwards is None else -backwards
    down, across = generator.integers(lowest, limit + 1, 2).tolist()
    return images.roll((down, across), (2, 3))


def mixup(images: Tensor, generator: np.random.Generator, alpha: float) -> Mix:
    """Blend images with partners, one share from Beta(alpha, alpha) for the whole batch."""
    share = float(generator.beta(alpha, alpha))
    partners = _partners(images, generator)
    return Mix(share * images + (1 - share) * images[partners], partners, share)


def cutmix(images: Tensor, generator: np.random.Generator, alpha: float) -> Mix:
    """Paste one rectangle of each partner into each image, at its own place.

    The rectangle has the image's shape and 1 - Beta(alpha, alpha) of its area, its centre lies
    anywhere in the image, and what hangs over the edge is lost; ``share`` is what is left of the
    image. One rectangle for the batch, as in the field.
    """
    height, width = images.shape[2:]
    side = math.sqrt(1 - generator.beta(alpha, alpha))
    partners = _partners(images, generator)
    inside = [torch.zeros(size, dtype=torch.bool) for size in (height, width)]
    for mask in inside:
        size, centre = int(len(mask) * side), int(generator.integers(len(mask)))
        mask[max(0, centre - size // 2) : max(0, centre + size // 2)] = True
    pasted = inside[0][:, None] & inside[1]
    mixed = torch.where(sent(pasted, images.device), images[partners], images)
    return Mix(mixed, partners, 1 - int(pasted.sum()) / (height * width))


def _partners(images: Tensor, generator: np.random.Generator) -> Tensor:
    return sent(torch.from_numpy(generator.permutation(len(images))), images.device)


def _rectangles(
    count: int,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], ...]:
    """Rectangles in an image of ``size``: top, left, height and width, each (count,)."""
    height, width = size
    area = generator.uniform(scale[0], scale[1], (count, _ATTEMPTS)) * (height * width)
    form = np.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1]), area.shape))
    rows = np.rint(np.sqrt(area / form)).astype(np.int64)
    columns = np.rint(np.sqrt(area * form)).astype(np.int64)
    fits = (rows >= 1) & (columns >= 1) & (rows <= height) & (columns <= width)
    first, chosen = fits.argmax(1), np.arange(count)
    allowed = min(max(width / height, ratio[0]), ratio[1])
    largest = [
        max(1, round(x)) for x in (min(height, width / allowed), min(width, height * allowed))
    ]
    rows = np.where(fits.any(1), rows[chosen, first], largest[0])
    columns = np.where(fits.any(1), columns[chosen, first], largest[1])
    top = generator.integers(0, height - rows + 1)
    left = generator.integers(0, width - columns + 1)
    return top, left, rows, columns


def _places(start: NDArray[np.int64], length: NDArray[np.int64], size: int) -> NDArray[Any]:
    """Where the ``size`` pixels that ``length`` from ``start`` are stretched to are taken from.

    Pixel i of the result lies at (i + 1/2) length / size - 1/2 within the cut, and beyond its
    first and last pixel the cut goes on as it ends (``align_corners=False``): (k, size) float64.
    """
    place = (np.arange(size) + 0.5) * (length / size)[:, None] - 0.5
    found: NDArray[Any] = start[:, None] + np.clip(place, 0, length[:, None] - 1)
    return found


def _interpolation(places: Tensor, dtype: torch.dtype) -> Tensor:
    """Places (k, size) float64 -> matrices (k, size, size): each row has the two pixels beside it.

    Their weights, 1 - the distance, are rounded once, to ``dtype``.
    """
    size = places.shape[1]
    first = places.floor().long().clamp_(max=max(size - 2, 0))
    pixels = torch.stack([first, (first + 1).clamp_(max=size - 1)], 2)
    weights = (1 - (places[..., None] - pixels).abs()).to(dtype)
    matrices = torch.zeros(*places.shape, size, dtype=dtype, device=places.device)
    return matrices.scatter_(2, pixels, weights)
