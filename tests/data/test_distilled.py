from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from potstill import storage
from potstill.config import DataRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess, Standardise, fit
from potstill.errors import ArtefactError, DataError, RunError
from potstill.methods.describing import description_of, recipe_of
from potstill.rng import normal, stream


def header(**changes: Any) -> dict[str, Any]:
    return {
        "method": "rcig",
        "recipe": {"seed": 0},
        "evaluation": {"protocol": "rcig-paper"},
        "source": {"name": "digits", "fingerprint": "00"},
        "versions": {"potstill": "0.1.0"},
        "seed": 0,
        "iterations": 7,
        "results": [],
        **changes,
    }


def result(mean: float = 0.5, **changes: Any) -> dict[str, Any]:
    return {
        "protocol": "rcig-paper",
        "dataset": "digits",
        "images": 6,
        "images_per_class": 3,
        "network": {"width": 8},
        "steps": 10,
        "accuracy": {"mean": mean, "std": 0.0, "values": [mean]},
        **changes,
    }


def sample(images: torch.Tensor | None = None, *, zca: bool = True) -> DistilledDataset:
    pixels = torch.from_numpy(stream(0, "test/pixels").integers(0, 256, (12, 3, 4, 4)))
    recipe = DataRecipe(preprocess="zca" if zca else "standardise")
    preprocess = fit(recipe, pixels.to(torch.uint8))
    images = normal((6, 3, 4, 4), stream(0, "test/images")) if images is None else images
    labels = normal((len(images), 2), stream(0, "test/labels"))
    return DistilledDataset(images, labels, ("cat", "dog"), preprocess, header())


def tiny() -> DistilledDataset:
    """A set whose every byte is known."""
    preprocess = Standardise(
        torch.tensor([0.5], dtype=torch.float64), torch.tensor([0.25], dtype=torch.float64)
    )
    images = torch.tensor([0.0, 1.0, -1.0, 2.0]).view(1, 1, 2, 2)
    return DistilledDataset(images, torch.tensor([[0.5, -0.5]]), ("no", "já"), preprocess, header())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artefact") / "set.safetensors"
    sample().save(path)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ArtefactError) as caught:
        DistilledDataset.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def rewritten(path: Path, to: Path, change: Any, *, seal: bool) -> Path:
    """The file with its document and tensors changed; sealed, its digests are made to fit."""
    document, tensors = storage.decode(path, storage.DISTILLED_SET)
    change(document, tensors)
    if seal:
        storage.save(to, document, tensors, storage.DISTILLED_SET)
        return to
    original = json.loads(safetensors_metadata(path.read_bytes())["potstill"])
    document["digest"] = original["digest"]
    to.write_bytes(safetensors.torch.save(tensors, {"potstill": storage.canonical(document)}))
    return to


