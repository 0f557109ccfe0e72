"""Runs of one recipe are put together, and compared with those evaluated alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from potstill.report import page
from potstill.report.starts import together
from potstill.runs import records
from tests.report import synthetic
from tests.report.test_page import Page

RANDOM = [0.5, 0.6]


def run_of(
    folder: Path, values: list[float], baseline: list[float] | None = None, **changes: Any
) -> Path:
    """A finished run; what is no key of a recipe is one of the result's."""
    of_result = {
        key: changes.pop(key) for key in ("epochs", "protocol", "network") & changes.keys()
    }
    of = synthetic.recipe(**changes)
    scored = synthetic.result(of, values, baseline) | of_result
    dataset = synthetic.distilled(of, *synthetic.digits(), synthetic.DIGITS, [scored])
    record = synthetic.record("finished", of.method.iterations)
    return synthetic.write_run(folder, of, record=record, dataset=dataset)


def page_of(out: Path, folders: list[Path]) -> Page:
    page.write(folders, out)
    return Page(out)


def test_seeds_of_one_recipe_are_pooled(tmp_path: Path) -> None:
    values = ([0.8, 0.82], [0.7, 0.74, 0.78], [0.9])
    folders = [
        run_of(tmp_path / f"seed{seed}", list(of), RANDOM if seed else [0.4], seed=seed)
        for seed, of in enumerate(values)
    ]
    (group,) = together(records.read_all(folders))
    pooled = [value for of in values for value in of]
    assert group.result is not None and group.result.accuracy.values == tuple(pooled)
    assert group.result.accuracy.std == pytest.approx(np.std(pooled, ddof=1))
    # Two starts were compared with the same random images.
    assert group.result.baseline is not None and group.result.baseline.values == (0.4, *RANDOM)
    assert group.how[-1] == "6 networks of 3 starts"
    shown = page_of(tmp_path / "page.html", folders)
    summary = shown.text[: shown.text.index("Beside the papers")]
    assert "digits-1 seed 0 , seed 1 , seed 2 79.0 ± 6.9 ConvNet, depth 2, width 16 to" in summary
    assert "protocol rcig-paper 6 networks of 3 starts 50.0 ± 10.0 3 networks +29.0" in summary
    assert [a["href"] for a in shown.of("a")][:3] == ["#run-1", "#run-2", "#run-3"]


@pytest.mark.parametrize(
    "otherwise",
    [
        {"seed": 0},
        {"seed": 1, "images_per_class": 2},
        {"seed": 1, "epochs": 3},
        {"seed": 1, "protocol": "hard-label"},
        {"seed": 1, "network": {"name": "resnet18", "normalisation": "batch"}},
    ],
)
def test_other_runs_are_not(otherwise: dict[str, Any], tmp_path: Path) -> None:
    folders = [run_of(tmp_path / "a", [0.8]), run_of(tmp_path / "b", [0.7], **otherwise)]
    assert len(together(records.read_all(folders))) == 2


def test_random_images_are_pooled_where_every_start_has_them(tmp_path: Path) -> None:
    folders = [
        run_of(tmp_path / "a", [0.8], RANDOM, seed=0),
        run_of(tmp_path / "b", [0.7], seed=1),
        synthetic.write_run(tmp_path / "c", synthetic.recipe(seed=2)),
    ]
    pooled, begun = together(records.read_all(folders))
    assert pooled.result is not None and pooled.result.baseline is None
    assert begun.result is None and begun.how == ()


def test_an_accuracy_is_that_of_the_network_that_was_trained(tmp_path: Path) -> None:
    """The trial: a set that was scored on another network and under another protocol alone."""
    own = {"network": {"name": "my_networks:small"}, "protocol": "hard-label"}
    folders = [
        run_of(tmp_path / "other", [0.31, 0.33], **own),
        run_of(tmp_path / "plain", [0.8, 0.82], RANDOM, images_per_class=2),
    ]
    shown = page_of(tmp_path / "page.html", folders)
    summary = shown.text[: shown.text.index("Beside the papers")]
    assert "32.0 ± 1.4 my_networks:small protocol hard-label 2 networks" in summary
    facts = "Accuracy 32.0 ± 1.4 % my_networks:small, protocol hard-label, 2 networks"
    assert facts in shown.text
    spoken = [a["aria-label"] for a in shown.of("div") if "role" in a]
    assert not any("32.0" in words for words in spoken)
    for words in spoken:
        assert "distilled, 2 networks 81.0" not in words or "protocol rcig-paper" in words


