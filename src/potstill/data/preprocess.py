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

ZCA in blocks (128 px images): the image is cut into square blocks, checkerboard fashion
(:class:`potstill.data.blocks.Blocks`); C is averaged over all blocks, and the one W whitens every
block.

From fewer images than C has dimensions not all directions are scaled
(:func:`potstill.data.statistics.whitening_matrix`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.config import DataRecipe
from potstill.data import statistics
from potstill.data.blocks import Blocks
from potstill.data.transforms import ZCA, Preprocess, RefittedZCA, Standardise, dtype_name
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import DataError

__all__ = ["ZCA", "Preprocess", "RefittedZCA", "Standardise", "fit", "refit"]

# Above this a float64 covariance and its eigenvectors take more than 2 GiB each.
_LARGEST_ZCA = 1 << 14


@torch.no_grad()
def fit(
    recipe: DataRecipe,
    images: Tensor,
    *,
    device: torch.device | str | None = None,
    cache: WhiteningCache | None = None,
) -> Preprocess:
    """Fit the recipe's preprocessing on the training images.

    Args:
        recipe: ``preprocess``, ``zca_regularisation``, ``zca_block``, ``zca_stored``, ``mean``
            and ``std`` are used.
        images: (n, c, h, w) uint8, the training split.
        device: where covariance and eigenvectors are computed (in float64); that of ``images``
            if absent. The result is on the CPU.
        cache: where ZCA, which takes minutes at 64 px, is looked for and stored.

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
    if recipe.preprocess == "zca":
        blocks = Blocks(recipe.zca_block)
        fitted = _cached_zca(images, recipe.zca_regularisation, blocks, device, cache)
        return fitted if recipe.zca_stored else RefittedZCA.of(fitted)
    if recipe.zca_block is not None:
        raise DataError(
            "data.zca_block is set but data.preprocess is standardise; remove it, or set "
            "data.preprocess to zca"
        )
    return Standardise(*(given or statistics.channel_statistics(images)))


@torch.no_grad()
def refit(
    preprocess: RefittedZCA,
    images: Tensor,
    *,
    device: torch.device | str | None = None,
    cache: WhiteningCache | None = None,
) -> RefittedZCA:
    """Fit a ZCA again that no file holds.

    Args:
        preprocess: says how, and what is to come of the probe.
        images: (n, c, h, w) uint8, the training images it was fitted on.
        device: as in :func:`fit`.
        cache: as in :func:`fit`.

    Raises:
        ArtefactError: another ZCA comes of these images.
        DataError: as :func:`fit`.
    """
    regularisation, blocks = preprocess.regularisation, preprocess.blocks
    return preprocess.refitted(_cached_zca(images, regularisation, blocks, device, cache))


def _cached_zca(
    images: Tensor,
    regularisation: float,
    blocks: Blocks,
    device: torch.device | str | None,
    cache: WhiteningCache | None,
) -> ZCA:
    """From the cache, or fitted and put there."""
    device = images.device if device is None else torch.device(device)
    cache = cache or WhiteningCache()
    _check_zca(images, blocks)
    key = cache.key(images, regularisation, blocks, device)
    fitted = cache.get(key)
    if fitted is None:
        fitted = _fit_zca(images, regularisation, blocks, device)
        cache.put(key, fitted)
    return fitted


def _fit_zca(images: Tensor, regularisation: float, blocks: Blocks, device: torch.device) -> ZCA:
    mean, std = statistics.channel_statistics(images)
    covariance = statistics.covariance(images, std, blocks, device)
    if covariance.diagonal().mean() < 1e-12:  # rounding; one grey level in one image is far more
        raise DataError("the training images are all the same, so ZCA has no directions; add some")
    pixel_mean = statistics.mean_image(images, mean, std).float().cpu()
    whitening = statistics.whitening_matrix(covariance, regularisation, len(images))
    return ZCA(mean, std, pixel_mean, whitening, regularisation, blocks)


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


def _check_zca(images: Tensor, blocks: Blocks) -> None:
    shape = images.shape[1:]
    channels, height, width = shape
    if not blocks.fit(shape):
        raise DataError(
            f"ZCA blocks of side {blocks.side} do not tile {height}x{width} images; set "
            "data.zca_block to a divisor of the resolution"
        )
    size = blocks.size(shape)
    if size > _LARGEST_ZCA:
        remedy = "lower data.zca_block" if blocks.side else "set data.zca_block (64, say)"
        raise DataError(
            f"ZCA of {channels}x{height}x{width} images needs a {size}x{size} covariance, too "
            f"large to decompose; {remedy} so that it is at most {_LARGEST_ZCA}"
        )
