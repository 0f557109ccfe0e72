"""The statistics of a set of images, and the arithmetic of whitening.

Every mean, standard deviation and covariance of a data set that the library uses is computed
here, over the training images, once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from potstill.errors import DataError

# Numbers per chunk: 64 MiB of float32, 128 MiB of float64.
_CHUNK_NUMBERS = 1 << 24


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
    images: Tensor, mean: Tensor, std: Tensor, pixel_mean: Tensor, block: int | None
) -> Tensor:
    """C = X^T X / N of the centred rows, averaged over blocks: (d, d) float64.

    Args:
        images: (n, c, h, w) uint8.
        mean: (c,) float64, of the channels.
        std: (c,) float64, of the channels.
        pixel_mean: (c, h, w) float64, from :func:`mean_image`; its device does the work.
        block: side of the blocks, or None for whole images.
    """
    device = pixel_mean.device
    mean, std = (x.to(device).view(-1, 1, 1) for x in (mean, std))
    offset = mean + std * pixel_mean
    size = to_rows(images[:1], block).shape[1]
    total = torch.zeros(size, size, dtype=torch.float64, device=device)
    count = 0
    for rows in chunks(images):
        centred = (unit(images[rows].to(device), torch.float64) - offset) / std
        flat = to_rows(centred, block)
        total += _gram(flat)
        count += len(flat)
    return total / count


def _gram(rows: Tensor) -> Tensor:
    """X^T X, (k, d) to (d, d). NumPy computes one triangle of it only: half of torch's time."""
    if rows.device.type == "cpu":
        array = rows.numpy()
        return torch.from_numpy(array.T @ array)
    return rows.T @ rows


def whitening_matrix(covariance: Tensor, regularisation: float) -> Tensor:
    """W = U (S + r trace(C)/d)^(-1/2) U^T: (d, d) float32, exactly symmetric, on the CPU."""
    values, vectors = torch.linalg.eigh(covariance)
    # Rounding leaves eigenvalues of a rank-deficient C just below zero.
    shifted = values.clamp(min=0) + regularisation * covariance.diagonal().mean()
    whitening = ((vectors * shifted.rsqrt()) @ vectors.T).float().cpu()
    symmetric: Tensor = whitening.triu() + whitening.triu(1).T
    return symmetric


def to_rows(images: Tensor, block: int | None) -> Tensor:
    """(k, c, h, w) to (k blocks, c b b): blocks in reading order, each flattened as c, y, x."""
    if block is None:
        return images.flatten(1)
    tiles = images.unfold(2, block, block).unfold(3, block, block)
    return tiles.permute(0, 2, 3, 1, 4, 5).reshape(-1, images.shape[1] * block * block)


def from_rows(rows: Tensor, shape: torch.Size, block: int | None) -> Tensor:
    """The inverse of :func:`to_rows`, for images of ``shape`` (k, c, h, w)."""
    if block is None:
        return rows.reshape(shape)
    count, channels, height, width = shape
    tiles = rows.reshape(count, height // block, width // block, channels, block, block)
    return tiles.permute(0, 3, 1, 4, 2, 5).reshape(shape)


def chunks(images: Tensor) -> Iterator[slice]:
    """Slices over the first dimension that bound the memory of what is done with each."""
    size = max(1, _CHUNK_NUMBERS // max(1, images[:1].numel()))
    return (slice(start, start + size) for start in range(0, len(images), size))


def unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Pixels as floats with 1.0 for white."""
    return images.to(dtype) / 255 if images.dtype == torch.uint8 else images.to(dtype)
