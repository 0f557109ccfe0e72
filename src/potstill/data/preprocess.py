"""From pixels to what a network sees, and back.

A preprocessing is fitted once on the training images and stored in the artefact; nothing else
in the library computes the statistics of a data set. The invariant of all of them:
``invert(apply(pixels)) == pixels`` up to float32 rounding.

Standardise: z = (x/255 - mean_c) / std_c, mean and (population) standard deviation of channel c
over all pixels of all training images; or numbers that the recipe gives, those that a pretrained
network was trained with.

ZCA (RCIG, 4.1 and Appendix C, as its authors ran it): standardise per channel, subtract the
per-pixel mean, flatten to rows of X, then z W with

    C = X^T X / N = U S U^T,    W = U (S + r trace(C)/d I)^(-1/2) U^T.

The regularisation r is relative to the mean eigenvalue. Other code whitens [0, 1] pixels with an
absolute epsilon, which is far stronger; sets made so do not transfer to networks fed like this.

ZCA in blocks (128 px images): the image is tiled, checkerboard fashion, with square blocks; C is
averaged over all blocks, and the one W whitens every block.
"""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.config import DataRecipe
from potstill.data import statistics
from potstill.data.transforms import ZCA, Preprocess, Standardise, dtype_name
from potstill.errors import DataError

__all__ = ["ZCA", "Preprocess", "Standardise", "fit"]

# Above this a float64 covariance and its eigenvectors take more than 2 GiB each.
_LARGEST_ZCA = 1 << 14


@torch.no_grad()
def fit(
    recipe: DataRecipe, images: Tensor, *, device: torch.device | str | None = None
) -> Preprocess:
    """Fit the recipe's preprocessing on the training images.

    Args:
        recipe: ``preprocess``, ``zca_regularisation``, ``zca_block``, ``mean`` and ``std`` are
            used.
        images: (n, c, h, w) uint8, the training split.
        device: where covariance and eigenvectors are computed (in float64); that of ``images``
            if absent. The result is on the CPU.

    Raises:
        DataError: images of the wrong type or shape, a constant channel, images that are all the
            same, a ZCA that is too large for them or has blocks that do not tile them, or given
            statistics for ZCA or for another number of channels.
    """
    if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
        raise DataError(
            f"cannot fit on {dtype_name(images.dtype)} images of shape {tuple(images.shape)}; "
            "pass uint8 (n, channels, height, width) with n > 0"
        )
    given = _given_statistics(recipe, images.shape[1])
    mean, std = given or statistics.channel_statistics(images)
    if recipe.preprocess == "standardise":
        if recipe.zca_block is not None:
            raise DataError(
                "data.zca_block is set but data.preprocess is standardise; remove it, or set "
                "data.preprocess to zca"
            )
        return Standardise(mean, std)
    block = recipe.zca_block
    _check_zca(images, block)
    where = torch.device(device) if device is not None else images.device
    pixel_mean = statistics.mean_image(images, mean, std).to(where)
    covariance = statistics.covariance(images, mean, std, pixel_mean, block)
    if covariance.diagonal().mean() < 1e-12:  # rounding; one grey level in one image is far more
        raise DataError("the training images are all the same, so ZCA has no directions; add some")
    whitening = statistics.whitening_matrix(covariance, recipe.zca_regularisation)
    return ZCA(mean, std, pixel_mean.float().cpu(), whitening, recipe.zca_regularisation, block)


def _given_statistics(recipe: DataRecipe, channels: int) -> tuple[Tensor, Tensor] | None:
    """Mean and std, (c,) float64, if the recipe gives them."""
    if recipe.mean is None or recipe.std is None:
        return None
    if recipe.preprocess == "zca":
        raise DataError(
            "ZCA measures its statistics on the data; remove data.mean and data.std, or set "
            "data.preprocess to standardise"
        )
    if len(recipe.mean) != channels:
        raise DataError(
            f"data.mean and data.std have length {len(recipe.mean)}, which is not the images' "
            f"number of channels ({channels}); give one number for each, or set data.channels"
        )
    mean, std = (torch.tensor(x, dtype=torch.float64) for x in (recipe.mean, recipe.std))
    return mean, std


def _check_zca(images: Tensor, block: int | None) -> None:
    channels, height, width = images.shape[1:]
    if block is not None and (height % block or width % block):
        raise DataError(
            f"ZCA blocks of side {block} do not tile {height}x{width} images; set data.zca_block "
            "to a divisor of the resolution"
        )
    size = channels * (block * block if block else height * width)
    if size > _LARGEST_ZCA:
        remedy = "lower data.zca_block" if block else "set data.zca_block (64, say)"
        raise DataError(
            f"ZCA of {channels}x{height}x{width} images needs a {size}x{size} covariance, too "
            f"large to decompose; {remedy} so that it is at most {_LARGEST_ZCA}"
        )
