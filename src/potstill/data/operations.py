"""What augmentations are made of: images (n, c, h, w) sampled elsewhere, moved, recoloured.

Every operation is affine in the images, differentiable, and a pure function of its arguments.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def rotation(angle: NDArray[Any]) -> NDArray[Any]:
    """Angle (n,) in radians, anticlockwise as one sees the image -> (n, 2, 3) for :func:`warp`."""
    cosine, sine, zero = np.cos(angle), np.sin(angle), np.zeros_like(angle)
    return np.stack([np.stack([cosine, -sine, zero], 1), np.stack([sine, cosine, zero], 1)], 1)


def warp(
    images: Tensor, matrix: Tensor, *, outside: Literal["zeros", "border"] = "zeros"
) -> Tensor:
    """Sample bilinearly.

    Args:
        images: (n, c, h, w).
        matrix: (n, 2, 3), or (1, 2, 3) for all images, of the images' dtype: from a place (x, y)
            in the result to the place it is taken from, the image being [-1, 1]^2.
        outside: what stands outside the image, 0 or the nearest of its pixels.
    """
    size = [len(matrix), *images.shape[1:]]
    grid = F.affine_grid(matrix, size, align_corners=False).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode=outside, align_corners=False)


def colour(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Add, stretch about the image's mean, stretch about each pixel's grey; each (n or 1, 1, 1, 1).

    The three commute: saturation keeps the mean that contrast works about.
    """
    mean = images.mean((1, 2, 3), keepdim=True)
    grey = images.mean(1, keepdim=True)
    return mean + brightness + contrast * (saturation * (images - grey) + grey - mean)


def cropped(images: Tensor, corner: Tensor, padding: int, fill: Tensor) -> Tensor:
    """Pad each image with ``fill`` (c,) on every side, and cut its old size out of that.

    Args:
        corner: (2, n) int64, first row and column of each cut, from 0 to ``2 * padding``.
    """
    n, channels, height, width = images.shape
    frame = fill.to(images).view(1, -1, 1, 1)
    padded = frame.repeat(n, 1, height + 2 * padding, width + 2 * padding)
    padded[..., padding : padding + height, padding : padding + width] = images
    rows = corner[0][:, None] + torch.arange(height, device=images.device)
    columns = corner[1][:, None] + torch.arange(width, device=images.device)
    down = rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3])
    across = columns[:, None, None, :].expand(-1, channels, height, -1)
    return padded.gather(2, down).gather(3, across)
