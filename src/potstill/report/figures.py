"""Drawings of a page as files of their own."""

from __future__ import annotations

from pathlib import Path

from potstill.errors import RunError
from potstill.files import atomic_write
from potstill.report import plots
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
    if out.suffix not in (".png", ".svg"):
        raise RunError(f"{out} ends neither in .png nor in .svg; give it one of these endings")
    points = audit.embedding if isinstance(audit, Diversity) else audit
    if points is None:
        raise RunError(
            "the audit has too few images for a map, or ones too much alike; show more classes or "
            "real images"
        )
    atomic_write(out, plots.embedding_file(points, "png" if out.suffix == ".png" else "svg"))
