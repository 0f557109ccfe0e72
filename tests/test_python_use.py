"""Potstill as a stranger uses it from Python: nothing but ``import potstill``, data in memory."""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import Subset, TensorDataset
from torchvision.datasets import FakeData

import potstill
from potstill import bars
from potstill.errors import (
    ArtefactError,
    DataError,
    NetworkError,
    PotstillError,
    RecipeError,
    RunError,
)
from tests.evaluation.test_own_protocol import Perceptron

SIDE, CLASSES = 8, 3
CORESET = {"images_per_class": 2, "method": {"kind": "coreset"}}
QUICK = {"protocol": "hard-label", "epochs": 1, "networks": 1}

# What a page or a notebook would show first.
SCRIPT = """
import torch
from sklearn.datasets import load_digits

import potstill

digits = load_digits()
images, labels = torch.from_numpy(digits.images / 16), torch.from_numpy(digits.target)
train, test = slice(None, 1200), slice(1200, None)
source = potstill.SourceDataset.from_tensors(
    images[train], labels[train], images[test], labels[test], name="my digits"
)
recipe = {"method": {"iterations": 2, "target_batch": 32}, "network": {"width": 8, "depth": 1}}
distilled = potstill.distill(recipe, source)
result = potstill.evaluate(distilled, source, protocol="hard-label", networks=2, epochs=2)
print(distilled, f"{result.accuracy.mean:.2f}", sep="\\n")
distilled.picture().save("distilled.png")
"""


def pictures(count: int, seed: int, channels: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Images whose brightness tells their class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    noise = torch.randint(0, 60, (count, channels, SIDE, SIDE), generator=generator)
    return (noise + 60 * labels[:, None, None, None]).to(torch.uint8), labels


@pytest.fixture(scope="module")
def source() -> potstill.SourceDataset:
    return potstill.SourceDataset.from_tensors(
        *pictures(60, 0), *pictures(60, 1), class_names=["dark", "grey", "light"], name="grays"
    )


@pytest.fixture(scope="module")
def made(source: potstill.SourceDataset) -> potstill.DistilledDataset:
    return potstill.distill(CORESET, source)


class Linear(nn.Module):
    def __init__(self, channels: int, resolution: int, classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels * resolution**2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.flatten(1))


def test_a_script_of_15_lines_distils_trains_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(SCRIPT, {})
    shown, accuracy = capsys.readouterr().out.splitlines()
    assert shown == "DistilledDataset(rcig of my digits: 10 images of 1x8x8, 10 classes)"
    assert 0 < float(accuracy) < 1
    assert Image.open(tmp_path / "distilled.png").width > 64
    assert [path.name for path in tmp_path.iterdir()] == ["distilled.png"]


# Data


def test_tensors_of_pixels_of_either_kind_are_the_same_data() -> None:
    images, labels = pictures(12, 0, channels=3)
    first = potstill.SourceDataset.from_tensors(images, labels)
    floats = potstill.SourceDataset.from_tensors(images.float() / 255, labels.to(torch.int16))
    arrays = potstill.SourceDataset.from_tensors(images.numpy(), labels.numpy())
    dataset = potstill.SourceDataset.from_dataset(TensorDataset(images, labels))
    assert {one.fingerprint for one in (first, floats, arrays, dataset)} == {first.fingerprint}
    assert first.class_names == ("0", "1", "2") and not len(first.test)
    images.zero_()
    assert first.train.images.any()


def test_a_torchvision_dataset_is_read_resized_and_named() -> None:
    data = FakeData(9, (3, 14, 20), 3)
    data.classes = ["ash", "oak", "yew"]
    ticks = []
    found = potstill.SourceDataset.from_dataset(
        Subset(data, range(6)), data, resolution=8, progress=lambda *tick: ticks.append(tick)
    )
    assert found.class_names == ("ash", "oak", "yew") and found.name == "FakeData"
    assert repr(found) == (
        "SourceDataset(FakeData: 6 training and 9 test images of 3x8x8, 3 classes)"
    )
    middle = data[4][0].resize((8, 8), Image.Resampling.BILINEAR, box=(3, 0, 17, 14))
    assert np.array_equal(found.train.images[4].permute(1, 2, 0), np.asarray(middle))
    assert ticks[0] == ("reading training images", 1, 6) and ticks[-1][1:] == (9, 9)


def test_gray_pictures_among_colour_become_colour() -> None:
    pair = [(Image.new("L", (8, 8), 7), 0), (Image.new("RGB", (8, 8), (1, 2, 3)), 1)]
    found = potstill.SourceDataset.from_dataset(pair, pair[:1])
    assert found.train.images[:, :, 0, 0].tolist() == [[7, 7, 7], [1, 2, 3]]
    assert found.channels == found.test.images.shape[1] == 3
    assert potstill.SourceDataset.from_dataset(pair, channels=1).channels == 1


IMAGES, LABELS = pictures(6, 0, channels=3)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES.permute(0, 2, 3, 1), LABELS, r"channels last; pass images.permute\(0, 3, 1, 2\)"),
        (IMAGES.float(), LABELS, "divide by 255"),
        (IMAGES.float() / 100 - 1, LABELS, "before they are normalised"),
        (torch.full((6, 1, 8, 8), torch.nan), LABELS, "floats from nan to nan"),
        (IMAGES.long(), LABELS, r"pass images.to\(torch.uint8\)"),
        (IMAGES[:, :2], LABELS, "2 channels; pass 1 .gray. or 3"),
        (IMAGES[:, :, :4], LABELS, "8x4 is not square; pass resolution"),
        (IMAGES[0, 0], LABELS, r"shape \(8, 8\) is none of images"),
        (IMAGES[:0], LABELS[:0], "is none of images"),
        ("images", LABELS, "type str is none; pass a tensor"),
        (IMAGES, LABELS[:3], "for 6 images; pass one class for each image"),
        (IMAGES, torch.eye(6), r"pass labels.argmax\(1\)"),
        (IMAGES, LABELS.float(), "numbers no classes; pass integers"),
        (IMAGES, -LABELS, "from -2 to 0; number the classes from 0"),
    ],
)
def test_what_is_no_data_is_refused_in_a_line(images, labels, words: str) -> None:
    with pytest.raises(DataError, match=words) as refusal:
        potstill.SourceDataset.from_tensors(images, labels)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        ([], "the Dataset of training images is empty"),
        ([IMAGES[0]], "item 0 is an object of type Tensor; a Dataset must yield"),
        ([(IMAGES[0], 0), (IMAGES[0], "cat")], "item 1 has class 'cat'; yield a number"),
        ([(IMAGES[0], 0), (IMAGES[0, :, :4, :4], 0)], "item 1 is 4x4 .* the first 8x8"),
        ([("a.png", 0)], "item 0 is an object of type str, no image"),
        ([(Image.new("F", (8, 8)), 0)], "its pixels are floating-point numbers"),
        (3, "is no Dataset of training images"),
    ],
)
def test_what_is_no_dataset_is_refused_in_a_line(items, words: str) -> None:
    with pytest.raises(DataError, match=words):
        potstill.SourceDataset.from_dataset(items)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_names": ["a", "b"]}, "there are 2 class names, and a label is 2"),
        ({"class_names": ["a", "b", "a"]}, "two classes are called 'a'"),
        ({"resolution": 2}, "cannot resize to 2 px"),
        ({"channels": 2}, "cannot convert to 2 channels"),
        ({"test_images": IMAGES}, "belong together"),
        ({"test_images": IMAGES[:, :1], "test_labels": LABELS}, "make them alike"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words: str) -> None:
    with pytest.raises(DataError, match=words):
        potstill.SourceDataset.from_tensors(IMAGES, LABELS, **options)


