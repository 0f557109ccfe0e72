from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill import cli, runs
from potstill.cli import keeping, robust
from potstill.evaluation.baselines import REAL_STEPS
from tests.test_cli_dwa import distil

QUICK = ["--real-steps", "24", "--device", "cpu"]


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("POTSTILL_CACHE", raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run with a teacher."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert cli.run(distil(out)) == 0
    return out


def test_scores_are_printed_kept_and_their_baselines_used_again(
    finished: Path,
    tmp_path: Path,
    answer: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    command = ["scores", finished / runs.DISTILLED, *QUICK]
    lines = answer(*command).splitlines()
    assert [line.split()[0] for line in lines] == ["HLR", "IOR", "LRS", "ARS", "real:"]
    (audit,) = runs.read_record(finished)["audits"]
    assert audit["kind"] == "scores"
    assert audit["protocol"] == "dwa-paper"
    assert audit["networks"] == 2
    assert (audit["hlr"]["real"]["kept"], audit["ior"]["random"]["kept"]) == (0, False)
    # Two networks on all images, and random ones with and without augmentation.
    assert len(list((tmp_path / "cache").rglob("*.json"))) == 4

    document = json.loads(answer(*command, "--json", "--no-save"))
    assert (document["hlr"]["real"]["kept"], document["ior"]["random"]["kept"]) == (2, True)
    for score in ("hlr", "ior", "lrs", "ars"):
        assert document[score]["value"] == audit[score]["value"]
        assert f"{score.upper()} " in "\n".join(lines)
    assert f"{audit['lrs']['value']:.3f}" in lines[2]
    assert len(runs.read_record(finished)["audits"]) == 1


def test_a_set_alone_needs_its_teacher_named(
    finished: Path, tmp_path: Path, answer: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((finished / runs.DISTILLED).read_bytes())
    options = [*QUICK, "--networks", "1", "--cache", tmp_path / "cache", "--json"]
    assert cli.run([str(word) for word in ("scores", alone, *options)]) == 2
    assert "pass --teacher FILE" in capsys.readouterr().err
    teacher = ["--teacher", finished / "teacher.safetensors"]
    document = json.loads(answer("scores", alone, *options, *teacher))
    hard = json.loads(answer("scores", alone, *options, "--protocol", "hard-label"))
    assert hard["teacher"] is None
    assert hard["hlr"]["value"] == document["hlr"]["value"]
    assert hard["hlr"]["real"]["kept"] == 1
    assert hard["ior"]["distilled"]["values"] == hard["hlr"]["distilled"]["values"]


def test_the_cache_lies_where_xdg_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keeping._default_cache() == tmp_path / "potstill"
    for other in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", other)
        assert keeping._default_cache() == Path("~/.cache/potstill")


def test_the_budget_is_the_one_of_the_library() -> None:
    assert inspect.signature(robust.scores).parameters["real_steps"].default == REAL_STEPS
