from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch
from PIL import Image

from potstill import checkpoints, cli, recipes, runs
from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from tests import test_cli_dwa

# A run of the digits that takes a second or two.
SMALL = {
    "network.depth": 1,
    "network.width": 4,
    "method.iterations": 6,
    "method.target_batch": 32,
    "method.pool.size": 2,
    "checkpoint_every": 2,
    "log_every": 1,
    "evaluation.networks": 2,
}
DIGITS = "quickstart/digits-rcig"


def settings(**changes: Any) -> list[str]:
    chosen = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def distil(out: Path, *more: str, recipe: str = DIGITS, **changes: Any) -> list[str]:
    words = ["distill", recipe, *settings(**changes), "--out", str(out), "--device", "cpu"]
    return [*words, *more]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small run that finished; tests change copies."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert cli.run(distil(out)) == 0
    return out


@pytest.fixture
def artefact(finished: Path, tmp_path: Path) -> Path:
    path = tmp_path / "set.safetensors"
    path.write_bytes((finished / runs.DISTILLED).read_bytes())
    return path


def environment() -> dict[str, str]:
    source = str(Path(cli.__file__).parents[2])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}


def process(*words: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "potstill", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, text=True, stdout=pipe, stderr=pipe, env=environment(), **options
    )


def wait_for(path: Path, running: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert running.poll() is None, running.communicate()[1]
        time.sleep(0.002)


# Without a data set


def test_help_and_recipes_need_no_torch():
    check = (
        "import sys; from potstill import cli\n"
        "for words in (['--help'], ['recipes'], ['distill', '--help'], ['distill', 'nosuch']):\n"
        "    cli.run(words)\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", check], env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_without_a_command_the_help_is_shown(capsys):
    assert cli.run([]) == 0
    assert "quickstart" in capsys.readouterr().out


def test_recipes_are_listed_with_their_paper_rows(capsys):
    assert cli.run(["recipes"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(recipes.names())
    (line,) = (line for line in listed if line.startswith("rcig/cifar100-ipc1 "))
    assert "Table 1, RCIG (+ Lin + Reparam): 39.55 ± 0.16 %" in line
    assert "Table 2, RCIG: 39.3 ± 0.4 %" in line


def test_a_reader_that_leaves_is_not_complained_about():
    done = subprocess.run(
        f"{sys.executable} -m potstill recipes | true",
        shell=True,
        env=environment(),
        capture_output=True,
    )
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nosuch"], "No such command 'nosuch'"),
        (["distill"], "Missing argument 'RECIPE'"),
        (["distill", DIGITS, "--device", "tpu"], "--device"),
        (["distill", DIGITS, "--seed", "-1"], "--seed"),
        (["distill", "rcig/mnist-ipc-1"], "did you mean rcig/mnist-ipc1?"),
        (["distill", "absent.yaml"], "check the path"),
        (["distill", DIGITS, "--set", "method.iteration=5"], "unknown key 'method.iteration'"),
        (["distill", DIGITS, "--set", "method.iterations=many"], "method.iterations"),
        (["distill", DIGITS, "--set", "method.variant=vig"], "set solver.name to adam"),
        (["distill", DIGITS, "--set", "seed"], "expected key=value"),
        (["distill", DIGITS, "--set", "data.dataset=digit"], "digits"),
        (["distill", DIGITS, "--set", "images_per_class=999"], "999"),
        (["distill", DIGITS, "--set", "data.channels=3"], "grayscale"),
        (["distill", DIGITS, "--set", "network.name=nosuch"], "nosuch"),
        (["distill", DIGITS, "--set", "network.depth=9"], "depth"),
        (["evaluate", "absent.safetensors"], "absent.safetensors"),
        (["show", "absent.safetensors", "--png", "x.png"], "absent.safetensors"),
        (["report", "absent", "--out", "x.html"], "absent"),
    ],
)
def test_what_a_user_can_mend_is_one_line(fails, tmp_path, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    assert reason in fails(*words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_refused(fails):
    assert "use --device cpu" in fails("distill", DIGITS, "--device", "cuda")


def test_an_absent_data_root_is_refused(fails, tmp_path, monkeypatch):
    monkeypatch.delenv("POTSTILL_DATA_ROOT", raising=False)
    assert "--data-root" in fails("distill", "rcig/mnist-ipc1")
    assert "nowhere" in fails("distill", "rcig/mnist-ipc1", "--data-root", tmp_path / "nowhere")
    monkeypatch.setenv("POTSTILL_DATA_ROOT", str(tmp_path))
    assert "mnist is not under" in fails("distill", "rcig/mnist-ipc1")


def test_a_bug_is_not_passed_off_as_a_mistake_of_the_user(monkeypatch):
    def broken(*_: object) -> None:
        raise KeyError("bug")

    monkeypatch.setattr(recipes, "load", broken)
    with pytest.raises(KeyError):
        cli.run(["recipes"])


def test_an_exhausted_device_is_one_line(fails, monkeypatch):
    def exhausted(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recipes, "load_all", exhausted)
    assert "method.target_batch" in fails("distill", DIGITS)


# Distil


def test_a_run_leaves_everything_in_its_folder(finished):
    present = {path.name for path in finished.iterdir()}
    assert present >= {
        runs.RECIPE,
        runs.METRICS,
        runs.TENSORBOARD,
        runs.CHECKPOINT,
        runs.DISTILLED,
        runs.RECORD,
    }
    record = runs.read_record(finished)
    assert (record["status"], record["iteration"]) == ("finished", 6)
    logged = [json.loads(line) for line in (finished / runs.METRICS).read_text().splitlines()]
    assert [line["iteration"] for line in logged] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "batch_accuracy", "log_temperature"} <= logged[0].keys()
    dataset = DistilledDataset.load(finished / runs.DISTILLED)
    assert dataset.images.shape == (10, 1, 8, 8)
    assert dataset.header["iterations"] == 6


def test_stdout_holds_the_result_and_stderr_the_progress(tmp_path, capsys):
    out = tmp_path / "run"
    assert cli.run(distil(out)) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out / runs.DISTILLED}\n"
    progress = printed.err.splitlines()
    assert progress[0].startswith("iteration 1/6  loss ")
    assert "accuracy" in progress[0]
    assert progress[-1].startswith("iteration 6/6")


def test_the_default_folder_is_named_after_recipe_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["distill", DIGITS, *settings(method__variant="random"), "--seed", "3"]
    assert cli.run(words) == 0
    (run,) = (tmp_path / "runs").glob(f"{DIGITS}-*-seed3")
    assert "variant=random" in run.name and "images_per_class" not in run.name
    dataset = DistilledDataset.load(run / runs.DISTILLED)
    assert dataset.header["seed"] == 3
    assert dataset.header["recipe"]["based_on"] == DIGITS
    assert "variant=random" in dataset.header["recipe"]["description"]


def test_a_finished_run_is_not_done_again(finished, tmp_path, capsys, fails):
    before = (finished / runs.DISTILLED).read_bytes()
    assert "use --resume" in fails(*distil(finished))
    assert cli.run(distil(finished, "--resume")) == 0
    assert "finished" in capsys.readouterr().err
    assert (finished / runs.DISTILLED).read_bytes() == before


def test_another_recipe_does_not_resume(finished, fails):
    message = fails(*distil(finished, "--resume", method__iterations=7))
    assert "recipe differs in: method.iterations (6 there, 7 here)" in message


def test_numbers_that_leave_the_finite_ones_stop_the_run(tmp_path, fails):
    out = tmp_path / "run"
    message = fails(*distil(out, checkpoint_every=1, method__image_learning_rate="1e+37"))
    assert "not finite" in message
    stopped_in = re.search(r"iteration (\d+)", message)
    assert stopped_in is not None
    # What came before stands.
    state, header = checkpoints.read(out / runs.CHECKPOINT)
    assert 1 <= header["iteration"] == int(stopped_in[1]) - 1
    assert state["coreset"]["images"].isfinite().all()
    assert runs.read_record(out)["status"] == "stopped"
    assert not (out / runs.DISTILLED).exists()


# Interrupted, killed, out of space


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path):
    length = {"method__iterations": 40, "checkpoint_every": 5}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    running = process(*distil(killed, **length))
    wait_for(killed / runs.CHECKPOINT, running)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    running.communicate()
    assert not (killed / runs.DISTILLED).exists()
    reached = checkpoints.read(killed / runs.CHECKPOINT)[1]["iteration"]
    assert 0 < reached < 40

    resumed = process(*distil(killed, "--resume", **length))
    assert resumed.wait() == 0, resumed.communicate()[1]
    assert f"iteration {reached + 1}/40" in resumed.communicate()[1]
    uninterrupted = process(*distil(whole, **length))
    assert uninterrupted.wait() == 0, uninterrupted.communicate()[1]
    uninterrupted.communicate()
    assert (killed / runs.DISTILLED).read_bytes() == (whole / runs.DISTILLED).read_bytes()
    logs = [
        [line.split(b'"loss"')[1] for line in (out / runs.METRICS).read_bytes().splitlines()]
        for out in (killed, whole)
    ]
    assert len(logs[0]) == 40
    assert logs[0] == logs[1]


