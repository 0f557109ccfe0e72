"""Every operation of differentiable siamese augmentation as its definition says, pixel by pixel."""

from __future__ import annotations

import math

from torch import Tensor


def applied(image: Tensor, operation: str, parameters: list[float]) -> Tensor:
    """One image (c, h, h) after one operation; parameters as in ``potstill.data.siamese.Draw``."""
    side = image.shape[-1]
    if operation == "colour":
        return _coloured(image, *parameters)
    result = image.new_zeros(image.shape)
    for row in range(side):
        for column in range(side):
            result[:, row, column] = _pixel(image, operation, parameters, row, column)
    return result


def _coloured(image: Tensor, beta: float, kappa: float, gamma: float) -> Tensor:
    image = image + (beta - 0.5)
    grey = sum(image) / len(image)
    image = grey + 2 * kappa * (image - grey)
    mean = image.sum() / image.numel()
    return mean + (gamma + 0.5) * (image - mean)


def _pixel(image: Tensor, operation: str, parameters: list[float], row: int, column: int) -> Tensor:
    side = image.shape[-1]
    if operation == "flip":
        return image[:, row, side - 1 - column if parameters[0] else column]
    if operation == "crop":
        return _at(image, row + int(parameters[0]), column + int(parameters[1]))
    if operation == "cutout":
        hole = math.floor(side / 2 + 0.5)
        first = [int(centre) - hole // 2 for centre in parameters]
        inside = [0 <= at - start < hole for at, start in zip((row, column), first, strict=True)]
        return image.new_zeros(len(image)) if all(inside) else image[:, row, column]
    centre = (side - 1) / 2
    u, v = column - centre, row - centre
    if operation == "scale":
        x, y = parameters[0] * u, parameters[1] * v
    else:
        t = math.radians(parameters[0])
        x, y = u * math.cos(t) - v * math.sin(t), u * math.sin(t) + v * math.cos(t)
    return _between(image, y + centre, x + centre)


def _between(image: Tensor, row: float, column: float) -> Tensor:
    """Bilinear."""
    total = image.new_zeros(len(image))
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            total += (1 - abs(row - i)) * (1 - abs(column - j)) * _at(image, i, j)
    return total


def _at(image: Tensor, row: int, column: int) -> Tensor:
    side = image.shape[-1]
    inside = 0 <= row < side and 0 <= column < side
    return image[:, row, column] if inside else image.new_zeros(len(image))
