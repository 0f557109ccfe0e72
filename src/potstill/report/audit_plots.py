"""Plots of audits, each an SVG element; see :mod:`potstill.report.canvas`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from potstill.report.canvas import GRID, SERIES, figure

_DASHES = ("-", "--", ":")


@dataclass(frozen=True)
class Line:
    """Points to be joined; ``kind`` 0, 1 or 2 picks colour and dashes. NaN leaves a gap."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    kind: int = 0


def roc(lines: Sequence[Line], *, identity: str) -> str:
    """True over false positive rates on a square, with the diagonal of a guess."""
    with figure(identity, 3.3) as (axes, finish):
        axes.plot((0, 1), (0, 1), color=GRID, linewidth=1.2)
        for line in lines:
            axes.plot(line.x, line.y, color=SERIES[line.kind], ls=_DASHES[line.kind], linewidth=1.5)
        axes.set_aspect("equal")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(FixedLocator([0, 0.25, 0.5, 0.75, 1]))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("others taken for members")
        axes.set_ylabel("members found")
        return finish()


def course(
    lines: Sequence[Line],
    *,
    identity: str,
    horizontal: str,
    vertical: str,
    log: bool = False,
    ticks: Sequence[float] | None = None,
) -> str:
    """Lines with a dot at each point.

    Args:
        lines: what is drawn.
        identity: a word of its own for this drawing on its page.
        horizontal: what the horizontal axis counts.
        vertical: what the vertical axis counts.
        log: logarithmic horizontal axis.
        ticks: ticks of the horizontal axis; chosen if None.
    """
    with figure(identity, 2.6) as (axes, finish):
        for line in lines:
            axes.plot(
                line.x,
                line.y,
                color=SERIES[line.kind],
                ls=_DASHES[line.kind],
                linewidth=1.5,
                marker="o",
                markersize=3,
            )
        if log:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        elif ticks is not None:
            axes.xaxis.set_major_locator(FixedLocator(list(ticks)))
        else:
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        if log:
            axes.xaxis.set_major_locator(FixedLocator(_spread(lines)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel(horizontal)
        axes.set_ylabel(vertical)
        return finish()


def _spread(lines: Sequence[Line]) -> list[float]:
    """Up to five of the places where there are points, the first and the last among them."""
    places = sorted({place for line in lines for place in line.x})
    if len(places) <= 5:
        return places
    step = (len(places) - 1) / 4
    return [places[round(index * step)] for index in range(5)]
