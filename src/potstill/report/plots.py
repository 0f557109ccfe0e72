"""The kinds of plot on the page, each an SVG element; see :mod:`potstill.report.canvas`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    StrMethodFormatter,
)
from numpy.typing import NDArray

from potstill.report.canvas import GROUND, ON_WHITE, SERIES, TEXT, figure
from potstill.results import Embedding
from potstill.runs.records import Series

Numbers = NDArray[Any]

_DASHES = ("-", "--", ":")
# (decades below which they are used, ticks in each decade)
_LOG_TICKS: tuple[tuple[float, tuple[float, ...]], ...] = (
    (0.7, (1, 1.5, 2, 3, 4, 5, 6, 8)),
    (1.5, (1, 2, 5)),
    (3.0, (1, 3)),
    (float("inf"), (1,)),
)
_SMOOTHED_FROM = 60
_MOST_POINTS = 600


def curves(series: Sequence[Series], *, identity: str, unit: str = "", log: bool = False) -> str:
    """Lines over the iterations; from 60 points on, running means with the inner 80 % shaded.

    Args:
        series: at most three; the first is solid, the others are dashed and dotted.
        identity: a word of its own for this drawing on its page.
        unit: what the vertical axis counts.
        log: logarithmic vertical axis; values that are not positive leave a gap.
    """
    with figure(identity, 2.5) as (axes, finish):
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
    colour, dashes = SERIES[kind], _DASHES[kind]
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
    with figure(identity, height) as (axes, finish):
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


def embedding(points: Embedding, *, identity: str) -> str:
    """Points of the plane: real images as dots, distilled ones as diamonds, class names between."""
    with figure(identity, 3.4) as (axes, finish):
        _scatter(axes, points)
        return finish()


def embedding_file(points: Embedding, form: Literal["png", "svg"]) -> bytes:
    """:func:`embedding` as a file of its own: on white, each class in a colour of its own."""
    with figure("embedding", 4.6, ON_WHITE) as (axes, finish):
        classes, real = np.asarray(points.classes), np.asarray(points.real)
        hues = _hues(len(points.class_names))
        ink = ON_WHITE[TEXT]
        for name, shape, chosen in _kinds(points):
            of_set = name != "real"
            axes.scatter(
                np.asarray(points.x)[chosen],
                np.asarray(points.y)[chosen],
                c=hues[classes[chosen]],
                marker=shape,
                s=25.0 if of_set else 11.6,
                alpha=1.0 if of_set else 0.55,
                linewidths=0.7 if of_set else 0.0,
                edgecolors=ink if of_set else "none",
                label=_short(name, 60),
            )
        _name_classes(axes, points, ON_WHITE[GROUND])
        _bare(axes)
        if real.any() or points.sets:
            columns = 1 if points.sets else 2
            legend = axes.legend(
                loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False
            )
            for handle in filter(None, legend.legend_handles):
                handle.set(facecolor="white", edgecolor=ink, alpha=1, linewidth=0.7)  # of no class
        buffer = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        finish.save(buffer, format=form, dpi=200, metadata=metadata, facecolor="white")
        return buffer.getvalue()


# Of the distilled sets on one map; in the page a second one has another colour, too.
_SHAPES = ("D", "^", "s", "v")


def _hues(classes: int) -> Numbers:
    """A colour for each class, (classes, 4): told apart up to 20, from then on around the wheel."""
    names = ("tab10", 10) if classes <= 10 else ("tab20", 20)
    if classes <= 20:
        return np.asarray(matplotlib.colormaps[names[0]](np.arange(classes) % names[1]))
    return np.asarray(matplotlib.colormaps["hsv"](np.arange(classes) / classes))


def _kinds(points: Embedding) -> Iterator[tuple[str, str, Numbers]]:
    """The real images, if any are shown, and each distilled set: its name, marker and points."""
    real = np.asarray(points.real)
    if real.any():
        yield "real", "o", real
    of = np.asarray(points.of) if points.sets else np.where(real, -1, 0)
    for number, name in enumerate(points.sets or ("distilled",)):
        yield name, _SHAPES[number % len(_SHAPES)], of == number


def _scatter(axes: Axes, points: Embedding) -> None:
    """Real and distilled images in the page's colours."""
    x, y = np.asarray(points.x), np.asarray(points.y)
    for number, (name, shape, chosen) in enumerate(_kinds(points)):
        of_set = name != "real"
        colour = SERIES[0 if number < 2 else 2] if of_set else SERIES[1]
        size, alpha = (4.2, 0.85) if of_set else (2.6, 0.45)
        axes.plot(x[chosen], y[chosen], shape, ls="", ms=size, mew=0, alpha=alpha, color=colour,
                  label=_short(name, 60))  # fmt: skip
    _name_classes(axes, points, GROUND)
    _bare(axes)


def _name_classes(axes: Axes, points: Embedding, ground: str) -> None:
    """Each class's name in the middle of its points."""
    x, y, classes = (np.asarray(values) for values in (points.x, points.y, points.classes))
    # So that a name can be read among its points.
    veil = {"facecolor": ground, "edgecolor": "none", "alpha": 0.75, "pad": 0.8}
    for index, name in enumerate(points.class_names):
        members = classes == index
        if members.any():
            middle = np.median(x[members]), np.median(y[members])
            axes.annotate(_short(name), middle, ha="center", va="center", fontsize=7.5, bbox=veil)


def _bare(axes: Axes) -> None:
    """No scales: distances on a map mean little."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.margins(0.04)


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
