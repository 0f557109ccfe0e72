"""Sets that no method of this installation made, and files of earlier formats, are shown whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from potstill.data.distilled import DistilledDataset
from potstill.report import drawings, plots, write
from potstill.runs.records import Series
from tests.report import synthetic
from tests.report.test_page import Page

NETWORK = {"name": "convnet", "depth": 2, "width": 16, "growth": 2, "normalisation": "none"}
BASE: dict[str, Any] = {
    "evaluation": {"protocol": "rcig-paper", "network": NETWORK, "networks": 2},
    "source": {
        "name": "digits",
        "fingerprint": "0" * 64,
        "classes": 10,
        "channels": 1,
        "resolution": 8,
    },
    "versions": {"potstill": "0.1.0", "their-package": "3.2"},
    "seed": 7,
    "iterations": 40,
    "results": [],
}
DATA = {"dataset": "digits", "preprocess": "standardise"}
RECIPE = {
    "name": "theirs/digits",
    "data": DATA,
    "images_per_class": 1,
    "network": NETWORK,
    "method": {"kind": "unheard-of", "wobble": 0.5},
}
DESCRIPTION = {
    "title": "Unheard-of",
    "detail": "wobbling",
    "facts": [["Wobble", "0.5", "per image"]],
    "panels": [{"title": "Wobble", "curves": [["wobble", "wobble"]], "unit": "m"}],
    "learned_labels": True,
}
DESCRIBED = BASE | {"description": DESCRIPTION, "data": DATA, "mirror_images": False}
HEADERS = {
    "method unheard of": DESCRIBED | {"method": "unheard-of", "recipe": RECIPE},
    "no recipe": DESCRIBED | {"method": "unheard-of"},
    "imported": DESCRIBED | {"method": "imported"},
    "known method, unknown settings": DESCRIBED
    | {"method": "rcig", "recipe": RECIPE | {"method": {"kind": "rcig", "wobble": 1}}},
    "format 1, method unheard of": BASE | {"method": "unheard-of", "recipe": RECIPE},
    "format 1, imported": BASE
    | {
        "method": "imported",
        "recipe": {"data": DATA, "images_per_class": 1, "network": NETWORK},
        "import": {"space": "pixels", "label_kind": "hard", "checks": []},
    },
    "format 1, ours": BASE
    | {"method": "rcig", "recipe": RECIPE | {"method": {"kind": "rcig", "iterations": 40}}},
}


def set_of(header: dict[str, Any]) -> DistilledDataset:
    plain = synthetic.distilled(synthetic.recipe(), *synthetic.digits(), synthetic.DIGITS)
    parts = (plain.images, plain.labels, plain.class_names, plain.preprocess)
    dataset = DistilledDataset(*parts, header)
    scored = synthetic.result(synthetic.recipe(), [0.5, 0.6])
    return dataset.with_result(scored | {"artefact_digest": dataset.digest})


def page_of(folder: Path) -> Page:
    write([folder], folder.with_suffix(".html"))
    return Page(folder.with_suffix(".html"))


@pytest.mark.parametrize("name", HEADERS)
def test_a_set_alone_is_shown_and_described(
    name: str, tmp_path: Path, answer: Callable[..., str]
) -> None:
    header = HEADERS[name]
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "distilled.safetensors"
    set_of(header).save(path)
    shown = page_of(tmp_path / "run")
    how = "ConvNet, depth 2, width 16 to 32, no norm{} protocol rcig-paper{} 2 networks"
    assert f"55.0 ± 7.1 {how.format('', '')}" in shown.text
    assert "Distilled images" in shown.text and "Data set Digits" in shown.text
    ours = name == "format 1, ours"
    assert ("RCIG" in shown.text.replace("The RCIG paper's", "")) == ours
    assert ("Running it again" in shown.text) == ours
    said = answer("info", path)
    assert f"accuracy 55.00 ± 7.07 % ({how.format(',', ',')})" in said
    if "description" in header:
        assert "Method Unheard-of wobbling" in shown.text and "Wobble 0.5 per image" in shown.text
        assert "Unheard-of, wobbling" in said


def test_a_whole_run_of_a_method_unheard_of_has_its_curves_and_its_results(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    dataset = set_of(HEADERS["method unheard of"])
    dataset.save(folder / "distilled.safetensors")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (folder / "record.json").write_text(json.dumps(synthetic.record("finished", 40)))
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps({"iteration": i, "wobble": 1 / i}) + "\n" for i in range(1, 41))
    )
    shown = page_of(folder)
    assert "theirs/digits" in shown.text and "Seed 7" in shown.text
    spoken = [a.get("aria-label", "") for a in shown.of("div")]
    assert any(words.startswith("Wobble over the iterations. wobble: 1 at") for words in spoken)


def test_a_log_of_thousands_of_quantities_is_drawn_in_part(monkeypatch) -> None:
    monkeypatch.setattr(plots, "curves", lambda *series, **more: "<svg></svg>")
    logged = {f"wobble{place}": Series("wobble", (1,), (1.0,)) for place in range(3000)}
    assert len(drawings.curves(logged, (), "run")) == 40


def test_a_run_of_the_first_format_has_each_result_once(tmp_path: Path) -> None:
    """The code before kept results in the set and in the record, and dropped the set's when it
    stored labels."""
    folder = tmp_path / "run"
    dataset = set_of(HEADERS["format 1, ours"])
    (kept,) = dataset.header["results"]
    lost = kept | {"artefact_digest": "2" * 64, "seed": 3}
    record = synthetic.record("finished", 40, [lost, kept])
    synthetic.write_run(folder, synthetic.recipe(), record=record, dataset=dataset)
    text = page_of(folder).text
    assert text.count("50.0, 60.0") == 1
    assert "1 result is not shown, being of another set" in text
    assert DistilledDataset.load(folder / "distilled.safetensors").header["format_version"] == 1


def test_a_set_of_the_second_format_is_shown(tmp_path: Path) -> None:
    dataset = set_of(HEADERS["format 1, ours"])
    soft = dataset.with_soft_labels(torch.zeros(1, 10, 10), {"seed": 0})
    assert soft.header["format_version"] == 2
    (tmp_path / "run").mkdir()
    soft.save(tmp_path / "run" / "distilled.safetensors")
    text = page_of(tmp_path / "run").text
    assert "Soft labels of 1 epoch" in text and "not evaluated" in text
    assert "Measured before the labels were stored" in text
