"""DWA's numbers beside the rows that its recipes stand for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill import recipes
from potstill.data.distilled import DistilledDataset
from potstill.methods.recipe import Recipe
from potstill.papers import departures
from potstill.report import comparison
from potstill.runs import records
from tests.report import synthetic

NAME = "dwa/cifar100-ipc50-resnet18"
# As run, CIFAR's labeller was in training mode; the recipe scores with one in evaluation mode.
LABELLER = "evaluation: protocol dwa-paper (the paper's dwa-as-run)"


def scored(of, network: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    values = synthetic.result(of, [0.60, 0.62, 0.61, 0.61, 0.61]) | {"epochs": 400}
    return values | ({"network": network} if network else {}) | changes


def read(folder: Path, of, results: list[dict[str, Any]], **changes: Any) -> records.RunRecord:
    record = synthetic.record("finished", 50_000, results) | changes
    return records.read(synthetic.write_run(folder, of, record=record))


def test_each_row_is_beside_the_result_on_its_own_network(tmp_path: Path) -> None:
    of = recipes.load(NAME)
    mobile = {"name": "mobilenet_v2", "normalisation": "batch"}
    convnet = {"growth": 1, "normalisation": "batch"}
    run = read(tmp_path / "run", of, [scored(of, mobile), scored(of), scored(of, convnet)])
    found = {
        (entry.row.table, entry.row.eval_arch): (entry.paper_mean, entry.ours, entry.departures)
        for entry in comparison.compare(run)
    }
    assert set(found) == {
        ("1", "resnet18"),
        ("3", "resnet18"),
        ("3", "mobilenet_v2"),
        ("4", "mobilenet_v2"),
        ("4", "convnet-128"),
    }
    assert found["1", "resnet18"][0] == pytest.approx(0.609)
    assert found["4", "convnet-128"][0] == pytest.approx(0.37)
    for (_, network), (_, ours, unlike) in found.items():
        name = {"convnet-128": "convnet"}.get(network or "", network)
        assert ours is not None and ours.network.name == name
        assert unlike == (LABELLER,)
    as_run = read(tmp_path / "as-run", of, [scored(of, protocol="dwa-as-run")])
    assert all(entry.departures == () for entry in comparison.compare(as_run))


def test_without_a_result_the_recipes_own_network_is_shown(tmp_path: Path) -> None:
    of = recipes.load(NAME)
    entries = comparison.compare(read(tmp_path / "run", of, []))
    assert {entry.row.eval_arch for entry in entries} == {"resnet18"}
    assert all(entry.ours is None for entry in entries)


def test_the_recipes_protocol_goes_before_a_newer_result(tmp_path: Path) -> None:
    of = recipes.load(NAME)
    hard = scored(of, protocol="hard-label")
    (first, *_) = comparison.compare(read(tmp_path / "run", of, [scored(of), hard]))
    assert first.ours is not None and first.ours.protocol == "dwa-paper"
    (first, *_) = comparison.compare(read(tmp_path / "other", of, [hard]))
    assert first.departures == ("evaluation: protocol hard-label (the paper's dwa-as-run)",)


def test_what_was_changed_is_named(tmp_path: Path) -> None:
    of = recipes.load(
        NAME,
        [
            "method.iterations=100",
            "method.teacher.epochs=20",
            "method.teacher.network={growth: 1, width: 64, normalisation: batch}",
            "method.jitter=2",
            "images_per_class=10",
        ],
    )
    narrow = {"growth": 2, "width": 64, "normalisation": "instance"}
    result = scored(of, narrow, epochs=30)
    run = read(tmp_path / "run", of, [result], status="stopped")
    entry = next(e for e in comparison.compare(run) if e.row.eval_arch == "convnet-128")
    assert set(entry.departures) == {
        "images per class 10 (the paper's 50)",
        "iterations 100 (the paper's 1,000)",
        "teacher: network convnet (the paper's resnet18)",
        "teacher: epochs 20 (the paper's 200)",
        "unfinished, after 50,000 iterations",
        "jitter 2 (the paper's 4)",
        LABELLER,
        "evaluation: network width 64 (the paper's 128)",
        "evaluation: network growth 2 (the paper's 1)",
        "evaluation: network normalisation instance (the paper's batch)",
        "evaluation: epochs 30 (the paper's 400)",
    }


def with_teacher(
    folder: Path, of: Recipe, epochs: int, settings: dict[str, Any]
) -> records.RunRecord:
    """A run with a set that was made with this teacher, whatever the recipe says."""
    plain = synthetic.distilled(of, *synthetic.digits(), synthetic.DIGITS)
    teacher = {"digest": "2" * 64, "accuracy": 0.9, "epochs": epochs, "settings": settings}
    header = {k: v for k, v in plain.header.items() if k != "format_version"}
    dataset = DistilledDataset(
        plain.images,
        plain.labels,
        plain.class_names,
        plain.preprocess,
        {**header, "teacher": teacher},
    )
    document = synthetic.record("finished", 50_000, [])
    return records.read(synthetic.write_run(folder, of, record=document, dataset=dataset))


def test_the_teacher_that_was_used_is_compared(tmp_path: Path) -> None:
    of = recipes.load(NAME)
    own = of.method.teacher.model_dump(mode="json")
    small = {"name": "convnet", "growth": 1, "width": 64, "normalisation": "batch"}
    for number, (epochs, settings, expected) in enumerate(
        [
            (200, own, set()),
            (0, own | {"checkpoint": "w.pt"}, {"teacher: checkpoint w.pt (the paper's unset)"}),
            (
                3,
                own | {"epochs": 3, "network": small, "weight_decay": 0.5},
                {
                    "teacher: network convnet (the paper's resnet18)",
                    "teacher: epochs 3 (the paper's 200)",
                    "teacher: weight decay 0.5 (the paper's 0.0005)",
                },
            ),
            (7, {"wings": 2}, {"teacher of unknown settings"}),
        ]
    ):
        run = with_teacher(tmp_path / str(number), of, epochs, settings)
        for entry in comparison.compare(run):
            assert set(entry.departures) == expected
    # And the other way round: another recipe, the paper's teacher.
    other = recipes.load(NAME, ["method.teacher.epochs=20"])
    run = with_teacher(tmp_path / "other", other, 200, own)
    assert all(entry.departures == () for entry in comparison.compare(run))
    document = of.model_dump(mode="json") | {"name": "mine", "paper": []}
    mine = synthetic.parse(document, source="test")
    run = with_teacher(tmp_path / "mine", mine, 3, own | {"epochs": 3})
    assert departures.of_nearest(run) == ("teacher: epochs 3 (the paper's 200)",)


def test_a_recipe_that_names_another_methods_row_is_exposed(tmp_path: Path) -> None:
    row = {"paper": "rcig", "table": "2", "dataset": "mnist", "images_per_class": 2}
    of = synthetic.dwa_recipe(paper=[row | {"images_per_class": 1, "method": "RCIG"}])
    (entry,) = comparison.compare(read(tmp_path / "run", of, []))
    assert "method dwa (the paper's rcig)" in entry.departures


def test_seconds_are_beside_those_of_the_paper(tmp_path: Path) -> None:
    of = recipes.load("dwa/cifar100-ipc1-resnet18")
    seconds = {"total": 300.0, "parts": {"teacher": 90.0, "adjustment": 3.0, "synthesis": 200.0}}
    run = read(tmp_path / "run", of, [], seconds=seconds)
    assert comparison.compare(run) == []
    (cost,) = comparison.compare_cost(run)
    assert (cost.paper, cost.ours, cost.device) == (125.12, 203.0, "cpu")
    assert cost.departures == ()
    stopped = read(tmp_path / "stopped", of, [], seconds=seconds, status="stopped")
    assert comparison.compare_cost(stopped)[0].ours is None


def test_a_run_for_no_row_says_what_sets_it_apart_from_the_nearest(tmp_path: Path) -> None:
    document = recipes.load(NAME, ["method.iterations=200"]).model_dump(mode="json")
    of = synthetic.parse(document | {"name": "mine", "paper": []}, source="test")
    run = read(tmp_path / "run", of, [])
    assert departures.of_nearest(run) == ("iterations 200 (the paper's 1,000)",)
    assert departures.of_nearest(read(tmp_path / "d", synthetic.dwa_recipe(), [])) == ()
