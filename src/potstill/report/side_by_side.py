"""The picture of a comparison: a panel for each protocol, a line or a row of dots for a method."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullLocator

from potstill.comparison import OWN, RANDOM, Comparison, Row
from potstill.report.canvas import ON_WHITE, Finish, panels

Over = Literal["images", "bytes"]

# Legible on light and dark grounds, and to colour-blind eyes (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#c48a00", "#3f9fd6", "#8a6ad0", "#7a5c3a")
_MARKERS = "osD^vP*X"
_GREY = "#808890"
# Inches: a panel, what axes and legend take, a row of dots.
_PANEL, _FRAME, _ROW = 3.3, 1.0, 0.3
_ASIDE = 1.035
_LONGEST = 44  # characters of a method's name beside a row of dots
_AXES = {"images": "images per class", "bytes": "bytes of a set: images, labels, labeller"}


def element(comparison: Comparison, identity: str, over: Over = "images") -> str:
    """The picture as an ``<svg>`` element of a page, whose ids begin with ``identity``."""
    with _panels(comparison, identity, over, {}) as (axes, finish):
        _draw(comparison, axes, finish, over)
        return finish()


def file(comparison: Comparison, form: Literal["png", "svg"], over: Over = "images") -> bytes:
    """The picture as a file of its own, dark on white."""
    with _panels(comparison, "comparison", over, ON_WHITE) as (axes, finish):
        _draw(comparison, axes, finish, over)
        buffer = io.BytesIO()
        metadata = {"Date": None} if form == "svg" else {"Software": None}
        finish.save(buffer, format=form, dpi=200, metadata=metadata, facecolor="white")
        return buffer.getvalue()


def alt(comparison: Comparison) -> str:
    """The picture in words, for those who cannot see it."""
    rows = (
        f"{row.method} at {row.images_per_class} per class, {row.asked}: "
        f"{100 * row.accuracy.mean:.1f} %"
        for row in comparison.rows
    )
    return f"Test accuracies on {comparison.title}. " + "; ".join(rows)


def _panels(comparison: Comparison, identity: str, over: Over, colours: dict[str, str]) -> Any:
    asked, methods = _asked(comparison), _methods(comparison)
    lines = _as_lines(comparison, over)
    height = 3.4 if lines else _FRAME + _ROW * len(methods)
    if lines:
        height += 0.2 * -(-len(methods) // 4)
    names = 0.0 if lines else 0.075 * max(len(_short(name)) for name in methods)
    width = max(4.2, _PANEL * len(asked) + 0.4 + names)
    return panels(identity, (width, height), len(asked), colours)


def _draw(comparison: Comparison, axes: Sequence[Axes], finish: Finish, over: Over) -> None:
    methods = _methods(comparison)
    asked = _asked(comparison)
    lines = _as_lines(comparison, over)
    for place, (panel, protocol) in enumerate(zip(axes, asked, strict=True)):
        rows = [row for row in comparison.rows if row.asked == protocol]
        panel.set_title("each method's own protocol" if protocol == OWN else protocol, fontsize=9)
        if lines:
            _lines(panel, rows, methods, over)
        else:
            _dots(panel, rows, methods, named=place == 0)
    _on_one_scale(axes, both=lines)
    if lines:
        axes[0].set_ylabel("test accuracy, %")
        handles: dict[str, Any] = {}
        for panel in axes:
            for handle, name in zip(*panel.get_legend_handles_labels(), strict=True):
                handles.setdefault(name, handle)
        finish.figure.legend(
            handles.values(),
            handles.keys(),
            loc="outside lower center",
            ncols=min(4, len(handles)),
            frameon=False,
        )


def _on_one_scale(axes: Sequence[Axes], *, both: bool) -> None:
    """All panels with the same ends of the horizontal axis, and of the other too if ``both``."""
    across = [panel.get_xlim() for panel in axes]
    upwards = [panel.get_ylim() for panel in axes]
    for panel in axes:
        panel.set_xlim(min(low for low, _ in across), max(high for _, high in across))
        if both:
            panel.set_ylim(min(low for low, _ in upwards), max(high for _, high in upwards))


def _lines(panel: Axes, rows: Sequence[Row], methods: Sequence[str], over: Over) -> None:
    """A line over images per class or bytes for each method, a whisker of one deviation."""
    ticks: set[float] = set()
    for place, method in enumerate(methods):
        for points in _by_condition([row for row in rows if row.method == method], over):
            aside = _ASIDE ** (place - (len(methods) - 1) / 2)  # so that whiskers do not overlap
            x = [_place(row, over) * (aside if over == "images" else 1) for row in points]
            ticks.update(_place(row, over) for row in points)
            panel.errorbar(
                x,
                [100 * row.accuracy.mean for row in points],
                yerr=[100 * row.accuracy.std for row in points],
                label=method,
                capsize=2,
                markersize=5,
                linewidth=1.4,
                **_look(place, method),
            )
    panel.set_xscale("log")
    if over == "images":
        panel.set_xticks(sorted(ticks), [f"{tick:g}" for tick in sorted(ticks)])
    else:
        panel.xaxis.set_major_locator(LogLocator(numticks=6))
        panel.xaxis.set_major_formatter(EngFormatter(unit="B"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.margins(x=0.08)
    panel.yaxis.set_major_locator(MaxNLocator(6))
    panel.set_xlabel(_AXES[over])


def _dots(panel: Axes, rows: Sequence[Row], methods: Sequence[str], *, named: bool) -> None:
    """A row for each method: dots for seeds, a sign for the mean, a whisker of one deviation."""
    for place, method in enumerate(methods):
        own = [row for row in rows if row.method == method]
        for number, row in enumerate(own):
            look = _look(place, method)
            # Random images beside different methods are several rows of one name.
            height = place + 0.22 * (number - (len(own) - 1) / 2)
            mean, colour = 100 * row.accuracy.mean, look["color"]
            panel.errorbar(
                [mean],
                [height],
                xerr=[100 * row.accuracy.std],
                capsize=2,
                markersize=6,
                **{**look, "linestyle": ""},
            )
            if len(row.by_seed) > 1:
                seeds = [100 * value for value in row.by_seed]
                panel.plot(seeds, [height] * len(seeds), "o", color=colour, alpha=0.4, markersize=4)
    panel.set_ylim(len(methods) - 0.5, -0.5)
    labels = [_short(name) for name in methods] if named else [""] * len(methods)
    panel.set_yticks(range(len(methods)), labels)
    panel.tick_params(axis="y", length=0)
    panel.xaxis.set_major_locator(MaxNLocator(6))
    panel.margins(x=0.08)
    panel.set_xlabel("test accuracy, %")


def _by_condition(rows: Sequence[Row], over: Over) -> list[list[Row]]:
    """Rows that a line may join: at most one for each number of images, by their place."""
    lines: list[list[Row]] = []
    for row in sorted(rows, key=lambda row: row.images_per_class):
        if over == "bytes" and row.bytes is None:
            continue
        for line in lines:
            if line[-1].images_per_class < row.images_per_class:
                line.append(row)
                break
        else:
            lines.append([row])
    return lines


def _place(row: Row, over: Over) -> float:
    return row.images_per_class if over == "images" else float(row.bytes or 0)


def _look(place: int, method: str) -> dict[str, Any]:
    if method == RANDOM:
        return {"color": _GREY, "marker": "x", "linestyle": "--"}
    number = place % len(_COLOURS)
    style = "-" if place < len(_COLOURS) else ":"
    return {"color": _COLOURS[number], "marker": _MARKERS[number], "linestyle": style}


def _as_lines(comparison: Comparison, over: Over) -> bool:
    return over == "bytes" or len({row.images_per_class for row in comparison.rows}) > 1


def _asked(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(row.asked for row in comparison.rows))


def _methods(comparison: Comparison) -> list[str]:
    """In the order of the table, random real images last."""
    found = dict.fromkeys(row.method for row in comparison.rows if not row.random)
    random = [RANDOM] if any(row.random for row in comparison.rows) else []
    return [*found, *random]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
