"""SIGTERM stops a command as Ctrl-C does, and nothing goes on after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from potstill import checkpoints, cli, interrupt, runs
from potstill.methods.squeeze import CHECKPOINT

Start = Callable[..., "subprocess.Popen[bytes]"]

ERRORS = "errors"
RCIG = {
    "network.depth": 1,
    "network.width": 4,
    "method.iterations": 50_000,
    "method.target_batch": 32,
    "method.pool.size": 2,
    "checkpoint_every": 50_000,
    "log_every": 1,
}
DWA = {
    "images_per_class": 2,
    "method.class_batch": 5,
    "method.iterations": 50_000,
    "method.teacher.epochs": 1,
    "method.teacher.network.width": 4,
    "method.precision": "float32",
    "log_every": 1,
}


def words(command: str, recipe: str, settings: dict[str, Any], out: Path) -> list[str]:
    assignments = [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    return [command, f"quickstart/digits-{recipe}", *assignments, "--out", str(out)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command line in a session of its own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    programs: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(temporary),
        }
        program = subprocess.Popen(
            [sys.executable, "-m", "potstill", *arguments, "--device", "cpu"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=(tmp_path / ERRORS).open("wb"),
            start_new_session=True,
            **options,
        )
        programs.append(program)
        return program

    yield run
    for program in programs:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)


def said_by(folder: Path) -> list[str]:
    return (folder / ERRORS).read_text().splitlines()


def stopped(program: subprocess.Popen[bytes], folder: Path) -> str:
    """The last line of a program that was told to stop."""
    assert program.wait(timeout=20) == 143
    assert "Traceback" not in "".join(said_by(folder))
    return said_by(folder)[-1]


def session_of(program: subprocess.Popen[bytes]) -> list[int]:
    """The processes of the program's session that have not ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == program.pid and state != "Z":
                found.append(int(folder.name))
    return found


def ignoring_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


# Scripts start what runs in their background with Ctrl-C ignored.
@pytest.mark.parametrize("prepare", [None, ignoring_ctrl_c])
def test_a_run_keeps_its_state_and_says_how_to_go_on(
    start: Start, tmp_path: Path, prepare: Callable[[], None] | None
) -> None:
    out = tmp_path / "run"
    running = start(*words("distill", "rcig", RCIG, out), preexec_fn=prepare)
    wait_for((out / runs.METRICS).exists)
    running.terminate()
    told = stopped(running, tmp_path)
    reached = checkpoints.read(out / runs.CHECKPOINT)[1]["iteration"]
    assert told == f"stopped at iteration {reached}; continue with --resume"
    record = runs.read_record(out)
    assert (record["status"], record["iteration"]) == ("stopped", reached)


def test_a_teacher_keeps_its_state(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "teacher"
    running = start(*words("teacher", "dwa", DWA | {"method.teacher.epochs": 9_000}, out))
    wait_for(lambda: len(said_by(tmp_path)) > 0)  # of its first epoch
    running.terminate()
    assert stopped(running, tmp_path) == (
        f"stopped; the same command goes on with the teacher in {out}"
    )
    assert checkpoints.read(out / CHECKPOINT)


# A supervisor may ask the program alone, or all its processes at a time.
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ask", [os.kill, os.killpg])
def test_workers_end_with_a_run_that_is_stopped(
    start: Start, tmp_path: Path, ask: Callable[[int, int], None]
) -> None:
    out = tmp_path / "run"
    running = start(*words("distill", "dwa", DWA, out), "--workers", "2")
    wait_for(lambda: len(said_by(tmp_path)) > 1)  # of the teacher, then of the workers
    assert len(session_of(running)) >= 3
    ask(running.pid, signal.SIGTERM)
    assert stopped(running, tmp_path).startswith("stopped at iteration ")
    assert runs.read_record(out)["status"] == "stopped"
    wait_for(lambda: not session_of(running), seconds=2)
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert cli.run(words("distill", "rcig", RCIG | {"method.iterations": 1}, out)) == 0
    return out / runs.DISTILLED


@pytest.mark.parametrize(
    ("command", "module", "said"),
    [
        ("evaluate", "evaluation.evaluate", "stopped; nothing of the network at hand is kept"),
        ("attack", "audits.membership.membership", "stopped; the networks attacked so far are"),
        ("info", "data.distilled.DistilledDataset.load", ""),
    ],
)
def test_every_command_stops_and_says_what_is_kept(
    command: str,
    module: str,
    said: str,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(f"potstill.{module}", asked_to_stop)
    assert cli.run([command, str(artefact)]) == 143
    assert capsys.readouterr().err.startswith(said)


def asked_to_stop(*_arguments: object, **_options: object) -> None:
    signal.raise_signal(signal.SIGTERM)


def test_a_table_can_be_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("potstill.reproduce.reproduce", asked_to_stop)
    table = ["reproduce", "rcig/7", "--rows", "mnist-ipc1", "--out", str(tmp_path)]
    assert cli.run(table) == 143
    assert capsys.readouterr().err.splitlines()[-1].startswith("stopped; the same command goes on")


def test_the_first_sigterm_lets_a_step_finish_and_the_second_does_not() -> None:
    with interrupt.termination_as_ctrl_c() as termination, interrupt.deferred() as ctrl_c:
        signal.raise_signal(signal.SIGTERM)
        assert ctrl_c.requested and termination.came
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_sigterm_is_its_owners_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert cli.run(["--version"]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_is_told_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_arguments: object, **_options: object) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("potstill.data.distilled.DistilledDataset.load", stop)
    assert cli.run(["info", "none.safetensors"]) == 130