# Recipes


def test_a_recipe_may_be_a_name_a_dictionary_or_a_recipe(source: potstill.SourceDataset) -> None:
    given = potstill.load_recipe(CORESET)
    assert potstill.load_recipe(given) is given and given.images_per_class == 2
    changed = potstill.load_recipe(given, ["images_per_class=1"])
    assert changed.images_per_class == 1
    with pytest.raises(RecipeError, match="unknown key 'images_per_clas'"):
        potstill.load_recipe({"images_per_clas": 1})
    with pytest.raises(RecipeError, match="type int is no recipe"):
        potstill.load_recipe(3)
    named = potstill.distill({**CORESET, "name": "mine"}, source)
    assert named.data_recipe.dataset == "in_memory"
    assert named.header["recipe"]["name"] == "mine (dataset=in_memory)"


def test_a_recipe_alone_finds_its_data() -> None:
    made = potstill.distill(CORESET)
    assert made.header["source"]["name"] == "digits" and len(made) == 20
    assert potstill.load_source(made).fingerprint == made.header["source"]["fingerprint"]


def test_the_data_root_is_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / "own" / split / name).mkdir(parents=True)
            Image.new("L", (8, 8)).save(tmp_path / "own" / split / name / "0.png")
    recipe = potstill.load_recipe({"data": {"dataset": "image_folder", "folder": "own"}})
    monkeypatch.setenv("POTSTILL_DATA_ROOT", str(tmp_path))
    assert potstill.load_source(recipe.data).name == "own"
    monkeypatch.delenv("POTSTILL_DATA_ROOT")
    assert len(potstill.load_source(recipe, tmp_path).train) == 2
    with pytest.raises(DataError, match="mnist is read from a data root and none is given"):
        potstill.load_source("mnist")


