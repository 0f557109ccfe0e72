"""Plots of accuracies: every row has a name that can be read and told from the others."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from potstill.report import drawings
from potstill.report.dots import Dots, dot_plot
from potstill.results import Evaluation
from tests.report import audit_records, synthetic

NORMS = ("none", "batch", "instance")


def result(network: dict[str, Any], **changes: Any) -> Evaluation:
    document = synthetic.result(synthetic.recipe(), [0.5, 0.6]) | {"network": network}
    return Evaluation.model_validate(document | changes)


def words(svg: str) -> str:
    texts = ElementTree.fromstring(svg).iter("text")
    return " ".join("".join(text.itertext()) for text in texts)


def drawn(*results: Evaluation) -> tuple[str, str]:
    """The words in the plot, and those that stand for it."""
    drawing = drawings.accuracies(results, "a")
    return words(drawing.svg), drawing.alt


def test_networks_of_one_family_are_told_apart_by_their_normalisation():
    shown, spoken = drawn(*(result({"width": 64, "normalisation": norm}) for norm in NORMS))
    for name in (
        "ConvNet, depth 3, width 64 to 256, no norm.",
        "ConvNet, depth 3, width 64 to 256, batch norm.",
        "ConvNet, depth 3, width 64 to 256, instance norm.",
    ):
        assert name in shown and name in spoken
    assert "rcig-paper" not in shown and "…" not in shown


def test_what_differs_in_the_training_is_named_and_nothing_else():
    plain = {"name": "resnet18", "normalisation": "batch"}
    shown, _ = drawn(result(plain), result(plain, protocol="rcig-transfer-augmented"))
    assert "resnet18, batch norm., rcig-paper" in shown
    assert "resnet18, batch norm., rcig-transfer-augmented" in shown and "seed" not in shown
    shown, _ = drawn(result(plain, epochs=1), result(plain, epochs=40, seed=3, labels="stored"))
    assert "resnet18, batch norm., 1 epoch, seed 0" in shown
    assert (
        "2 networks" not in shown
        and "40 epochs, labels stored, seed 3" in shown
        and "rcig-paper" not in shown
    )


def test_a_repetition_with_more_networks_is_told_apart_too():
    plain = {"name": "resnet18", "normalisation": "batch"}
    more = audit_records.summary(0.5, 0.6, 0.7)
    shown, _ = drawn(result(plain), result(plain, accuracy=more))
    assert "resnet18, batch norm., 2 networks" in shown
    assert "resnet18, batch norm., 3 networks" in shown


def test_long_names_stand_whole_above_their_dots_and_short_ones_beside_them():
    long = "a run with a name of fifty characters, all of them"
    svg = dot_plot([Dots(long, 80.0), Dots("random real", 60.0)], identity="a")
    assert long in words(svg)
    short = dot_plot([Dots("a run", 80.0), Dots("random real", 60.0)], identity="a")
    heights = [float(ElementTree.fromstring(s).attrib["viewBox"].split()[3]) for s in (svg, short)]
    assert heights[0] > heights[1]


def test_a_name_without_end_is_cut():
    shown = words(dot_plot([Dots("word " * 100, 80.0)], identity="a"))
    assert "…" in shown and len(shown) < 200