def test_runs_evaluated_alike_share_a_drawing_and_others_none(tmp_path: Path) -> None:
    folders = [
        run_of(tmp_path / "one", [0.8, 0.82], RANDOM),
        run_of(tmp_path / "two", [0.7], images_per_class=2),
        run_of(tmp_path / "long", [0.6], epochs=9, images_per_class=2),
        run_of(tmp_path / "also-long", [0.5], epochs=9),
        run_of(tmp_path / "alone", [0.4], protocol="hard-label"),
    ]
    spoken = [
        words
        for a in page_of(tmp_path / "page.html", folders).of("div")
        if (words := a.get("aria-label", "")).startswith("Accuracies") and "distilled" not in words
    ]
    how = "Accuracies in percent, ConvNet, depth 2, width 16 to 32, no norm, protocol rcig-paper"
    assert spoken == [
        f"{how}. one, 2 networks 81.0; random real images, 2 networks 55.0; two, 1 network 70.0.",
        f"{how}, 9 epochs. long, 1 network 60.0; also-long, 1 network 50.0.",
    ]


def test_one_table_of_networks_for_each_protocol_and_number_of_epochs(tmp_path: Path) -> None:
    of = synthetic.recipe()
    other = {"network": {"name": "resnet18", "normalisation": "batch"}}
    results = [
        synthetic.result(of, [0.8]) | {"epochs": 100},
        synthetic.result(of, [0.5]) | {"epochs": 5},
        synthetic.result(of, [0.7]) | {"epochs": 100} | other,
        synthetic.result(of, [0.4, 0.4]) | {"epochs": 5} | other,
        synthetic.result(of, [0.3]) | {"epochs": 5, "seed": 1} | other,
        synthetic.result(of, [0.6]) | {"protocol": "hard-label"} | other,
    ]
    record = synthetic.record("finished", 200, results)
    folder = synthetic.write_run(tmp_path / "run", of, record=record)
    text = page_of(tmp_path / "page.html", [folder]).text
    text = text[text.index("From network to network") :]
    first, second = text.split("Under protocol rcig-paper, ")[1:3]
    assert first.startswith("100 epochs:") and second.startswith("5 epochs:")
    assert "80.0 1 network" in first and "70.0 1 network" in first and "50.0" not in first
    assert "50.0 1 network" in second and "40.0 ± 0.0 2 networks" in second
    assert "30.0" not in second and "hard-label" not in text[: text.index("Preprocessing")]


def test_earlier_results_stand_apart(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", [0.8, 0.82], RANDOM)
    path = folder / "distilled.safetensors"
    dataset = records.read(folder).dataset
    assert dataset is not None
    labelled = dataset.with_soft_labels(dataset.labels[None], {"seed": 0})
    after = synthetic.result(synthetic.recipe(), [0.2]) | {"artefact_digest": labelled.digest}
    labelled.with_result(after).save(path)
    text = page_of(tmp_path / "page.html", [folder]).text
    summary, rest = text.split("Beside the papers")
    assert "81.0" not in summary and "20.0" in summary
    now, before = rest.split("Measured before the labels were stored")
    assert "81.0" not in now and "81.0 ± 1.4" in before and "55.0" in before


def test_an_image_folder_is_called_by_its_name(tmp_path: Path) -> None:
    of = synthetic.recipe(data={"dataset": "image_folder", "folder": "animals/pets"})
    begun = synthetic.write_run(tmp_path / "begun", of)
    made = run_of(tmp_path / "made", [0.8], data={"dataset": "image_folder", "folder": "pets"})
    path = made / "distilled.safetensors"
    dataset = records.read(made).dataset
    assert dataset is not None
    header = {**dataset.header, "source": {**dataset.header["source"], "name": "cats"}}
    type(dataset)(
        dataset.images, dataset.labels, dataset.class_names, dataset.preprocess, header
    ).save(path)
    text = page_of(tmp_path / "page.html", [begun, made]).text
    assert "Data set pets" in text and "Data set cats" in text and "image folder" not in text
