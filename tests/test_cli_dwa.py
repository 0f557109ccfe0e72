from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from potstill import cli, runs
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.squeeze import CHECKPOINT, TEACHER
from potstill.teacher import Teacher
from potstill.text import network_text

DIGITS = "quickstart/digits-dwa"
# A run of the digits that takes a second or two: four groups.
SMALL = {
    "images_per_class": 2,
    "method.class_batch": 5,
    "method.iterations": 4,
    "method.teacher.epochs": 2,
    "method.teacher.network.width": 4,
    "method.precision": "float32",
    "network.width": 4,
    "evaluation.networks": 2,
    "evaluation.epochs": 2,
    "log_every": 2,
}


def settings(**changes: object) -> list[str]:
    chosen = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def distil(out: Path, *more: str, **changes: object) -> list[str]:
    words = ["distill", DIGITS, *settings(**changes), "--out", str(out), "--device", "cpu"]
    return [*words, "--workers", "1", *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that finished; tests change copies of its set."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert cli.run(distil(out)) == 0
    return out


@pytest.fixture
def artefact(finished: Path, tmp_path: Path) -> Path:
    """The set alone, without its run."""
    path = tmp_path / "set.safetensors"
    path.write_bytes((finished / runs.DISTILLED).read_bytes())
    return path


def test_a_run_leaves_teacher_groups_log_and_record(finished: Path) -> None:
    assert len(list((finished / GROUPS).iterdir())) == 4
    record = runs.read_record(finished)
    assert record["status"] == "finished"
    assert record["iteration"] == 16
    assert set(record["seconds"]["parts"]) == {"teacher", "adjustment", "synthesis"}
    lines = [json.loads(line) for line in (finished / runs.METRICS).read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16]
    assert {"loss", "cross_entropy", "mean_term", "variance_term"} <= lines[0].keys()
    teacher = Teacher.load(finished / TEACHER)
    dataset = DistilledDataset.load(finished / runs.DISTILLED)
    assert dataset.header["teacher"]["digest"] == teacher.digest
    assert dataset.header["evaluation"]["epochs"] == 2


def test_a_run_killed_in_its_second_group_resumes_to_the_same_bytes(
    finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(cli.__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }
    running = subprocess.Popen(
        [sys.executable, "-m", "potstill", *distil(out)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (out / GROUPS / "00000-000.safetensors").exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.001)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (out / runs.DISTILLED).exists()
    assert len(list((out / GROUPS).glob("[0-9]*"))) < 4
    assert cli.run(distil(out, "--resume")) == 0
    assert (out / runs.DISTILLED).read_bytes() == (finished / runs.DISTILLED).read_bytes()
    assert (out / TEACHER).read_bytes() == (finished / TEACHER).read_bytes()


def test_a_teacher_of_its_own_gives_the_same_set(
    finished: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    words = ["teacher", DIGITS, *settings(), "--out", tmp_path / "teacher", "--device", "cpu"]
    path = Path(answer(*words).strip())
    assert path.read_bytes() == (finished / TEACHER).read_bytes()
    assert not (tmp_path / "teacher" / CHECKPOINT).exists()
    assert cli.run(distil(tmp_path / "run", "--teacher", str(path))) == 0
    made = tmp_path / "run" / runs.DISTILLED
    assert made.read_bytes() == (finished / runs.DISTILLED).read_bytes()


def test_evaluate_finds_the_teacher_of_the_run(finished: Path, answer: Callable[..., str]) -> None:
    words = ["evaluate", finished / runs.DISTILLED, "--json", "--baseline", "--best"]
    result = json.loads(answer(*words, "--no-save", "--device", "cpu"))
    assert result["protocol"] == "dwa-paper"
    assert result["labels"] == "on the fly"
    assert result["epochs"] == 2
    assert len(result["accuracy"]["values"]) == len(result["baseline"]["values"]) == 2
    assert result["best_on_test"]["mean"] >= result["accuracy"]["mean"]


def test_relabelled_sets_need_no_teacher(
    artefact: Path, finished: Path, fails: Callable[..., str], answer: Callable[..., str]
) -> None:
    evaluate = ["evaluate", artefact, "--device", "cpu", "--json"]
    assert "pass --teacher FILE or run potstill relabel" in fails(*evaluate)
    answer("relabel", artefact, "--teacher", finished / TEACHER, "--device", "cpu")
    result = json.loads(answer(*evaluate))
    assert result["labels"] == "stored"
    assert DistilledDataset.load(artefact).header["results"] == [result]


def test_results_from_before_the_labels_are_told_apart(
    artefact: Path, finished: Path, answer: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = ["evaluate", artefact, "--device", "cpu", "--networks", "1"]
    first = answer(*evaluate, "--teacher", finished / TEACHER).splitlines()
    words = ["relabel", artefact, "--teacher", finished / TEACHER, "--device", "cpu"]
    assert cli.run([str(word) for word in words]) == 0
    said = capsys.readouterr().err
    assert "1 result measured before these labels were stored stays in the set" in said
    apart = ["measured before the labels were stored:", *first]
    length = len(("not evaluated", *apart))
    assert answer("info", artefact).splitlines()[-length:] == [
        "not evaluated yet; potstill evaluate does it",
        *apart,
    ]
    second, price, *others = answer(*evaluate).splitlines()
    assert price.startswith("price: ") and others == apart
    assert answer("info", artefact).splitlines()[-length - 1 :] == [second, price, *apart]


def test_a_run_knows_its_teacher_and_no_other(
    finished: Path, artefact: Path, fails: Callable[..., str], answer: Callable[..., str]
) -> None:
    for command in ("relabel", "diversity"):
        assert "name a teacher with --teacher" in fails(command, artefact, "--device", "cpu")
    beside = artefact.parent / TEACHER
    made = Teacher.load(finished / TEACHER)
    shutil.copy(finished / TEACHER, beside)
    answer("relabel", artefact, "--device", "cpu")
    with torch.no_grad():
        next(made.network.parameters()).add_(1)
    beside.unlink()
    made.save(beside)
    for command in ("relabel", "diversity", "scores"):
        message = fails(command, artefact, "--device", "cpu")
        assert "not the teacher this set was made with" in message


def test_a_recipe_can_store_soft_labels(tmp_path: Path) -> None:
    assert cli.run(distil(tmp_path / "run", method__store_soft_labels=True)) == 0
    dataset = DistilledDataset.load(tmp_path / "run" / runs.DISTILLED)
    assert dataset.soft_labels is not None
    assert dataset.soft_labels.shape == (2, 20, 10)


def test_a_table_of_networks(
    finished: Path, answer: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", finished / runs.DISTILLED, "--network", "own,convnet:instance,width=5"]
    more = ["--networks", "1", "--no-save", "--device", "cpu"]
    results = json.loads(answer(*words, *more, "--json"))["results"]
    own = DistilledDataset.load(finished / runs.DISTILLED).header["evaluation"]["network"]
    stated = {"name": "convnet", "depth": 3, "width": 5, "growth": 1, "normalisation": "instance"}
    assert [r["network"] for r in results] == [own, stated]
    printed = answer(*words, *more).splitlines()
    assert printed[0] == "protocol dwa-paper, 2 epochs, 1 network"
    assert printed[2].startswith("ConvNet, depth 3, width 5, instance norm  ")
    assert len(printed) == 3
    assert cli.run([str(word) for word in [*words, *more]]) == 0
    told = {line.partition(": ")[0] for line in capsys.readouterr().err.splitlines()}
    assert told == {network_text(NetworkRecipe.model_validate(one)) for one in (own, stated)}


def test_the_older_name_of_the_option_is_understood(
    finished: Path, answer: Callable[..., str]
) -> None:
    words = ["evaluate", finished / runs.DISTILLED, "--networks-arch", "convnet:none,width=2"]
    more = ["--networks", "1", "--no-save", "--device", "cpu", "--json"]
    (result,) = json.loads(answer(*words, *more))["results"]
    assert (result["network"]["width"], result["network"]["normalisation"]) == (2, "none")


def test_diversity_is_printed_drawn_and_kept(
    finished: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    png = tmp_path / "map.png"
    words = ["diversity", finished / runs.DISTILLED, "--teacher", finished / TEACHER]
    audit = json.loads(answer(*words, "--png", png, "--json", "--device", "cpu"))
    assert audit["distance"]["mean"] > 0
    assert audit["real"]["mean"] > 0
    assert Image.open(png).width > 100
    assert runs.read_record(finished)["audits"][-1]["kind"] == "diversity"
    # The teacher of the run is the one, unless another is named.
    own = words[:2]
    assert "ratio" in answer(*own, "--no-save", "--device", "cpu")


def test_two_sets_are_measured_and_drawn_on_one_map(
    finished: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    both, png = [finished / runs.DISTILLED, tmp_path / "other.safetensors"], tmp_path / "map.png"
    shutil.copy(both[0], both[1])
    words = ["diversity", *both, "--no-save", "--device", "cpu"]
    lines = answer(*words, "--png", png).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [str(path) for path in both]
    assert len(lines) == 8 and lines[1:4] == lines[5:]
    assert Image.open(png).width > 100
    assert len(json.loads(answer(*words, "--json"))["audits"]) == 2


def test_a_part_of_a_set_is_scored_as_a_set_of_its_own(
    finished: Path, tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    whole = tmp_path / "set.safetensors"
    shutil.copy(finished / runs.DISTILLED, whole)
    words = ["evaluate", whole, "--per-class", "1", "--protocol", "hard-label", "--epochs", "1"]
    words += ["--networks", "1", "--device", "cpu"]
    before = whole.read_bytes()
    assert json.loads(answer(*words, "--json", "--no-save"))["images"] == 10
    part = tmp_path / "set-first1.safetensors"
    assert not part.exists()
    answer(*words)
    answer(*words)
    found = DistilledDataset.load(part)
    assert [each.images_per_class for each in found.results] == [1, 1]
    assert whole.read_bytes() == before
    assert "10 of 8x8, grayscale, 1 per class" in answer("info", whole, "--per-class", "1")
    assert "ask for the first 1 to 2" in fails("info", whole, "--per-class", "3")
    DistilledDataset.load(whole).first(2).save(part)
    assert "has other images than" in fails(*words)


def test_report_shows_both_methods(finished: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert cli.run(["report", str(finished), "--out", str(page)]) == 0
    assert "DWA" in page.read_text(encoding="utf-8")


def test_a_teacher_without_batch_norm(tmp_path: Path, fails: Callable[..., str]) -> None:
    words = distil(tmp_path / "run", method__teacher__network__normalisation="none")
    assert "no batch norm" in fails(*words)


def test_a_teacher_for_rcig(tmp_path: Path, finished: Path, fails: Callable[..., str]) -> None:
    words = ["distill", "quickstart/digits-rcig", "--teacher", finished / TEACHER]
    assert "does not ask for a teacher" in fails(*words, "--out", tmp_path / "run")
    assert "does not ask for a teacher" in fails("teacher", "quickstart/digits-rcig")


def test_a_set_is_no_teacher(tmp_path: Path, artefact: Path, fails: Callable[..., str]) -> None:
    words = distil(tmp_path / "run", "--teacher", str(artefact))
    assert "teacher" in fails(*words)


def test_an_unknown_setting_of_a_method(tmp_path: Path, fails: Callable[..., str]) -> None:
    assert "unknown key 'method.rho'" in fails(*distil(tmp_path / "run", method__rho=1))
    assert "method.iterations" in fails(*distil(tmp_path / "run", method__iterations="many"))


def test_a_network_that_does_not_fit_is_refused_before_others_are_trained(
    finished: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("potstill.evaluation.evaluate", None)
    words = ["evaluate", finished / runs.DISTILLED, "--network", "convnet,vgg11"]
    assert "vgg11 does not fit images of 8 px" in fails(*words, "--device", "cpu")


def test_unknown_networks(finished: Path, fails: Callable[..., str]) -> None:
    words = ["evaluate", finished / runs.DISTILLED, "--device", "cpu", "--network"]
    assert "unknown network 'resnet1'" in fails(*words, "resnet1")


def test_the_teachers_accuracy_is_said(tmp_path, capsys, answer):
    out = tmp_path / "run"
    capsys.readouterr()
    assert cli.run(distil(out)) == 0
    said = capsys.readouterr().err
    told = re.search(r"^teacher: .*, (\d+\.\d\d %) on the test images$", said, re.MULTILINE)
    assert told is not None
    for given in (out, out / "teacher.safetensors"):
        assert f"{told[1]} on the test images" in answer("info", given)
    (out / "distilled.safetensors").unlink()
    assert answer("info", out).startswith("teacher:    ConvNet")
    document = json.loads(answer("info", out / "teacher.safetensors", "--json"))
    assert f"{100 * document['header']['results'][-1]['accuracy']:.2f} %" == told[1]
