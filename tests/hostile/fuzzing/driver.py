"""Runs hostile cases in a process of their own, and tells what came of them.

    python -m tests.hostile.fuzzing.driver KIND:17 --seed 0

does one again: a case depends on the kind, the seed and its number alone. Case 0 of every kind is
a good input, of which every use must succeed.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Protocol

ROOT = Path(__file__).parents[3]
_READY = "ready"


class Kind(Protocol):
    """A kind of input; made with a folder for what its cases have in common."""

    def good(self, place: Path) -> list[Any]:
        """Write a good input into the empty folder ``place``; the uses of it."""

    def hostile(self, place: Path, random: Random) -> list[Any]:
        """The same for a hostile input; some uses may have been made of it already."""


@dataclass
class Outcome:
    """What came of the cases of a kind."""

    kind: str
    seed: int
    cases: int = 0
    accepted: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)

    def count(self, accepted: int, refused: int, fault: str | None) -> None:
        """Take in what came of the next case."""
        self.accepted += accepted
        self.refused += refused
        if fault is not None:
            again = f"{self.kind}:{self.cases} --seed {self.seed}"
            self.faults.append(f"python -m tests.hostile.fuzzing.driver {again}\n{fault}")
        self.cases += 1


def fuzz(kinds: Sequence[str], cases: int, seed: int, folder: Path) -> list[Outcome]:
    """What comes of the first so many cases of each kind; that a process dies is a fault, too."""
    outcomes = {kind: Outcome(kind, seed) for kind in kinds}
    while left := [outcome for outcome in outcomes.values() if outcome.cases < cases]:
        ranges = [f"{outcome.kind}:{outcome.cases}:{cases}" for outcome in left]
        ended = subprocess.run(
            [sys.executable, "-m", "tests.hostile.fuzzing.driver", *ranges, "--seed", str(seed),
             "--folder", str(folder)],
            cwd=ROOT,
            env=_environment(folder),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )  # fmt: skip
        ready, *lines = ended.stdout.splitlines() or [""]
        if ready != _READY:  # it has not come to a case
            raise RuntimeError(ended.stderr)
        for line in lines:
            kind, *what = json.loads(line)
            outcomes[kind].count(*what)
        if ended.returncode:
            died = next(outcome for outcome in left if outcome.cases < cases)
            died.count(0, 0, f"exit code {ended.returncode}: {ended.stderr[-5000:]}")
    return list(outcomes.values())


def _environment(folder: Path) -> dict[str, str]:
    """Without files of the user's, and with the paths of the process that asks."""
    own = {name: str(folder) for name in ("TMPDIR", "MPLCONFIGDIR", "POTSTILL_CACHE")}
    path = os.pathsep.join(filter(None, sys.path))
    return os.environ | own | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def main() -> None:
    """One JSON list on stdout for each case: its kind, and what :meth:`Outcome.count` takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="+", metavar="KIND:CASE[:END]")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name, redirect_stdout(sys.stderr):
        for line in _cases(asked.cases, asked.seed, Path(name)):
            print(json.dumps(line), file=sys.__stdout__, flush=True)


def _cases(ranges: Sequence[str], seed: int, folder: Path) -> Iterator[list[Any]]:
    from potstill import hardware
    from tests.hostile.fuzzing import guard, kinds

    hardware.memory = lambda: guard.MEMORY
    common, place = folder / "common", folder / "case"
    common.mkdir()
    asked = [(name, int(first), int((*end, int(first) + 1)[0]))
             for name, first, *end in (each.split(":") for each in ranges)]  # fmt: skip
    made: dict[str, Kind] = {name: kinds.KINDS[name](common) for name, _, _ in asked}
    for kind in made.values():
        for use in _good(kind, place):
            use()  # imports what it needs
    faulthandler.enable()
    watch = guard.Guard(folder)
    guard.limit_memory()
    warnings.simplefilter("always")
    print(_READY, file=sys.__stdout__, flush=True)
    for name, first, end in asked:
        for number in range(first, end):
            random = Random(f"{seed} {name} {number}") if number else None
            yield [name, *_case(made[name], place, random, watch)]


def _good(kind: Kind, place: Path) -> list[Any]:
    _empty(place)
    return kind.good(place)


def _case(
    kind: Kind, place: Path, random: Random | None, watch: Any
) -> tuple[int, int, str | None]:
    """What comes of a case; of a good input if there is nothing to draw from."""
    from tests.hostile.fuzzing import uses

    _empty(place)
    asked = kind.good(place) if random is None else kind.hostile(place, random)
    accepted, refused, fault = 0, 0, None
    try:
        with watch.watching() as trespasses:
            accepted, refused = uses.all_of(asked)
        if trespasses:
            fault = "\n".join(dict.fromkeys(trespasses))
        elif random is None and refused:
            fault = "a good input was refused"
    except BaseException:
        fault = traceback.format_exc()[-8000:]
    return accepted, refused, fault


def _empty(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()


if __name__ == "__main__":
    main()
