"""Every command and every snippet of the README runs, in its order, in one folder."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from potstill import cli, recipes
from potstill.cli import commands
from potstill.methods.recipe import Recipe, dump, override, parse

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
# Added to what the README asks for, so that it takes seconds.
SMALL = {
    "network.depth": 1,
    "network.width": 2,
    "method.iterations": 2,
    "method.target_batch": 16,
    "method.pool.size": 2,
    "evaluation.networks": 1,
}
SMALL_DWA = {
    "images_per_class": 2,
    "network.width": 2,
    "method.iterations": 2,
    "method.teacher.epochs": 1,
    "method.teacher.network.width": 2,
    "evaluation.networks": 1,
    "evaluation.epochs": 1,
}
# Commands that set a machine or a shell up, which the test has done in its own way.
SETTING_UP = (". .venv/bin/activate", "pip install -e .", "export PYTHONPATH=.")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)


def shell_commands() -> list[str]:
    return [line for block in blocks("sh") for line in block.splitlines() if line]


def write_mnist(root: Path) -> None:
    """Two random images of each digit in MNIST's files, so that nothing is downloaded."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 2)
    images = np.random.default_rng(0).integers(0, 256, size=(20, 28, 28), dtype=np.uint8)
    for split in ("train", "t10k"):
        sizes = np.array([2051, *images.shape], dtype=">i4")
        (raw / f"{split}-images-idx3-ubyte").write_bytes(sizes.tobytes() + images.tobytes())
        sizes = np.array([2049, *labels.shape], dtype=">i4")
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(sizes.tobytes() + labels.tobytes())


def write_pets(root: Path) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                pixels = draw.integers(0, 256, size=(40, 50, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")


def small(words: list[str]) -> list[str]:
    if words[0] in ("distill", "teacher"):
        changes = SMALL_DWA if "dwa" in words[1] else SMALL
        sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        return [*words, *sets, "--device", "cpu"]
    if words[0] == "scores":
        return [*words[:-1], "5", "--networks", "1", "--epochs", "1", "--device", "cpu"]
    if words[0] == "compare":
        changes = {key: SMALL[key] for key in ("network.width", "method.iterations")}
        sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
        sets += ["--images-per-class", "1", "--networks", "1", "--protocol", "own,hl:50"]
        return [*words, *sets, "--device", "cpu"]
    return [*words, "--device", "cpu"] if words[0] == "evaluate" else words


@pytest.fixture
def newcomer(tmp_path, monkeypatch):
    """A folder as a newcomer's, with small data where the README has large."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("POTSTILL_DATA_ROOT", raising=False)
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    write_mnist(tmp_path / "data")
    write_pets(tmp_path / "pets")
    (tmp_path / "examples").mkdir()
    for name, own in zip(("pets", "pets-dwa"), blocks("yaml"), strict=True):
        (tmp_path / "examples" / f"{name}.yaml").write_text(own)
    *_, networks = blocks("python")
    (tmp_path / "my_networks.py").write_text(networks)
    monkeypatch.syspath_prepend(tmp_path)
    quick = {
        method: override_of(recipe, SMALL_DWA if method == "dwa" else SMALL)
        for method, recipe in commands.quickstart_recipes().items()
    }
    monkeypatch.setattr(commands, "quickstart_recipes", lambda: quick)
    return tmp_path


def override_of(recipe: Recipe, changes: Mapping[str, float]) -> Recipe:
    words = [f"{key}={value}" for key, value in changes.items()]
    return parse(override(yaml.safe_load(dump(recipe)), words), source=recipe.name)


def test_the_commands_run_in_their_order(newcomer, capsys):
    ran = []
    for command in shell_commands():
        program, *words = shlex.split(command)
        if program == "make":
            assert make_target_exists(words[0])
            ran += words
            if words == ["quickstart"]:
                assert cli.run(words) == 0, capsys.readouterr().err
        elif program == "potstill":
            capsys.readouterr()
            assert cli.run(small(words)) == 0, f"{command}: {capsys.readouterr().err}"
            ran.append(words[0])
        else:
            assert command in SETTING_UP
    there_are = {item.name or item.callback.__name__ for item in commands.app.registered_commands}
    there_are |= {group.name for group in commands.app.registered_groups}
    assert set(ran) == there_are | {"test"}
    train, distill, in_memory, _ = blocks("python")
    named = re.findall(r"'(\d)'", printed(train, newcomer))
    assert len(named) == 5
    assert 0 < float(printed(distill, newcomer)) < 1
    assert 0 < float(printed(in_memory, newcomer)) < 1


def printed(snippet: str, folder: Path) -> str:
    source = str(Path(cli.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {source!r})\n{snippet}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_target_exists(target: str) -> bool:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(target)}:", makefile, flags=re.MULTILINE) is not None


def test_the_own_recipes_are_valid():
    for own in blocks("yaml"):
        recipe = parse(yaml.safe_load(own), source="README.md")
        assert recipe.data.dataset == "image_folder"


def test_what_the_readme_names_is_there():
    for name in re.findall(
        r"`((?:(?:docs|src|tests)/)?[\w./-]+\.md|(?:docs|src|tests)/[\w./-]+)`", TEXT
    ):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"(?<!quickstart/)\brcig/[\w-]+", TEXT):
        assert name in recipes.names(), name