def safetensors_metadata(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


def test_the_file_of_a_tiny_set_to_the_byte(tmp_path: Path) -> None:
    tiny().save(tmp_path / "tiny.safetensors")
    document = (
        '{"class_names":["no","j\\u00e1"],'
        '"digest":{"content":'
        '"1e5d1a712e50fc58bcaec0518621c9ef82aff581e61fdb05b9eb94593dd8a8e5",'
        '"results":'
        '"f91ffaf95c1b9e701ec594b125dc9854eac8760d97686642a293d5ee6a0e4086"},'
        '"evaluation":{"protocol":"rcig-paper"},"format_version":1,'
        '"images":{"shape":[1,1,2,2],"space":"network"},"iterations":7,'
        '"labels":{"shape":[1,2]},"method":"rcig",'
        '"preprocess":{"kind":"standardise","mean":[0.5],"std":[0.25]},'
        '"recipe":{"seed":0},"results":[],"seed":0,'
        '"source":{"fingerprint":"00","name":"digits"},"versions":{"potstill":"0.1.0"}}'
    )
    header = (
        '{"__metadata__":{"potstill":' + json.dumps(document) + "},"
        '"images":{"dtype":"F32","shape":[1,1,2,2],"data_offsets":[0,16]},'
        '"labels":{"dtype":"F32","shape":[1,2],"data_offsets":[16,24]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    images = bytes.fromhex("00000000 0000803f 000080bf 00000040")
    labels = bytes.fromhex("0000003f 000000bf")
    expected = len(header).to_bytes(8, "little") + header + images + labels
    assert (tmp_path / "tiny.safetensors").read_bytes() == expected


@pytest.mark.parametrize("zca", [True, False])
def test_a_set_comes_back_as_it_was(tmp_path: Path, zca: bool) -> None:
    before = sample(zca=zca)
    before.save(tmp_path / "a.safetensors")
    after = DistilledDataset.load(tmp_path / "a.safetensors")
    assert torch.equal(after.images, before.images)
    assert torch.equal(after.labels, before.labels)
    assert torch.equal(after.pixels(), before.pixels())
    assert after.class_names == ("cat", "dog")
    assert after.header == before.header == {**header(), "format_version": 1}
    assert after.digest == before.digest
    after.save(str(tmp_path / "b.safetensors"))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_it_is_a_torch_dataset_ready_to_train_on() -> None:
    dataset = sample()
    assert len(dataset) == 6
    assert dataset.images_per_class == 3
    image, label = dataset[2]
    assert torch.equal(image, dataset.images[2]) and torch.equal(label, dataset.labels[2])
    batches = list(DataLoader(dataset, batch_size=4))
    assert [images.shape for images, _ in batches] == [(4, 3, 4, 4), (2, 3, 4, 4)]
    assert torch.equal(torch.cat([labels for _, labels in batches]), dataset.labels)
    assert torch.equal(dataset.hard_labels(), (dataset.labels[:, 1] > dataset.labels[:, 0]).long())


def test_pixels_undo_the_preprocessing_and_are_clipped() -> None:
    dataset = sample(10 * normal((2, 3, 4, 4), stream(1, "test/images")))
    free = dataset.preprocess.invert(dataset.images)
    assert free.min() < 0 and free.max() > 1
    assert torch.equal(dataset.pixels(), free.clamp(0, 1))


def test_8_bit_pixels_are_kept_as_they_are_and_preprocessed_on_load(tmp_path: Path) -> None:
    pixels = torch.arange(96, dtype=torch.uint8).view(2, 3, 4, 4)
    dataset = sample(pixels)
    assert dataset.space == "pixels"
    dataset.save(tmp_path / "a.safetensors")
    assert torch.equal(safetensors.torch.load_file(tmp_path / "a.safetensors")["images"], pixels)
    again = DistilledDataset.load(tmp_path / "a.safetensors")
    assert again.images.dtype == torch.float32
    assert torch.equal(again.images, dataset.preprocess.apply(pixels))
    assert torch.equal(again.pixels(), pixels / 255)
    assert again.with_result(result()).space == "pixels"


def test_a_result_is_added_to_a_copy_and_keeps_the_digest(tmp_path: Path) -> None:
    dataset = sample()
    scored = dataset.with_result(result()).with_result(result(warnings=("one", "two")))
    assert dataset.header["results"] == []
    assert scored.header["results"] == [result(), result(warnings=["one", "two"])]
    path = tmp_path / "file"
    dataset.save(path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seed: DistilledDataset.add_result(path, result(seed=seed)), range(16)))
    kept = DistilledDataset.load(path)
    assert sorted(result["seed"] for result in kept.header["results"]) == list(range(16))
    assert kept.digest == dataset.digest
    assert scored.digest == dataset.digest
    scored.save(tmp_path / "a.safetensors")
    assert DistilledDataset.load(tmp_path / "a.safetensors").header == scored.header


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"iterations": 8},
        {"recipe": {"seed": 1}},
        {"source": {"name": "mnist", "fingerprint": "00"}},
    ],
)
def test_the_digest_depends_on_the_header(change: dict[str, Any]) -> None:
    base = tiny()
    other = DistilledDataset(
        base.images, base.labels, base.class_names, base.preprocess, header(**change)
    )
    assert other.digest != base.digest


