"""Good files of every kind, made once in a process: what hostile ones are made of."""

from __future__ import annotations

import shutil
import signal
from functools import cache
from pathlib import Path
from typing import Any

from potstill import cli, runs
from potstill.data import datasets
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.squeeze import CHECKPOINT, TEACHER, squeeze
from potstill.recipes import load

_MATCHING = {
    "data.dataset": "digits",
    "data.mean": "null",
    "data.std": "null",
    "images_per_class": 1,
    "network.depth": 2,
    "network.width": 4,
    "method.real_batch": 8,
    "checkpoint_every": 2,
    "log_every": 1,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "rcig": {
        "network.depth": 1,
        "network.width": 4,
        "method.iterations": 3,
        "method.target_batch": 32,
        "method.pool.size": 2,
        "checkpoint_every": 2,
        "log_every": 1,
    },
    "dwa": {
        "images_per_class": 2,
        "method.class_batch": 5,
        "method.iterations": 4,
        "method.teacher.epochs": 2,
        "method.teacher.network.width": 4,
        "method.precision": "float32",
        "network.width": 4,
        "evaluation.epochs": 2,
        "log_every": 2,
    },
    "dm": {**_MATCHING, "method.iterations": 3},
    "dc": {**_MATCHING, "method.iterations": 3, "method.updates": 2, "method.epochs": 1},
}
METHODS = ("rcig", "dwa", "dm")
"""Those of which files are made, one of each kind; DC's are DM's."""
_RECIPES = {"rcig": "quickstart/digits-rcig", "dwa": "quickstart/digits-dwa",
            "dm": "dm/cifar10-ipc10-cpu", "dc": "dc/cifar10-ipc10-cpu"}  # fmt: skip


def assignments(method: str, **changes: Any) -> list[str]:
    """Of a recipe of the digits that takes a fraction of a second."""
    chosen = _SETTINGS[method] | {key.replace("__", "."): value for key, value in changes.items()}
    return [f"{key}={value}" for key, value in chosen.items()]


def distil(method: str, out: Path, *more: str, **changes: Any) -> list[str]:
    """The words of the command that distils it."""
    chosen = assignments(method, **changes)
    words = [word for assignment in chosen for word in ("--set", assignment)]
    return ["distill", _RECIPES[method], *words, "--out", str(out), "--device", "cpu",
            *(["--workers", "1"] if method == "dwa" else []), *more]  # fmt: skip


@cache
def run(method: str, folder: Path) -> Path:
    """The folder of a run that is finished; DWA's has an audit, too."""
    out = folder / method
    assert cli.run(distil(method, out)) == 0
    if method == "dwa":
        words = ["diversity", str(out / runs.DISTILLED), "--no-real", "--device", "cpu"]
        assert cli.run(words) == 0
    return out


def unfinished(method: str, folder: Path, to: Path) -> Path:
    """A copy of the run at its last checkpoint."""
    shutil.copytree(run(method, folder), to)
    (to / runs.DISTILLED).unlink()
    return to


def untaught(folder: Path, to: Path) -> Path:
    """A run of DWA that was stopped in the midst of its teacher's training."""
    unfinished("dwa", folder, to)
    shutil.rmtree(to / GROUPS)
    (to / TEACHER).unlink()
    (to / runs.CHECKPOINT).unlink()
    (to / CHECKPOINT).write_bytes(_teachers_checkpoint(folder))
    return to


@cache
def _teachers_checkpoint(folder: Path) -> bytes:
    recipe = load(_RECIPES["dwa"], assignments("dwa"))
    place = folder / "teacher"
    place.mkdir()

    def stop(*_arguments: Any, **_values: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    try:
        squeeze(recipe, datasets.load(recipe.data, None), folder=place, progress=stop)
    except KeyboardInterrupt:
        return (place / CHECKPOINT).read_bytes()
    raise AssertionError("the teacher was not stopped")
