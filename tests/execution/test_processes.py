from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from potstill.errors import DataError, RunError
from potstill.execution import Here, Processes, in_processes
from tests.execution.busy import Busy, somebody_is_busy, sooner_than_the_work

Tell = Callable[[int], None]


def ignore(_steps: int) -> None:
    pass


def square(unit: int, tell: Tell) -> tuple[int, int]:
    tell(1)
    tell(2)
    return unit, unit * unit


def test_every_unit_is_done_once_and_all_steps_are_told() -> None:
    steps: list[int] = []
    results = list(Processes(2).map(square, range(7), steps.append))
    assert sorted(results) == [(unit, unit * unit) for unit in range(7)]
    assert sorted(steps) == [1] * 7 + [2] * 7


def where(unit: int, tell: Tell) -> int:
    return os.getpid()


def test_several_workers_and_units_run_elsewhere() -> None:
    assert os.getpid() not in list(in_processes(2).map(where, range(2), ignore))


class Threads:
    """Work that needs PyTorch, as all but the tests' does."""

    def __setstate__(self, _state: object) -> None:
        importlib.import_module("torch")

    def __getstate__(self) -> object:
        return True

    def __call__(self, unit: int, tell: Tell) -> int:
        return int(sys.modules["torch"].get_num_threads())


def test_sums_are_split_over_as_many_threads_there_as_here() -> None:
    """More than there are cores, which no process would have of its own accord."""
    import torch  # not above: workers that need not import it start sooner

    before, more = torch.get_num_threads(), 1 + (os.cpu_count() or 1)
    torch.set_num_threads(more)
    try:
        assert list(Processes(2).map(Threads(), range(2), ignore)) == [more, more]
    finally:
        torch.set_num_threads(before)


def test_one_unit_or_one_worker_runs_here() -> None:
    assert list(in_processes(4).map(lambda unit, _: os.getpid(), [0], ignore)) == [os.getpid()]
    assert in_processes(1) == Here()


def test_no_units() -> None:
    assert list(in_processes(2).map(square, [], ignore)) == []


class Counted:
    """Work that notes in a file each time that a process reads it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        with self.path.open("a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, unit: int, tell: Tell) -> int:
        return os.getpid()


def test_the_work_is_read_once_by_each_process(tmp_path: Path) -> None:
    workers = list(Processes(2).map(Counted(tmp_path / "read"), range(8), ignore))
    readers = (tmp_path / "read").read_text().split()
    assert sorted(readers) == sorted(str(worker) for worker in set(workers))


def copy(unit: bytes, tell: Tell) -> bytes:
    return bytes(unit)


def test_large_units_and_results_come_through() -> None:
    units = [bytes([number]) * 20_000_000 for number in range(5)]
    assert sorted(Processes(2).map(copy, units, ignore)) == units


def refuse(unit: int, tell: Tell) -> int:
    if unit == 2:
        raise DataError("unit 2 is bad; leave it out")
    return unit


def test_an_error_of_the_work_is_raised_here() -> None:
    with pytest.raises(DataError, match=r"^unit 2 is bad; leave it out$"):
        list(Processes(2).map(refuse, range(4), ignore))


class Untold(Exception):
    """Can be pickled but not be read again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def fail(unit: int, tell: Tell) -> int:
    raise Untold("this", "that")


def test_an_error_that_cannot_travel_is_told() -> None:
    with pytest.raises(RuntimeError, match="Untold: this and that"):
        list(Processes(2).map(fail, range(2), ignore))


class Failing(Busy):
    def first(self) -> int:
        raise DataError("no")


def test_an_error_ends_the_other_processes(tmp_path: Path) -> None:
    with sooner_than_the_work(), pytest.raises(DataError):
        list(Processes(2).map(Failing(tmp_path), range(2), ignore))
    assert not somebody_is_busy(tmp_path)


def test_closing_ends_the_processes(tmp_path: Path) -> None:
    results = Processes(2).map(Busy(tmp_path), range(4), ignore)
    assert next(results) == 0
    assert somebody_is_busy(tmp_path)
    with sooner_than_the_work():
        results.close()
    assert not somebody_is_busy(tmp_path)


class Exiting(Busy):
    def first(self) -> int:
        os._exit(7)


class Killed(Busy):
    def first(self) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return 0


@pytest.mark.parametrize("units", [[0, 1], [1, 0]])
@pytest.mark.parametrize(("work", "how"), [(Exiting, "exit code 7;"), (Killed, "signal 9, ")])
def test_a_process_that_dies_is_reported_while_another_is_busy(
    work: type[Busy], how: str, units: list[int], tmp_path: Path
) -> None:
    message = rf"a worker process died \({how}.*--resume"
    with sooner_than_the_work(), pytest.raises(RunError, match=message):
        list(Processes(2).map(work(tmp_path), units, ignore))
    assert not somebody_is_busy(tmp_path)


class Heavy:
    """Work that is far larger than a pipe's buffer, and ends every process that reads it."""

    def __init__(self) -> None:
        self.ballast = bytes(5_000_000)

    def __setstate__(self, _state: object) -> None:
        os._exit(9)

    def __call__(self, unit: int, tell: Tell) -> int:
        return unit


def test_a_process_that_dies_over_large_work_is_reported() -> None:
    with pytest.raises(RunError, match="exit code 9"):
        list(Processes(2).map(Heavy(), range(2), ignore))


def give_function(unit: object, tell: Tell) -> object:
    return lambda: unit


@pytest.mark.parametrize(
    ("work", "units"),
    [
        (lambda unit, _: unit, range(2)),
        (square, [lambda: 0, lambda: 1]),
        (give_function, range(2)),
    ],
    ids=["work", "unit", "result"],
)
def test_what_cannot_travel_is_refused(work: Any, units: Any) -> None:
    with pytest.raises(RunError, match=r"cannot be sent to other processes.*use --workers 1"):
        list(Processes(2).map(work, units, ignore))
