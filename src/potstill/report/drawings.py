"""What is drawn for the page, each drawing with the words that stand for it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import torch
from markupsafe import Markup

from potstill import pictures
from potstill.description import Curve, Panel, Scale
from potstill.report import plots
from potstill.report.comparison import Comparison
from potstill.report.dots import Dots, dot_plot
from potstill.report.starts import Starts
from potstill.results import Accuracy, Diversity, Evaluation, Training
from potstill.runs.records import Series
from potstill.text import baseline_text, count, network_text, protocol_text, spaced

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset

_MOST_LABELS = 200
_LEGIBLE_TILE = 20
# A method logs a dozen quantities; a log that names thousands is not drawn for hours.
_MOST_CURVES = 40


@dataclass(frozen=True)
class Key:
    """An entry of a legend: ``shape`` names its look in the style sheet."""

    shape: str
    name: str


@dataclass(frozen=True)
class Drawing:
    """An SVG element with its heading, a note, and words for those who cannot see it."""

    title: str
    note: str
    alt: str
    svg: Markup
    keys: tuple[Key, ...] = ()


@dataclass(frozen=True)
class Tiles:
    """The distilled images as a data URI, with the class names to be set beside them."""

    source: str
    width: int
    height: int
    least: int
    font_size: int
    names: tuple[pictures.Name, ...]
    alt: str
    caption: str


def tiles(dataset: DistilledDataset) -> Tiles:
    """The picture of the images, for the page to set the class names beside."""
    layout = pictures.lay_out(dataset)
    buffer = io.BytesIO()
    pictures.tiles_alone(dataset, layout).save(buffer, format="PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    names = dataset.class_names
    shown = ": " + ", ".join(names) if len(names) <= 20 else ""
    side = max(dataset.shape[-2:])
    scale = layout.tile / side
    if scale > 1:
        size = f", enlarged {layout.tile // side} times"
    else:
        size = "" if scale == 1 else ", reduced"
    return Tiles(
        source=source,
        width=layout.width,
        height=layout.height,
        least=min(layout.width, math.ceil(layout.width * _LEGIBLE_TILE / max(layout.tile, 1))),
        font_size=layout.font_size,
        names=layout.names,
        alt=f"{len(dataset)} distilled images, one row for each of {len(names)} classes{shown}",
        caption=(
            f"{count(len(dataset), 'image')} of {side} by {side} pixels in natural colours, the "
            f"preprocessing undone{size}; one row for each class, by the largest label."
        ),
    )


def curves(series: Mapping[str, Series], panels: Sequence[Panel], anchor: str) -> list[Drawing]:
    """The panels for which something was logged, then whatever else was; the first of very many."""
    known = {curve.quantity for panel in panels for curve in panel.curves}
    others = [
        Panel(title=spaced(name), curves=(Curve(spaced(name), name),))
        for name in sorted(series.keys() - known)
    ]
    drawn: list[Drawing] = []
    for panel in (*panels, *others):
        if len(drawn) == _MOST_CURVES:
            break
        present = [
            (legend, _scaled(series[name], panel.scale))
            for legend, name in panel.curves
            if name in series
        ]
        if not present:
            continue
        names, values = zip(*present, strict=True)
        identity = f"{anchor}-curve-{len(drawn)}"
        svg = plots.curves(values, identity=identity, unit=panel.unit, log=panel.logarithmic)
        alt = f"{panel.title} over the iterations. " + " ".join(_ends(*line) for line in present)
        keys = tuple(map(Key, ("solid", "dashed", "dotted"), names)) if len(present) > 1 else ()
        drawn.append(Drawing(panel.title, panel.note, alt, Markup(svg), keys))
    return drawn


def _scaled(series: Series, scale: Scale | None) -> Series:
    """Fractions as percent, logarithms as what they are of."""
    if scale == "percent":
        values = tuple(100 * value for value in series.values)
    elif scale == "exponential":
        values = tuple(math.exp(min(value, 50.0)) for value in series.values)
    else:
        return series
    return Series(series.name, series.iterations, values)


def _ends(legend: str, series: Series) -> str:
    finite = [(i, v) for i, v in zip(series.iterations, series.values, strict=True) if v == v]
    if not finite:
        return f"{legend}: no finite value."
    (first, start), (last, end) = finite[0], finite[-1]
    return f"{legend}: {start:.3g} at iteration {first:,}, {end:.3g} at iteration {last:,}."


def overview(
    groups: Sequence[Starts], comparisons: Mapping[str, Sequence[Comparison]]
) -> list[Drawing]:
    """The accuracies of runs that were evaluated alike, a drawing for each way with several.

    Random real images of the same evaluation, and the papers' numbers, stand below a run.
    """
    several_sets = len({group.runs[0].data_title for group in groups}) > 1
    alike: dict[Training, list[list[Dots]]] = {}
    for group in groups:
        run, result = group.runs[0], group.result
        if result is None:
            continue
        name = f"{group.label}, {run.data_title}" if several_sets else group.label
        lines = _lines(name, result, group.how[-1])
        lines += [
            Dots(
                f"paper, Table {entry.row.table}",
                entry.paper_mean * 100,
                std=None if entry.paper_std is None else entry.paper_std * 100,
                kind=2,
            )
            for entry in comparisons[run.label]
            if entry.ours == run.headline
        ]
        alike.setdefault(result.training, []).append(lines)
    return [
        _accuracies(training, [line for lines in found for line in lines], f"overview-{number}")
        for number, (training, found) in enumerate(alike.items())
        if len(found) > 1
    ]


def accuracies(results: Sequence[Evaluation], anchor: str) -> list[Drawing]:
    """Every network of the evaluations of one run, a drawing for those that trained alike.

    One that stands alone, without random real images beside it, is not drawn.
    """
    alike: dict[Training, list[Evaluation]] = {}
    for result in results:
        alike.setdefault(result.training, []).append(result)
    drawn: list[Drawing] = []
    for training, found in alike.items():
        lines = [
            line
            for name, result in zip(_names(found), found, strict=True)
            for line in _lines(name, result, count(len(result.accuracy.values), "network"))
        ]
        if len(lines) > 1:
            drawn.append(_accuracies(training, lines, f"{anchor}-accuracies-{len(drawn)}"))
    return drawn


def _lines(name: str, result: Evaluation, networks: str) -> list[Dots]:
    """A set's accuracy, and below it that of random real images of the same evaluation."""
    lines = [_dots(f"{name}, {networks}", result.accuracy)]
    if result.baseline is not None:
        beside = count(len(result.baseline.values), "network")
        lines.append(_dots(f"{result.baseline.kind}, {beside}", result.baseline, kind=1))
    lines += [_dots(baseline_text(other), other, kind=1) for other in result.beside]
    return lines


