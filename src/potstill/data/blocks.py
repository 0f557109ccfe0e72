"""How images are cut into the rows that one whitening matrix is applied to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Tiling = Literal["phases", "contiguous"]


@dataclass(frozen=True)
class Blocks:
    """Square blocks of images of ``rows * side`` by ``cols * side`` pixels.

    ``phases`` is the checkerboard of RCIG's published runs at 128 px: block (i, j) is the pixels
    ``x[:, i::rows, j::cols]``, the whole image at a lower resolution. ``contiguous`` blocks, of
    neighbouring pixels, are those of sets that earlier versions made; the paper is silent.

    Attributes:
        side: pixels; None if the one block is the whole image, of any height and width.
        tiling: which pixels a block has.
    """

    side: int | None = None
    tiling: Tiling = "phases"

    def cut(self, images: Tensor) -> Tensor:
        """(k, c, h, w) to (k rows cols, c side side): an image's blocks (0, 0), (0, 1), ... in
        turn, each flattened in the order channel, y, x."""
        if self.side is None:
            return images.flatten(1)
        _, channels, height, width = images.shape
        sides = [self._split(height), self._split(width)]
        order = (0, 2, 4, 1, 3, 5) if self.tiling == "contiguous" else (0, 3, 5, 1, 2, 4)
        tiles = images.reshape(-1, channels, *sides[0], *sides[1]).permute(order)
        return tiles.reshape(-1, channels * self.side * self.side)

    def join(self, rows: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of :meth:`cut`, for images of ``shape`` (k, c, h, w)."""
        if self.side is None:
            return rows.reshape(shape)
        count, channels, height, width = shape
        down, across = height // self.side, width // self.side
        tiles = rows.reshape(count, down, across, channels, self.side, self.side)
        order = (0, 3, 1, 4, 2, 5) if self.tiling == "contiguous" else (0, 3, 4, 1, 5, 2)
        return tiles.permute(order).reshape(shape)

    def size(self, shape: torch.Size | tuple[int, int, int]) -> int:
        """Numbers in a row, d, of images of ``shape`` (c, h, w)."""
        channels, height, width = shape
        return channels * (self.side * self.side if self.side else height * width)

    def fit(self, shape: torch.Size | tuple[int, int, int]) -> bool:
        """Whether whole blocks make up images of ``shape`` (c, h, w)."""
        return self.side is None or not (shape[1] % self.side or shape[2] % self.side)

    def _split(self, length: int) -> tuple[int, int]:
        """An axis as two: which block and where in it, or the other way round for phases."""
        assert self.side is not None
        count = length // self.side
        return (count, self.side) if self.tiling == "contiguous" else (self.side, count)
