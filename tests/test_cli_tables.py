"""The command that runs the papers' tables, end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from potstill import cli, evaluation, runs
from potstill.data.distilled import DistilledDataset
from potstill.errors import NumericalError
from tests.test_readme import write_mnist

SMALL = (
    "network.depth=1",
    "network.width=2",
    "method.iterations=2",
    "method.target_batch=16",
    "method.pool.size=2",
    "evaluation.networks=2",
)
ROW = "mnist-ipc1 RCIG*"


@pytest.fixture(autouse=True)
def _settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POTSTILL_DATA_ROOT", raising=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_mnist(tmp_path / "data")
    return tmp_path / "data"


def command(out: Path, root: Path, *more: str) -> list[str]:
    sets = [word for value in SMALL for word in ("--set", value)]
    words = ["reproduce", "rcig/2", "--rows", ROW, "--out", str(out), "--data-root", str(root)]
    return [*words, "--device", "cpu", *sets, *more]


def test_a_row_is_run_and_printed_beside_the_papers(tmp_path, root, capsys):
    out = tmp_path / "tables"
    assert cli.run(command(out, root)) == 0
    printed = capsys.readouterr()
    title, head, row, note, *_ = printed.out.splitlines()
    assert title == "RCIG, Table 2"
    assert head.split() == ["row", "paper", "ours", "difference", "how"]
    assert "mnist-ipc1 RCIG convnet" in row and "94.7 ± 0.5 %" in row
    assert "rcig-paper, 2 values of 1 start [1]" in row
    assert "iterations 2 (the paper's 15,000)" in note
    assert printed.out.splitlines()[-1] == "1 of 1 rows measured"
    assert "1 of 1: rcig/mnist-ipc1" in printed.err

    assert cli.run(command(out, root, "--json")) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    (entry,) = json.loads(printed.out)["rows"]
    (folder,) = (out / "rcig").glob("mnist-ipc1-*/seed0")
    (result,) = DistilledDataset.load(folder / runs.DISTILLED).header["results"]
    assert entry["state"] == "done"
    assert entry["ours"]["mean"] == pytest.approx(100 * result["accuracy"]["mean"])
    assert entry["difference"] == pytest.approx(entry["ours"]["mean"] - 94.7)
    assert entry["protocol"] == "rcig-paper" and entry["row"]["std"] == 0.5


def test_the_list_says_state_and_cost_of_every_row(tmp_path, capsys, monkeypatch):
    here, kept = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    monkeypatch.chdir(here)
    words = ["reproduce", "rcig/2", "--list", "--rows", "mnist-ipc1 *", "--device", "cpu"]
    assert cli.run([*words, "--out", "out", "--cache", str(kept)]) == 0
    out = capsys.readouterr().out
    (row,) = (line for line in out.splitlines() if " RCIG " in line)
    assert "no data" in row and row.endswith("rcig/mnist-ipc1") and " min" in row
    assert "another method's, quoted" in out and "coreset/mnist-full" in out
    assert not list(here.iterdir())
    assert [path.parent.name for path in kept.rglob("*.json")] == ["timings"] * 2


def test_rows_that_were_not_run_say_so(tmp_path, root, capsys):
    assert cli.run(command(tmp_path / "out", root, "--budget", "0")) == 0
    out = capsys.readouterr().out
    assert "costly: takes about" in out and "0 of 1 rows measured" in out
    words = ["reproduce", "rcig/3", "--rows", "KIP", "--out", str(tmp_path), "--device", "cpu"]
    assert cli.run(words) == 0
    assert "6 rows without a recipe" in capsys.readouterr().out


def test_a_published_number_says_how_it_was_taken(tmp_path, capsys):
    words = ["reproduce", "dwa/1", "--rows", "cifar10-ipc10 *", "--budget", "0"]
    words += ["--out", str(tmp_path), "--device", "cpu"]
    assert cli.run(words) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.startswith("  cifar10-ipc10")]
    marks = {row[1]: row[row.index("%") + 1] for row in rows}
    assert marks == {"DC": "-", "CAFE": "-", "DM": "-", "DWA": "(a)", "SRe2L": "(b)"}
    said = "(a) the paper's number: best of every 10th epoch and the last on the test set, labeller"
    assert said in out and "(b) the paper's number: labeller in training mode" in out
    assert cli.run([*words, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)["rows"]
    told = {entry["row"]["method"]: entry["published"] for entry in entries}
    assert told["DWA"].endswith("labeller in training mode") and told["DC"] == ""


def test_the_recipes_own_numbers_are_no_measurements(tmp_path, capsys):
    words = ["reproduce", "rcig/7", "--rows", "mnist-ipc1", "--out", str(tmp_path)]
    words += ["--device", "cpu"]
    assert cli.run([*words, "--list"]) == 0
    out = capsys.readouterr().out
    assert "1 setting" in out and "done" not in out
    assert "0.16 ± 0.00 s" in out
    assert cli.run(words) == 0
    out = capsys.readouterr().out
    assert "0 of 2 rows measured; 1 number set by recipes" in out
    assert any(line.endswith("the recipe's, setting") for line in out.splitlines())


def test_ctrl_c_keeps_what_was_done(tmp_path, root, capsys, monkeypatch):
    def stop(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evaluation, "evaluate", stop)
        assert cli.run(command(tmp_path / "out", root)) == 130
    printed = capsys.readouterr()
    assert "stopped; the same command goes on" in printed.err and printed.out == ""
    assert cli.run(command(tmp_path / "out", root)) == 0
    assert "iteration 1/2" not in capsys.readouterr().err


def test_a_failed_row_is_told_and_exits_with_2(tmp_path, root, capsys, monkeypatch):
    def fail(*arguments: object, **options: object) -> None:
        raise NumericalError("the loss is not finite; lower the rate")

    monkeypatch.setattr(evaluation, "evaluate", fail)
    assert cli.run(command(tmp_path / "out", root)) == 2
    printed = capsys.readouterr()
    assert "failed: the loss is not finite; lower the rate" in printed.out
    assert "Traceback" not in printed.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "name a table, such as rcig/2, or all"),
        (["rcig/99"], "there is no table 'rcig/99'"),
        (["rcig/2", "--rows", "zzz"], "no row of rcig/2 fits 'zzz'"),
        (["rcig/2", "--set", "nosuch=1"], "unknown key 'nosuch'"),
        (["rcig/2", "--seeds", "0"], "--seeds"),
    ],
)
def test_mistakes_are_answered_in_a_line(words, message, tmp_path, capsys):
    assert cli.run(["reproduce", *words, "--out", str(tmp_path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err
    assert printed.err.splitlines()[-1].startswith("error: ")
