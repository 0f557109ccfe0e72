"""`potstill attack` and `potstill continual`, end to end on the digits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from potstill import cli, runs
from potstill.audits.attacks import ATTACKS
from tests import test_cli, test_cli_dwa

QUICK = ["--steps", "4,2", "--networks", "1", "--folds", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on 200 of the digits."""
    out = tmp_path_factory.mktemp("rcig") / "run"
    assert cli.run(test_cli.distil(out, data__train_images=200, method__iterations=2)) == 0
    return out


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dwa") / "run"
    assert cli.run(test_cli_dwa.distil(out)) == 0
    return out


def test_attack_prints_and_keeps_what_it_found(finished: Path, answer: Callable[..., str]) -> None:
    words = ["attack", finished / runs.DISTILLED, *QUICK, "--baselines"]
    audit = json.loads(answer(*words, "--json"))
    assert audit["training"]["augmented"]
    assert audit["members"] == audit["others"] == 200
    assert [moment["steps"] for moment in audit["distilled"]["curve"]] == [2, 4]
    assert audit["baselines"]["members"]["images"] == 200
    assert audit["baselines"]["random"]["images"] == audit["images"] == 10
    kept = runs.read_record(finished)["audits"]
    assert kept == [audit]
    printed = answer(*words, "--no-save").splitlines()
    assert printed[0].startswith("200 members, 200 others") and "of 1 network" in printed[0]
    assert "after 4 steps" in printed[0]
    starts = ("the distilled set", "the members themselves", "random members", "nothing yet")
    assert len(printed) == 5 and all(map(str.startswith, printed[1:], starts))
    assert all(f"{name} 0." in line for name in ATTACKS for line in printed[1:])
    assert len(runs.read_record(finished)["audits"]) == 1


def test_attacks_on_several_sets_are_one_number_and_kept_by_each(
    finished: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    out = tmp_path / "run"
    part = {"data__train_images": 200, "data__train_chunk": 1, "method__iterations": 2}
    assert cli.run(test_cli.distil(out, **part)) == 0
    words = ["attack", finished / runs.DISTILLED, out / runs.DISTILLED, *QUICK]
    audit = json.loads(answer(*words, "--json"))
    assert (audit["sets"], audit["networks"], audit["members"]) == (2, 1, 400)
    kept = [runs.read_record(folder)["audits"][-1] for folder in (finished, out)]
    areas = [one["distilled"]["curve"][-1]["auc"]["rf"]["values"] for one in (audit, *kept)]
    assert areas[0] == areas[1] + areas[2] and len(areas[0]) == 2
    assert not any("warnings" in one or "sets" in one for one in kept)
    printed = answer(*words, "--no-save").splitlines()
    assert "of 1 network on each of 2 sets" in printed[0]


@pytest.mark.parametrize(
    ("words", "module", "said"),
    [
        (["attack"], "audits.membership.membership", "stopped; the networks attacked so far are"),
        (["continual"], "audits.continual.continual", "stopped; the tasks finished so far are"),
        (["scores"], "evaluation.robust.scores", "stopped; the baselines trained so far are"),
        (["evaluate"], "evaluation.evaluate", "stopped; nothing of the network at hand is kept"),
    ],
)
def test_ctrl_c_says_what_is_kept(
    words: list[str],
    module: str,
    said: str,
    finished: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"potstill.{module}", interrupted)
    assert cli.run([*words, str(finished / runs.DISTILLED), "--device", "cpu"]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith(said)


def test_a_set_outside_its_run_is_attacked_too(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "set.safetensors"
    path.write_bytes((finished / runs.DISTILLED).read_bytes())
    words = ["attack", path, *QUICK, "--network", "convnet:instance", "--no-augment", "--json"]
    assert cli.run([str(word) for word in words]) == 0
    printed = capsys.readouterr()
    assert "not kept, since the set lies in no run's folder" in printed.err
    audit = json.loads(printed.out)
    assert not audit["training"]["augmented"]
    assert audit["network"]["normalisation"] == "instance"
    assert "baselines" not in audit
    assert [*tmp_path.iterdir()] == [path]


def test_attacks_that_cannot_be(finished: Path, fails: Callable[..., str]) -> None:
    words = ["attack", finished / runs.DISTILLED, "--device", "cpu"]
    for steps in ("0", "ten", "1,,2", "-5"):
        assert "expected numbers such as 100,1000" in fails(*words, "--steps", steps)
    assert "too few for 40 folds" in fails(*words, "--steps", "1", "--folds", "40")
    assert "names several networks; name one" in fails(*words, "--network", "convnet,resnet18")
    assert "unknown network 'resnet1'" in fails(*words, "--network", "resnet1")


def test_continual_prints_and_keeps_what_it_found(
    finished: Path, answer: Callable[..., str]
) -> None:
    words = ["continual", finished / runs.DISTILLED, "--tasks", "3", "--networks", "1"]
    more = ["--protocol", "hard-label", "--epochs", "2", "--baseline", "--device", "cpu"]
    before = len(runs.read_record(finished)["audits"])
    audit = json.loads(answer(*words, *more, "--order", "given", "--json"))
    assert [row["classes"] for row in audit["tasks"]] == [[0, 1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert runs.read_record(finished)["audits"][before:] == [audit]
    printed = answer(*words, *more, "--no-save").splitlines()
    how = "protocol hard-label, 2 epochs, 1 network"
    assert printed[0] == f"for each task: ConvNet, depth 1, width 4, no norm, {how}"
    assert printed[1].startswith(" 4 classes, 4 images: ") and "random" in printed[1]
    assert printed[3].startswith("10 classes, 10 images: ")
    assert printed[4].startswith("average ") and len(printed) == 5


def test_continual_finds_the_teacher_of_the_run(
    taught: Path, tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    words = ["--tasks", "2", "--networks", "1", "--device", "cpu"]
    audit = json.loads(answer("continual", taught / runs.DISTILLED, *words, "--json"))
    assert audit["labels"] == "on the fly" and audit["epochs"] == 2
    assert runs.read_record(taught)["audits"][-1]["kind"] == "continual"
    path = tmp_path / "set.safetensors"
    path.write_bytes((taught / runs.DISTILLED).read_bytes())
    assert "pass --teacher FILE or --protocol hard-label" in fails("continual", path, *words)
    assert "ask for 1 to 10" in fails("continual", taught / runs.DISTILLED, "--tasks", "11")
