from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from potstill.errors import DataError, RunError
from potstill.execution import in_processes, in_turn


def square(unit: int, tell: Callable[[int], None]) -> tuple[int, int]:
    tell(1)
    tell(2)
    return unit, unit * unit


def refuse(unit: int, tell: Callable[[int], None]) -> int:
    if unit == 2:
        raise DataError("unit 2 is bad; leave it out")
    return unit


def die(unit: int, tell: Callable[[int], None]) -> int:
    os._exit(7)


def ignore(_steps: int) -> None:
    pass


def test_in_turn_keeps_the_order() -> None:
    steps: list[int] = []
    assert list(in_turn(square, [3, 1, 2], steps.append)) == [(3, 9), (1, 1), (2, 4)]
    assert steps == [1, 2] * 3


def test_processes_do_every_unit_once_and_tell_all_steps() -> None:
    steps: list[int] = []
    results = list(in_processes(2)(square, range(7), steps.append))
    assert sorted(results) == [(unit, unit * unit) for unit in range(7)]
    assert sum(steps) == 7 * 3


def test_one_unit_needs_no_process() -> None:
    here = os.getpid()
    assert list(in_processes(4)(lambda unit, _: os.getpid(), [0], ignore)) == [here]


def test_no_units() -> None:
    assert list(in_processes(2)(square, [], ignore)) == []


def test_an_error_of_the_work_is_raised_here() -> None:
    with pytest.raises(DataError, match="unit 2 is bad"):
        list(in_processes(2)(refuse, range(4), ignore))


def test_a_process_that_dies_is_reported() -> None:
    with pytest.raises(RunError, match=r"exit code 7.*--resume"):
        list(in_processes(2)(die, range(2), ignore))


class Heavy:
    """Work that is far larger than a pipe's buffer, and ends every process that reads it."""

    def __init__(self) -> None:
        self.ballast = bytes(5_000_000)

    def __setstate__(self, _state: object) -> None:
        os._exit(9)

    def __call__(self, unit: int, tell: Callable[[int], None]) -> int:
        return unit


def test_a_process_that_dies_over_large_work_is_reported() -> None:
    with pytest.raises(RunError, match="exit code 9"):
        list(in_processes(2)(Heavy(), range(2), ignore))


def test_work_that_cannot_travel_is_refused() -> None:
    with pytest.raises(RunError, match="use --workers 1"):
        list(in_processes(2)(lambda unit, _: unit, range(2), ignore))
