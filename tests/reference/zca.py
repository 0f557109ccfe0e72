"""ZCA the obvious way: all images at once, dense, one loop, float64."""

from __future__ import annotations

import numpy as np


def fit(images: np.ndarray, regularisation: float) -> dict[str, np.ndarray]:
    """``images``: (n, c, h, w) uint8. Channel statistics, pixel mean, W and its inverse."""
    pixels = images.astype(np.float64) / 255
    mean = pixels.mean(axis=(0, 2, 3))
    std = pixels.std(axis=(0, 2, 3))
    z = (pixels - mean[:, None, None]) / std[:, None, None]
    pixel_mean = z.mean(axis=0)
    x = (z - pixel_mean).reshape(len(z), -1)
    covariance = sum(np.outer(row, row) for row in x) / len(x)
    size = len(covariance)
    shifted = covariance + regularisation * np.trace(covariance) / size * np.eye(size)
    values, vectors = np.linalg.eigh(shifted)
    return {
        "mean": mean,
        "std": std,
        "pixel_mean": pixel_mean,
        "covariance": covariance,
        "whitening": vectors @ np.diag(values**-0.5) @ vectors.T,
        "inverse": vectors @ np.diag(values**0.5) @ vectors.T,
    }


def apply(parts: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) uint8 to whitened float64."""
    z = (images / 255 - parts["mean"][:, None, None]) / parts["std"][:, None, None]
    rows = (z - parts["pixel_mean"]).reshape(len(images), -1)
    return (rows @ parts["whitening"]).reshape(images.shape)


def blocks(image: np.ndarray, side: int) -> list[np.ndarray]:
    """The square blocks of one (c, h, w) image in reading order, each flattened."""
    _, height, width = image.shape
    return [
        image[:, top : top + side, left : left + side].reshape(-1)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
