"""The method of CONTRIBUTING.md, from outside potstill, through everything that there is."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill import methods, recipes, runs
from potstill.data.distilled import DistilledDataset
from potstill.errors import RecipeError
from potstill.methods.method import Method

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
# A line of a table that no recipe of potstill's answers.
ROW = """
paper:
  - {paper: rcig, table: "2", dataset: mnist, images_per_class: 1, method: KIP}
"""


def write_package(folder: Path) -> None:
    """The files of the example, and a recipe more."""
    for path, content in re.findall(
        r"^```\w+\n# (\S+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE
    ):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    digits = (folder / "drift" / "recipes" / "digits.yaml").read_text()
    mnist = digits.replace("images_per_class: 2", "images_per_class: 1\ndata: {dataset: mnist}")
    (folder / "drift" / "recipes" / "mnist.yaml").write_text(mnist + ROW)


def write_entry_points(folder: Path, name: str, points: Mapping[str, str]) -> None:
    """What an installer leaves of a package with these entry points."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Name: {name}\nVersion: 1.0\n")
    lines = [f"{point} = {place}\n" for point, place in points.items()]
    (info / "entry_points.txt").write_text("".join([f"[{methods.ENTRY_POINTS}]\n", *lines]))


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package lies in, not installed."""
    folder = tmp_path_factory.mktemp("own")
    write_package(folder)
    return folder


@pytest.fixture(scope="module")
def installed(code: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders from which a process has the package, installed."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    write_entry_points(folder, project["name"], project["entry-points"][methods.ENTRY_POINTS])
    return [code, folder]


@pytest.fixture
def drift(code: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Method[Any]]:
    """The method, registered in this process."""
    monkeypatch.syspath_prepend(code)
    monkeypatch.setattr(methods, "_registered", {})
    method = importlib.import_module("drift").DRIFT
    methods.register(method)
    yield method
    for name in ("drift", "drift.distil"):
        sys.modules.pop(name, None)


def outside(
    folders: Sequence[Path], script: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own that imports from these folders as well."""
    paths = [Path(potstill.__file__).parents[1], *folders]
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), **environment},
        capture_output=True,
        text=True,
    )


COMMAND = "import sys; from potstill import cli; sys.exit(cli.run({words!r}))"
KILLED = """
import os, signal
import drift.distil as drift

def step(self, plain=drift.Drifting.step):
    if self.iteration == 25:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(self)

drift.Drifting.step = step
"""


def distil(out: Path, *more: str) -> list[str]:
    few = ["--set", "checkpoint_every=10", "--device", "cpu"]
    return ["distill", "drift/digits", "--out", str(out), *few, *more]


def test_a_killed_run_resumes_to_the_same_bytes(
    installed: list[Path], drift: Method[Any], tmp_path: Path, answer: Callable[..., str]
) -> None:
    """Installed in one process, registered in the other: the same method."""
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    killed = outside(installed, KILLED + COMMAND.format(words=distil(cut)))
    assert killed.returncode == -signal.SIGKILL
    assert runs.read_record(cut)["iteration"] == 20
    assert not (cut / runs.DISTILLED).exists()
    answer(*distil(cut, "--resume"))
    answer(*distil(whole))
    assert (cut / runs.DISTILLED).read_bytes() == (whole / runs.DISTILLED).read_bytes()
    logged = [json.loads(line) for line in (cut / runs.METRICS).read_text().splitlines()]
    assert [line["iteration"] for line in logged] == [10, 20, 30, 40, 50]


def test_it_is_found_by_its_entry_point(installed: list[Path], tmp_path: Path) -> None:
    commands = [
        ["recipes"],
        ["reproduce", "rcig/2", "--list", "--json", "--rows", "drift/*", "--out", str(tmp_path)],
    ]
    script = f"from potstill import cli\nfor words in {commands!r}: assert cli.run(words) == 0"
    done = outside(installed, script, POTSTILL_DATA_ROOT=str(tmp_path))
    assert done.returncode == 0, done.stderr
    listed, _, table = done.stdout.partition("{")
    assert "drift/digits " in listed
    assert re.search(r"^drift/mnist +Table 2, KIP: 90.1 ± 0.1 %$", listed, re.MULTILINE)
    (row,) = json.loads("{" + table)["rows"]
    assert (row["row"]["method"], row["recipe"], row["state"]) == ("KIP", "drift/mnist", "no data")


