"""Hostile inputs of every kind: success or one line, and nothing started, unpickled or used up.

``POTSTILL_FUZZ_CASES`` and ``POTSTILL_FUZZ_SEED`` say how many the long test tries, and which.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from mmap import mmap
from pathlib import Path
from random import Random
from typing import Any

import pytest

from potstill.errors import DataError
from tests.hostile.damage import damaged
from tests.hostile.fuzzing import driver, guard, kinds, uses
from tests.hostile.fuzzing.driver import Outcome, fuzz

KINDS = tuple(kinds.KINDS)
CASES = int(os.environ.get("POTSTILL_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("POTSTILL_FUZZ_SEED", "1"))
A_FEW = 22  # of each kind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="measures memory by /proc")


def require_harmless(outcome: Outcome) -> None:
    text = "\n\n".join(outcome.faults[:5])
    assert not outcome.faults, f"{len(outcome.faults)} of {outcome.cases} {outcome.kind}:\n{text}"
    assert outcome.accepted > 0 and outcome.refused > outcome.cases / 10


def test_hostile_inputs_are_refused_in_a_line_or_harmless(tmp_path: Path) -> None:
    for outcome in fuzz(KINDS, A_FEW, 0, tmp_path):
        require_harmless(outcome)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_hostile_inputs(kind: str, tmp_path: Path) -> None:
    (outcome,) = fuzz([kind], -(-CASES // len(KINDS)), SEED, tmp_path)
    print(f"{kind}: {outcome.cases} cases, {len(outcome.faults)} faults")
    require_harmless(outcome)


# That it would be noticed


def program(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def print_escape() -> None:
    raise DataError("\x1b[2Jno")


def write_elsewhere() -> None:
    Path(tempfile.gettempdir(), "elsewhere").write_text("x")


def connect() -> None:
    with socket.socket() as made:
        made.settimeout(0.1)
        made.connect_ex(("127.0.0.1", 9))


def unpickle() -> None:
    import pickle

    pickle.loads(pickle.dumps(Random))


def refuse_in_two_lines() -> None:
    raise DataError("no\nno")


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: program("1"), "subprocess.Popen"),
        (lambda: os.waitpid(os.fork() or os._exit(0), 0), "os.fork"),
        (connect, "socket.connect"),
        (unpickle, "pickle.find_class"),
        (write_elsewhere, "open "),
        (lambda: os.mkdir("/proc/x"), "os.mkdir"),
        (print_escape, "prints"),
        (refuse_in_two_lines, "no error in a line"),
        (lambda: signal.pause(), "TooLong: not within 1 s"),
        (lambda: [None for _ in iter(int, 1)], "TooLong: not within 1 s"),
        (lambda: mmap(-1, 40_000_000).write(bytes(40_000_000)), "took "),
    ],
)
def test_what_may_not_be_is_noticed(
    act: Callable[[], object], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        def hostile(self, place: Path, random: Random) -> list[uses.Use]:
            return [uses.call(act)]

    for name, value in (("SECONDS", 1), ("WAIT", 1), ("GROWTH", 30_000_000)):
        monkeypatch.setattr(guard, name, value)
    kind: Any = Bad()
    accepted, _, fault = driver._case(kind, tmp_path / "own", Random(0), WATCH)
    assert told in str(fault), (accepted, fault)


WATCH = guard.Guard(Path(tempfile.gettempdir(), "nowhere"))


def test_what_a_refused_good_input_and_a_dead_process_are_told(tmp_path: Path) -> None:
    class Refused:
        def good(self, place: Path) -> list[uses.Use]:
            return [lambda: False]

    kind: Any = Refused()
    assert driver._case(kind, tmp_path, None, WATCH) == (0, 1, "a good input was refused")
    outcome = Outcome("pt", 7, cases=3)
    outcome.count(0, 0, "died")
    assert outcome.faults == ["python -m tests.hostile.fuzzing.driver pt:3 --seed 7\ndied"]


def test_damage_is_the_same_for_the_same_seed_and_never_refuses() -> None:
    content = bytes(range(256)) * 3
    found = {damaged(content, Random(number)) for number in range(200)}
    assert damaged(content, Random(5)) == damaged(content, Random(5))
    assert len(found) > 150
    assert all(isinstance(damaged(b"", Random(number)), bytes) for number in range(200))
