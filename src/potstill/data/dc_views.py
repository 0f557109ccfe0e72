"""How DC's authors augment MNIST when networks are trained on a distilled set.

Zhao, Mopuri and Bilen, "Dataset Condensation with Gradient Matching", ICLR 2021, as run: each
image goes through one of three operations, all equally likely. Nothing is differentiated.

- crop: the image is put into a frame of 4 px of the batch's mean colour, and a window of its old
  size is cut out, whose first row and column are uniform in 0..7. So it moves by -4 to +3 px.
- scale: height and width are stretched independently to floor(u h), u uniform in [0.8, 1.2), by
  nearest neighbours; what is missing is 0, and the middle is cut out.
- rotate: by whole degrees, uniform in -45..44, with cubic splines; what is missing has the mean of
  the batch's colour, and the middle is cut out.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

FRAME, STRETCH, DEGREES = 4, 0.2, 45


def augmented(images: Tensor, generator: np.random.Generator) -> Tensor:
    """Images (n, c, h, w) -> other images (n, c, h, w), each after an operation of its own."""
    colour = images.mean((0, 2, 3))
    seen = []
    for image in images.cpu():
        operation = int(generator.integers(3))
        if operation == 0:
            row, column = generator.integers(0, 2 * FRAME, 2).tolist()
            seen.append(crop(image, row, column, colour.cpu()))
        elif operation == 1:
            down, across = generator.uniform(1 - STRETCH, 1 + STRETCH, 2).tolist()
            seen.append(scale(image, down, across))
        else:
            degrees = int(generator.integers(-DEGREES, DEGREES))
            seen.append(rotate(image, degrees, float(colour.mean())))
    return torch.stack(seen).to(images)


def crop(image: Tensor, row: int, column: int, colour: Tensor) -> Tensor:
    """The window of ``image`` (c, h, w) in its frame of ``colour`` (c,) that begins there."""
    height, width = image.shape[1:]
    framed = colour.view(-1, 1, 1).repeat(1, height + 2 * FRAME, width + 2 * FRAME)
    framed[:, FRAME : FRAME + height, FRAME : FRAME + width] = image
    return framed[:, row : row + height, column : column + width]


def scale(image: Tensor, down: float, across: float) -> Tensor:
    """``image`` (c, h, w) stretched by these factors, on 0, cut to its old size."""
    channels, height, width = image.shape
    size = int(down * height), int(across * width)
    stretched = F.interpolate(image[None], size)[0]
    side = max(*size, height, width)
    canvas = image.new_zeros(channels, side, side)
    _middle(canvas, *size).copy_(stretched)
    return _middle(canvas, height, width)


def rotate(image: Tensor, degrees: int, fill: float) -> Tensor:
    """``image`` (c, h, w) turned, on ``fill``, cut to its old size."""
    turned = ndimage.rotate(image.numpy(), degrees, axes=(-2, -1), order=3, cval=fill)
    return _middle(torch.from_numpy(turned), *image.shape[1:])


def _middle(canvas: Tensor, height: int, width: int) -> Tensor:
    row, column = (canvas.shape[1] - height) // 2, (canvas.shape[2] - width) // 2
    return canvas[:, row : row + height, column : column + width]
