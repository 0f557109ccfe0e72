"""Plots as inline SVG that takes its colours from the page.

matplotlib draws with stand-in colours; in the finished SVG these become
``currentColor`` and the page's custom properties, so that one drawing is
legible on a light and on a dark ground. Ids are prefixed, since several drawings
share a page, and everything that names an outside address is taken out.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from potstill.report.records import Series

Numbers = NDArray[Any]

_TEXT = "#0a0b0c"
_GRID = "#0a0b0d"
_SERIES = ("#0a0b11", "#0a0b12", "#0a0b13")
_DASHES = ("-", "--", ":")
_COLOURS = {
    _TEXT: "currentColor",
    _GRID: "var(--grid)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)},
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": _TEXT,
    "axes.edgecolor": _GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": _TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _GRID,
    "grid.linewidth": 0.7,
    "xtick.color": _GRID,
    "ytick.color": _GRID,
    "xtick.labelcolor": _TEXT,
    "ytick.labelcolor": _TEXT,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "round",
}
# (decades below which they are used, ticks in each decade)
_LOG_TICKS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0.7, (1, 1.5, 2, 3, 4, 5, 6, 8)),
    (1.5, (1, 2, 5)),
    (3.0, (1, 3)),
    (float("inf"), (1,)),
)
_WIDTH = 3.7
_SMOOTHED_FROM = 60
_MARKERS: tuple[dict[str, Any], ...] = (
    {"marker": "D", "markersize": 6},
    {"marker": "|", "markersize": 12, "markeredgewidth": 2.2},
    {"marker": "s", "markersize": 6},
)
_MOST_POINTS = 600


@dataclass(frozen=True)
class Dots:
    """One line of a dot plot: a mean, the values it is made of, a spread; all in percent."""

    name: str
    mean: float
    values: tuple[float, ...] = ()
    std: float | None = None
    kind: int = 0


def curves(series: Sequence[Series], *, identity: str, unit: str = "", log: bool = False) -> str:
    """Lines over the iterations; from 60 points on, running means with the inner 80 % shaded.

    Args:
        series: at most three; the first is solid, the others are dashed and dotted.
        identity: a word of its own for this drawing on its page.
        unit: what the vertical axis counts.
        log: logarithmic vertical axis; values that are not positive leave a gap.
    """
    with _figure(identity, 2.5) as (axes, finish):
        for kind, line in enumerate(series):
            x = np.asarray(line.iterations, dtype=float)
            y = np.asarray(line.values, dtype=float)
            y = np.where(y > 0, y, np.nan) if log else y
            _line(axes, x, y, kind)
        if log and any(value > 0 for line in series for value in line.values):
            _log_scale(axes)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.set_xlabel("iteration")
        axes.set_ylabel(unit)
        return finish()


def is_smoothed(series: Series) -> bool:
    """Whether :func:`curves` draws running means instead of the values."""
    return len(series.values) >= _SMOOTHED_FROM


def _line(axes: Axes, x: Numbers, y: Numbers, kind: int) -> None:
    colour, dashes = _SERIES[kind], _DASHES[kind]
    if len(x) < _SMOOTHED_FROM:
        marker = "o" if len(x) < 30 else ""
        axes.plot(x, y, color=colour, linewidth=1.4, ls=dashes, marker=marker, markersize=3)
        return
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MOST_POINTS)).astype(int))
    mean, low, high = smoothed(y, places, reach=len(x) // 30)
    axes.fill_between(x[places], low, high, color=colour, alpha=0.22, linewidth=0)
    axes.plot(x[places], mean, color=colour, linewidth=1.5, ls=dashes)


def _log_scale(axes: Axes) -> None:
    """Labels at the powers of ten, or in between them too where there are few.

    A range that is less than a doubling stays linear.
    """
    low, high = axes.dataLim.intervaly
    decades = np.log10(high / low)
    if decades < np.log10(2):
        return
    axes.set_yscale("log")
    subs = next(subs for most, subs in _LOG_TICKS if decades < most)
    axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def smoothed(values: Numbers, places: Numbers, *, reach: int) -> tuple[Numbers, Numbers, Numbers]:
    """Mean and deciles 1 and 9 of the finite values around each of ``places``.

    A window holds ``reach`` values on either side. Towards the ends it stays symmetric, so that a
    slope is followed, down to a quarter of that, so that the ends are smooth too. NaN where no
    value is finite.
    """
    offsets = np.arange(-reach, reach + 1)
    room = np.minimum(places, len(values) - 1 - places)
    allowed = np.clip(room, reach // 4, reach)
    index = places[:, None] + offsets
    inside = (np.abs(offsets) <= allowed[:, None]) & (index >= 0) & (index < len(values))
    windows = np.where(inside, values[np.clip(index, 0, len(values) - 1)], np.nan)
    windows = np.where(np.isfinite(windows), windows, np.nan)
    some = np.isfinite(windows).any(axis=1)
    mean, low, high = np.full((3, len(places)), np.nan)
    mean[some] = np.nanmean(windows[some], axis=1)
    if some.any():
        low[some], high[some] = np.nanquantile(windows[some], (0.1, 0.9), axis=1)
    return mean, low, high


def dot_plot(lines: Sequence[Dots], *, identity: str) -> str:
    """Accuracies on one axis: a dot for each network, a bar for the mean, a whisker for one std.

    Args:
        lines: from top to bottom; ``kind`` picks the colour and the shape: a diamond, a
            vertical bar, a square.
    """
    with _figure(identity, 0.75 + 0.3 * len(lines)) as (axes, finish):
        for place, line in enumerate(lines):
            colour = _SERIES[line.kind]
            if line.std is not None:
                axes.plot(
                    [line.mean - line.std, line.mean + line.std],
                    [place, place],
                    color=colour,
                    linewidth=1.2,
                )
            values = line.values if len(line.values) > 1 else ()
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.4, markersize=5)
            axes.plot([line.mean], [place], ls="", color=colour, **_MARKERS[line.kind])
        axes.set_yticks(range(len(lines)), [_short(line.name) for line in lines])
        axes.set_ylim(len(lines) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("test accuracy, %")
        return finish()


def label_map(labels: Numbers, classes: Numbers, names: Sequence[str], *, identity: str) -> str:
    """Learned labels as colours, an image a row and a class a column.

    Args:
        labels: (n, C), sorted by class.
        classes: (n,) the class each row belongs to, ascending.
        names: the C class names.
    """
    count, width = labels.shape
    height = float(np.clip(0.95 + 0.24 * count, 2.6, 6.5))
    bound = float(np.abs(labels).max()) or 1.0
    with _figure(identity, height) as (axes, finish):
        image = axes.imshow(
            labels, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto", interpolation="nearest"
        )
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        if width <= 20:
            axes.set_xticks(range(width), [_short(name) for name in names])
            if max(len(name) for name in names) > 2:
                axes.tick_params(axis="x", labelrotation=90)
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("class" if width <= 20 else "class number")
        _row_ticks(axes, classes, names)
        bar = axes.figure.colorbar(image, ax=axes, pad=0.03, fraction=0.06)
        bar.outline.set_visible(False)
        if bar.solids is not None:
            bar.solids.set_rasterized(True)
        bar.ax.tick_params(length=0)
        bar.locator = MaxNLocator(5, symmetric=True)
        bar.update_ticks()
        return finish()


def _row_ticks(axes: Axes, classes: Numbers, names: Sequence[str]) -> None:
    """The class's name at the middle of its rows, and a line between classes."""
    starts = [0, *(np.flatnonzero(np.diff(classes)) + 1).tolist(), len(classes)]
    if len(starts) - 1 > 20:
        axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_ylabel("image")
        return
    middles = [(low + high - 1) / 2 for low, high in pairwise(starts)]
    axes.set_yticks(middles, [_short(names[classes[low]]) for low in starts[:-1]])
    axes.set_ylabel("images, by class")


