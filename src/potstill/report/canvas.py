"""A figure that becomes an inline SVG and takes its colours from the page.

matplotlib draws with stand-in colours; in the finished SVG these become
``currentColor`` and the page's custom properties, so that one drawing is
legible on a light and on a dark ground. Ids are prefixed, since several drawings
share a page, and everything that names an outside address is taken out.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

TEXT = "#0a0b0c"
GRID = "#0a0b0d"
GROUND = "#0a0b0e"
SERIES = ("#0a0b11", "#0a0b12", "#0a0b13")
_COLOURS = {
    TEXT: "currentColor",
    GRID: "var(--grid)",
    GROUND: "var(--ground)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)},
}
# Light colours for files of their own, which no style sheet serves.
ON_WHITE = {
    TEXT: "#1c1f23",
    GRID: "#d3d8de",
    GROUND: "#ffffff",
    **dict(zip(SERIES, ("#1f66a8", "#b3541e", "#2c7a4b"), strict=True)),
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": TEXT,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "round",
}
_WIDTH = 3.7


@contextmanager
def figure(
    identity: str, height: float, colours: Mapping[str, str] | None = None
) -> Iterator[tuple[Axes, Finish]]:
    """Axes to draw in, in stand-in colours unless ``colours`` names others for them."""
    with panels(identity, (_WIDTH, height), 1, colours) as ((axes,), finish):
        yield axes, finish


@contextmanager
def panels(
    identity: str, size: tuple[float, float], columns: int, colours: Mapping[str, str] | None = None
) -> Iterator[tuple[tuple[Axes, ...], Finish]]:
    """As :func:`figure`, so many axes beside each other, in so many inches (width, height)."""
    colours = colours or {}
    with matplotlib.rc_context():
        # Not the user's own style: the page would be another on another machine.
        matplotlib.rcdefaults()
        style = {key: colours.get(str(value), value) for key, value in _STYLE.items()}
        matplotlib.rcParams.update(style)
        matplotlib.rcParams["svg.hashsalt"] = identity
        figure = Figure(figsize=size, layout="constrained", dpi=144)
        FigureCanvasSVG(figure)
        axes = figure.subplots(1, columns, squeeze=False)
        yield tuple(axes[0]), Finish(figure, identity)


@dataclass(frozen=True)
class Finish:
    """The finished drawing: an ``<svg>`` element that belongs to its page."""

    figure: Figure
    identity: str

    def __call__(self) -> str:
        """The element; its ids begin with ``identity``."""
        buffer = io.StringIO()
        self.save(buffer, format="svg", metadata={"Date": None}, transparent=True)
        return _inline(buffer.getvalue(), self.identity)

    def save(self, buffer: IO[Any], **options: Any) -> None:
        """Write the drawing as matplotlib's ``savefig`` does, without a word on fonts."""
        with warnings.catch_warnings():
            # The reader's fonts set a page's text; DejaVu, which measures it, lacks some scripts.
            warnings.simplefilter("ignore", UserWarning)
            self.figure.savefig(buffer, **options)


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
