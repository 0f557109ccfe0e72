"""Differentiable siamese augmentation: the same random view of real and synthetic images.

Zhao and Bilen, "Dataset Condensation with Differentiable Siamese Augmentation", ICML 2021. A draw
is one operation, uniform over a strategy, with its parameters; operations are never composed.
There are two ways to draw:

- siamese: one set of parameters, so that every image it is applied to, real or synthetic, in one
  batch or in several, is treated alike;
- for a batch: still one operation, with parameters of its own for each image. Networks that train
  on distilled images see them so.

Images are square, standardised, (n, c, h, h) floats. What comes from outside an image, and what
is cut out of it, is 0, the mean colour of standardised data. For a fixed draw every operation is
affine in each image. As run by the authors, a siamese draw was repeated by seeding PyTorch's
generator with the time in milliseconds; here it is an object, drawn from a named stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from potstill.data.operations import colour, cropped, rotation, warp
from potstill.hardware import sent

Operation = Literal["colour", "crop", "cutout", "flip", "scale", "rotate"]
Strategy = tuple[Operation, ...]
"""Operations to draw from, in the order of :data:`ALL`, on which draws depend."""

ALL: Strategy = ("colour", "crop", "cutout", "flip", "scale", "rotate")
WITHOUT_FLIP: Strategy = ("colour", "crop", "cutout", "scale", "rotate")

SCALE = 1.2
DEGREES = 15.0

# The mirror image of a digit is none.
_DIGITS = frozenset({"digits", "mnist"})


@dataclass(frozen=True)
class Draw:
    """An operation and its parameters.

    Attributes:
        operation: what is done.
        parameters: (1, k) for any number of images alike, or (n, k) for n images. colour: beta,
            kappa, gamma in [0, 1); crop: rows and columns to move by; cutout: row and column of
            the hole's centre; flip: whether to; scale: factors of x and y; rotate: degrees.
    """

    operation: Operation
    parameters: NDArray[Any]


def strategy_of(names: Iterable[str]) -> Strategy:
    """The operations of these names, each once, in the order that draws depend on.

    Raises:
        ValueError: no name, or one that is unknown.
    """
    given = list(names)
    unknown = [name for name in given if name not in ALL]
    if unknown or not given:
        found = f"unknown operation {unknown[0]!r}" if unknown else "no operation"
        raise ValueError(f"{found}; name some of {', '.join(ALL)}")
    return tuple(name for name in ALL if name in given)


def usual_strategy(dataset: str) -> Strategy:
    """What the field takes for the data set of this name: for digits no flip, else everything.

    Fashion-MNIST has all six. Without flip for MNIST is DSA's; whether DM's authors left it out
    too is not recorded.
    """
    return WITHOUT_FLIP if dataset in _DIGITS else ALL


def draw(strategy: Strategy, side: int, generator: np.random.Generator, count: int = 1) -> Draw:
    """One operation of ``strategy`` for images of ``side`` px, with ``count`` sets of parameters.

    A siamese draw has one. A batch of n images whose parameters are their own has n.
    """
    operation = strategy[int(generator.integers(len(strategy)))]
    return Draw(operation, _LAWS[operation](side, count, generator))


def apply(images: Tensor, draw: Draw) -> Tensor:
    """Images (n, c, h, h) -> (n, c, h, h) after ``draw``; differentiable in the images.

    The argument is left alone, and is what comes back where nothing is to be done.

    Raises:
        ValueError: parameters for another number of images.
    """
    if len(draw.parameters) not in (1, len(images)):
        raise ValueError(f"a draw for {len(draw.parameters)} images fits no {len(images)} images")
    return _EFFECTS[draw.operation](images, draw.parameters)


def _crop_law(side: int, count: int, generator: np.random.Generator) -> NDArray[Any]:
    reach = _crop_reach(side)
    return generator.integers(-reach, reach + 1, (count, 2))


def _cutout_law(side: int, count: int, generator: np.random.Generator) -> NDArray[Any]:
    return generator.integers(0, side + 1 - _hole_side(side) % 2, (count, 2))


_LAWS: Mapping[Operation, Callable[[int, int, np.random.Generator], NDArray[Any]]] = {
    "colour": lambda _, count, generator: generator.random((count, 3)),
    "crop": _crop_law,
    "cutout": _cutout_law,
    "flip": lambda _, count, generator: generator.random((count, 1)) < 0.5,
    "scale": lambda _, count, generator: generator.uniform(1 / SCALE, SCALE, (count, 2)),
    "rotate": lambda _, count, generator: generator.uniform(-DEGREES, DEGREES, (count, 1)),
}
"""(side, count, generator) -> parameters (count, k)."""


def _crop_reach(side: int) -> int:
    """floor(h / 8 + 1/2) px in each direction."""
    return (side + 4) // 8


def _hole_side(side: int) -> int:
    """floor(h / 2 + 1/2) px."""
    return (side + 1) // 2


def _colour(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """Add beta - 1/2, then saturation times 2 kappa, then contrast times gamma + 1/2."""
    beta, kappa, gamma = (_like(column, images) for column in parameters.T[..., None, None, None])
    return colour(images, brightness=beta - 0.5, contrast=gamma + 0.5, saturation=2 * kappa)


def _crop(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """out(i, j) = x(i + a, j + b)."""
    if len(parameters) == 1:
        down, across = parameters[0].tolist()
        return F.pad(images, (-across, across, -down, down))
    reach = _crop_reach(images.shape[-1])
    corner = sent(torch.from_numpy(parameters.T + reach), images.device)
    return cropped(images, corner, reach, images.new_zeros(images.shape[1]))


def _cutout(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """0 in a square, or in what of it lies inside the image."""
    side = images.shape[-1]
    hole = _hole_side(side)
    distance = np.arange(side) - (parameters - hole // 2)[..., None]  # (n, 2, h)
    inside = (distance >= 0) & (distance < hole)
    mask = torch.from_numpy(inside[:, 0, :, None] & inside[:, 1, None, :])
    return images.masked_fill(sent(mask, images.device)[:, None], 0.0)


def _flip(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """Left to right."""
    if len(parameters) == 1:
        return images.flip(-1) if parameters[0, 0] else images
    mirrored = sent(torch.from_numpy(parameters), images.device)[..., None, None]
    return torch.where(mirrored, images.flip(-1), images)


def _scale(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """(u, v) from the centre takes the image at (s_x u, s_y v): factors above 1 shrink it."""
    matrix = parameters[:, :, None] * np.eye(2, 3)
    return warp(images, _like(matrix, images))


def _rotate(images: Tensor, parameters: NDArray[Any]) -> Tensor:
    """(u, v) from the centre takes the image at (u cos t - v sin t, u sin t + v cos t)."""
    return warp(images, _like(rotation(np.deg2rad(parameters[:, 0])), images))


_EFFECTS: Mapping[Operation, Callable[[Tensor, NDArray[Any]], Tensor]] = {
    "colour": _colour,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}


def _like(values: NDArray[Any], images: Tensor) -> Tensor:
    return sent(torch.from_numpy(values).to(images.dtype), images.device)