def test_a_recipe_for_other_images_is_refused(source: potstill.SourceDataset) -> None:
    for key, value in (("resolution", 16), ("train_images", 30)):
        with pytest.raises(RecipeError, match=rf"data\.{key}={value} and the data .* has"):
            potstill.distill({**CORESET, "data": {key: value}}, source)


# Networks


def test_networks_of_ones_own_are_trained(made, source) -> None:
    def local(channels: int, resolution: int, classes: int) -> nn.Module:
        return Linear(channels, resolution, classes)

    ready = Linear(1, SIDE, CLASSES)
    before = ready.layer.weight.clone()
    accuracies = {}
    for network in (Linear, local, ready, "convnet:instance,width=4"):
        result = potstill.evaluate(made, source, network=network, **QUICK)
        accuracies[result.network.name] = result.accuracy.values
    names = list(accuracies)
    assert names[0] == f"{__name__}:Linear" and names[-1] == "convnet"
    assert re.fullmatch(rf"{re.escape(__name__)}:\S*local@[0-9a-f]{{8}}", names[1])
    assert re.fullmatch(rf"{re.escape(__name__)}:Linear@[0-9a-f]{{8}}", names[2])
    assert accuracies[names[0]] == accuracies[names[1]] == accuracies[names[2]]
    assert torch.equal(ready.layer.weight, before)


def test_a_network_of_ones_own_is_distilled_for(source) -> None:
    recipe = {"method": {"iterations": 1, "target_batch": 8, "pool": {"size": 1}}}
    made = potstill.distill(recipe, source, network=Linear)
    assert made.header["evaluation"]["network"]["name"] == f"{__name__}:Linear"
    with pytest.raises(ArtefactError, match="not part of potstill"):
        potstill.evaluate(made, source, **QUICK)


def test_networks_that_cannot_be_are_refused_in_a_line(made, source) -> None:
    class Stuck(Linear):
        def __init__(self, channels: int, resolution: int, classes: int) -> None:
            super().__init__(channels, resolution, classes)
            self.scale = nn.Parameter(torch.ones(1))

    for network, words in (
        (Stuck(1, SIDE, CLASSES), r"nothing draws 'scale' of \S* anew; give the network"),
        (Linear(1, SIDE, 7), r"gives \(2, 7\); it must take images"),
        (lambda **_: 3, "returned int; it must return a torch.nn.Module"),
        (lambda: nn.Identity(), "it is called with channels, resolution and classes by name"),
        (3, "type int is no network; pass a name"),
    ):
        with pytest.raises(NetworkError, match=words):
            potstill.evaluate(made, source, network=network, **QUICK)


# Sets and results


def test_pictures_are_taken_as_what_the_set_was_made_of(made) -> None:
    picture = Image.fromarray(pictures(1, 5)[0][0, 0].numpy())
    expected = made.preprocess.apply(pictures(1, 5)[0])
    assert torch.equal(made.preprocess.apply(picture), expected)
    assert torch.equal(
        made.preprocess.apply([picture.convert("RGB")] * 2), expected.expand(2, -1, -1, -1)
    )
    for other, words in (
        (Image.new("L", (9, 8)), "images are 9x8, and the set's are 8x8"),
        (torch.zeros(1, 1, 9, 9), "images are 9x9, and the set's are 8x8"),
        ([], "at least one"),
        ("photo.jpg", "an object of type str holds no images"),
        (np.zeros((1, 1, 8, 8)), "holds no images; pass a tensor"),
    ):
        with pytest.raises(DataError, match=words):
            made.preprocess.apply(other)


def test_nothing_prints_its_tensors(made, source) -> None:
    assert repr(made) == "DistilledDataset(coreset of grays: 6 images of 1x8x8, 3 classes)"
    assert repr(source.train) == "Split(60 images of 1x8x8)"
    recipe = {"method": {"kind": "dwa", "teacher": {"epochs": 1, "network": SMALL}}}
    teacher = potstill.train_teacher(recipe, source)
    assert re.fullmatch(
        r"Teacher\(ConvNet of grays: images of 1x8x8, 3 classes, \d+\.\d\d % right\)", repr(teacher)
    )


SMALL = {"name": "convnet", "width": 4, "depth": 1, "normalisation": "batch"}


def test_a_notebook_shows_the_pictures_of_a_set(made) -> None:
    assert made._repr_png_().startswith(b"\x89PNG")
    page = made._repr_html_()
    assert "data:image/png;base64," in page and "6 images of 1x8x8" in page


