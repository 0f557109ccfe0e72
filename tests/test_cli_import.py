from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from potstill import runs
from potstill.config import DataRecipe
from potstill.data import datasets, preprocess
from potstill.data.distilled import DistilledDataset

QUICK = ["--networks", "1", "--epochs", "1"]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POTSTILL_DATA_ROOT", raising=False)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real image of each digit, in the forms that other code saves it in."""
    folder = tmp_path_factory.mktemp("files")
    digits = datasets.load(DataRecipe(dataset="digits"), None)
    rows = torch.stack([(digits.train.labels == c).nonzero()[0, 0] for c in range(10)])
    images, labels = digits.train.images[rows], torch.arange(10)
    for name, kind in (("standardised", "standardise"), ("zca", "zca")):
        recipe = DataRecipe(dataset="digits", preprocess=kind)
        space = preprocess.fit(recipe, digits.train.images).apply(images)
        torch.save({"images": space, "labels": labels}, folder / f"{name}.pt")
    torch.save(images, folder / "images_best.pt")
    torch.save(labels, folder / "labels_best.pt")
    np.savez(folder / "soft.npz", images=images.numpy() / 255, labels=np.eye(10) * 9 - 1)
    for image, label in zip(images, labels, strict=True):
        place = folder / "classes" / str(int(label))
        place.mkdir(parents=True)
        Image.fromarray(image[0].numpy()).save(place / "0.png")
    return folder


def words(path: Path, out: Path, space: str, *more: str | Path) -> list[str | Path]:
    return ["import", path, "--out", out, "--space", space, *more]


