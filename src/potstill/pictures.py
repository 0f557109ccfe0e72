"""The images of a distilled set as one picture, a row a class.

The layout is computed once and drawn twice: by :func:`picture` with the class
names in it, for a file; by the page with the names as text beside the tiles.

A name is drawn in matplotlib's own DejaVu Sans, or in the first font of the system that has all its
characters. Where there is none, the number of the class stands in its place, and :func:`legend`
says which name it is.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset

_TARGET_TILE = 64
_SMALLEST_TILE = 8
_MAX_WIDTH = 3200
_MAX_HEIGHT = 4096
_MAX_PER_LINE = 50
_ONE_BLOCK = 20
_ASPECT = 4 / 3
_MAX_NAME = 170
_FONT_SIZES = (9, 15)
_OWN = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
_PAPER = (255, 255, 255)
_INK = (38, 40, 44)
_MAT = (204, 206, 209)
_MAT_ON_ANY_GROUND = (128, 128, 128, 110)


@dataclass(frozen=True)
class Name:
    """A class name: ``text`` ends at ``right``, centred on ``middle`` (pixels)."""

    label: int
    text: str
    right: int
    middle: float
    full: str


@dataclass(frozen=True)
class Layout:
    """Where everything stands, in pixels.

    ``corners[i]`` is the upper left corner of image i; tiles are squares of
    side ``tile``, ``gap`` apart. Classes flow down, then into the next block.
    """

    width: int
    height: int
    tile: int
    gap: int
    font_size: int
    corners: tuple[tuple[int, int], ...]
    names: tuple[Name, ...]


def picture(dataset: DistilledDataset) -> Image.Image:
    """The images in natural colours, a row a class, class names at the left.

    Small images are enlarged by whole factors without smoothing, large sets are
    reduced by whole factors, so that the picture stays below 3200 x 4096 pixels
    for every published size. Classes follow the largest label of each image.
    With more than 20 classes the rows stand in several blocks side by side.
    """
    layout = lay_out(dataset)
    sheet = Image.new("RGB", (layout.width, layout.height), _PAPER)
    _paste(sheet, dataset, layout, _MAT)
    draw = ImageDraw.Draw(sheet)
    for name in layout.names:
        file = _font_file(name.text)
        text, file = (name.text, file) if file else (str(name.label), _OWN)
        font = _font(file, layout.font_size)
        draw.text((name.right, name.middle), text, fill=_INK, font=font, anchor="rm")
    return sheet


def legend(class_names: Sequence[str]) -> dict[int, str]:
    """The names that no font here has the characters of, by the number that is drawn instead."""
    return {
        label: name
        for label, name in enumerate(class_names)
        if _font_file(" ".join(name.split())) is None
    }


def tiles_alone(dataset: DistilledDataset, layout: Layout) -> Image.Image:
    """The tiles of ``layout`` without names, on a transparent ground (RGBA)."""
    sheet = Image.new("RGBA", (layout.width, layout.height), (0, 0, 0, 0))
    _paste(sheet, dataset, layout, _MAT_ON_ANY_GROUND)
    return sheet


def _paste(
    sheet: Image.Image, dataset: DistilledDataset, layout: Layout, mat: tuple[int, ...]
) -> None:
    """The tiles, on a mat that fills the gaps between them and sets off the row."""
    for left, top in layout.corners:
        gap = layout.gap
        sheet.paste(mat, (left - gap, top - gap, left + layout.tile + gap, top + layout.tile + gap))
    for corner, tile in zip(layout.corners, _tiles(dataset, layout.tile), strict=True):
        sheet.paste(tile, corner)


def lay_out(dataset: DistilledDataset) -> Layout:
    """The largest tiles, and the block count nearest to 4:3, that stay in bounds."""
    side = max(dataset.shape[-2:])
    lines = _lines(dataset.hard_labels(), len(dataset.class_names))
    sizes = list(_tile_sizes(side))
    for tile in sizes:
        layout = _arrange(lines, dataset.class_names, tile, len(dataset))
        if layout.width <= _MAX_WIDTH and layout.height <= _MAX_HEIGHT:
            return layout
    return _arrange(lines, dataset.class_names, sizes[-1], len(dataset))


def _lines(labels: Tensor, classes: int) -> list[tuple[int | None, list[int]]]:
    """(class or None where a row goes on, image indices) for each line of tiles."""
    lines: list[tuple[int | None, list[int]]] = []
    for label in range(classes):
        members = torch.nonzero(labels == label).flatten().tolist()
        for start in range(0, max(1, len(members)), _MAX_PER_LINE):
            owner = None if start else label
            lines.append((owner, members[start : start + _MAX_PER_LINE]))
    return lines


def _tile_sizes(side: int) -> Iterator[int]:
    """Whole multiples of ``side`` from about 64 pixels down, then whole fractions of it."""
    for factor in range(max(1, -(-_TARGET_TILE // side)), 0, -1):
        yield side * factor
    divisor = 2
    while side // divisor >= _SMALLEST_TILE:
        yield side // divisor
        divisor += 1


def _arrange(
    lines: list[tuple[int | None, list[int]]],
    class_names: tuple[str, ...],
    tile: int,
    images: int,
) -> Layout:
    gap = 2 if tile >= 24 else 1
    pitch = tile + gap
    margin = 8
    font_size = min(_FONT_SIZES[1], pitch - 3)
    named = font_size >= _FONT_SIZES[0]
    texts = [_elide(name, font_size) for name in class_names] if named else []
    name_width = max((_text_width(text, font_size) for text in texts), default=-6) + 6
    block = name_width + pitch * max(len(members) for _, members in lines) + 2 * margin
    blocks = _block_count(len(lines), len(class_names), block, pitch)
    rows = -(-len(lines) // blocks)
    corners = [(0, 0)] * images
    names = []
    for position, (owner, members) in enumerate(lines):
        column, row = divmod(position, rows)
        left, top = column * block + margin + name_width, row * pitch + margin
        for place, index in enumerate(members):
            corners[index] = (left + place * pitch, top)
        if owner is not None and named:
            full = class_names[owner]
            names.append(Name(owner, texts[owner], left - 6, top + tile / 2, full))
    return Layout(
        width=blocks * block,
        height=rows * pitch + 2 * margin,
        tile=tile,
        gap=gap,
        font_size=max(font_size, 1),
        corners=tuple(corners),
        names=tuple(names),
    )


def _block_count(lines: int, classes: int, block: int, pitch: int) -> int:
    if classes <= _ONE_BLOCK:
        return 1

    def misfit(blocks: int) -> float:
        return abs(np.log(blocks * block / (-(-lines // blocks) * pitch) / _ASPECT))

    fitting = range(1, max(1, min(lines, _MAX_WIDTH // block)) + 1)
    best = min(fitting, key=misfit)
    return -(-lines // -(-lines // best))


def _tiles(dataset: DistilledDataset, tile: int) -> Iterator[Image.Image]:
    pixels = (dataset.pixels() * 255).round().clamp(0, 255).to(torch.uint8).cpu()
    for image in pixels:
        array = image.permute(1, 2, 0).numpy()
        drawn = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        larger = tile >= max(drawn.size)
        scale = tile / max(drawn.size)
        size = (max(1, round(drawn.width * scale)), max(1, round(drawn.height * scale)))
        method = Image.Resampling.NEAREST if larger else Image.Resampling.BOX
        yield drawn.resize(size, method).convert("RGB")


def _elide(text: str, font_size: int) -> str:
    """``text`` on one line, cut with an ellipsis where it is wider than a name may be."""
    text = " ".join(text.split()) or "?"
    if _text_width(text, font_size) <= _MAX_NAME:
        return text
    kept = text[:60]
    while kept and _text_width(kept + "…", font_size) > _MAX_NAME:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def _text_width(text: str, font_size: int) -> int:
    file = _font_file(text)
    if file is None:  # a page sets the name in the reader's fonts, an em at most for each character
        return font_size * len(text)
    return int(np.ceil(_font(file, font_size).getlength(text)))


@functools.cache
def _font_file(text: str) -> str | None:
    """The first font that has all characters of ``text``; None if there is none."""
    wanted = {ord(character) for character in text if not character.isspace()}
    if wanted <= _characters(_OWN):  # the system's are not even looked for
        return _OWN
    return next((file for file in _system_fonts() if wanted <= _characters(file)), None)


@functools.cache
def _system_fonts() -> tuple[str, ...]:
    """The files of the system's fonts, in the order of their names."""
    return tuple(sorted(font_manager.findSystemFonts()))


@functools.cache
def _characters(file: str) -> frozenset[int]:
    """The characters that a font has glyphs of; none if it cannot be read or drawn with."""
    try:
        _font(file, _FONT_SIZES[1])
        return frozenset(FT2Font(file).get_charmap())
    except (OSError, RuntimeError, ValueError):
        return frozenset()


@functools.cache
def _font(file: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(file, size)
