"""Our numbers beside a paper's, and what is said of the difference."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from potstill import recipes
from potstill.methods.recipe import Recipe
from potstill.papers import departures, find
from potstill.report import comparison
from potstill.runs import again, records
from tests.report import synthetic

ROW: dict[str, Any] = {
    "paper": "rcig",
    "table": "2",
    "dataset": "mnist",
    "images_per_class": 1,
    "method": "RCIG",
}


def read(
    folder: Path, of: Recipe, iteration: int, values: list[float] | None, status: str = "finished"
) -> records.RunRecord:
    results = [synthetic.result(of, values)] if values else []
    record = synthetic.record(status, iteration, results)
    return records.read(synthetic.write_run(folder, of, record=record))


def test_a_recipe_without_a_row_gets_no_number(tmp_path: Path) -> None:
    run = read(tmp_path / "run", synthetic.recipe(), 200, [0.8])
    assert comparison.compare(run) == []
    assert departures.of_nearest(run) == ()


def test_the_papers_percent_and_our_fraction_are_compared(tmp_path: Path) -> None:
    of = synthetic.recipe(
        data={"dataset": "mnist"},
        network={},
        method={
            "iterations": 15_000,
            "solver": {"name": "adam"},
            "label_margin": True,
            "target_precision": "float32",
        },
        paper=[ROW],
    )
    accuracies = [0.93, 0.95, 0.94, 0.94, 0.94]
    (entry,) = comparison.compare(read(tmp_path / "run", of, 15_000, accuracies))
    row = find(of.paper[0])
    assert row is not None and row.value == 94.7
    assert entry.paper_mean == pytest.approx(0.947)
    assert entry.difference == pytest.approx(0.94 - 0.947)
    assert entry.departures == ()


def test_what_differs_from_the_papers_setting_is_spelt_out(tmp_path: Path) -> None:
    of = synthetic.recipe(
        data={"dataset": "mnist"},
        network={"depth": 2, "width": 32, "normalisation": "batch"},
        method={"iterations": 15_000, "target_batch": 256},
        paper=[ROW],
    )
    (entry,) = comparison.compare(read(tmp_path / "run", of, 3500, None, status="stopped"))
    assert entry.ours is None and entry.difference is None
    assert entry.departures == (
        "network depth 2 (the paper's 3)",
        "network width 32 (the paper's 128)",
        "network normalisation batch (the paper's none)",
        "target batch 256 (the paper's 1,024)",
        "solver pcg (the paper's adam)",
        "label margin no (the paper's yes)",
        "target precision auto (the paper's float32)",
        "unfinished, after 3,500 iterations",
    )


def test_a_result_on_another_network_says_so(tmp_path: Path) -> None:
    of = synthetic.recipe(data={"dataset": "mnist"}, network={}, paper=[ROW])
    other = synthetic.result(of, [0.9])
    other["network"] = {"name": "resnet18"}
    record = synthetic.record("finished", 200, [other])
    run = records.read(synthetic.write_run(tmp_path / "run", of, record=record))
    (entry,) = comparison.compare(run)
    assert "evaluation: network resnet18 (the paper's convnet)" in entry.departures


def test_a_row_that_does_not_fit_the_recipe_is_exposed(tmp_path: Path) -> None:
    of = synthetic.recipe(images_per_class=10, paper=[ROW])
    (entry,) = comparison.compare(read(tmp_path / "run", of, 200, [0.99]))
    assert "data set digits (the paper's mnist)" in entry.departures
    assert "images per class 10 (the paper's 1)" in entry.departures


def test_processor_recipes_stand_for_no_row_and_say_why(tmp_path: Path) -> None:
    of = recipes.load("rcig/mnist-ipc1-cpu")
    run = read(tmp_path / "run", of, of.method.iterations, [0.85])
    assert comparison.compare(run) == []
    assert departures.of_nearest(run) == (
        "network width 64 (the paper's 128)",
        "iterations 800 (the paper's 15,000)",
        "target batch 256 (the paper's 1,024)",
        "solver pcg (the paper's adam)",
        "label margin no (the paper's yes)",
        "image learning rate 0.0333 (the paper's 0.003)",
        "label learning rate 0.0111 (the paper's 0.003)",
        "temperature learning rate 0.0333 (the paper's 0.03)",
        "final learning rate 0.05 (the paper's 1)",
        "target precision auto (the paper's float32)",
    )


@pytest.mark.parametrize("name", recipes.names())
def test_shipped_recipes_of_a_row_follow_the_paper_but_in_what_they_say(
    tmp_path: Path, name: str
) -> None:
    of = recipes.load(name)
    run = read(tmp_path / "run", of, getattr(of.method, "iterations", 0), None)
    phrases = {
        "method.solver.name": "solver pcg (the paper's adam)",
        "method.target_precision": "target precision auto (the paper's float32)",
        "data.mean": "mean unset (the paper's 0.4914, 0.4822, 0.4465)",
        "data.std": "std unset (the paper's 0.2023, 0.1994, 0.201)",
        "method.teacher.std": "teacher: std unset (the paper's 0.247, 0.2435, 0.2616)",
    }
    concerned = of.departures.keys() - {"evaluation.protocol"}
    said = tuple(phrase for key, phrase in phrases.items() if key in concerned)
    assert len(said) == len(concerned)
    for entry in comparison.compare(run):
        assert entry.departures == said


def test_settings_changed_on_the_command_line_are_named(tmp_path: Path) -> None:
    of = recipes.load("rcig/mnist-ipc1", ["method.learn_labels=false", "seed=3"])
    run = read(tmp_path / "run", of, of.method.iterations, [0.9])
    for entry in comparison.compare(run):
        assert "learn labels no (the paper's yes)" in entry.departures


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["seed=7"],
        ["method.iterations=20", "method.pool.learning_rate=1e-5", "method.softplus_beta=null"],
        ["data.preprocess=zca", "method.pool.steps_per_visit=[1, 1]", "evaluation.networks=1"],
    ],
)
def test_the_command_gives_the_recipe_again(assignments: list[str]) -> None:
    of = recipes.load("rcig/mnist-ipc1", assignments)
    words = shlex.split(again.command(of))
    assert words[:3] == ["potstill", "distill", "rcig/mnist-ipc1"]
    seed = words[words.index("--seed") + 1]
    sets = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    assert recipes.load(words[2], [*sets, f"seed={seed}"]) == of


def test_an_unshipped_recipe_is_run_again_from_its_file() -> None:
    assert again.command(synthetic.recipe(seed=4)) == "potstill distill recipe.yaml --seed 4"