@pytest.mark.parametrize(
    ("fields", "mirrored"),
    [
        ({"mirror_images": True}, True),
        ({"recipe": {"method": {"kind": "rcig", "flip": True}}}, True),
        ({"recipe": {"method": {"flip": True}}}, True),
        ({"recipe": {"method": {"kind": "rcig", "flip": True}}, "mirror_images": False}, False),
        ({"recipe": {"method": {"kind": "dwa", "flip": True}}}, False),
        ({"recipe": {"method": {"kind": "dwa", "flip": True}}, "mirror_images": True}, True),
        ({"recipe": {"method": {"kind": "rcig", "flip": False}}}, False),
        ({}, False),
    ],
)
def test_mirror_images_belong_to_a_set_that_says_so_or_was_made_so(
    fields: dict[str, Any], mirrored: bool, tmp_path: Path
) -> None:
    plain = tiny()
    parts = (plain.images, plain.labels, plain.class_names, plain.preprocess)
    path = tmp_path / "set.safetensors"
    DistilledDataset(*parts, header(**fields)).save(path)
    assert DistilledDataset.load(path).mirror_images is mirrored
    with pytest.raises(
        ArtefactError, match="header field mirror_images: Input should be a valid bool"
    ):
        DistilledDataset(*parts, header(mirror_images="yes"))


def test_the_set_owns_its_tensors_and_header() -> None:
    images, document = torch.zeros(1, 1, 2, 2), header()
    base = tiny()
    dataset = DistilledDataset(images, base.labels, base.class_names, base.preprocess, document)
    digest = dataset.digest
    images += 1
    document["recipe"]["seed"] = 5
    assert dataset.digest == digest


@pytest.mark.parametrize(
    "kind", ["standardise", "zca", "zca in phases", "zca in contiguous blocks", "pixels"]
)
def test_the_reader_in_the_specification_agrees(tmp_path: Path, kind: str) -> None:
    """The Python block of docs/artefact.md: safetensors, JSON and NumPy, nothing of ours."""
    pixels = torch.from_numpy(stream(0, "test/reader").integers(0, 256, (12, 3, 4, 8)))
    recipe = DataRecipe(
        preprocess="zca" if "zca" in kind else "standardise",
        zca_block=4 if " in " in kind else None,
    )
    preprocess = fit(recipe, pixels.byte())
    if "contiguous" in kind:
        earlier = {k: v for k, v in preprocess.describe().items() if k != "tiling"}
        preprocess = Preprocess.from_parts(earlier, preprocess.tensors())
    images = pixels[:2].byte() if kind == "pixels" else preprocess.apply(pixels[:2].byte()) * 1.5
    document = header(results=[result()])
    dataset = DistilledDataset(images, torch.eye(2), ("a", "é"), preprocess, document)
    dataset.save(tmp_path / "a.safetensors")

    specification = Path(__file__).parents[2] / "docs" / "artefact.md"
    (code,) = re.findall(r"```python\n(.*?)```", specification.read_text("utf-8"), re.DOTALL)
    assert "potstill" not in code.replace('"potstill"', "")
    reader: dict[str, Any] = {}
    exec(code, reader)
    found, tensors = reader["read"](tmp_path / "a.safetensors")
    assert found["class_names"] == ["a", "é"]
    assert found["format_version"] == (4 if kind == "zca in phases" else 1)
    assert reader["content_digest"](found, tensors) == found["digest"]["content"] == dataset.digest
    assert reader["results_digest"](found) == found["digest"]["results"]
    np.testing.assert_allclose(reader["pictures"](found, tensors), dataset.pixels(), atol=1e-5)