def _accuracies(training: Training, lines: Sequence[Dots], identity: str) -> Drawing:
    kinds = sorted({line.kind for line in lines})
    keys = (Key("diamond", "distilled"), Key("bar", "real images"), Key("square", "paper"))
    title = f"{network_text(training.network)}, {protocol_text(training)}"
    spoken = "; ".join(f"{line.name} {line.mean:.1f}" for line in lines)
    return Drawing(
        title=f"{title}.",
        note="A dot for each network, a line for one standard deviation.",
        alt=f"Accuracies in percent, {title}. {spoken}.",
        svg=Markup(dot_plot(lines, identity=identity)),
        keys=tuple(keys[kind] for kind in kinds) if len(kinds) > 1 else (),
    )


def _dots(name: str, accuracy: Accuracy, kind: int = 0) -> Dots:
    values = tuple(value * 100 for value in accuracy.values)
    std = accuracy.std * 100 if len(values) > 1 else None
    return Dots(name, accuracy.mean * 100, values, std, kind)


def _names(results: Sequence[Evaluation]) -> list[str]:
    """What sets apart results of networks that were trained alike."""
    described = [
        (f"labels {result.labels}" if result.labels else "", f"seed {result.seed}")
        for result in results
    ]
    telling = [len(set(column)) > 1 for column in zip(*described, strict=True)]
    return [
        ", ".join(["distilled", *filter(None, compress(facts, telling))]) for facts in described
    ]


def labels(dataset: DistilledDataset, anchor: str) -> Drawing | None:
    """The learned labels as a map, unless they are too many to be seen."""
    if len(dataset) > _MOST_LABELS:
        return None
    classes = dataset.hard_labels()
    order = torch.argsort(classes, stable=True)
    values = dataset.labels[order].double().cpu().numpy()
    svg = plots.label_map(
        values, classes[order].cpu().numpy(), dataset.class_names, identity=f"{anchor}-labels"
    )
    return Drawing(
        title="An image a row, a class a column.",
        note="Centred labels: what a network is trained to answer, 0 being no opinion.",
        alt=(
            f"Learned labels of {count(len(dataset), 'image')} for {values.shape[1]} classes, "
            f"from {values.min():.2f} to {values.max():.2f}"
        ),
        svg=Markup(svg),
    )


def embedding(audit: Diversity, identity: str) -> Drawing | None:
    """Real and distilled images as a teacher sees them, in the plane; None if not computed."""
    points = audit.embedding
    if points is None:
        return None
    distilled = points.real.count(False)
    real = len(points.real) - distilled
    keys = (Key("diamond", "distilled"), Key("dot", "real")) if real else ()
    return Drawing(
        title="How the teacher sees them.",
        note="t-SNE of its logits: the nearer, the more alike; axes and distances mean nothing.",
        alt=(
            f"{count(distilled, 'distilled image')} and {count(real, 'real image')} of "
            f"{', '.join(points.class_names)} as points of the plane"
        ),
        svg=Markup(plots.embedding(points, identity=identity)),
        keys=keys,
    )
