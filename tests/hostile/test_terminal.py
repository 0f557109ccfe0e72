"""Names from files do nothing on the terminal: over every command, with hostile ones."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from potstill import cli, recipes, runs
from potstill.cli import commands, showing, terminal
from potstill.cli.groups import GROUPS
from potstill.cli.progress import reporting
from potstill.data.distilled import DistilledDataset
from potstill.methods.recipe import parse
from potstill.quoting import printable
from potstill.reproduce import Workplace, select
from potstill.results import Evaluation

# Clears the screen, turns the direction, asks for colours, and goes on in a line of its own.
EVIL = "\x1b[2J\x07\x9b31m[red]:bomb:\u202e\u2066\u200b\x7f\r\n\u2028accuracy 99.00 %"
SHOWN = printable(EVIL)
NETWORK = {"depth": 1, "width": 4, "growth": 1, "normalisation": "batch"}
CPU = ["--device", "cpu"]
ALONE = ["--workers", "1", *CPU]
ONE = ["--networks", "1", "--epochs", "1"]
RESULT = {
    **{"protocol": EVIL, "dataset": EVIL, "images": 4, "images_per_class": 2, "steps": 1},
    **{"network": {"name": f"timm:{EVIL}"}, "labels": EVIL, "warnings": [EVIL]},
    "accuracy": {"mean": 0.5, "std": 0.0, "values": [0.5]},
    "baseline": {"kind": EVIL, "mean": 0.5, "std": 0.0, "values": [0.5]},
}

Said = tuple[int, str, str]


def require_harmless(text: str) -> None:
    """Every line can be read, and none begins as a name that broke out of its line would."""
    for line in text.split("\n"):
        assert line.isprintable(), line
        assert not line.startswith("accuracy 99")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """A command; its exit code and what it said, all of it harmless."""

    def ask(*words: str | Path) -> Said:
        capsys.readouterr()
        code = cli.run([str(word) for word in words])
        printed = capsys.readouterr()
        require_harmless(printed.out)
        require_harmless(printed.err)
        return code, printed.out, printed.err

    return ask


@pytest.fixture(autouse=True)
def _root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "place" in request.fixturenames:
        monkeypatch.setenv("POTSTILL_DATA_ROOT", str(request.getfixturevalue("place")))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, a recipe and a finished run whose every name is hostile."""
    folder = tmp_path_factory.mktemp("place")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 2, 20, 8, 8), dtype=np.uint8)
    for split, of_split in zip(("train", "test"), pixels, strict=True):
        for name, of_class in zip("ab", of_split, strict=True):
            classes = folder / EVIL / split / (name + EVIL)
            classes.mkdir(parents=True)
            for index, image in enumerate(of_class):
                Image.fromarray(image).save(classes / f"{index}.png")
    recipe = {
        "name": EVIL,
        "description": EVIL,
        "data": {"dataset": "image_folder", "folder": EVIL},
        "images_per_class": 2,
        "evaluation": {"protocol": "dwa-paper", "networks": 1, "epochs": 1},
        "network": NETWORK,
        "method": {
            "kind": "dwa",
            "iterations": 2,
            "precision": "float32",
            "teacher": {"network": NETWORK, "epochs": 1, "precision": "float32"},
        },
    }
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    words = ["distill", str(folder / "recipe.yaml"), "--out", str(folder / "run"), *ALONE]
    assert cli.run([*words, "--data-root", str(folder)]) == 0
    path = folder / "run" / runs.DISTILLED
    DistilledDataset.add_result(path, RESULT)
    return folder


def a_set(place: Path, *more: str) -> list[str | Path]:
    return [place / "run" / runs.DISTILLED, *more]


