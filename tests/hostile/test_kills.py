"""Runs that are killed (kill -9) go on to the bytes of a run that was not, and leave nothing."""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from potstill import cli, runs
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.squeeze import TEACHER
from tests.hostile import kills
from tests.hostile.fuzzing.material import METHODS, distil
from tests.hostile.kills import WORST, Moment, When
from tests.hostile.test_signals import session_of, wait_for

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Long enough to be killed in the midst, and with a checkpoint that is written often.
_LENGTHS: dict[str, dict[str, Any]] = {
    "rcig": {"method__iterations": 24, "checkpoint_every": 3},
    "dwa": {"method__iterations": 10, "method__teacher__epochs": 3, "images_per_class": 3},
    "dm": {"method__iterations": 40, "checkpoint_every": 3},
    "dc": {"method__iterations": 12, "checkpoint_every": 3},
}
# What stands for the files of each that take longest to write.
_LARGEST = {"rcig": runs.CHECKPOINT, "dwa": "00001-001.safetensors", "dm": runs.CHECKPOINT}


def words(method: str, out: Path, *more: str) -> list[str]:
    return distil(method, out, *more, **_LENGTHS[method])


class Whole:
    """A run that nobody disturbed."""

    def __init__(self, method: str, folder: Path) -> None:
        self.out, log = folder / "run", folder / "log"
        started = time.monotonic()
        process = kills.start(words(method, self.out), log)
        process.join()
        assert process.exitcode == 0, log.with_suffix(".err").read_text()
        self.seconds = time.monotonic() - started
        self.written = log.read_text().splitlines()
        self.kept = kept(self.out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    kills.start(["--version"], tmp_path_factory.mktemp("version") / "log").join()  # imports
    return cache(lambda method: Whole(method, tmp_path_factory.mktemp(method)))


def kept(out: Path) -> dict[str, Any]:
    """What must be the same: set, teacher, groups, and the log but for its seconds."""
    names = (runs.DISTILLED, TEACHER, GROUPS)
    paths = [path for name in names for path in ((out / name), *sorted((out / name).glob("*")))]
    found: dict[str, Any] = {path.name: path.read_bytes() for path in paths if path.is_file()}
    if (out / GROUPS).exists():  # they say how long they took
        found = {name: content for name, content in found.items() if name in names}
    lines = [json.loads(line) for line in (out / runs.METRICS).read_text().splitlines()]
    return found | {"log": [line | {"seconds": 0} for line in lines]}


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob(".potstill-*")]


def require_same_after_resume(method: str, out: Path, whole: Whole) -> None:
    assert cli.run(words(method, out, "--resume")) == 0
    assert kept(out) == whole.kept
    assert leftovers(out) == []


def require_worst(method: str, place: int, when: When, whole: Whole, folder: Path) -> None:
    """Kill a run there, and see that it goes on to the same bytes."""
    out, log = folder / "run", folder / "log"
    process = kills.start(words(method, out), log, Moment(place, when))
    process.join()
    assert process.exitcode == -9
    assert len(log.read_text().splitlines() if log.exists() else []) == place
    assert len(leftovers(out)) == (when != "after the rename")
    require_same_after_resume(method, out, whole)


@pytest.mark.parametrize("when", WORST)
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_the_worst_moments(method: str, when: When, whole: Any, tmp_path: Path) -> None:
    written = whole(method).written
    place = len(written) - 1 - written[::-1].index(_LARGEST[method])
    require_worst(method, place, when, whole(method), tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("when", WORST)
@pytest.mark.parametrize("method", METHODS)
def test_killed_at_the_worst_moments_of_every_file(
    method: str, when: When, whole: Any, tmp_path: Path
) -> None:
    written = whole(method).written
    for name in sorted(set(written)):
        (tmp_path / name).mkdir()
        require_worst(method, written.index(name), when, whole(method), tmp_path / name)


@pytest.mark.parametrize(
    ("method", "count", "workers"),
    [
        *(("rcig", 1, "1"), ("dwa", 1, "1"), ("dm", 1, "1")),
        *(
            pytest.param(method, 20, workers, marks=pytest.mark.long)
            for method, workers in (
                *(("rcig", "1"), ("dwa", "1"), ("dwa", "2")),
                *(("dm", "1"), ("dc", "1")),
            )
        ),
    ],
)
def test_killed_at_random_moments(
    method: str, count: int, workers: str, whole: Any, tmp_path: Path
) -> None:
    random, killed = Random(f"{method} {workers} {count}"), 0
    most = whole(method).seconds * (2 if workers == "2" else 1)  # workers start first
    for number in range(4 * count):
        out = tmp_path / str(number)
        more = ["--workers", workers] if method == "dwa" else []
        process = kills.start([*words(method, out), *more], tmp_path / f"{number}.log")
        time.sleep(random.uniform(0.1, 1) * most)
        process.kill()
        process.join()
        wait_for(lambda leader=process: not session_of(leader), seconds=2)
        if process.exitcode == -9:
            require_same_after_resume(method, out, whole(method))
            killed += 1
        if killed == count:
            return
    pytest.fail(f"only {killed} of {4 * count} died before they had ended")
