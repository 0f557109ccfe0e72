"""Drawings that belong to any page: colours, ids and text."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from potstill.description import Curve, Panel
from potstill.report import plots
from potstill.report.dots import Dots, dot_plot
from potstill.results import Embedding
from potstill.runs.records import Series
from tests.report import synthetic

POINTS = Embedding.model_validate(synthetic.diversity()["embedding"])


def line(values: list[float], name: str = "loss") -> Series:
    return Series(name, tuple(range(1, len(values) + 1)), tuple(values))


def drawn(*, identity: str = "a") -> list[str]:
    rng = np.random.default_rng(0)
    long = line((1 + rng.random(200)).tolist())
    return [
        plots.curves([long, line([0.1, 0.01, 0.001])], identity=f"{identity}1", log=True),
        dot_plot([Dots("one", 80.0, (79.0, 81.0), 1.4)], identity=f"{identity}2"),
        plots.label_map(
            rng.normal(size=(6, 3)), np.array([0, 0, 1, 1, 2, 2]), "abc", identity=f"{identity}3"
        ),
        plots.embedding(POINTS, identity=f"{identity}4"),
    ]


def test_drawings_are_elements_that_take_their_colours_from_the_page() -> None:
    for svg in drawn():
        root = ElementTree.fromstring(svg)
        assert root.tag == "svg" and "width" not in root.attrib and "viewBox" in root.attrib
        assert "currentColor" in svg and "#0a0b" not in svg
        assert "http" not in svg and "<style" not in svg and "<metadata" not in svg


def test_ids_of_two_drawings_never_meet() -> None:
    def ids(svg: str) -> set[str]:
        return set(re.findall(r'\sid="([^"]+)"', svg))

    for one, other in zip(drawn(identity="a"), drawn(identity="b"), strict=True):
        assert not ids(one) & ids(other)
        for name in re.findall(r'(?:url\(#|href="#)([^")]+)', one):
            assert name in ids(one)


def test_the_same_values_give_the_same_drawing() -> None:
    assert drawn() == drawn()


def test_a_users_style_changes_nothing() -> None:
    import matplotlib

    plain = drawn()
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "lines.linewidth": 9}):
        assert drawn() == plain


def test_text_is_text_whatever_it_says() -> None:
    name = '<b>&"$\\frac$ id="x" #0a0b0c'
    svg = dot_plot([Dots(name, 1.0)], identity="a")
    texts = [node.text for node in ElementTree.fromstring(svg).iter("text")]
    assert name[:21] in " ".join(text or "" for text in texts)


@pytest.mark.parametrize(
    "values",
    [[float("nan")] * 3, [0.0, -1.0], [5.0], [1.0] * 100, [float("nan")] * 80 + [1.0] * 20],
)
@pytest.mark.parametrize("log", [False, True])
def test_gaps_and_constants_are_drawn(values: list[float], log: bool) -> None:
    ElementTree.fromstring(plots.curves([line(values)], identity="a", log=log))


@pytest.mark.parametrize(("low", "high"), [(1e-3, 1.1e-3), (1e-3, 4e-3), (1e-4, 1.0), (1e-9, 1e9)])
def test_a_logarithmic_axis_has_readable_ticks(low: float, high: float) -> None:
    svg = plots.curves([line(np.geomspace(low, high, 20).tolist())], identity="a", log=True)
    texts = [node.text or "" for node in ElementTree.fromstring(svg).iter("text")]
    values = [text for text in texts if re.fullmatch(r"[\d.]+(e[-+]\d+)?", text)]
    assert not any("$" in text for text in texts)
    assert len(values) >= 6  # four at least on the horizontal axis, two on this


def test_smoothing_is_the_mean_and_the_deciles_of_the_window() -> None:
    values = np.random.default_rng(0).normal(size=101)
    values[50] = np.nan
    reach, places = 8, np.array([0, 1, 5, 40, 50, 100])
    mean, low, high = plots.smoothed(values, places, reach=reach)
    for row, place in enumerate(places):
        side = max(min(place, 100 - place, reach), 2)
        window = values[max(0, place - side) : place + side + 1]
        window = window[np.isfinite(window)]
        assert mean[row] == pytest.approx(window.mean())
        assert low[row] == pytest.approx(np.quantile(window, 0.1))
        assert high[row] == pytest.approx(np.quantile(window, 0.9))


def test_smoothing_where_nothing_is_finite_is_a_gap() -> None:
    mean, low, high = plots.smoothed(np.full(70, np.nan), np.arange(70), reach=2)
    assert np.isnan(mean).all() and np.isnan(low).all() and np.isnan(high).all()


def test_the_map_of_images_is_a_file_of_its_own_too() -> None:
    png = plots.embedding_file(POINTS, "png")
    assert Image.open(io.BytesIO(png)).size[0] > 500
    assert png == plots.embedding_file(POINTS, "png")
    svg = plots.embedding_file(POINTS, "svg").decode()
    assert svg == plots.embedding_file(POINTS, "svg").decode()
    assert "#0a0b" not in svg and "distilled" in svg
    ElementTree.fromstring(svg)


def test_a_file_of_the_map_tells_classes_apart_by_colour() -> None:
    svg = plots.embedding_file(POINTS, "svg").decode()
    classes = {*np.asarray(POINTS.classes).tolist()}
    shown = {match for match in re.findall(r"fill: (#[0-9a-f]{6})", svg)} - {"#ffffff", "#1c1f23"}
    assert len(shown) >= len(classes)
    for number in (3, 10, 11, 20, 21, 200):
        hues = plots._hues(number)
        assert hues.shape == (number, 4) and len(np.unique(hues, axis=0)) == number


def test_a_class_name_can_be_read_among_its_points() -> None:
    """On a veil of the page's ground, and of white in a file of its own."""
    assert plots.embedding(POINTS, identity="a").count("fill: var(--ground)") == 3
    assert plots.embedding_file(POINTS, "svg").count(b"fill: #ffffff; opacity: 0.75") == 3


def test_several_sets_on_one_map_have_their_names_and_marks():
    sets = ("DWA, no adjustment", "DWA, K 12, ρ 0.015, in sequence at 1")  # noqa: RUF001
    of = tuple(-1 if real else place % 2 for place, real in enumerate(POINTS.real))
    svg = plots.embedding_file(POINTS.model_copy(update={"sets": sets, "of": of}), "svg").decode()
    assert all(name in svg for name in sets) and "distilled" not in svg
    kinds = plots._kinds(POINTS.model_copy(update={"sets": sets, "of": of}))
    assert [(name, mark) for name, mark, _ in kinds] == [
        ("real", "o"),
        *zip(sets, "D^", strict=True),
    ]


def test_a_panel_has_as_many_curves_as_can_be_told_apart() -> None:
    with pytest.raises(ValidationError):
        Panel(title="Four", curves=(Curve("x", "x"),) * 4)