def _short(text: str, limit: int = 22) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


@contextmanager
def _figure(identity: str, height: float) -> Iterator[tuple[Axes, _Finish]]:
    with matplotlib.rc_context():
        # Not the user's own style: the page would be another on another machine.
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        matplotlib.rcParams["svg.hashsalt"] = identity
        figure = Figure(figsize=(_WIDTH, height), layout="constrained", dpi=144)
        FigureCanvasSVG(figure)
        yield figure.subplots(), _Finish(figure, identity)


@dataclass(frozen=True)
class _Finish:
    """The finished drawing: an ``<svg>`` element that belongs to its page."""

    figure: Figure
    identity: str

    def __call__(self) -> str:
        buffer = io.StringIO()
        with warnings.catch_warnings():
            # The reader's fonts set the text; DejaVu, which measures it, lacks some scripts.
            warnings.filterwarnings("ignore", message="Glyph")
            self.figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
        return _inline(buffer.getvalue(), self.identity)


def _inline(document: str, identity: str) -> str:
    """What matplotlib wrote as an element of a page; only tags are touched, never text."""
    body = document[document.index("<svg") :].strip()
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    tags = re.findall(r"<[^>]*>", body)
    used = {name for tag in tags for name in re.findall(r'(?:url\(#|href="#)([^")]+)', tag)}
    body = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], identity, used), body)
    return body.replace("<svg", '<svg class="plot" aria-hidden="true" focusable="false"', 1)


def _tag(tag: str, identity: str, used: set[str]) -> str:
    if tag.startswith("<!--"):
        return ""
    tag = re.sub(r'\s(?:xmlns(?::\w+)?|version)="[^"]*"', "", tag).replace("xlink:href", "href")
    if tag.startswith("<svg"):
        tag = re.sub(r'\s(?:width|height)="[^"]*"', "", tag)
    name = re.search(r'\sid="([^"]+)"', tag)
    if name is not None:
        kept = f' id="{identity}-{name[1]}"' if name[1] in used else ""
        tag = tag.replace(name[0], kept)
    tag = re.sub(r'(url\(#|href="#)', rf"\g<1>{identity}-", tag)
    tag = re.sub(r"#0a0b[0-9a-f]{2}", lambda colour: _COLOURS[colour[0]], tag)
    if tag.startswith("<image"):
        tag = "".join(tag.split("\n"))
    tag = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", tag)
    return re.sub(r"(\.\d{2})\d+", r"\1", tag)
