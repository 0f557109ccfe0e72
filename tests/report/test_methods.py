"""What the page says of a DWA run: its name, its groups, its curves, its teacher."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from potstill.data.distilled import DistilledDataset
from potstill.methods.dwa.settings import DWASettings
from potstill.report import methods
from potstill.runs import records
from potstill.runs.records import Series
from tests.report import synthetic


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ("DWA", "K 12, ρ 0.015")),  # noqa: RUF001
        ({"adjustment": "random"}, ("DWA", "random adjustment")),
        ({"adjustment": "none"}, ("DWA", "no adjustment")),
        ({"adjustment": "none", "start": "noise"}, ("DWA", "no adjustment")),
        ({"variant": "sre2l"}, ("SRe2L", "no adjustment, from noise")),
        (
            {"adjustment": "none", "start": "noise", "variance_weight": 0.01},
            ("SRe2L", "no adjustment, from noise"),
        ),
    ],
)
def test_the_method_is_named_for_what_it_does(tmp_path: Path, settings, expected) -> None:
    of = synthetic.dwa_recipe(method={"kind": "dwa", **settings})
    run = records.read(synthetic.write_run(tmp_path / "run", of))
    assert (run.description.title, run.description.detail) == expected


def test_the_log_is_folded_over_the_groups(tmp_path: Path) -> None:
    run = records.read(synthetic.dwa_run(tmp_path / "run"))
    loss = methods.series(run)["loss"]
    assert loss.iterations == (1, 10, 20, 30, 40)
    assert loss.values == pytest.approx([3 / place + 1.5 for place in loss.iterations])
    known = {curve.quantity for panel in run.description.panels for curve in panel.curves}
    assert known == set(run.series)


def test_gaps_do_not_spoil_the_mean() -> None:
    line = Series("loss", (1, 2, 3, 4), (1.0, math.nan, 3.0, 8.0))
    assert methods.folded(line, 2).values == (2.0, 8.0)
    assert methods.folded(Series("loss", (1,), (math.nan,)), 2).values == ()


def test_all_iterations_are_those_of_all_groups(tmp_path: Path) -> None:
    whole = records.read(synthetic.dwa_run(tmp_path / "run"))
    assert whole.planned == 2 * 2 * 40  # images per class; 10 classes, 5 together
    begun = records.read(synthetic.write_run(tmp_path / "begun", synthetic.dwa_recipe()))
    assert begun.planned == 2 * 2 * 40
    rcig = records.read(synthetic.finished_run(tmp_path / "rcig"))
    assert rcig.planned == 200 and methods.series(rcig) is rcig.series


def test_the_facts_tell_of_teacher_and_cost(tmp_path: Path) -> None:
    run = records.read(synthetic.dwa_run(tmp_path / "run"))
    facts = {name: (value, detail) for name, value, detail in methods.facts(run)}
    teacher, origin = facts["Teacher"]
    assert teacher == "ConvNet"
    assert "batch norm, 3 epochs, 98.5 % on the test set" in origin
    assert facts["Synthesis"] == ("10 s", "for an image of each class")
    assert "Soft labels" not in facts
    assert run.seconds_per_image == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({"pretrained": "torchvision:resnet18"}, ("torchvision:resnet18", "its own weights")),
        ({"module": "mine.nets:make", "epochs": 7}, ("mine.nets:make", "7 epochs")),
        ({"checkpoint": "w.pt"}, ("resnet18", "batch norm, weights from a file")),
    ],
)
def test_teachers_of_other_origins_are_named(tmp_path: Path, teacher, words) -> None:
    of = synthetic.dwa_recipe(method={"kind": "dwa", "teacher": teacher})
    run = records.read(synthetic.write_run(tmp_path / "run", of))
    assert isinstance(of.method, DWASettings)
    assert methods.facts(run) == [("Teacher", *words)]


def test_stored_labels_are_counted(tmp_path: Path) -> None:
    folder = synthetic.dwa_run(tmp_path / "run")
    plain = records.read(folder).dataset
    assert plain is not None
    soft = torch.zeros(6, len(plain), 10, dtype=torch.float16)
    plain.with_soft_labels(soft, {"epochs": 6}).save(folder / "distilled.safetensors")
    run = records.read(folder)
    assert isinstance(run.dataset, DistilledDataset)
    facts = {name: value for name, value, _ in methods.facts(run)}
    assert facts["Soft labels"] == "of 6 epochs"
