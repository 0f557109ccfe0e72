"""Drawings of a page as files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from potstill.comparison import Comparison
from potstill.errors import RunError
from potstill.files import atomic_write
from potstill.report import plots, side_by_side
from potstill.report.side_by_side import Over
from potstill.results import Diversity, Embedding


def write_map(audit: Diversity | Embedding | None, out: Path) -> None:
    """Draw the map of images in a diversity audit as PNG or SVG, as ``out`` ends.

    Args:
        audit: what :func:`potstill.audits.diversity.diversity` returned, or of several sets
            :func:`~potstill.audits.diversity.common_map`.
        out: the file to make or replace.

    Raises:
        RunError: another ending, an audit without a map, or ``out`` cannot be written.
    """
    form = _form(out)
    points = audit.embedding if isinstance(audit, Diversity) else audit
    if points is None:
        raise RunError(
            "the audit has too few images for a map, or ones too much alike; show more classes or "
            "real images"
        )
    atomic_write(out, plots.embedding_file(points, form))


def write_comparison(comparison: Comparison, out: Path, over: Over = "images") -> None:
    """Draw the accuracies of a comparison as PNG or SVG, as ``out`` ends.

    Args:
        comparison: which has rows.
        out: the file to make or replace.
        over: the horizontal axis: images per class, or bytes, as far as these are known.

    Raises:
        RunError: another ending, or ``out`` cannot be written.
    """
    atomic_write(out, side_by_side.file(comparison, _form(out), over))


def _form(out: Path) -> Literal["png", "svg"]:
    if out.suffix not in (".png", ".svg"):
        raise RunError(f"{out} ends neither in .png nor in .svg; give it one of these endings")
    return "png" if out.suffix == ".png" else "svg"
