"""Plots of accuracies, a row of dots for each; see :mod:`potstill.report.canvas`."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from potstill.report.canvas import GROUND, SERIES, figure

_MARKERS: tuple[dict[str, Any], ...] = (
    {"marker": "D", "markersize": 6},
    {"marker": "|", "markersize": 12, "markeredgewidth": 2.2},
    {"marker": "s", "markersize": 6},
)
# Characters that a name beside its dots may have, and a line of a name above them.
_BESIDE = 22
_LINE = 42
_MOST_LINES = 3
# Inches: the axis and its words; a row of dots; the same below a name; a line of a name.
_AXIS = 0.6
_ROW = 0.3
_ROW_BELOW = 0.25
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

    The names stand beside their dots if all are short, else above them.

    Args:
        lines: from top to bottom; ``kind`` picks the colour and the shape: a diamond, a
            vertical bar, a square.
        identity: a word of its own for this drawing on its page.
    """
    names = [_wrapped(line.name) for line in lines]
    beside = all(len(line.name) <= _BESIDE for line in lines)
    heights = [_ROW if beside else _LINE_HEIGHT * len(name) + _ROW_BELOW for name in names]
    bottoms = list(accumulate(heights))
    places = [bottom - (_ROW if beside else _ROW_BELOW) / 2 for bottom in bottoms]
    with figure(identity, _AXIS + sum(heights)) as (axes, finish):
        for place, line in zip(places, lines, strict=True):
            _row(axes, place, line)
        axes.set_yticks(places, [name[0] for name in names] if beside else [""] * len(names))
        if not beside:
            tops = [bottom - height for bottom, height in zip(bottoms, heights, strict=True)]
            _names_above(axes, tops, names)
        axes.set_ylim(sum(heights), 0)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("test accuracy, %")
        return finish()


def _row(axes: Axes, place: float, line: Dots) -> None:
    colour = SERIES[line.kind]
    if line.std is not None:
        ends = [line.mean - line.std, line.mean + line.std]
        axes.plot(ends, [place, place], color=colour, linewidth=1.2)
    values = line.values if len(line.values) > 1 else ()
    axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.4, markersize=5)
    axes.plot([line.mean], [place], ls="", color=colour, **_MARKERS[line.kind])


def _names_above(axes: Axes, tops: Sequence[float], names: Sequence[Sequence[str]]) -> None:
    """The lines of each name from the top of its row downwards, at the left end of the axis."""
    across = axes.get_yaxis_transform()
    # Blots out the grid's lines.
    ground = {"facecolor": GROUND, "edgecolor": "none", "pad": 0.8}
    for top, name in zip(tops, names, strict=True):
        for number, text in enumerate(name):
            height = top + _LINE_HEIGHT * (number + 0.6)
            axes.text(0.012, height, text, transform=across, va="center", bbox=ground)


def _wrapped(name: str) -> list[str]:
    """In lines that fit the drawing's width; what is longer than they hold is cut."""
    found = textwrap.wrap(
        name, _LINE, break_on_hyphens=False, max_lines=_MOST_LINES, placeholder="…"
    )
    return found or [""]
