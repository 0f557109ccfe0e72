"""Folders that ``datasets`` reads, and a set's way to a hub and back."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from potstill.sharing.card import card
from potstill.sharing.folder import library
from tests.data.test_distilled import result, sample
from tests.data.test_exchange import pixels
from tests.hub import TOKEN, serving

ROOT = Path(__file__).parents[1]
Answer = Callable[..., str]


def test_the_card_says_what_the_set_is_and_what_was_measured() -> None:
    dataset = sample().with_result(
        result(
            0.4321,
            baseline={"kind": "random real images", "mean": 0.25, "std": 0.0, "values": [0.25]},
        )
    )
    text = card(dataset, licence="mit", name="me/cats")
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "mit"
    assert yaml.safe_load(front)["configs"][0]["data_files"] == "data/*.parquet"
    assert "| 43.21 % | 25.00 % |" in body and "protocol rcig-paper" in body
    assert 'DistilledDataset.from_hub("me/cats")' in body
    assert "are cut" in body and dataset.digest in body
    assert "They are the images exactly." in card(pixels(), licence="mit")


def test_a_card_shows_what_strangers_wrote_and_does_not_do_it() -> None:
    dataset = sample()
    dataset.header["source"]["name"] = "<script>x</script> [a](http://b) | `c`\x1b[31m"
    dataset.header["recipe"] = {"description": "```\n# broken out"}
    text = card(dataset, licence="mit\nevil: true")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == "mit\nevil: true"
    assert "<script>" not in text.split("---\n", 2)[2].partition("## Recipe")[0]
    assert "\x1b" not in text
    fenced = text.partition("## Recipe")[2]
    assert fenced.count("````") == 2


def test_without_the_extra_the_remedy_is_named() -> None:
    with pytest.raises(RunError, match=r"install potstill\[hub\]"):
        library("absent_library")


def test_load_dataset_reads_the_folder(
    tmp_path: Path, answer: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("datasets")
    dataset, path = sample(), tmp_path / "set.safetensors"
    dataset.save(path)
    out = tmp_path / "folder"
    assert (
        answer("export", path, "--to", "datasets", "--out", out, "--licence", "mit") == f"{out}\n"
    )
    assert DistilledDataset.load(out / "distilled.safetensors").digest == dataset.digest
    assert Image.open(out / "images.png").size[0] > 0
    assert yaml.safe_load((out / "README.md").read_text().split("---\n")[1])["license"] == "mit"
    read = """
import json, sys
from datasets import load_dataset
table = load_dataset(sys.argv[1], split="train", cache_dir=sys.argv[2])
import numpy as np
print(json.dumps([table.features["label"].names, list(table["label"]), list(table["soft_label"]),
                  [np.asarray(one).tolist() for one in table["image"]]]))
"""
    names, labels, soft, images = json.loads(_run(read, out, tmp_path / "cache"))
    assert tuple(names) == dataset.class_names
    assert labels == dataset.hard_labels().tolist()
    assert torch.equal(torch.tensor(soft), dataset.labels)
    shown = torch.tensor(images).movedim(3, 1)
    assert torch.equal(shown, (dataset.pixels() * 255).round().long())


def test_to_the_hub_and_back(tmp_path: Path, answer: Answer) -> None:
    pytest.importorskip("datasets")
    path = tmp_path / "set.safetensors"
    sample().save(path)
    share = """
import json, sys
from datasets import load_dataset
from potstill import DistilledDataset, PotstillError, cli
assert cli.run(["export", sys.argv[1], "--to", "hub", "--out", "me/cats", "--licence", "mit"]) == 0
dataset = DistilledDataset.load(sys.argv[1])
dataset.push_to_hub("me/cats")  # a second time into what is there
again = DistilledDataset.from_hub("me/cats")
assert again.digest == dataset.digest
assert load_dataset("me/cats", split="train")["label"][:] == dataset.hard_labels().tolist()
refusals = []
for call in (
    lambda: DistilledDataset.from_hub("me/absent"),
    lambda: DistilledDataset.from_hub("no name!"),
    lambda: dataset.push_to_hub("me/cats", token="wrong"),
):
    try:
        call()
    except PotstillError as error:
        refusals.append(str(error))
print(json.dumps(refusals))
"""
    with serving() as hub:
        answered = _run(share, path, HF_ENDPOINT=hub.address, HF_HOME=str(tmp_path / "home"))
        _, first, second = hub.repositories["me/cats"]
    address, refusals = answered.splitlines()[0], json.loads(answered.splitlines()[-1])
    assert address == f"{hub.address}/datasets/me/cats"
    assert len(refusals) == 3 and all("\n" not in one for one in refusals)
    assert "'me/absent'" in refusals[0] and "401" in refusals[2]
    assert first.keys() == second.keys()
    assert {*second} == {
        "README.md",
        "data/train-00000-of-00001.parquet",
        "distilled.safetensors",
        "images.png",
    }
    assert second["distilled.safetensors"] == path.read_bytes()
    assert b"license: mit" in first["README.md"] and b"license: unknown" in second["README.md"]
    assert np.asarray(Image.open(io.BytesIO(second["images.png"]))).any()


def test_the_hub_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hub, "hf_hub_download", fail)
    with pytest.raises(RunError, match="cannot reach the hub for 'me/cats': no route to host"):
        DistilledDataset.from_hub("me/cats")


def _run(code: str, *words: object, **environment: str) -> str:
    """What Python prints: the hub's library reads its environment once, when it is imported."""
    own = {"HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    own |= {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env={**os.environ, **own, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_exports_and_imports_from_the_command_line(
    tmp_path: Path, answer: Answer, fails: Answer, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "set.safetensors"
    sample().save(path)
    for form, name in (("npz", "a.npz"), ("pt", "a.pt"), ("png", "folder")):
        answer("export", path, "--to", form, "--out", tmp_path / name)
        answer("import", tmp_path / name, "--out", tmp_path / f"again-{form}.safetensors")
    for form in ("npz", "pt"):
        assert (tmp_path / f"again-{form}.safetensors").read_bytes() == path.read_bytes()
    assert "pass --space pixels" in fails("import", path, "--out", tmp_path / "x")
    assert "it is not there" in fails("import", tmp_path / "absent", "--out", tmp_path / "x")
    assert "leave out the other options" in fails(
        "import", tmp_path / "a.npz", "--out", tmp_path / "x", "--dataset", "digits"
    )
    assert "not an empty folder" in fails(
        "export", path, "--to", "png", "--out", tmp_path / "folder"
    )