def test_ctrl_c_keeps_the_state_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    length = {"method__iterations": 5000, "checkpoint_every": 5000}
    running = process(*distil(out, **length))
    wait_for(out / runs.METRICS, running)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate()
    assert running.returncode == 130
    assert "Traceback" not in errors
    reached = checkpoints.read(out / runs.CHECKPOINT)[1]["iteration"]
    assert errors.splitlines()[-1] == (f"stopped at iteration {reached}; continue with --resume")
    record = runs.read_record(out)
    assert (record["status"], record["iteration"]) == ("stopped", reached)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("needs the right to mount a file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_leaves_the_last_checkpoint(small_disk, fails, capsys):
    out = small_disk / "run"
    assert cli.run(distil(out, method__variant="random")) == 0
    ballast = small_disk / "ballast"
    with pytest.raises(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 1024)
    other = small_disk / "other"
    assert "No space left on device" in fails(*distil(other))
    ballast.unlink()
    capsys.readouterr()
    assert cli.run(distil(other, "--resume", method__variant="random")) == 0


# Data of one's own


def image_folder(root: Path, *, per_class: int = 6) -> None:
    draw = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, level in (("dark", 40), ("light", 200)):
            folder = root / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(per_class):
                pixels = draw.integers(level - 40, level + 40, size=(8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.png")


def folder_words(root: Path, out: Path) -> list[str]:
    own = {"data__dataset": "image_folder", "data__folder": "pets", "method__target_batch": 8}
    return distil(out, "--data-root", str(root), **own)


def test_an_image_folder_is_distilled_and_evaluated(tmp_path, capsys):
    image_folder(tmp_path)
    out = tmp_path / "run"
    assert cli.run(folder_words(tmp_path, out)) == 0
    capsys.readouterr()
    path = str(out / runs.DISTILLED)
    words = ["evaluate", path, "--data-root", str(tmp_path), "--json", "--networks", "1"]
    assert cli.run([*words, "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"]["mean"] == 1.0
    assert DistilledDataset.load(path).class_names == ("dark", "light")
    assert str(tmp_path).encode() not in Path(path).read_bytes()


def test_bad_image_folders_are_refused_by_file(tmp_path, fails):
    image_folder(tmp_path)
    words = folder_words(tmp_path, tmp_path / "run")
    (tmp_path / "pets/train/empty").mkdir()
    assert "pets/train/empty holds no images" in fails(*words)
    (tmp_path / "pets/train/empty").rmdir()
    (tmp_path / "pets/train/dark/3.png").write_bytes(b"not a picture")
    assert "pets/train/dark/3.png" in fails(*words)
    assert not (tmp_path / "run").exists()


# Evaluate, info, show, report


def test_an_evaluation_is_printed_and_kept(finished, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    for name in (runs.RECIPE, runs.RECORD, runs.METRICS, runs.DISTILLED):
        (out / name).write_bytes((finished / name).read_bytes())
    path = out / runs.DISTILLED
    digest = DistilledDataset.load(path).digest
    words = ["evaluate", str(path), "--json", "--baseline", "--seed", "2", "--device", "cpu"]
    assert cli.run(words) == 0
    printed = capsys.readouterr()
    result = json.loads(printed.out)
    assert "evaluation step" in printed.err
    assert result["protocol"] == "rcig-paper"
    assert result["seed"] == 2
    assert result["seconds"] > 0
    assert len(result["accuracy"]["values"]) == 2
    assert 0 <= result["baseline"]["mean"] <= 1
    assert result["artefact_digest"] == digest
    kept = DistilledDataset.load(path)
    assert kept.header["results"] == [result]
    assert kept.digest == digest
    assert "results" not in runs.read_record(out)

    assert cli.run(["info", str(path)]) == 0
    described = capsys.readouterr().out
    assert f"accuracy {100 * result['accuracy']['mean']:.2f}" in described
    assert "protocol rcig-paper, 2 networks), " in described
    assert "random real images" in described
    page = tmp_path / "report.html"
    assert cli.run(["report", str(out), "--out", str(page)]) == 0
    assert capsys.readouterr().out == f"{page}\n"
    assert page.read_text().lstrip().lower().startswith("<!doctype html>")


def test_an_evaluation_can_leave_the_file_alone(artefact, capsys):
    before = artefact.read_bytes()
    words = ["evaluate", str(artefact), "--networks", "1", "--no-save", "--device", "cpu"]
    assert cli.run(words) == 0
    assert artefact.read_bytes() == before
    assert capsys.readouterr().out.startswith("accuracy ")


def test_a_result_that_cannot_be_kept_is_a_warning(artefact, capsys, monkeypatch):
    monkeypatch.setattr(DistilledDataset, "save", _refuse)
    words = ["evaluate", str(artefact), "--networks", "1", "--json", "--device", "cpu"]
    assert cli.run(words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["protocol"] == "rcig-paper"
    assert "warning: the result is not kept: no space" in printed.err


def _refuse(*_: object) -> None:
    raise RunError("no space")


def test_an_unknown_protocol_is_refused(artefact, fails):
    assert "rcig-paper" in fails("evaluate", artefact, "--protocol", "nosuch")
    assert "--networks" in fails("evaluate", artefact, "--networks", "0")


def test_info_is_one_json_object(artefact, capsys):
    assert cli.run(["info", str(artefact), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["images"] == [10, 1, 8, 8]
    assert document["class_names"] == [str(digit) for digit in range(10)]
    assert document["bytes"] == artefact.stat().st_size
    assert document["header"]["recipe"]["method"]["iterations"] == 6
    assert cli.run(["info", str(artefact)]) == 0
    described = capsys.readouterr().out
    assert document["digest"] in described
    assert "not evaluated yet" in described


def test_show_draws_a_picture(artefact, tmp_path, capsys, fails):
    png = tmp_path / "set.png"
    assert cli.run(["show", str(artefact), "--png", str(png)]) == 0
    assert capsys.readouterr().out == f"{png}\n"
    with Image.open(png) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 8
    assert "cannot write" in fails("show", artefact, "--png", tmp_path / "absent" / "set.png")


def test_damaged_artefacts_are_refused(artefact, fails):
    content = artefact.read_bytes()
    for wrong in (content[:-10], content[: len(content) // 2], content[:4], b"", b"hello" * 9):
        artefact.write_bytes(wrong)
        for words in (["info", artefact], ["evaluate", artefact], ["show", artefact, "--png", "x"]):
            assert str(artefact) in fails(*words)


def test_artefacts_of_a_newer_format_are_refused(artefact, fails):
    with safetensors.safe_open(artefact, framework="pt") as file:
        (key,) = file.metadata()
        document = json.loads(file.metadata()[key])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    document["format_version"] += 1
    artefact.write_bytes(safetensors.torch.save(tensors, {key: json.dumps(document)}))
    assert "newer" in fails("info", artefact)


# The quickstart


def test_quickstart_leads_from_digits_to_a_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {
        DIGITS: recipes.load(DIGITS, settings()[1::2]),
        test_cli_dwa.DIGITS: recipes.load(test_cli_dwa.DIGITS, test_cli_dwa.settings()[1::2]),
    }
    load = recipes.load
    monkeypatch.setattr(recipes, "load", lambda name, *more: small.get(name) or load(name, *more))
    assert cli.run(["quickstart"]) == 0
    printed = capsys.readouterr().out
    paths = [Path(line.split()[-1]) for line in printed.splitlines()[-5:]]
    assert [str(path.relative_to("runs/quickstart")) for path in paths] == [
        "rcig/distilled.safetensors",
        "rcig/distilled.png",
        "dwa/distilled.safetensors",
        "dwa/distilled.png",
        "report.html",
    ]
    assert all(path.exists() for path in paths)
    assert printed.count("random real images") == 2

    before = paths[0].read_bytes()
    assert cli.run(["quickstart"]) == 0
    assert capsys.readouterr().out == printed
    assert paths[0].read_bytes() == before


def test_a_taken_folder_is_refused_before_the_data_is_read(finished, fails, monkeypatch, tmp_path):
    def untouched(*_: object, **__: object) -> None:
        raise AssertionError("the data was read")

    monkeypatch.setattr("potstill.cli.making.read_source", untouched)
    assert "already holds a run; use --resume" in fails(*distil(finished))
    monkeypatch.setattr("potstill.data.foreign.read", untouched)
    assert "already holds a run; use another --out" in fails(
        "import", tmp_path, "--space", "pixels", "--out", finished
    )


def test_a_run_and_its_set_are_taken_alike(finished, answer, fails, tmp_path):
    path = finished / runs.DISTILLED
    assert answer("info", finished) == answer("info", path)
    for name, given in (("a", finished), ("b", path)):
        answer("show", given, "--png", tmp_path / f"{name}.png")
        answer("report", given, "--out", tmp_path / f"{name}.html")
    for kind in ("png", "html"):
        one, other = ((tmp_path / f"{name}.{kind}").read_bytes() for name in "ab")
        assert one == other
    assert "a folder without a distilled set" in fails("info", tmp_path)
    said = answer("evaluate", finished, "--steps", "3", "--no-save", "--device", "cpu")
    assert "protocol rcig-paper-3-steps" in said and ", 3 steps\n" in said
    assert "counts epochs, not steps" in fails("evaluate", path, "--steps", "3", "--protocol", "dc")
