"""Progress on stderr, as commands show it."""

from __future__ import annotations

from contextlib import AbstractContextManager

from potstill import bars
from potstill.cli.terminal import say
from potstill.progress import Progress


def reporting(title: str, *, tenths: bool = True) -> AbstractContextManager[Progress]:
    """Show how far something is; see :func:`potstill.bars.reporting`."""
    return bars.reporting(title, say, tenths=tenths)
