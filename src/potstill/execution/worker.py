"""A worker process from within, and the files through which it and its parent hand on things."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import threading
from functools import cache
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from potstill.errors import RunError
from potstill.execution.executor import Tell, Work
from potstill.files import atomic_write

WORK = "work"
"""The file, beside those of the units, that holds the work."""

_tell: Tell
_threads: int


def begin(folder: Path, steps: Connection, threads: int) -> None:
    """Make this process a worker that tells its progress through ``steps``.

    It ends when its parent does, even if that was killed, and takes ``folder`` with it. PyTorch
    splits sums over so many ``threads`` in it.
    """
    global _tell, _threads
    _tell, _threads = steps.send, threads
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()


def _end_with_parent(folder: Path) -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def perform(path: Path) -> Path:
    """Do the unit in the file ``path``; its result takes its place."""
    try:
        work = _work(path.parent / WORK)
        if "torch" in sys.modules:  # work that needs it has imported it
            sys.modules["torch"].set_num_threads(_threads)
        result = work(take(path), _tell)
    except Exception as error:
        if not _can_travel(error):
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        raise
    put(path, result)
    return path


@cache
def _work(path: Path) -> Work[Any, Any]:
    return pickle.loads(path.read_bytes())


def _can_travel(error: Exception) -> bool:
    """Whether the parent can read ``error``; one that it cannot read breaks the whole pool."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True


def put(path: Path, thing: object) -> None:
    """Write ``thing`` for another process.

    Raises:
        RunError: it cannot be pickled, or there is no room for it.
    """
    try:
        content = pickle.dumps(thing)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"the work cannot be sent to other processes ({reason}); use --workers 1"
        ) from None
    atomic_write(path, content)


def take(path: Path) -> Any:
    """What another process has put there; the file is removed."""
    content = path.read_bytes()
    path.unlink()
    return pickle.loads(content)
