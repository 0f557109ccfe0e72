"""The statistics of a set of images, and the arithmetic of whitening.

Every mean, standard deviation and covariance of a data set that the library uses is computed
here, over the training images, once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from potstill.data.blocks import Blocks
from potstill.errors import DataError

_CHUNK_NUMBERS = 1 << 24  # in a chunk: 64 MiB of float32
_EXACT_ROWS = 1 << 10
_PANEL = 512  # rows of a triangle that are computed, or mirrored, at a time


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and population standard deviation of pixels in [0, 1]: (c,), (c,) float64, CPU.

    Exact: 8-bit pixels are counted per value, and the 256 counts are averaged in float64.

    Args:
        images: (n, c, h, w) uint8.

    Raises:
        DataError: a channel that has one value everywhere.
    """
    channels = images.shape[1]
    counts = torch.zeros(channels, 256, dtype=torch.int64, device=images.device)
    for rows in chunks(images):
        for channel in range(channels):
            counts[channel] += torch.bincount(images[rows, channel].flatten(), minlength=256)
    weights = counts.cpu().double() / counts.sum(1, keepdim=True).cpu()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = weights @ values
    std = (weights * (values - mean[:, None]).square()).sum(1).sqrt()
    constant = (counts.cpu() > 0).sum(1) == 1
    if constant.any():
        remedy = "check the images" + (", or set data.channels=1" if channels > 1 else "")
        raise DataError(
            f"channel {int(constant.nonzero()[0])} of the training images is constant and cannot "
            f"be standardised; {remedy}"
        )
    return mean, std


def mean_image(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """The mean standardised image, (c, h, w) float64, of ``images`` (n, c, h, w) uint8."""
    total = torch.zeros(images.shape[1:], dtype=torch.int64, device=images.device)
    for rows in chunks(images):
        total += images[rows].sum(0, dtype=torch.int64)
    mean, std = (x.to(images.device).view(-1, 1, 1) for x in (mean, std))
    return (total.double() / (255 * len(images)) - mean) / std


def covariance(
    images: Tensor, std: Tensor, blocks: Blocks, device: torch.device | None = None
) -> Tensor:
    """C = X^T X / N of the centred standardised rows, averaged over blocks: (d, d) float64.

    With y = pixel - 128 in place of the pixels, s the sum of y over the N images and P blocks,

        C_ij = mean over blocks of [sum y_i y_j / N - s_i s_j / N^2] / (255^2 std_i std_j).

    The sums are exact, whatever the order and the device: products of y are integers of up to
    2^14, float32 adds 2^10 of them without rounding, and float64 those sums. Memory does not grow
    with N.

    Args:
        images: (n, c, h, w) uint8, a part of which is on ``device`` at a time.
        std: (c,) float64, of the channels, for pixels in [0, 1].
        blocks: how an image is cut into rows.
        device: does the work; that of ``images`` if None. The result is there.
    """
    device = device or images.device
    shape = images.shape[1:]
    size, channels = blocks.size(shape), shape[0]
    products = torch.zeros(size, size, dtype=torch.float64, device=device)
    sums = torch.zeros(shape, dtype=torch.float64, device=device)
    for rows in chunks(images):
        part = images[rows].to(device).float().sub_(128)
        sums += part.sum(0, dtype=torch.float64)
        for few in blocks.cut(part).split(_EXACT_ROWS):
            _add_products(products, few)
    _mirror(products)
    count = len(images)
    means = blocks.cut(sums[None] / count)
    scale = (255 * std.to(device)).reciprocal().repeat_interleave(size // channels)
    # In place, step by step: at 64 px each matrix takes 1.2 GB.
    products.div_(count * len(means)).addmm_(means.T, means, alpha=-1 / len(means))
    return products.mul_(scale).mul_(scale[:, None])


def _add_products(total: Tensor, rows: Tensor) -> None:
    """Add the upper triangle of X^T X to that of ``total`` (d, d), in place; X is (k, d)."""
    for first in range(0, len(total), _PANEL):
        panel = slice(first, first + _PANEL)
        total[panel, first:] += rows[:, panel].T @ rows[:, first:]


def _mirror(matrix: Tensor) -> None:
    """Make ``matrix`` (d, d) symmetric in place: its upper triangle counts."""
    for first in range(0, len(matrix), _PANEL):
        panel, rest = slice(first, first + _PANEL), slice(first + _PANEL, None)
        corner = matrix[panel, panel]
        corner.copy_(corner.triu() + corner.triu(1).T)
        matrix[rest, panel] = matrix[panel, rest].T


def whitening_matrix(covariance: Tensor, regularisation: float, images: int) -> Tensor:
    """W = U (S + r trace(C)/d)^(-1/2) U^T: (d, d) float32, exactly symmetric, on the CPU.

    From fewer images than dimensions only as many directions are scaled as there are images,
    those of the largest eigenvalues; the others keep their length (rank control: as the authors
    ran it, not in the paper). Directions in which these images do not differ at all keep it too;
    the authors' code scales one of them, whichever comes first.

    Args:
        covariance: C, (d, d) float64.
        regularisation: r.
        images: how many C was measured on.
    """
    size = len(covariance)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    # Rounding leaves eigenvalues of a rank-deficient C just below zero.
    scale = (values.clamp(min=0) + regularisation * covariance.diagonal().mean()).rsqrt()
    if images < size:
        constant = values <= values[-1] * size * torch.finfo(values.dtype).eps
        constant[: size - images] = True
        scale[constant] = 1
    whitening: Tensor = ((vectors * scale) @ vectors.T).float().cpu()
    _mirror(whitening)
    return whitening


def upper_triangle(matrix: Tensor) -> Tensor:
    """(d, d) to (d (d + 1) / 2,), row by row."""
    return torch.cat([row[place:] for place, row in enumerate(matrix)])


def from_upper_triangle(numbers: Tensor, size: int) -> Tensor:
    """The symmetric matrix (d, d) whose upper triangle is ``numbers`` (d (d + 1) / 2,)."""
    matrix = torch.empty(size, size, dtype=numbers.dtype)
    for place, row in enumerate(numbers.split(list(range(size, 0, -1)))):
        matrix[place, place:] = row
    _mirror(matrix)
    return matrix


def chunks(images: Tensor) -> Iterator[slice]:
    """Slices over the first dimension that bound the memory of what is done with each."""
    size = max(1, _CHUNK_NUMBERS // max(1, images[:1].numel()))
    return (slice(start, start + size) for start in range(0, len(images), size))


def unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels as floats with 1.0 for white."""
    if images.dtype != torch.uint8:
        return images.to(dtype)
    # By a number of the host CUDA multiplies with its reciprocal, which rounds otherwise.
    return images.to(dtype) / torch.full((), 255.0, dtype=dtype, device=images.device)