COMMANDS: dict[str, Callable[[Path, Path], list[str | Path]]] = {
    "distill": lambda place, out: [place / "recipe.yaml", "--out", out / EVIL, *ALONE],
    "teacher": lambda place, out: [place / "recipe.yaml", "--out", out / EVIL, *CPU],
    "evaluate": lambda place, out: a_set(place, *ONE, *CPU, "--no-save", "--baseline"),
    "scores": lambda place, out: a_set(place, *ONE, *CPU, "--no-save", "--real-steps", "1"),
    "attack": lambda place, out: a_set(
        place, "--steps", "1", "--networks", "1", "--folds", "2", *CPU, "--no-save"
    ),
    "continual": lambda place, out: a_set(place, "--tasks", "2", *ONE, *CPU, "--no-save"),
    "diversity": lambda place, out: a_set(place, *CPU, "--png", str(out / "map.png")),
    "data": lambda place, out: ["check", place / EVIL],
    "export": lambda place, out: a_set(place, "--to", "npz", "--out", str(out / f"{EVIL}.npz")),
    "info": lambda place, out: a_set(place),
    "show": lambda place, out: a_set(place, "--png", str(out / f"{EVIL}.png")),
    "report": lambda place, out: [place / "run", "--out", out / f"{EVIL}.html"],
    "relabel": lambda place, out: a_set(place, "--epochs", "1", "--out", str(out / EVIL), *CPU),
    "import": lambda place, out: [
        *(place / EVIL / "train", "--space", "pixels", "--dataset", "image_folder"),
        *("--folder", place / EVIL, "--out", out / EVIL, *ONE, "--network", "convnet:batch"),
    ],
}
# What quotes a name that is not the user's own.
QUOTES = {"info", "import"}
ELSEWHERE = {"quickstart", "recipes", "reproduce", "compare", "gallery", "protocols"}


def test_every_command_is_tried() -> None:
    assert {word for words in GROUPS.values() for word in words} == {*COMMANDS, *ELSEWHERE}


@pytest.mark.parametrize("word", COMMANDS)
def test_names_from_files_are_shown_and_do_nothing(
    place: Path, tmp_path: Path, run: Callable[..., Said], word: str
) -> None:
    code, out, err = run(word, *COMMANDS[word](place, tmp_path))
    assert code == 0, err
    assert out
    if word in QUOTES:
        assert "\\x1b[2J\\x07\\x9b31m[red]:bomb:\\u202e" in out


@pytest.mark.parametrize("word", ["evaluate", "attack", "diversity", "info"])
def test_json_says_exactly_what_the_names_are(
    place: Path, tmp_path: Path, run: Callable[..., Said], word: str
) -> None:
    code, out, err = run(word, *COMMANDS[word](place, tmp_path), "--json")
    assert code == 0, err
    document = json.loads(out)
    if word == "info":
        assert document["class_names"] == ["a" + EVIL, "b" + EVIL]
        assert document["header"]["recipe"]["name"] == EVIL
    else:
        assert document["dataset"] == EVIL


def _npz(folder: Path) -> Path:
    path = folder / "evil.npz"
    np.savez(path, **{f"{name}{EVIL}": np.zeros(3) for name in ("images", "x")})
    return path


def _broken_image(folder: Path) -> Path:
    for name in "ab":
        (folder / name).mkdir()
        (folder / name / f"{EVIL}.png").write_bytes(b"no image")
    return folder