def test_the_example_in_the_specification_is_a_header() -> None:
    specification = Path(__file__).parents[2] / "docs" / "artefact.md"
    (text,) = re.findall(r"```json\n(.*?)```", specification.read_text("utf-8"), re.DOTALL)
    document = json.loads(text)
    derived = ("class_names", "digest", "images", "labels", "preprocess")
    fields = {name: value for name, value in document.items() if name not in derived}
    one = tiny()
    read = DistilledDataset(one.images, one.labels, one.class_names, one.preprocess, fields)
    assert read.header == fields and read.header["format_version"] == 3
    assert set(document) == {*read._document(), "digest"}
    assert description_of(fields).title == "RCIG" and recipe_of(fields) is not None


def test_missing_file(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.safetensors")
    assert "directory" in refusal(tmp_path)


@pytest.mark.parametrize("keep", [0, 3, 8, 9, 200, -5000, -1])
def test_truncated_file(saved: Path, tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(saved.read_bytes()[:keep])
    assert "is truncated; copy or download it again" in refusal(path)


def test_bytes_after_the_end_and_a_damaged_header(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(saved.read_bytes() + b"x")
    assert "was altered" in refusal(path)
    path.write_bytes(saved.read_bytes().replace(b'"data_offsets":', b'"data_offset_":'))
    assert "damaged safetensors header" in refusal(path)


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_no_flipped_bit_goes_unseen(saved: Path, data: st.DataObject) -> None:
    original = saved.read_bytes()
    length = int.from_bytes(original[:8], "little")
    place = data.draw(
        st.one_of(st.integers(0, len(original) - 1), st.integers(0, length), st.integers(0, 8))
    )
    changed = bytearray(original)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    path = saved.with_name("flipped.safetensors")
    path.write_bytes(changed)
    try:
        read = DistilledDataset.load(path)
    except ArtefactError as error:
        assert "\n" not in str(error)
        return
    # Nothing but white space after the header's JSON may differ.
    assert changed[place : 8 + length].strip() == b""
    assert read.digest == DistilledDataset.load(saved).digest


def test_altered_content_and_altered_results(saved: Path, tmp_path: Path) -> None:
    def image(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors["images"][0, 0, 0, 0] += 1e-3

    def whitening(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors["preprocess.whitening"][3] *= 1.01

    def protocol(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        document["evaluation"]["protocol"] = "kinder"

    def result(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        document["results"].append({"accuracy": {"mean": 1.0}})

    for change in (image, whitening, protocol, result):
        path = rewritten(saved, tmp_path / "a.safetensors", change, seal=False)
        assert "was altered after it was written" in refusal(path)


def test_files_that_are_not_ours(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    for data in (b"\x89PNG\r\n\x1a\n" + bytes(100), b"just some words, and no tensors", b"{}" * 9):
        path.write_bytes(data)
        assert "is no safetensors file" in refusal(path)
    path.write_bytes(safetensors.torch.save({"images": torch.zeros(2)}))
    assert "no distilled set" in refusal(path)
    path.write_bytes(safetensors.torch.save({"images": torch.zeros(2)}, {"format": "pt"}))
    assert "no distilled set" in refusal(path)
    for text in ("not json", "[1]", "7"):
        path.write_bytes(safetensors.torch.save({"images": torch.zeros(2)}, {"potstill": text}))
        assert "is not a JSON object" in refusal(path)


def test_a_newer_format_asks_for_an_upgrade_whatever_else_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    text = json.dumps({"format_version": 6, "pictures": "elsewhere"})
    path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}, {"potstill": text}))
    assert "was made by a newer potstill (format 6, this one reads 5); upgrade" in refusal(path)
    for version in (None, "1", 0, True, 1.0):
        text = json.dumps({"format_version": version})
        path.write_bytes(safetensors.torch.save({"x": torch.zeros(2)}, {"potstill": text}))
        assert "names no format version" in refusal(path)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("images", {"shape": [6, 3, 4, 5], "space": "network"}, "the header says images"),
        ("images", {"shape": [6, 3, 4, 4], "space": "pixels"}, "the header says images"),
        ("labels", {"shape": [6, 3]}, "the header says labels"),
        ("class_names", ["cat"], "labels have shape (6, 2)"),
        ("class_names", None, "class_names must be a list"),
        ("preprocess", {"kind": "pca"}, "unknown preprocessing 'pca'"),
        ("preprocess", {"kind": "standardise", "mean": [0.1], "std": [1.0]}, "do not fit"),
        ("recipe", None, "header field recipe"),
    ],
)
def test_headers_that_do_not_fit_the_tensors(
    saved: Path, tmp_path: Path, field: str, value: Any, words: str
) -> None:
    def change(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        document[field] = value

    assert words in refusal(rewritten(saved, tmp_path / "a.safetensors", change, seal=True))


@pytest.mark.parametrize("name", ["images", "labels", "preprocess.whitening"])
def test_tensors_that_are_missing_or_of_another_type(
    saved: Path, tmp_path: Path, name: str
) -> None:
    def drop(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    def widen(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors[name] = tensors[name].double()

    def add(document: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        tensors[name + "s"] = tensors[name].clone()

    for change in (drop, widen, add):
        refusal(rewritten(saved, tmp_path / "a.safetensors", change, seal=True))


def test_what_cannot_be_a_set_is_refused() -> None:
    base = tiny()

    def make(**changes: Any) -> DistilledDataset:
        parts = {
            "images": base.images,
            "labels": base.labels,
            "class_names": base.class_names,
            "preprocess": base.preprocess,
            "header": header(),
        }
        return DistilledDataset(**{**parts, **changes})

    nan = base.images * float("nan")
    for changes, words in (
        ({"images": base.images[0]}, "pass (n, channels, height, width)"),
        ({"labels": torch.zeros(1, 3)}, "labels have shape (1, 3)"),
        ({"images": nan}, "not finite"),
        ({"labels": base.labels / 0}, "not finite"),
        ({"header": header(seed=None)}, "header field seed: Input should be a valid integer"),
        ({"header": header(results=[{"mean": float("nan")}])}, "finite numbers"),
        ({"header": header(source={"path": Path("x")})}, "cannot be written as JSON"),
        ({"header": header(images={})}, "'images' is written from the tensors"),
    ):
        with pytest.raises(ArtefactError) as caught:
            make(**changes)
        assert words in str(caught.value)
    with pytest.raises(DataError, match="3 channels"):
        make(images=torch.zeros(1, 3, 2, 2))


def test_numbers_spoilt_in_place_are_not_saved(tmp_path: Path) -> None:
    dataset = tiny()
    dataset.save(tmp_path / "a.safetensors")
    before = (tmp_path / "a.safetensors").read_bytes()
    dataset.images[0, 0, 0, 0] = float("inf")
    with pytest.raises(ArtefactError, match="not finite"):
        dataset.save(tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_saving_into_a_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="create its folder first"):
        tiny().save(tmp_path / "none" / "a.safetensors")


def test_the_first_images_of_each_class_are_a_set_of_their_own(tmp_path: Path) -> None:
    pixels = torch.arange(6 * 48, dtype=torch.uint8).view(6, 3, 4, 4)
    whole = sample(pixels, zca=False)
    whole.labels.copy_(torch.tensor([[1.0, 0], [0, 1], [1, 0], [1, 0], [0, 1], [0, 1]]))
    soft = whole.with_soft_labels(
        torch.zeros(1, 6, 2), {"protocol": "dwa-paper", "views": {}, "seed": 0}
    ).with_result(result())
    part = soft.first(2)
    assert torch.equal(part.images, whole.images[[0, 1, 2, 4]])
    assert torch.equal(part.labels, whole.labels[[0, 1, 2, 4]])
    assert part.space == "pixels" and part.soft_labels is None and not part.results
    assert part.header["part_of"] == {"digest": soft.digest, "images_per_class": 3}
    part.save(tmp_path / "part.safetensors")
    assert DistilledDataset.load(tmp_path / "part.safetensors").digest == part.digest
    for wrong in (0, 4):
        with pytest.raises(ArtefactError, match=f"first 1 to 3 of each, and not for {wrong}"):
            soft.first(wrong)
