"""Which result stands for a run, and which are listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from potstill.methods.recipe import Recipe
from potstill.report import comparison, write
from potstill.results import Evaluation, representatives, standing
from potstill.runs import records
from potstill.runs.measured import once
from tests.report import synthetic
from tests.report.test_page import Page

CIFAR_ROW = {
    "paper": "dwa",
    "table": "1",
    "dataset": "cifar10",
    "images_per_class": 2,
    "method": "DWA",
    "distill_arch": "convnet-128",
    "eval_arch": "convnet-128",
}


def result(of: Recipe, values: list[float], **changes: Any) -> Evaluation:
    return Evaluation.model_validate(synthetic.result(of, values) | changes)


def preferred(results: list[Evaluation], of: Recipe) -> Evaluation | None:
    wanted = of.evaluation
    return standing(results, network=of.network, protocol=wanted.protocol, epochs=wanted.epochs)


def lasting(epochs: int | None) -> Recipe:
    return synthetic.dwa_recipe(evaluation={"protocol": "dwa-paper", "epochs": epochs})


@pytest.mark.parametrize("epochs", [40, None])
def test_a_quick_look_does_not_stand_for_the_run(epochs: int | None) -> None:
    of = lasting(epochs)
    whole, quick = result(of, [0.8, 0.9], epochs=40), result(of, [0.3], epochs=1)
    assert preferred([whole, quick], of) is whole
    wide = result(of, [0.2, 0.3, 0.4], epochs=1)
    assert preferred([whole, wide], of) is whole


def test_the_recipes_epochs_go_before_more_of_them() -> None:
    of = lasting(10)
    own, longer = result(of, [0.8], epochs=10), result(of, [0.9, 0.9], epochs=40)
    assert preferred([own, longer], of) is own


def test_the_most_networks_go_before_the_newest_and_the_newest_before_others() -> None:
    of = synthetic.recipe()
    three, two, newer = (result(of, [v] * n, seed=n) for v, n in ((0.1, 3), (0.2, 2), (0.3, 3)))
    assert preferred([three, two], of) is three
    assert preferred([three, two, newer], of) is newer
    assert preferred([], of) is None


def test_of_networks_trained_alike_the_result_of_the_most_stands_for_them() -> None:
    of = lasting(40)
    other = {"network": {"name": "resnet18", "normalisation": "batch"}}
    own, quick = result(of, [0.8], epochs=40), result(of, [0.3], epochs=1)
    theirs = result(of, [0.7], epochs=40, **other)
    hard = result(of, [0.6], epochs=40, protocol="hard-label", **other)
    more = result(of, [0.6, 0.7], epochs=40, **other)
    found = representatives([own, theirs, hard, more, quick])
    assert found == (own, more, hard, quick)


def test_networks_are_compared_by_what_stands_for_them(tmp_path: Path) -> None:
    of = lasting(40)
    other = {"network": {"name": "resnet18", "normalisation": "batch"}}
    results = [
        synthetic.result(of, [0.8]) | {"epochs": 40},
        synthetic.result(of, [0.7]) | {"epochs": 40} | other,
        synthetic.result(of, [0.3]) | {"epochs": 1} | other,
    ]
    record = synthetic.record("finished", 40, results)
    write([synthetic.write_run(tmp_path / "run", of, record=record)], tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    compared = text[text.index("From network to network") :]
    assert "70.0" in compared and "30.0" not in compared


def test_a_papers_row_is_beside_what_stands_for_its_network(tmp_path: Path) -> None:
    of = synthetic.dwa_recipe(
        data={"dataset": "cifar10"},
        images_per_class=10,
        paper=[CIFAR_ROW | {"images_per_class": 10}],
    )
    wide = {"network": {"name": "convnet", "growth": 1, "normalisation": "batch"}}
    results = [
        synthetic.result(of, [0.8, 0.8]) | {"epochs": 400} | wide,
        synthetic.result(of, [0.3]) | {"epochs": 1} | wide,
        synthetic.result(of, [0.5, 0.5, 0.5]) | {"epochs": 400},
    ]
    record = synthetic.record("finished", 40, results)
    run = records.read(synthetic.write_run(tmp_path / "run", of, record=record))
    (entry,) = comparison.compare(run)
    assert entry.ours is not None and entry.ours.accuracy.mean == 0.8


def test_the_epochs_stand_beside_the_accuracy(tmp_path: Path) -> None:
    folder = synthetic.dwa_run(tmp_path / "run")
    write([folder], tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    how = "ConvNet, depth 2, width 8, batch norm{} protocol dwa-paper, 400 epochs{} 2 networks"
    assert f"91.0 ± 1.4 {how.format('', '')}" in text
    assert f"91.0 ± 1.4 % {how.format(',', ',')}" in text


def test_what_was_measured_again_is_listed_once() -> None:
    of = synthetic.recipe()
    first, again = result(of, [0.8, 0.9]), result(of, [0.8, 0.9], seconds=99.0)
    others = [
        result(of, [0.8, 0.9], **changes)
        for changes in (
            {"seed": 1},
            {"epochs": 3},
            {"protocol": "rcig-paper-augmented"},
            {"network": {"width": 64}},
            {"artefact_digest": "3" * 64},
            {"labels": "stored"},
        )
    ]
    fewer = result(of, [0.8])
    assert once([first, *others, fewer, again]) == (*others, fewer, again)


def test_random_images_beside_a_result_are_not_lost_to_a_repetition() -> None:
    of = synthetic.recipe()
    baseline = {"kind": "random real images", "mean": 0.5, "std": 0.0, "values": [0.5]}
    best = {"mean": 0.95, "std": 0.0, "values": [0.95]}
    plain = result(of, [0.9])
    compared, newer = (result(of, [0.9], baseline=baseline, seconds=s) for s in (1.0, 2.0))
    assert once([compared, plain]) == (compared,)
    assert once([compared, plain, newer]) == (newer,)
    chosen = result(of, [0.9], best_on_test=best)
    assert once([compared, chosen]) == (compared, chosen)


def test_a_run_lists_a_repetition_once(tmp_path: Path) -> None:
    of = synthetic.recipe()
    twice = [synthetic.result(of, [0.9]) | {"seconds": seconds} for seconds in (1.0, 2.0)]
    record = synthetic.record("finished", 200, twice)
    run = records.read(synthetic.write_run(tmp_path / "run", of, record=record))
    assert [one.seconds for one in run.results] == [2.0]
