"""Work that goes on for a minute, and how to know from outside whether a process is still at it."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Busy:
    """Returns unit 0, once another unit is worked on; any other unit takes a minute.

    Who works on one holds the file ``lock`` of ``folder``, which the system frees when the
    process is dead, whether or not anybody has asked for its exit code.
    """

    folder: Path

    def __call__(self, unit: int, tell: Callable[[int], None]) -> int:
        if unit == 0:
            wait_until(lambda: started(self.folder) > 0)
            return self.first()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            (self.folder / f"started-{unit}").touch()
            time.sleep(60)
        return unit

    def first(self) -> int:
        return 0


def started(folder: Path) -> int:
    return len(list(folder.glob("started-*")))


def somebody_is_busy(folder: Path) -> bool:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@contextmanager
def sooner_than_the_work() -> Iterator[None]:
    """The block does not wait for a busy process to finish its unit."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 30


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
