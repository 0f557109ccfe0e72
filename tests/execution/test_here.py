from __future__ import annotations

from collections.abc import Callable

from potstill.execution import Here


def square(unit: int, tell: Callable[[int], None]) -> tuple[int, int]:
    tell(1)
    tell(2)
    return unit, unit * unit


def test_the_order_is_that_of_the_units() -> None:
    steps: list[int] = []
    assert list(Here().map(square, [3, 1, 2], steps.append)) == [(3, 9), (1, 1), (2, 4)]
    assert steps == [1, 2] * 3


def test_a_unit_runs_when_its_result_is_asked_for() -> None:
    steps: list[int] = []
    results = Here().map(square, [3, 1], steps.append)
    assert steps == []
    next(results)
    results.close()
    assert steps == [1, 2]
