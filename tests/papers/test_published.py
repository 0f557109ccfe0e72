"""Every published set of the gallery: its command parses and imports a file of its form."""

from __future__ import annotations

import json
import shlex
import sys
import types
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from potstill import papers
from potstill.cli.commands import app
from potstill.config import DataRecipe
from potstill.data import datasets, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS
from potstill.data.source import SourceDataset, Split, centred_one_hot
from potstill.evaluation.protocol import PROTOCOLS
from potstill.papers.published import COLLECTIONS, Entry, entries
from potstill.rng import stream

IMPORT = typer.main.get_command(app).commands["import"]  # type: ignore[attr-defined]
CLASSES, SIDE = 10, 8
ENTRIES = {entry.name: entry for entry in entries()}
# One set of every collection, and of those that differ in more than data and size.
FORMS = {
    (entry.collection.name, entry.published.statistics, entry.published.options): entry.name
    for entry in reversed(entries())
}.values()


def real(channels: int) -> SourceDataset:
    """A small data set in place of the published one: 10 classes of smooth 8x8 images."""
    coarse = stream(0, "test/real").integers(30, 225, (300, channels, 2, 2)).astype(np.float32)
    images = interpolate(torch.from_numpy(coarse), SIDE, mode="bilinear").byte()
    split = Split(images, torch.arange(300) % CLASSES)
    names = tuple(f"class {index}" for index in range(CLASSES))
    return SourceDataset("stand-in", names, split, split, "f" * 64)


def space_of(entry: Entry, words: dict[str, str], source: SourceDataset) -> preprocess.Preprocess:
    """Pixels to the space of the file, from the statement alone."""
    numbers = {
        key: [float(number) for number in words[f"--{key}"].split(",")]
        for key in ("mean", "std")
        if f"--{key}" in words
    }
    kind = "zca" if entry.collection.space == "zca" else "standardise"
    recipe = DataRecipe.model_validate({"dataset": "cifar10", "preprocess": kind, **numbers})
    return preprocess.fit(recipe, source.train.images)


def write_like(entry: Entry, images: Tensor, pixels: Tensor) -> None:
    """The files of the entry's form, here; ``images`` in network space, ``pixels`` for folders."""
    path, labels = Path(entry.file), torch.arange(CLASSES)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = entry.collection.name
    if name in ("dc", "dsa", "dm"):
        starts = [[torch.zeros_like(images), labels], [images, labels]]
        accuracies = {"ConvNet": [np.float64(0.5), np.float64(0.25)]}
        torch.save({"data": starts, "accs_all_exps": accuracies}, path)
    elif name == "datadam":
        torch.save({"data": [images, labels], "accs_all_exps": {}}, path)
    elif name == "mtt":
        torch.save(images, path)
        torch.save(labels, path.with_name("labels_best.pt"))
    elif name == "kip":
        soft = centred_one_hot(labels, CLASSES).numpy()
        np.savez(path, images=images.permute(0, 2, 3, 1).numpy(), labels=soft)
    elif name in ("sre2l", "rded"):
        form = (
            "new{:03d}/class{:03d}_id000.jpg" if name == "sre2l" else "{:05d}/class{:05d}_id0.jpg"
        )
        for index, image in enumerate(pixels):
            file = path / form.format(index, index)
            file.parent.mkdir(parents=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, quality=95)
    else:
        assert entry.before, name


def flax_with(images: Tensor) -> dict[str, types.ModuleType]:
    """Modules under Flax's names whose checkpoints hold these images."""
    soft = centred_one_hot(torch.arange(CLASSES), CLASSES).numpy()
    content = {"x_proto": images.permute(0, 2, 3, 1).numpy(), "y_proto": soft}
    flax, training = types.ModuleType("flax"), types.ModuleType("flax.training")
    checkpoints = types.SimpleNamespace(
        restore_checkpoint=lambda path, target: {"params": content, "ema_average": content}
    )
    training.checkpoints = checkpoints  # type: ignore[attr-defined]
    return {"flax": flax, "flax.training": training}


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_its_form_imports_with_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]
) -> None:
    entry = ENTRIES[name]
    program, *words = shlex.split(entry.command)
    assert program == "potstill"
    given = dict(pairwise(words))
    source = real(DATASETS[entry.published.dataset].channels)
    pixels = source.test.images[:CLASSES]
    images = space_of(entry, given, source).apply(pixels)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load", lambda *_, **__: source)
    write_like(entry, images, pixels)
    for key, module in flax_with(images).items():
        monkeypatch.setitem(sys.modules, key, module)
    exec(entry.before, {})
    document = json.loads(answer(*words, "--json"))
    imported = DistilledDataset.load(Path(document["artefact"]))
    lossy = entry.collection.space == "pixels"
    assert (imported.pixels() * 255 - pixels).abs().max() < (40 if lossy else 0.1)
    assert imported.hard_labels().tolist() == list(range(CLASSES))
    assert {check["verdict"] for check in document["checks"]} == {"ok"}
    assert imported.mirror_images is ("--mirror-images" in words)
    assert imported.header["evaluation"]["protocol"] in PROTOCOLS
    several = {check["check"]: check["value"] for check in document["checks"]}
    assert several.get("sets in the file") == (
        "the last of 2" if name[:2] in ("dc", "ds", "dm") else None
    )


def test_every_command_names_options_that_import_has() -> None:
    """Unlike a run, this tells a name that is none of import's from one that it passes over."""
    for entry in ENTRIES.values():
        context = IMPORT.make_context("import", list(entry.words[1:]))
        assert context.params["dataset"] == entry.published.dataset
        assert context.params["space"] == entry.collection.space
        assert str(context.params["out"]).endswith(entry.name)


def test_names_are_distinct_and_accuracies_are_the_tables() -> None:
    assert len(ENTRIES) == len(entries())
    assert len({each.name for each in COLLECTIONS}) == len(COLLECTIONS)
    row = ENTRIES["rcig/cifar10-ipc10"].row
    assert row in papers.rows(paper="rcig", table="2", method="RCIG") and row.value == 69.1
    assert ENTRIES["kip/cifar10-ipc10"].row is None
    assert ENTRIES["dm/cifar10-ipc10"].claims == (
        "47.6 % (DC-BENCH, best of its augmentations); 49.2 ± 0.8 % (RCIG, Table 2)"
    )


def test_the_command_lists_all_and_shows_one(
    answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    listed = answer("gallery")
    assert all(f"{name} " in listed for name in ENTRIES)
    assert "cifar100" not in answer("gallery", "dm/cifar10-*")
    entry = ENTRIES["rcig/cifar10-ipc10"]
    shown = answer("gallery", entry.name)
    assert shown.rstrip().endswith(entry.command)
    assert "restore_checkpoint" in shown and "69.1 ± 1" not in shown
    (document,) = json.loads(answer("gallery", entry.name, "--json"))["sets"]
    assert document["command"] == entry.command and document["quoted"]["value"] == 69.1
    assert "potstill gallery" in fails("gallery", "dm/nothing")