def test_every_command_is_a_function_and_its_results_are_tables(source, tmp_path) -> None:
    pytest.importorskip("pandas")
    run = tmp_path / "run"
    recipe = {
        "images_per_class": 2,
        "method": {"kind": "dwa", "iterations": 1, "teacher": {"epochs": 1, "network": SMALL}},
    }
    potstill.distill(recipe, source, run)
    again = potstill.distill(recipe, source, run, resume=True)
    with pytest.raises(RunError, match="already holds a run"):
        potstill.distill(recipe, source, run)
    results = [
        potstill.evaluate(run, source, epochs=1, networks=2, baseline=True),
        potstill.scores(run, source, real_steps=1, epochs=1, networks=1),
        potstill.attack(run, source, steps=[1], networks=1, folds=2, network=Linear),
        potstill.continual(run, source, tasks=2, **QUICK, network="own"),
        potstill.diversity(run, source=source),
    ]
    for result in results:
        potstill.keep(run, result)
    sizes = [len(result.to_frame()) for result in results]
    assert sizes == [4, 4, 5, 2, 6]
    table = potstill.frame([results[0], results[0]])
    assert len(table) == 8 and table.accuracy[0] == results[0].accuracy.values[0]
    assert set(table.trained_on) == {"distilled images", "random real images"}
    assert potstill.DistilledDataset.load(run / "distilled.safetensors").digest == again.digest
    page = potstill.write_report(run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "grays" in page
    labelled = potstill.relabel(run, epochs=1)
    assert labelled.soft_labels is not None and labelled.soft_labels.shape[0] == 1


def test_tables_without_pandas_end_in_a_line(made, source, monkeypatch) -> None:
    result = potstill.evaluate(made, source, network=Linear, **QUICK)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PotstillError, match="pip install pandas"):
        result.to_frame()


def test_images_from_elsewhere_are_imported(made, source) -> None:
    images = (made.pixels() * 255).round().to(torch.uint8)
    taken = potstill.import_set(images, made.hard_labels(), space="pixels", source=source)
    assert torch.equal(taken.pixels(), made.pixels()) and taken.class_names == made.class_names
    assert potstill.evaluate(taken, source, network=Linear, **QUICK).warnings == ()
    with pytest.raises(DataError, match="need a tensor of labels"):
        potstill.import_set(images, space="pixels", source=source)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda made: potstill.evaluate(made), "in the memory of the Python script"),
        (lambda made: potstill.evaluate(made, [(IMAGES[0, :1], 0)]), "no test images; add"),
        (lambda made: potstill.evaluate(made, "mnist"), r"pass load_source\('mnist'\)"),
        (lambda made: potstill.evaluate(3), "type int is no distilled set"),
        (lambda made: potstill.evaluate(made, PAIR, protocol="dcc"), "unknown protocol 'dcc'"),
        (lambda made: potstill.load_source(3), "type int names no data"),
        (lambda made: potstill.keep(made, 3), "is no place; pass a set's file"),
        (lambda made: potstill.keep("x", 3), "type int is no result"),
        (lambda made: potstill.write_report([], "x.html"), "one run at least"),
        (lambda made: potstill.relabel(made), "a teacher is needed and none is given"),
    ],
)
def test_what_cannot_be_ends_in_a_line(call, words: str, made) -> None:
    with pytest.raises(PotstillError, match=words):
        call(made)


PAIR = ([(IMAGES[0, :1], 0)] * 2, [(IMAGES[0, :1], 0)])


def test_a_protocol_of_ones_own_is_registered(made, source) -> None:
    potstill.register_protocol(Perceptron("perceptron-of-mine"))
    try:
        found = potstill.evaluate(made, source, protocol="perceptron-of-mine", networks=1, epochs=2)
        assert found.protocol == "perceptron-of-mine" and found.epochs == 2
        with pytest.raises(RecipeError, match="a protocol 'dc' already"):
            potstill.register_protocol(Perceptron("dc"))
    finally:
        del potstill.PROTOCOLS["perceptron-of-mine"]


# Progress


def test_progress_is_shown_if_asked_for(made, source, capsys) -> None:
    potstill.evaluate(made, source, network=Linear, **QUICK, progress=True)
    assert "evaluation step" in capsys.readouterr().err
    with potstill.progress_bar() as bar:
        potstill.evaluate(made, source, network=Linear, **QUICK, progress=bar)
    assert "evaluation step" in capsys.readouterr().err
    potstill.evaluate(made, source, network=Linear, **QUICK)
    assert capsys.readouterr().err == ""


def test_a_notebook_without_widgets_gets_lines(monkeypatch, capsys) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    monkeypatch.setattr(bars, "find_spec", lambda name: None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with potstill.progress_bar() as bar:
            bar("iteration", 1, 2, loss=0.5)
    assert capsys.readouterr().err == "iteration 1/2  loss 0.5000\n"
