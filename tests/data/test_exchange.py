"""What is exported comes back as it was, where the format holds it, and says so where not."""

from __future__ import annotations

import csv
import json
import pickletools
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from potstill.data import exchange, foreign
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Standardise
from potstill.errors import ArtefactError, DataError, RunError
from potstill.evaluation import evaluate
from tests.data.test_distilled import header, result, sample
from tests.data.test_soft_labels import soft


def pixels(names: tuple[str, ...] = ("cat", "dog"), channels: int = 3) -> DistilledDataset:
    """A set of 8-bit pixels, its classes in no order."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.integers(0, 256, (12, channels, 5, 5), dtype=np.uint8))
    labels = torch.from_numpy(draw.normal(size=(12, len(names))))
    statistics = (torch.full((channels,), value, dtype=torch.float64) for value in (0.4, 0.3))
    return DistilledDataset(images, labels, names, Standardise(*statistics), header())


def place(tmp_path: Path, form: str) -> Path:
    return tmp_path / {"png": "folder", "npz": "set.npz", "pt": "set.pt"}[form]


SETS = {
    "standardised": lambda: sample(zca=False),
    "whitened": sample,
    "soft": soft,
    "scored": lambda: sample().with_result(result()),
    "pixels": pixels,
    "gray": lambda: pixels(channels=1),
}


@pytest.mark.parametrize("form", ["npz", "pt"])
@pytest.mark.parametrize("kind", SETS)
def test_arrays_hold_every_set_exactly(kind: str, form: str, tmp_path: Path) -> None:
    dataset, out = SETS[kind](), place(tmp_path, form)
    dataset.export(out, form)
    again = exchange.restored(out)
    assert again.digest == dataset.digest
    assert again.header == dataset.header
    assert torch.equal(again.images, dataset.images) and torch.equal(again.labels, dataset.labels)


@pytest.mark.parametrize("kind", ["pixels", "gray"])
def test_pictures_hold_a_set_of_pixels_exactly(kind: str, tmp_path: Path) -> None:
    dataset, out = SETS[kind](), tmp_path / "folder"
    assert exchange.loss(dataset) is None
    dataset.export(out, "png")
    assert exchange.restored(out).digest == dataset.digest
    (first,) = (out / dataset.class_names[dataset.hard_labels()[0]]).glob("00.png")
    shown = np.array(Image.open(first))
    assert (shown if shown.ndim == 2 else shown.transpose(2, 0, 1)).tolist() == (
        dataset.pixels()[0] * 255
    ).round().squeeze(0).tolist()


@pytest.mark.parametrize("kind", ["standardised", "whitened", "soft"])
def test_pictures_round_a_set_in_network_space_and_say_how_much(kind: str, tmp_path: Path) -> None:
    dataset, out = SETS[kind]().with_result(result()), tmp_path / "folder"
    dataset.export(out, "png")
    again = exchange.restored(out)
    assert (again.pixels() - dataset.pixels()).abs().max() <= 0.5 / 255 + 1e-6
    assert torch.equal(again.labels, dataset.labels)
    assert (again.soft_labels is None) == (dataset.soft_labels is None)
    assert again.space == "pixels" and not again.results
    (check,) = again.header["import"]["checks"]
    assert check["verdict"] == "warning" and "rounded to 8 bits" in check["value"]
    lost = exchange.loss(dataset)
    assert lost is not None
    difference = (again.images - dataset.images).square().mean() / dataset.images.square().mean()
    assert lost.error == pytest.approx(float(difference) ** 0.5, rel=1e-4)
    natural = dataset.preprocess.invert(dataset.images).flatten().tolist()
    assert lost.cut == pytest.approx(sum(not 0 <= one <= 1 for one in natural) / len(natural))


def test_what_a_reader_finds_beside_the_pictures(tmp_path: Path) -> None:
    dataset = pixels()
    dataset.export(tmp_path / "folder", "png")
    with open(tmp_path / "folder/labels.csv", encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["file", "class", "cat", "dog"]
    for row, label, values in zip(rows, dataset.hard_labels(), dataset.labels, strict=True):
        assert (tmp_path / "folder" / row[0]).exists()
        assert row[1] == dataset.class_names[label]
        assert torch.equal(torch.tensor([float(value) for value in row[2:]]), values)
    facts = json.loads((tmp_path / "folder/statistics.json").read_text())
    assert facts["preprocess"]["mean"] == [0.4] * 3


def test_classes_that_no_file_system_has_get_numbers(tmp_path: Path) -> None:
    for index, names in enumerate(
        (("../up", "b"), ("a", "A"), ("a/b", "c"), (".hidden", "c"), ("CON?", "c"), (" a", "b"))
    ):
        out = tmp_path / str(index)
        dataset = pixels(names)
        dataset.export(out, "png")
        assert {path.name for path in out.iterdir() if path.is_dir()} == {"class-0", "class-1"}
        assert exchange.restored(out).digest == dataset.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == [*map(str, range(6))]
    pixels(("ねこ", "chien é")).export(tmp_path / "kept", "png")
    assert (tmp_path / "kept/ねこ").is_dir() and (tmp_path / "kept/chien é").is_dir()


def test_a_class_that_no_label_leads_to_has_no_folder_and_comes_back(tmp_path: Path) -> None:
    dataset = pixels(("a", "b", "c"))
    labels = dataset.labels.clone()
    labels[:, 1] = -9
    changed = DistilledDataset(
        (dataset.pixels() * 255).round().to(torch.uint8),
        labels,
        dataset.class_names,
        dataset.preprocess,
        header(),
    )
    changed.export(tmp_path / "folder", "png")
    assert not (tmp_path / "folder/b").exists()
    assert exchange.restored(tmp_path / "folder").digest == changed.digest


def test_no_format_holds_a_pickle_that_makes_objects(tmp_path: Path) -> None:
    soft().export(tmp_path / "set.pt", "pt")
    with zipfile.ZipFile(tmp_path / "set.pt") as archive:
        (name,) = (one for one in archive.namelist() if one.endswith("data.pkl"))
        made = {
            str(argument)
            for operation, argument, _ in pickletools.genops(archive.read(name))
            if operation.name in ("GLOBAL", "STACK_GLOBAL")
        }
    assert made <= {
        "torch._utils _rebuild_tensor_v2",
        "torch FloatStorage",
        "torch HalfStorage",
        "collections OrderedDict",
    }
    loaded = torch.load(tmp_path / "set.pt", weights_only=True)
    assert loaded["class_names"] == ["cat", "dog"]
    soft().export(tmp_path / "set.npz", "npz")
    with np.load(tmp_path / "set.npz", allow_pickle=False) as arrays:
        assert all(arrays[key].dtype.kind in "fuU" for key in arrays.files)


@pytest.mark.parametrize("form", ["npz", "pt"])
def test_other_code_finds_images_and_labels(form: str, tmp_path: Path) -> None:
    """An export is also what ``import`` reads of strangers."""
    dataset = sample()
    dataset.export(place(tmp_path, form), form)
    found = foreign.read(place(tmp_path, form))
    assert torch.equal(found.images, dataset.images) and torch.equal(found.labels, dataset.labels)


def test_what_was_changed_is_another_set(tmp_path: Path) -> None:
    dataset = pixels().with_result(result())
    dataset.export(tmp_path / "folder", "png")
    name = next((tmp_path / "folder").glob("cat/*.png"))
    Image.fromarray(255 - np.array(Image.open(name))).save(name)
    again = exchange.restored(tmp_path / "folder")
    assert again.digest != dataset.digest and not again.results and "import" in again.header


def test_damage_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    pixels().export(folder, "png")
    name = next(folder.glob("cat/*.png"))
    name.rename(folder / "dog" / "99.png")
    with pytest.raises(ArtefactError, match="other images than it was written with"):
        exchange.restored(folder)
    (folder / "dog" / "99.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="cannot read image"):
        exchange.restored(folder)
    for form in ("npz", "pt"):
        path = place(tmp_path, form)
        sample().export(path, form)
        whole = path.read_bytes()
        for size in (0, 10, len(whole) // 2, len(whole) - 5):
            path.write_bytes(whole[:size])
            with pytest.raises(ArtefactError) as caught:
                exchange.restored(path)
            assert "\n" not in str(caught.value)


def test_a_document_that_lies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    for change in (
        {"class_names": ["one"]},
        {"images": {"shape": [1], "space": "network"}},
        {"preprocess": {"kind": "zca"}},
        {"evaluation": 3},
    ):
        dataset = sample(zca=False)
        tensors, document = dataset.parts()
        arrays = {key: value.numpy() for key, value in tensors.items()}
        text = json.dumps(document | {"digest": dataset.digest} | change)
        np.savez(path, allow_pickle=False, potstill=np.array(text), **arrays)
        with pytest.raises(ArtefactError):
            exchange.restored(path)


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(RunError, match="not an empty folder"):
        pixels().export(tmp_path, "png")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_restored_set_scores_the_same(tmp_path: Path) -> None:
    from potstill import recipes
    from potstill.data import datasets

    recipe = recipes.load("quickstart/digits-rcig")
    source = datasets.load(recipe.data, None)
    rows = torch.arange(20)
    statistics = (torch.tensor([value], dtype=torch.float64) for value in (0.3, 0.4))
    made_for = {"protocol": "rcig-paper", "networks": 1, "network": {"depth": 1, "width": 4}}
    dataset = DistilledDataset(
        source.train.images[rows],
        torch.nn.functional.one_hot(source.train.labels[rows], 10) - 0.1,
        source.class_names,
        Standardise(*statistics),
        header(evaluation=made_for, source=source.document()),
    )
    wanted = evaluate(dataset, source, steps=30).accuracy
    for form in ("png", "npz", "pt"):
        out = place(tmp_path, form)
        dataset.export(out, form)
        assert evaluate(exchange.restored(out), source, steps=30).accuracy == wanted
