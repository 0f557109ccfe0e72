"""Plots of accuracies: every row has a name that can be read and told from the others."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from potstill.report import drawings
from potstill.report.dots import Dots, dot_plot
from potstill.results import Evaluation
from tests.report import audit_records, synthetic


def result(network: dict[str, Any], **changes: Any) -> Evaluation:
    document = synthetic.result(synthetic.recipe(), [0.5, 0.6]) | {"network": network}
    return Evaluation.model_validate(document | changes)


def words(svg: str) -> str:
    texts = ElementTree.fromstring(svg).iter("text")
    return " ".join("".join(text.itertext()) for text in texts)


def drawn(*results: Evaluation) -> list[tuple[str, str, str]]:
    """Of each drawing its title, the words in the plot, and those that stand for it."""
    found = drawings.accuracies(results, "a")
    return [(drawing.title, words(drawing.svg), drawing.alt) for drawing in found]


def test_only_networks_that_trained_alike_share_a_drawing():
    plain = {"name": "resnet18", "normalisation": "batch"}
    others = ({"normalisation": "none"}, {"normalisation": "instance"}, plain)
    results = [result(network, seed=seed) for network in others for seed in (0, 1)]
    results.append(result(plain, protocol="rcig-transfer-augmented"))
    results += [result(plain, epochs=epochs, seed=seed) for epochs in (1, 40) for seed in (0, 1)]
    titles = [title for title, _, _ in drawn(*results)]
    assert titles == [
        "ConvNet, depth 3, width 128 to 512, no norm, protocol rcig-paper.",
        "ConvNet, depth 3, width 128 to 512, instance norm, protocol rcig-paper.",
        "resnet18, batch norm, protocol rcig-paper.",
        "resnet18, batch norm, protocol rcig-paper, 1 epoch.",
        "resnet18, batch norm, protocol rcig-paper, 40 epochs.",
    ]


def test_what_differs_is_named_and_nothing_else():
    plain = {"name": "resnet18", "normalisation": "batch"}
    more = audit_records.summary(0.5, 0.6, 0.7)
    ((_, shown, spoken),) = drawn(result(plain), result(plain, accuracy=more))
    assert "seed" not in shown and "labels" not in shown
    for name, mean in (("distilled, 2 networks", "55.0"), ("distilled, 3 networks", "60.0")):
        assert name in shown and f"{name} {mean}" in spoken
    ((_, shown, _),) = drawn(result(plain), result(plain, seed=3, labels="stored"))
    assert "distilled, seed 0, 2 networks" in shown
    assert "distilled, labels stored, seed 3, 2 networks" in shown


def test_random_images_stand_with_their_evaluation_and_a_lone_result_is_not_drawn():
    baseline = {"kind": "random real images", **audit_records.summary(0.3)}
    plain = {"name": "resnet18", "normalisation": "batch"}
    ((_, shown, spoken),) = drawn(result(plain, baseline=baseline), result(plain, epochs=1))
    assert "random real images, 1 network" in shown
    assert spoken.endswith("distilled, 2 networks 55.0; random real images, 1 network 30.0.")


def test_long_names_stand_whole_above_their_dots():
    long = "a run with a name of fifty characters, all of them"
    svg = dot_plot([Dots(long, 80.0), Dots("random real", 60.0)], identity="a")
    assert long in words(svg)
    short = dot_plot([Dots("a run", 80.0), Dots("random real", 60.0)], identity="a")
    heights = [float(ElementTree.fromstring(s).attrib["viewBox"].split()[3]) for s in (svg, short)]
    assert heights[0] > heights[1]


def test_a_name_without_end_is_cut():
    shown = words(dot_plot([Dots("word " * 100, 80.0)], identity="a"))
    assert "…" in shown and len(shown) < 200
