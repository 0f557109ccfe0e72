"""What the page says of a set that other code made: what was stated of it, and of no method."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.methods.recipe import Recipe
from potstill.papers import audits, departures
from potstill.report import methods
from potstill.runs import records
from potstill.runs.records import RunRecord
from tests.report import synthetic

CHECKS = [
    {"check": "shape", "value": "10 of 8x8", "verdict": "ok"},
    {"check": "brightness beside real images", "value": "0.1, real 0.3", "verdict": "warning"},
]


def run_of(folder: Path, of: Recipe) -> RunRecord:
    record = synthetic.record("finished", 200, [])
    return records.read(synthetic.write_run(folder, of, record=record, dataset=set_of(of)))


def set_of(of: Recipe) -> DistilledDataset:
    images, labels = synthetic.digits()
    return synthetic.distilled(of, images, labels, synthetic.DIGITS)


def imported(run: RunRecord) -> RunRecord:
    """The same, had other code made the set."""
    ours = run.dataset
    assert ours is not None
    stated = {"space": "pixels", "label_kind": "centred", "checks": CHECKS}
    header = {**ours.header, "method": "imported", "import": stated}
    theirs = DistilledDataset(ours.images, ours.labels, ours.class_names, ours.preprocess, header)
    return replace(run, dataset=theirs, recipe=None)


@pytest.fixture
def ours(tmp_path: Path) -> RunRecord:
    return run_of(tmp_path / "run", synthetic.recipe(name="mnist-1", data={"dataset": "mnist"}))


def test_what_was_stated_and_what_was_odd_stand_at_the_head(ours: RunRecord) -> None:
    theirs = imported(ours)
    said = theirs.description
    assert (said.title, said.detail) == ("imported", "made by other code")
    assert theirs.planned is None and ours.planned == 200
    assert methods.facts(theirs) == [
        ("Said to be", "pixels", "labels centred"),
        ("Odd", "brightness beside real images", "0.1, real 0.3"),
    ]


def test_no_paper_s_method_is_held_against_it(tmp_path: Path, ours: RunRecord) -> None:
    assert any("iterations" in phrase for phrase in departures.of_nearest(ours))
    assert departures.of_nearest(imported(ours)) == ()
    of = synthetic.recipe(data={"dataset": "cifar10"}, images_per_class=10)
    table = run_of(tmp_path / "cifar", of)
    student = NetworkRecipe(name="resnet18_rcig", normalisation="none")
    assert audits.transfer(table, student) is not None
    assert audits.transfer(imported(table), student) is None
