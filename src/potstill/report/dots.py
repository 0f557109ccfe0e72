"""Plots of accuracies, a row of dots for each; see :mod:`potstill.report.canvas`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.ticker import MaxNLocator

from potstill.report.canvas import GROUND, SERIES, figure

_MARKERS: tuple[dict[str, Any], ...] = (
    {"marker": "D", "markersize": 6},
    {"marker": "|", "markersize": 12, "markeredgewidth": 2.2},
    {"marker": "s", "markersize": 6},
)
# Characters that a line of a name may have.
_LINE = 42
_MOST_LINES = 3
# Inches: the axis and its words; a row of dots; a line of a name above it.
_AXIS = 0.6
_ROW = 0.25
_LINE_HEIGHT = 0.165


@dataclass(frozen=True)
class Dots:
    """One line of a dot plot: a mean, the values it is made of, a spread; all in percent."""

    name: str
    mean: float
    values: tuple[float, ...] = ()
    std: float | None = None
    kind: int = 0


def dot_plot(lines: Sequence[Dots], *, identity: str) -> str:
    """Accuracies on one axis: a dot for each network, a bar for the mean, a whisker for one std.

    Args:
        lines: from top to bottom, each below its name; ``kind`` picks the colour and the shape: a
            diamond, a vertical bar, a square.
        identity: a word of its own for this drawing on its page.
    """
    names = [_wrapped(line.name) for line in lines]
    height = sum(_LINE_HEIGHT * len(name) + _ROW for name in names)
    # Blots out the grid's lines.
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 0.8}
    with figure(identity, _AXIS + height) as (axes, finish):
        place = 0.0
        for line, name in zip(lines, names, strict=True):
            for text in name:
                axes.text(
                    0.012,
                    place + 0.6 * _LINE_HEIGHT,
                    text,
                    transform=axes.get_yaxis_transform(),
                    va="center",
                    bbox=ground,
                )
                place += _LINE_HEIGHT
            colour, middle = SERIES[line.kind], place + _ROW / 2
            if line.std is not None:
                ends = [line.mean - line.std, line.mean + line.std]
                axes.plot(ends, [middle] * 2, color=colour, linewidth=1.2)
            values = line.values if len(line.values) > 1 else ()
            axes.plot(values, [middle] * len(values), "o", color=colour, alpha=0.4, markersize=5)
            axes.plot([line.mean], [middle], ls="", color=colour, **_MARKERS[line.kind])
            place += _ROW
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("test accuracy, %")
        return finish()


def _wrapped(name: str) -> list[str]:
    """In lines that fit the drawing's width; what is longer than they hold is cut."""
    found = textwrap.wrap(
        name, _LINE, break_on_hyphens=False, max_lines=_MOST_LINES, placeholder="…"
    )
    return found or [""]
