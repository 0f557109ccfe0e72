"""How whole programs end, and their workers with them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.execution.busy import somebody_is_busy, started, wait_until

Start = Callable[[str], "subprocess.Popen[str]"]

BUSY = """
from pathlib import Path
from potstill.execution import Processes
from tests.execution.busy import Busy

if __name__ == "__main__":
    results = Processes(2).map(Busy(Path(FOLDER)), UNITS, lambda steps: None)
    for result in results:
        raise ValueError("in the midst")
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a script in a session of its own, with an empty folder for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    programs: list[subprocess.Popen[str]] = []

    def run(script: str) -> subprocess.Popen[str]:
        path = tmp_path / "script.py"
        path.write_text(script.replace("FOLDER", repr(str(tmp_path))))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(sys.path),
            "TMPDIR": str(temporary),
        }
        program = subprocess.Popen(
            [sys.executable, str(path)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        programs.append(program)
        return program

    yield run
    for program in programs:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.communicate()


@pytest.fixture
def two_busy(start: Start, tmp_path: Path) -> subprocess.Popen[str]:
    program = start(BUSY.replace("UNITS", "[1, 2, 3]"))
    wait_until(lambda: started(tmp_path) == 2)
    assert somebody_is_busy(tmp_path)
    return program


def left_behind(folder: Path) -> list[Path]:
    return list((folder / "temporary").iterdir())


def test_ctrl_c_ends_workers_without_a_word_from_them(
    two_busy: subprocess.Popen[str], tmp_path: Path
) -> None:
    os.killpg(two_busy.pid, signal.SIGINT)
    _, errors = two_busy.communicate(timeout=30)
    assert not somebody_is_busy(tmp_path)
    assert errors.count("Traceback") == 1
    assert errors.endswith("KeyboardInterrupt\n")
    assert left_behind(tmp_path) == []


def test_workers_end_with_a_parent_that_was_killed(
    two_busy: subprocess.Popen[str], tmp_path: Path
) -> None:
    two_busy.kill()
    wait_until(lambda: not somebody_is_busy(tmp_path), seconds=2)
    wait_until(lambda: left_behind(tmp_path) == [], seconds=2)


def test_an_iteration_that_nobody_closed_does_not_hold_up_the_exit(
    start: Start, tmp_path: Path
) -> None:
    program = start(BUSY.replace("UNITS", "[0, 1, 2]"))
    _, errors = program.communicate(timeout=60)
    assert "ValueError: in the midst\n" in errors
    assert not somebody_is_busy(tmp_path)


DEAF = """
import os
import signal
from potstill.execution import Processes

if __name__ == "__mp_main__":  # in a worker that is just starting
    os.kill(os.getpid(), signal.SIGINT)

def work(unit, tell):
    os.kill(os.getpid(), signal.SIGINT)
    return unit

if __name__ == "__main__":
    print(sorted(Processes(2).map(work, range(4), lambda steps: None)))
"""


def test_workers_do_not_hear_ctrl_c(start: Start) -> None:
    output, errors = start(DEAF).communicate(timeout=60)
    assert (output, errors) == ("[0, 1, 2, 3]\n", "")


UNGUARDED = """
from functools import partial
from potstill.execution import Processes

def work(ballast, unit, tell):
    return unit

list(Processes(2).map(partial(work, bytes(5_000_000)), range(4), lambda steps: None))
"""


def test_a_script_without_a_guard_is_told_so(start: Start, tmp_path: Path) -> None:
    _, errors = start(UNGUARDED).communicate(timeout=60)
    last = errors.splitlines()[-1]
    assert last.startswith("potstill.errors.RunError: a worker process died (exit code 1; ")
    assert 'a script without `if __name__ == "__main__"`' in last
    assert left_behind(tmp_path) == []
