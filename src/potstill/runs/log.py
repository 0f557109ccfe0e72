"""The log of a run: quantities by iteration, in metrics.jsonl and for TensorBoard.

It is written as the run goes on and read strictly, so that whoever reads it may trust every type.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from potstill import hardware
from potstill.errors import RunError
from potstill.files import atomic_write, open_regular
from potstill.results import Count

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"

_LONGEST_LINE = 1 << 20
# What is made of a log takes so many times its bytes.
_COPIES = 8


class Log:
    """What a run appends to; both files are opened when the first number is logged."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metrics: int | None = None
        self._board: Any = None

    def append(self, iteration: int, seconds: float, values: Mapping[str, float]) -> None:
        """One line more; numbers that are not finite become null in metrics.jsonl.

        Raises:
            RunError: the disk is full or gone.
        """
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: x if math.isfinite(x) else None for name, x in numbers.items()}
        line = {"iteration": iteration, "seconds": round(seconds, 3), **finite}
        with explained(self._folder / METRICS):
            if self._metrics is None:
                # Not to wait for a reader, if it is a pipe.
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK
                self._metrics = os.open(self._folder / METRICS, flags, 0o666)
            _write_all(self._metrics, json.dumps(line).encode() + b"\n")
        with explained(self._folder / TENSORBOARD):
            if self._board is None:
                from torch.utils.tensorboard import SummaryWriter  # takes a second

                board = str(self._folder / TENSORBOARD)
                self._board = SummaryWriter(board, purge_step=iteration)
            for name, value in numbers.items():
                self._board.add_scalar(name, value, iteration)

    def sync(self) -> None:
        """See that what was appended has reached the disk."""
        if self._metrics is not None:
            os.fsync(self._metrics)

    def close(self) -> None:
        """Nothing is appended any more."""
        if self._board is not None:
            # These numbers stand in metrics.jsonl too: losing the last of them costs nothing.
            with suppress(OSError):
                self._board.close()
        if self._metrics is not None:
            os.close(self._metrics)
        self._board = self._metrics = None


def cut_log(folder: Path, iteration: int) -> None:
    """Keep the lines up to ``iteration``; a last line cut off by a crash goes too.

    Raises:
        RunError: as from :func:`read_log`, or it cannot be written.
    """
    path = folder / METRICS
    if path.exists():
        kept = [line + b"\n" for line, entry in read_log(path) if entry.iteration <= iteration]
        atomic_write(path, b"".join(kept))


class Entry(BaseModel):
    """A line of the log; of further keys each is a quantity, null where it was not finite."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    __pydantic_extra__: dict[str, float | None]
    iteration: Count
    seconds: float = 0.0

    @property
    def values(self) -> dict[str, float | None]:
        """The quantities by name."""
        return self.__pydantic_extra__


def read_log(path: Path) -> Iterator[tuple[bytes, Entry]]:
    """Every line of the log, without its end, and what it says; none if there is no log.

    The last line, which a killed run may have left torn, is passed over if it says nothing.

    Raises:
        RunError: another line is none, or the file cannot be read or is too large for the memory.
    """
    try:
        with open_regular(path) as file:
            shortage = hardware.shortage(os.fstat(file.fileno()).st_size, _COPIES)
            if shortage is not None:
                raise RunError(f"{path} has {shortage}; use a machine with more")
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if not line.strip():
                    continue
                try:
                    entry = Entry.model_validate_json(line)
                except ValidationError:
                    if len(line) < _LONGEST_LINE and not line.endswith(b"\n"):
                        return  # the last one, torn
                    raise RunError(
                        f"{path}, line {number}: not a JSON object of numbers with an iteration; "
                        "remove the line"
                    ) from None
                yield line.rstrip(b"\n"), entry
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot read {path}: {reason}; check its permissions") from None


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what to do where ``path``, of a run's folder, cannot be written.

    Raises:
        RunError: any error of the system inside.
    """
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free space or change permissions "
            "and use --resume, or choose another --out"
        ) from error


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