@pytest.mark.parametrize(
    "words",
    [
        lambda place, out: ["import", _npz(out), "--out", out / "x", "--space", "pixels"],
        lambda place, out: ["import", _broken_image(out), "--out", out / "x", "--space", "pixels"],
        lambda place, out: ["info", out / EVIL],
        lambda place, out: ["report", out / EVIL, "--out", out / "x.html"],
        lambda place, out: ["distill", EVIL],
        lambda place, out: ["distill", place / "recipe.yaml", "--set", f"method.{EVIL}=1"],
        lambda place, out: ["evaluate", *a_set(place, "--network", EVIL)],
        lambda place, out: ["evaluate", *a_set(place, "--protocol", EVIL)],
        lambda place, out: ["reproduce", EVIL],
        lambda place, out: ["reproduce", "rcig/2", "--rows", EVIL],
        lambda place, out: [EVIL],
        lambda place, out: ["info", "--nosuch" + EVIL],
    ],
)
def test_an_error_is_one_harmless_line(
    place: Path, tmp_path: Path, run: Callable[..., Said], words: Callable[[Path, Path], Any]
) -> None:
    code, out, err = run(*words(place, tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1


def test_recipes_of_other_packages_are_shown(
    run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = parse({"name": EVIL, "description": EVIL}, source="test")
    monkeypatch.setattr(recipes, "names", lambda: (EVIL,))
    monkeypatch.setattr(recipes, "load", lambda _: stranger)
    assert run("recipes")[1] == f"{SHOWN}  {SHOWN}\n"


def test_the_quickstart_names_its_recipes(
    tmp_path: Path, run: Callable[..., Said], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = parse({"name": EVIL}, source="test")
    result = Evaluation.model_validate(RESULT)
    monkeypatch.setattr(commands, "quickstart_recipes", lambda: {"rcig": recipe})
    monkeypatch.setattr(commands, "_quickstart", lambda *_: result)
    monkeypatch.setattr(showing, "write_report", lambda *_: None)
    code, out, err = run("quickstart", "--out", tmp_path)
    assert code == 0
    assert out.startswith(f"rcig: accuracy 50.00 % (timm:{SHOWN}, ") and err == f"{SHOWN}:\n"


def test_a_table_says_why_a_row_failed(tmp_path: Path, run: Callable[..., Said]) -> None:
    row = next(row for row in select("rcig/2") if row.measurement is not None)
    assert row.measurement is not None
    folder = Workplace(tmp_path, data_root=None, device="cpu").folder(row.measurement, 0)
    folder.mkdir(parents=True)
    (folder / runs.RECORD).write_text(json.dumps({"format": 1, "status": EVIL, "iteration": 1}))
    words = ["reproduce", "rcig/2", "--rows", row.measurement.recipe, "--out", tmp_path, *CPU]
    code, out, _ = run(*words)
    assert code == 2
    assert "failed: " in out


# Bars, and what libraries say


@pytest.fixture
def _libraries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        terminal.speak_for_libraries()
        yield


@pytest.mark.usefixtures("_libraries")
def test_what_libraries_warn_of_and_log_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warnings.warn(EVIL, RuntimeWarning, stacklevel=1)
    logger = logging.getLogger("of a library")
    logger.parent = None  # pytest listens at the root
    logger.error("%s", EVIL)
    said = capsys.readouterr().err
    require_harmless(said)
    assert said == f"warning: {SHOWN} (RuntimeWarning)\nerror: {SHOWN}\n"


@pytest.mark.parametrize("colour", [False, True])
def test_what_is_under_way_is_shown_as_it_is_called(
    colour: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "500")
    with reporting(EVIL) as tell:
        tell(EVIL, 1, 2)
        tell(f"x{EVIL}", 1, 2)
    shown = capsys.readouterr().err
    assert SHOWN in shown
    assert not {*"\x07\x9b\u202e\u2028\u200b"} & {*shown} and "\x1b[2J" not in shown


def test_a_crash_is_harmless_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(_: object) -> int:
        raise ValueError(EVIL)

    monkeypatch.setattr(cli, "run", crash)
    monkeypatch.setattr(cli, "speak_for_libraries", lambda: None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):\n  File ")
    assert all(line.isprintable() for line in said.split("\n"))


def test_a_terminal_without_a_sign_gets_its_number() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "potstill", "recipes"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\\xb1" in done.stdout


def test_only_what_no_page_shows_is_escaped() -> None:
    plain = "Ångström, 日本語, naïve \\ [red] 👍 é"
    assert printable(plain) == plain
    for code in (*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0xD800, 0xE0001, 0xFEFF):
        escaped = printable(f"a{chr(code)}b")
        assert escaped.isascii() and escaped.isprintable()
        assert escaped.encode().decode("unicode_escape") == f"a{chr(code)}b"
