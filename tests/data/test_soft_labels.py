from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from potstill import storage
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError
from potstill.rng import normal, stream
from tests.data.test_distilled import header, refusal, result, rewritten, sample, tiny

RELABELLING = {"protocol": "dwa-paper", "seed": 0, "views": {"alpha": 0.8}}


def soft(epochs: int = 3, precision: torch.dtype = torch.float16) -> DistilledDataset:
    labels = normal((epochs, 6, 2), stream(0, "test/soft"))
    return sample().with_soft_labels(labels.to(precision), RELABELLING)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("soft") / "set.safetensors"
    soft().save(path)
    return path


def test_the_file_of_a_tiny_set_with_soft_labels_to_the_byte(tmp_path: Path) -> None:
    labels = torch.tensor([[[1.0, -2.0]], [[0.5, 0.0]]], dtype=torch.float16)
    dataset = tiny().with_soft_labels(labels, {"seed": 4})
    dataset.save(tmp_path / "tiny.safetensors")
    document = (
        '{"class_names":["no","j\\u00e1"],'
        '"digest":{"content":"CONTENT","results":"RESULTS"},'
        '"evaluation":{"protocol":"rcig-paper"},"format_version":2,'
        '"images":{"shape":[1,1,2,2],"space":"network"},"iterations":7,'
        '"labels":{"shape":[1,2]},"method":"rcig",'
        '"preprocess":{"kind":"standardise","mean":[0.5],"std":[0.25]},'
        '"recipe":{"seed":0},"relabelling":{"seed":4},"results":[],"seed":0,'
        '"soft_labels":{"precision":"float16","shape":[2,1,2]},'
        '"source":{"fingerprint":"00","name":"digits"},"versions":{"potstill":"0.1.0"}}'
    )
    document = document.replace("CONTENT", dataset.digest)
    data = (tmp_path / "tiny.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    found = json.loads(data[8 : 8 + length])
    text = found.pop("__metadata__")["potstill"]
    assert re.sub('"results":"[0-9a-f]{64}"', '"results":"RESULTS"', text) == document
    assert found["soft_labels"] == {"dtype": "F16", "shape": [2, 1, 2], "data_offsets": [24, 32]}
    assert data[8 + length + 24 :] == bytes.fromhex("003c 00c0 0038 0000")


@pytest.mark.parametrize("precision", [torch.float16, torch.float32])
def test_soft_labels_come_back_as_they_were(tmp_path: Path, precision: torch.dtype) -> None:
    before = soft(precision=precision).with_result(result())
    before.save(tmp_path / "a.safetensors")
    after = DistilledDataset.load(tmp_path / "a.safetensors")
    assert before.soft_labels is not None and after.soft_labels is not None
    assert after.soft_labels.dtype == precision
    assert torch.equal(after.soft_labels, before.soft_labels)
    assert after.header == before.header
    assert (after.header["format_version"], after.header["relabelling"]) == (2, RELABELLING)
    after.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_other_precisions_are_kept_as_float32() -> None:
    for kind in (torch.float64, torch.bfloat16):
        labels = soft(precision=kind).soft_labels
        assert labels is not None and labels.dtype == torch.float32


def test_soft_labels_make_another_set_that_keeps_results_apart() -> None:
    plain = sample().with_result(result())
    labels = normal((3, 6, 2), stream(0, "test/soft"))
    taught = plain.with_soft_labels(labels, RELABELLING)
    stamped = result(artefact_digest=plain.digest)
    assert taught.header["results"] == [stamped]
    again = taught.with_result(result(seed=1)).with_soft_labels(labels, {**RELABELLING, "seed": 1})
    assert again.header["results"] == [stamped, result(seed=1, artefact_digest=taught.digest)]
    assert plain.header["results"] == [result()]
    assert plain.soft_labels is None and plain.header["format_version"] == 1
    digests = {plain.digest, taught.digest}
    digests.add(plain.with_soft_labels(labels, {**RELABELLING, "seed": 1}).digest)
    digests.add(plain.with_soft_labels(labels[:2], RELABELLING).digest)
    assert len(digests) == 4
    labels += 1
    assert taught.digest in digests


def test_the_reader_in_the_specification_reads_them(saved: Path) -> None:
    specification = Path(__file__).parents[2] / "docs" / "artefact.md"
    (code,) = re.findall(r"```python\n(.*?)```", specification.read_text("utf-8"), re.DOTALL)
    reader: dict[str, Any] = {}
    exec(code, reader)
    found, tensors = reader["read"](saved)
    assert tensors["soft_labels"].shape == (3, 6, 2)
    assert reader["content_digest"](found, tensors) == found["digest"]["content"]


def test_what_does_not_fit_is_refused() -> None:
    base, good = sample(), torch.zeros(3, 6, 2)
    for labels, words in (
        (good[0], "soft labels have shape (6, 2)"),
        (good[:0], "soft labels have shape (0, 6, 2)"),
        (good[:, :5], "need (epochs, 6, 2)"),
        (good + float("nan"), "not finite"),
        ((good + 1e5).half(), "precision float32"),
    ):
        with pytest.raises(ArtefactError) as caught:
            base.with_soft_labels(labels, RELABELLING)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    parts = base.images, base.labels, base.class_names, base.preprocess
    with pytest.raises(ArtefactError, match="belong together"):
        DistilledDataset(*parts, header(), good)
    with pytest.raises(ArtefactError, match="belong together"):
        DistilledDataset(*parts, header(relabelling=RELABELLING))
    with pytest.raises(ArtefactError, match="written from the tensors"):
        DistilledDataset(*parts, header(soft_labels={}))


def test_numbers_spoilt_in_place_are_not_saved(tmp_path: Path) -> None:
    dataset = soft()
    assert dataset.soft_labels is not None
    dataset.soft_labels[1, 2, 0] = float("inf")
    with pytest.raises(ArtefactError, match="not finite"):
        dataset.save(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("document", "labels", "words"),
    [
        ({"soft_labels": {"shape": [3, 6, 2], "precision": "float32"}}, None, "the header says"),
        ({"soft_labels": None}, None, "the header says soft_labels None"),
        ({"relabelling": None}, None, "belong together"),
        ({"format_version": 1}, None, "format 1 does not go with what it holds"),
        ({}, torch.zeros(3, 6, 2, dtype=torch.float64), "do not fit"),
        ({}, torch.zeros(3, 6, 2, dtype=torch.int32), "do not fit"),
        ({}, torch.zeros(3, 5, 2, dtype=torch.float16), "the header says soft_labels"),
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(
    saved: Path,
    tmp_path: Path,
    document: dict[str, Any],
    labels: torch.Tensor | None,
    words: str,
) -> None:
    def change(found: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        found |= document
        if labels is not None:
            tensors["soft_labels"] = labels

    assert words in refusal(rewritten(saved, tmp_path / "a.safetensors", change, seal=True))


def test_version_2_without_soft_labels_and_altered_ones_are_refused(
    saved: Path, tmp_path: Path
) -> None:
    def drop(found: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        del tensors["soft_labels"], found["soft_labels"], found["relabelling"]

    def alter(found: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors["soft_labels"][2, 5, 1] += 1e-2

    path = tmp_path / "a.safetensors"
    assert "format 2 does not go" in refusal(rewritten(saved, path, drop, seal=True))
    assert "was altered" in refusal(rewritten(saved, path, alter, seal=False))


def test_a_version_1_reader_asks_for_an_upgrade(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = replace(storage.DISTILLED_SET, newest=1)
    monkeypatch.setattr(storage, "DISTILLED_SET", older)
    assert "newer potstill (format 2, this one reads 1); upgrade potstill" in refusal(saved)


def test_a_file_of_another_kind_is_named_for_what_it_is(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    storage.save(path, {"format_version": 1}, {}, storage.TEACHER)
    assert "is a teacher, no distilled set" in refusal(path)
    with pytest.raises(ArtefactError, match="is a distilled set, no teacher"):
        storage.decode(saved, storage.TEACHER)
    path.write_bytes(safetensors.torch.save({}, {"other": "{}"}))
    with pytest.raises(ArtefactError, match=r"it has no potstill\.teacher header"):
        storage.decode(path, storage.TEACHER)
