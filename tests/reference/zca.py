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
    whitening = matrix(covariance, regularisation, len(images))
    return {
        "mean": mean,
        "std": std,
        "pixel_mean": pixel_mean,
        "covariance": covariance,
        "whitening": whitening,
        "inverse": np.linalg.inv(whitening),
    }


def matrix(covariance: np.ndarray, regularisation: float, images: int) -> np.ndarray:
    """W of C (d, d): one direction after the other, that of the largest eigenvalue first."""
    size = len(covariance)
    shift = regularisation * np.trace(covariance) / size
    vectors, values, _ = np.linalg.svd(covariance + shift * np.eye(size))
    scaled = size if images >= size else min(images, np.linalg.matrix_rank(covariance))
    whitening = np.zeros_like(covariance)
    for place in range(size):
        factor = values[place] ** -0.5 if place < scaled else 1.0
        whitening += factor * np.outer(vectors[:, place], vectors[:, place])
    return whitening


def apply(parts: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """(n, c, h, w) uint8 to whitened float64."""
    z = (images / 255 - parts["mean"][:, None, None]) / parts["std"][:, None, None]
    rows = (z - parts["pixel_mean"]).reshape(len(images), -1)
    return (rows @ parts["whitening"]).reshape(images.shape)


def phases(image: np.ndarray, side: int) -> list[np.ndarray]:
    """The blocks of one (c, h, w) image, checkerboard fashion, each flattened."""
    rows, cols = image.shape[1] // side, image.shape[2] // side
    return [image[:, i::rows, j::cols].reshape(-1) for i in range(rows) for j in range(cols)]


def blocks(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Neighbouring square blocks of one (c, h, w) image in reading order, each flattened."""
    _, height, width = image.shape
    return [
        image[:, top : top + side, left : left + side].reshape(-1)
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]