def test_an_imported_set_is_evaluated_and_shown(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    out = tmp_path / "set.safetensors"
    more = ["--labels", files / "labels_best.pt", "--dataset", "digits", *QUICK]
    printed = answer(*words(files / "images_best.pt", out, "pixels", *more)).splitlines()
    assert printed[-1] == str(out)
    assert {line.split()[0] for line in printed[:-1]} == {"ok"}
    result = json.loads(answer("evaluate", out, "--json", "--device", "cpu", "--baseline"))
    assert result["protocol"] == "hard-label"
    assert result["network"]["normalisation"] == "instance"
    assert "warnings" not in result
    (kept,) = DistilledDataset.load(out).header["results"]
    assert kept["accuracy"] == result["accuracy"]
    assert "imported" in answer("info", out)
    answer("show", out, "--png", tmp_path / "set.png")
    assert Image.open(tmp_path / "set.png").size[0] > 8


def test_every_form_of_the_same_images_gives_the_same_pictures(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    forms = {
        "classes": ("classes", "pixels", []),
        "standardised": ("standardised.pt", "standardised", []),
        "zca": ("zca.pt", "zca", ["--zca-regularisation", "0.1"]),
        "soft": ("soft.npz", "pixels", ["--label-kind", "logits"]),
    }
    known = ["--dataset", "digits", "--json"]
    pictures = []
    for name, (file, space, more) in forms.items():
        out = tmp_path / f"{name}.safetensors"
        document = json.loads(answer(*words(files / file, out, space, *known, *more)))
        dataset = DistilledDataset.load(out)
        assert document["digest"] == dataset.digest
        assert document["checks"] == dataset.header["import"]["checks"]
        assert {check["verdict"] for check in document["checks"]} == {"ok"}, name
        usual = "rcig-paper" if name == "soft" else "hard-label"
        protocol = document["evaluation"]["protocol"]
        assert protocol == usual
        pictures.append(dataset.pixels())
    for picture in pictures[1:]:
        assert picture.sub(pictures[0]).abs().max() < 1e-4


def test_without_the_data_names_and_statistics_are_stated(
    files: Path, tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    out, path = tmp_path / "set.safetensors", files / "standardised.pt"
    statistics = ["--mean", "0.305", "--std", "0.376"]
    names = ["--class-names", ",".join(f"class {index}" for index in range(10))]
    assert "--class-names" in fails(*words(path, out, "standardised", *statistics))
    assert "--fit-on" in fails(*words(path, out, "standardised", *names))
    answer(*words(path, out, "standardised", *statistics, *names))
    dataset = DistilledDataset.load(out)
    assert dataset.class_names[3] == "class 3"
    assert dataset.header["source"]["name"] == "unknown"
    assert "image_folder" in fails("evaluate", out, "--device", "cpu")
    answer(*words(path, out, "standardised", *names, "--fit-on", "digits"))
    assert DistilledDataset.load(out).header["import"]["fitted_on"] == "digits"


def test_mirror_images_and_the_network_are_stated(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    results = {}
    for mirrored in (False, True):
        out = tmp_path / f"{mirrored}.safetensors"
        more = ["--network", "convnet:none,width=5,growth=2,depth=2", "--protocol", "rcig-paper"]
        more += ["--dataset", "digits", "--networks", "1", *(["--mirror-images"] * mirrored)]
        answer(*words(files / "standardised.pt", out, "standardised", *more))
        dataset = DistilledDataset.load(out)
        assert dataset.mirror_images is mirrored
        network = dataset.header["evaluation"]["network"]
        assert (network["width"], network["growth"], network["depth"]) == (5, 2, 2)
        results[mirrored] = json.loads(answer("evaluate", out, "--json", "--device", "cpu"))
        assert results[mirrored]["network"] == network
    assert results[True]["accuracy"] != results[False]["accuracy"]


def test_the_number_of_images_it_was_made_of_is_kept(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    out = tmp_path / "set.safetensors"
    more = ["--dataset", "digits", "--train-images", "200", *QUICK]
    answer(*words(files / "classes", out, "pixels", *more))
    header = DistilledDataset.load(out).header
    assert header["data"]["train_images"] == 200
    assert "recipe" not in header
    some = datasets.load(DataRecipe(dataset="digits", train_images=200), None)
    assert header["source"]["fingerprint"] == some.fingerprint
    assert header["import"]["fitted_on"] == "digits"
    quick = ["--steps", "1", "--networks", "1", "--folds", "2", "--device", "cpu", "--json"]
    audit = json.loads(answer("attack", out, *quick))
    assert audit["members"] == 200
    assert "members are taken on trust" in audit["warnings"][0]


def test_other_data_is_fitted_on_in_full(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    """Neither the folder nor the number of images of one data set are another's."""
    root, out = tmp_path / "real", tmp_path / "set.safetensors"
    shutil.copytree(files / "classes", root / "train")
    shutil.copytree(files / "classes", root / "test")
    stands_for = ["--dataset", "image_folder", "--folder", root, "--train-images", "10"]
    more = [*stands_for, "--fit-on", "digits"]
    answer(*words(files / "standardised.pt", out, "standardised", *more))
    digits = datasets.load(DataRecipe(dataset="digits"), None)
    fitted = preprocess.fit(DataRecipe(dataset="digits"), digits.train.images)
    assert DistilledDataset.load(out).preprocess.describe() == fitted.describe()


def test_wrong_statements_are_refused_and_nothing_is_written(
    files: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    out, known = tmp_path / "set.safetensors", ["--dataset", "digits"]
    standardised, zca = files / "standardised.pt", files / "zca.pt"
    both = ["--mean", "0.3", "--std", "0.4", "--fit-on", "digits"]
    for expected, attempt in {
        "state --space standardised": words(standardised, out, "pixels", *known),
        "pass --zca-regularisation": words(zca, out, "zca", *known),
        "pass --data-root": words(zca, out, "pixels", "--dataset", "mnist", "--fit-on", "mnist"),
        "--dataset names": words(standardised, out, "standardised", "--train-images", "10"),
        "leave out one": words(standardised, out, "standardised", *known, *both),
        "no list such as": words(standardised, out, "standardised", "--mean", "dark"),
        "--mean and --std belong together; pass both": words(
            standardised, out, "standardised", "--mean", "0.5"
        ),
        "--std 0: a standard deviation is above 0": words(
            standardised, out, "standardised", *known, "--mean", "0.5", "--std", "0"
        ),
        "--mean lists 1 and --std 3 numbers": words(
            standardised, out, "standardised", *known, "--mean", "0.5", "--std", "0.2,0.2,0.2"
        ),
        "'nan' is no list such as": words(standardised, out, "standardised", "--mean", "nan"),
        "how images are whitened": words(
            zca, out, "zca", *known, "--zca-regularisation", "0.1", "--mean", "0.5", "--std", "0.5"
        ),
        "name one": words(standardised, out, "standardised", *known, "--network", "vgg11,convnet"),
        "unknown protocol": words(standardised, out, "standardised", *known, "--protocol", "x"),
        "3 class folders": [],
    }.items():
        if not attempt:
            (tmp_path / "three").mkdir()
            for name in "abc":
                (tmp_path / "three" / name).mkdir()
                Image.new("L", (8, 8), 200).save(tmp_path / "three" / name / "0.png")
            attempt = words(tmp_path / "three", out, "pixels", *known)
        assert expected in fails(*attempt)
    assert not out.exists()


def test_colours_are_converted_as_the_message_says(
    files: Path, tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    """Colour images for gray data: tensors are to be saved as gray, class folders converted."""
    gray, out = torch.load(files / "images_best.pt"), tmp_path / "set.safetensors"
    torch.save((gray.repeat(1, 3, 1, 1), torch.arange(10)), tmp_path / "colour.pt")
    refusal = fails(*words(tmp_path / "colour.pt", out, "pixels", "--dataset", "digits"))
    assert "8x8, 3 channels, and those of digits are 8x8, 1 channel;" in refusal
    assert "save the images with one channel" in refusal and "--channels" not in refusal
    for label, image in enumerate(gray[:, 0].numpy()):
        (tmp_path / "classes" / str(label)).mkdir(parents=True)
        picture = Image.fromarray(np.stack([image, image, 255 - image], axis=2))
        picture.save(tmp_path / "classes" / str(label) / "0.png")
    refusal = fails(*words(tmp_path / "classes", out, "pixels", "--dataset", "digits"))
    assert "state --channels 1 if both are to be converted" in refusal
    answer(*words(tmp_path / "classes", out, "pixels", "--dataset", "digits", "--channels", "1"))


def test_what_could_not_be_used_later_is_refused_at_once(
    files: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    out, path = tmp_path / "set.safetensors", files / "standardised.pt"
    stated = ["--mean", "0.305", "--std", "0.376"]
    names = ["--class-names", "a,b,c,d,e,f,g,h,i,j"]
    alike = ["--class-names", "a,b,c,d,e,f,g,h,i,a"]
    unnamed = ["--class-names", "a,b,c,d,e,f,g,h,i,"]
    known = ["--dataset", "digits"]
    for expected, more in {
        "unknown data set 'nope'; choose one of": ["--dataset", "nope", *names, *stated],
        "unknown data set 'nowhere'": ["--dataset", "nowhere"],
        "data.folder is for image_folder": ["--dataset", "mnist", "--folder", "x", *names, *stated],
        "rcig-paper counts steps, not epochs": [
            *known,
            "--epochs",
            "3",
            "--protocol",
            "rcig-paper",
        ],
        "'a' twice": [*alike, *stated],
        "an empty name": [*unnamed, *stated],
        "vgg11 does not fit images of 8 px": [*known, "--network", "vgg11"],
        "no module 'nobodys_networks'": [*known, "--network", "nobodys_networks:small"],
    }.items():
        assert expected in fails(*words(path, out, "standardised", *more))
    assert "rcig-paper counts steps" in fails(
        *words(files / "soft.npz", out, "pixels", *known, "--label-kind", "logits", "--epochs", "3")
    )
    assert not out.exists()


def test_a_network_of_ones_own_is_stated(
    files: Path, tmp_path: Path, answer: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "networks_for_import.py").write_text(
        "from torch import nn\n\n\n"
        "def flat(channels, resolution, classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(channels * resolution**2, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "set.safetensors"
    more = ["--dataset", "digits", "--network", "networks_for_import:flat"]
    answer(*words(files / "standardised.pt", out, "standardised", *more))
    network = DistilledDataset.load(out).header["evaluation"]["network"]
    assert network["name"] == "networks_for_import:flat"


def test_a_network_of_another_library_may_be_named_by_the_set(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    out, name = tmp_path / "foreign", "timm:test_resnet"
    more = ["--dataset", "digits", "--network", name, *QUICK]
    answer(*words(files / "standardised.pt", out, "standardised", *more))
    one, artefact = ["--networks", "1", "--device", "cpu", "--json"], out / runs.DISTILLED
    result = json.loads(answer("evaluate", artefact, *one))
    assert result["network"]["name"] == name
    several = ["--network", f"own,{name},convnet,width=2", "--no-save"]
    results = json.loads(answer("evaluate", artefact, *several, *one))["results"]
    assert results[0]["network"] == results[1]["network"] == result["network"]
    assert results[0]["accuracy"] == results[1]["accuracy"] == result["accuracy"]
    attack = ["--steps", "1", "--folds", "2", "--no-save", "--network", "own"]
    assert json.loads(answer("attack", artefact, *attack, *one))["network"]["name"] == name
    page = tmp_path / "report.html"
    answer("report", out, "--out", page)
    assert name in page.read_text(encoding="utf-8")


def test_a_folder_keeps_what_is_measured_and_is_reported(
    files: Path, tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    out, page = tmp_path / "a" / "foreign", tmp_path / "report.html"
    # Whitened and said to be standardised, which is odd.
    more = ["--dataset", "digits", "--network", "convnet:none", *QUICK]
    printed = answer(*words(files / "zca.pt", out, "standardised", *more)).splitlines()
    artefact = out / runs.DISTILLED
    assert printed[-1] == str(artefact)
    assert runs.read_record(out)["status"] == "finished"
    assert not (out / runs.RECIPE).exists()
    assert "already holds a run; use another --out" in fails(
        *words(files / "zca.pt", out, "standardised", *more)
    )
    result = json.loads(answer("evaluate", artefact, "--json", "--device", "cpu"))
    quick = ["--steps", "1", "--networks", "1", "--folds", "2", "--device", "cpu"]
    answer("attack", artefact, *quick)
    record = runs.read_record(out)
    results = DistilledDataset.load(artefact).header["results"]
    assert [kept["accuracy"] for kept in results] == [result["accuracy"]]
    assert "results" not in record
    assert [audit["kind"] for audit in record["audits"]] == ["membership"]
    answer("report", out, "--out", page)
    text = html.unescape(page.read_text())
    assert f"{100 * result['accuracy']['mean']:.1f}" in text
    for expected in ("made by other code", "range beside real images", "Distilled images"):
        assert expected in text
    for wrong in ("RCIG", "15,000", "Nothing has been logged", "Running it again", "solver:"):
        assert wrong not in re.sub(r"<p class=\"soft\">.*?</p>", "", text), wrong


def test_learned_labels_of_an_imported_set_are_drawn(
    files: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    for name, more in {"standardised.pt": [], "soft.npz": ["--label-kind", "logits"]}.items():
        out = tmp_path / name
        space = "standardised" if not more else "pixels"
        answer(*words(files / name, out, space, "--dataset", "digits", *more))
        answer("report", out, "--out", tmp_path / "page.html")
        assert ("Learned labels" in (tmp_path / "page.html").read_text()) == bool(more)
