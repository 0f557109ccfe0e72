"""The augmentation of the evaluation (RCIG, Appendix C), on images in network space.

One operation is drawn for each image: flip (half of the time), colour, zoom-crop,
rotation, translation or cutout; for one-channel images flip and colour are left out.
What comes from outside the image is the nearest pixel of its edge; what is cut out is 0, the
mean of standardised data. The paper says neither how many operations there are nor what lies
outside: both are as its authors ran it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.operations import colour, rotation, warp
from potstill.hardware import sent

GEOMETRY = ("zoom", "rotate", "translate", "cutout")
OPERATIONS = ("flip", "colour", *GEOMETRY)

BRIGHTNESS = 0.25
LOG_CONTRAST = 0.25
LOG_SATURATION = 0.25
ZOOM = 1.25
DEGREES = 15.0
TRANSLATION = 0.125
OUTSIDE: Final = "border"
"""What lies outside an image: the nearest pixel of its edge."""
HOLE = 4
"""The side of a hole is the image's divided by this."""


@dataclass(frozen=True)
class Draw:
    """What happens to each of n images; the defaults of the fields change nothing."""

    operation: NDArray[np.int64]
    """(n,) places in ``OPERATIONS``."""
    matrix: NDArray[Any]
    """(n, 2, 3) from a place in the result to the place it is taken from, in [-1, 1]^2."""
    brightness: NDArray[Any]
    """(n,) added; 0 changes nothing."""
    contrast: NDArray[Any]
    """(n,) factor of the distance from the image's mean; 1 changes nothing."""
    saturation: NDArray[Any]
    """(n,) factor of the distance from each pixel's grey; 1 changes nothing."""
    hole: NDArray[Any]
    """(n, 2) row and column of the hole's corner, as fractions of where it can be; NaN: none."""


def augment(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Images (n, c, h, h) float -> images (n, c, h, h), each with one operation applied."""
    return apply(images, draw(len(images), images.shape[1], generator))


def draw(n: int, channels: int, generator: np.random.Generator) -> Draw:
    """One operation and its parameters for each of ``n`` images of ``channels`` channels."""
    colour = channels > 1
    first = 0 if colour else OPERATIONS.index(GEOMETRY[0])
    operation = generator.integers(first, len(OPERATIONS), n)
    unit = generator.uniform(-1, 1, (n, 3))
    hit = {name: operation == index for index, name in enumerate(OPERATIONS)}
    return Draw(
        operation,
        _matrices(hit, unit),
        np.where(hit["colour"], BRIGHTNESS * unit[:, 0], 0.0),
        np.where(hit["colour"], np.exp(LOG_CONTRAST * unit[:, 1]), 1.0),
        np.where(hit["colour"], np.exp(LOG_SATURATION * unit[:, 2]), 1.0),
        np.where(hit["cutout"][:, None], (unit[:, :2] + 1) / 2, np.nan),
    )


def apply(images: Tensor, draw: Draw) -> Tensor:
    """``images`` (n, c, h, h) after what ``draw`` says; the argument is left alone.

    What is drawn goes to the images' device in two pieces, places and factors: on a card each
    copy is a wait.
    """
    images = images.clone()
    warps = np.flatnonzero((draw.matrix != np.eye(2, 3)).any((1, 2)))
    colours = np.flatnonzero((draw.brightness != 0) | (draw.contrast != 1) | (draw.saturation != 1))
    cuts = np.flatnonzero(~np.isnan(draw.hole[:, 0]))
    side = max(1, images.shape[-1] // HOLE)
    free = images.shape[-1] - side + 1
    corners = np.minimum(draw.hole[cuts] * free, free - 1).astype(np.int64)
    warped, coloured, cut, corner = _sent(images, torch.int64, [warps, colours, cuts, corners])
    matrix, *factors = _sent(
        images,
        images.dtype,
        [draw.matrix[warps]]
        + [x[colours] for x in (draw.brightness, draw.contrast, draw.saturation)],
    )
    if len(warps):
        images[warped] = warp(images[warped], matrix, outside=OUTSIDE)
    if len(colours):
        images[coloured] = colour(images[coloured], *(x.view(-1, 1, 1, 1) for x in factors))
    if len(cuts):
        images[cut] = images[cut].masked_fill(_hole(corner, side, images.shape[-1]), 0.0)
    return images


def _sent(images: Tensor, dtype: torch.dtype, arrays: list[NDArray[Any]]) -> list[Tensor]:
    """The arrays as ``dtype`` on the device of ``images``, in one copy."""
    flat = torch.from_numpy(np.concatenate([array.reshape(-1) for array in arrays])).to(dtype)
    parts = sent(flat, images.device).split([array.size for array in arrays])
    return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


def _matrices(hit: dict[str, NDArray[Any]], unit: NDArray[Any]) -> NDArray[Any]:
    """Unit (n, 3) in [-1, 1] -> (n, 2, 3).

    Zoom is log-uniform in [1/ZOOM, ZOOM]; its window lies anywhere inside the image
    (zooming in) or has the image anywhere inside it (zooming out).
    """
    matrix = np.tile(np.eye(2, 3), (len(unit), 1, 1))
    matrix[hit["flip"] & (unit[:, 0] < 0), 0, 0] = -1

    side = np.exp(-np.log(ZOOM) * unit[:, 0])[:, None, None]
    zoomed = np.concatenate([side * np.eye(2), np.abs(1 - side) * unit[:, 1:3, None]], 2)
    matrix[hit["zoom"]] = zoomed[hit["zoom"]]

    angle = np.deg2rad(DEGREES) * unit[:, 0]
    matrix[hit["rotate"]] = rotation(angle)[hit["rotate"]]

    matrix[hit["translate"], :, 2] = 2 * TRANSLATION * unit[hit["translate"], :2]
    return matrix


def _hole(corner: Tensor, side: int, resolution: int) -> Tensor:
    """Where squares with these corners (m, 2) lie, (m, 1, h, h) bool."""
    distance = torch.arange(resolution, device=corner.device) - corner[:, :, None]  # (m, 2, h)
    inside = (distance >= 0) & (distance < side)
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