def test_a_set_of_it_is_scored_and_shown(
    drift: Method[Any], tmp_path: Path, answer: Callable[..., str]
) -> None:
    out, page = tmp_path / "run", tmp_path / "page.html"
    answer(*distil(out, "--set", "method.rate=0.5"))
    dataset = DistilledDataset.load(out / runs.DISTILLED)
    assert (dataset.header["method"], len(dataset)) == ("drift", 20)
    assert dataset.header["recipe"]["name"] == "drift/digits (rate=0.5)"
    network = ["--network", "convnet,width=4", "--networks", "1", "--epochs", "1"]
    words = ["evaluate", out / runs.DISTILLED, *network, "--device", "cpu", "--json"]
    (result,) = json.loads(answer(*words))["results"]
    assert result["protocol"] == "hard-label"
    answer("report", out, "--out", page)
    text = page.read_text(encoding="utf-8")
    assert all(word in text for word in ("Drift", "rate 0.5", "Distance", "to the mean"))


def test_what_is_wrong_is_said_in_a_line(
    drift: Method[Any], tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    unknown = fails(*distil(tmp_path / "run", "--set", "method.iteration=5"))
    assert "unknown key 'method.iteration'; did you mean method.iterations?" in unknown
    assert "method.rate" in fails(*distil(tmp_path / "run", "--set", "method.rate=2"))
    answer(*distil(tmp_path / "run"))
    other = fails(*distil(tmp_path / "run", "--set", "method.rate=0.5", "--resume"))
    assert "recipe differs in: method.rate (0.01 there, 0.5 here)" in other
    assert "has no teacher" in fails("teacher", "drift/digits")
    assert "does not take workers" in fails(*distil(tmp_path / "other", "--workers", "2"))


def test_a_later_registration_replaces_its_own_alone(drift: Method[Any]) -> None:
    methods.register(dataclasses.replace(drift, recipes=None))
    assert "drift/digits" not in recipes.names()
    methods.register(drift)
    assert "drift/digits" in recipes.names()
    with pytest.raises(RecipeError, match="there is a method 'rcig' already"):
        methods.register(dataclasses.replace(drift, name="rcig"))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("drift.absent:METHOD", "the method 'own' of drift.absent:METHOD cannot be loaded"),
        ("json:loads", "is no method with a name of its own"),
        ("potstill.methods.rcig.method:RCIG", "is no method with a name of its own"),
    ],
)
def test_a_broken_package_is_named(tmp_path: Path, place: str, said: str) -> None:
    write_entry_points(tmp_path, "own", {"own": place})
    done = outside([tmp_path], COMMAND.format(words=["recipes"]))
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert said in done.stderr and "mend or uninstall that package" in done.stderr


def test_what_contributing_names_is_there() -> None:
    root = Path(__file__).parents[2]
    places = (root, root / "src" / "potstill")
    for name in re.findall(r"`([\w./-]+/[\w./-]+\.(?:py|csv|md|j2))`", TEXT):
        if "NAME" not in name:
            assert any((place / name).exists() for place in places), name
    tests = "".join(path.read_text("utf-8") for path in (root / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+)`", TEXT):
        assert f"def {name}(" in tests, name


def test_a_page_needs_no_method(
    drift: Method[Any],
    tmp_path: Path,
    answer: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, page = tmp_path / "run", tmp_path / "page.html"
    answer(*distil(out))
    monkeypatch.setattr(methods, "_registered", {})
    assert "drift" in answer("info", out / runs.DISTILLED)
    answer("report", out, "--out", page)
    assert "rate 0.01" in page.read_text(encoding="utf-8")
