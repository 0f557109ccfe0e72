from __future__ import annotations

import pytest

from potstill import bars
from potstill.cli.progress import reporting


def test_a_line_at_every_tenth_of_each_stage(capsys):
    with reporting("begun") as tell:
        for done in range(1, 101):
            tell("iteration", done, 100, loss=1 / done, batch_accuracy=0.25, other=7.0)
        tell("relabelling epoch", 1, 1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "iteration 1/100  loss 1.0000  accuracy 0.2500"
    places = [line.split()[1] for line in lines[1:-1]]
    assert places == [f"{done}/100" for done in range(10, 101, 10)]
    assert all("  loss 0." in line and "other" not in line for line in lines[1:-1])
    assert lines[1].endswith("  ETA 0:00:00") and "ETA" not in lines[-2]
    assert lines[-1] == "relabelling epoch 1/1"


def test_a_line_a_minute_between_two_tenths(capsys, monkeypatch):
    clock = iter([0.0, 30.0, 61.0])
    monkeypatch.setattr(bars.time, "monotonic", lambda: next(clock))
    with reporting("") as tell:
        for done in (1, 2, 3):
            tell("epoch", done, 1000)
    assert capsys.readouterr().err.splitlines() == ["epoch 1/1000", "epoch 3/1000  ETA 8:26:48"]


@pytest.mark.parametrize("title", ["begun", "iteration"])
def test_a_bar_on_a_terminal(title, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with reporting(title) as tell:
        tell("iteration", 3, 10, loss=0.5)
        tell("relabelling epoch", 1, 4)
    shown = capsys.readouterr().err
    assert title in shown and "relabelling epoch" in shown and "1/4" in shown
