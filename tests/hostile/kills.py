"""Commands in processes that die: at a moment somebody else chooses, or at one of their own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

from potstill import cli, files

When = Literal["in the write", "before the rename", "after the rename"]
WORST: tuple[When, ...] = ("in the write", "before the rename", "after the rename")

# Forked from a process that has imported what takes seconds: kills can be many.
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "potstill.methods.rcig.distil",
        "potstill.methods.dwa.distil",
        "potstill.methods.matching.distil",
        "torch.utils.tensorboard",
    ]
)


@dataclass(frozen=True)
class Moment:
    """In the writing of the ``number``-th file, counted from 0, that a process writes."""

    number: int
    when: When


def start(words: Sequence[str], log: Path, moment: Moment | None = None) -> Any:
    """A process, the leader of a session, that runs a command of potstill.

    It writes into ``log`` the name of every file that it has put into its place.
    """
    process = _CONTEXT.Process(target=_run, args=(list(words), log, moment))
    process.start()
    return process


def _run(words: list[str], log: Path, moment: Moment | None) -> None:
    os.setsid()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(os.open(log.with_suffix(".err"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    _attend_to_writes(log, moment)
    sys.exit(cli.run(words))


def _attend_to_writes(log: Path, moment: Moment | None) -> None:
    """From here on :func:`potstill.files.atomic_write` logs what it writes, and dies in time."""
    written = 0
    replace = os.replace

    def now(when: When) -> bool:
        return moment == Moment(written, when)

    def opened(*arguments: Any, **options: Any) -> Any:
        file = open(*arguments, **options)  # noqa: SIM115
        return _Torn(file) if "x" in arguments[1] and now("in the write") else file

    def replaced(temporary: Path, path: Path) -> None:
        nonlocal written
        if now("before the rename"):
            die()
        replace(temporary, path)
        if now("after the rename"):
            die()
        written += 1
        with log.open("a") as file:
            file.write(f"{path.name}\n")

    vars(files)["open"] = opened
    files.os.replace = replaced


class _Torn:
    """A file whose writer dies when half of the bytes are written."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> _Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._file, name)

    def write(self, content: bytes) -> None:
        self._file.write(content[: len(content) // 2])
        self._file.flush()
        die()


def die() -> None:
    """As when somebody sends kill -9."""
    os.kill(os.getpid(), signal.SIGKILL)
