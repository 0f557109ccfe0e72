"""What hostile input may not do to the process that reads it: noticed, whatever becomes of it."""

from __future__ import annotations

import faulthandler
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 10
"""Of the processor, for a case."""
WAIT = 60
"""Seconds by the clock, for a case, however busy the machine is."""
MEMORY = 500_000_000
"""Bytes that potstill is told the machine has."""
GROWTH = 3 * MEMORY
"""Bytes by which a case may let the process grow at its height."""

_FORBIDDEN = (
    *("subprocess.", "os.exec", "os.posix_spawn", "os.system", "os.fork", "os.spawn", "pty."),
    *(
        "socket.connect",
        "socket.bind",
        "socket.send",
        "socket.getaddrinfo",
        "urllib.",
        "webbrowser.",
    ),
    "pickle.find_class",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Those of their arguments that are changed.
_CHANGING = {"os.rename": 2, "os.remove": 1, "os.rmdir": 1, "os.mkdir": 1, "os.truncate": 1}


class TooLong(BaseException):
    """A case takes longer than any should; no handler of errors may take it for one."""


class Guard:
    """Hears of every process, connection and unpickling, and of files changed outside ``own``.

    An audit hook cannot be taken back: a process has one guard, and it listens within
    :meth:`watching`.
    """

    def __init__(self, own: Path) -> None:
        self._own = os.path.realpath(own)
        self._heard: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self) -> Iterator[list[str]]:
        """Limits on the block; the list says in the end what it has done that is forbidden.

        Raises:
            TooLong: it was stopped, as its time was over.
        """
        _forget_peak()
        before, started = _memory("VmRSS"), time.process_time()
        trespasses: list[str] = []
        self._heard = trespasses
        faulthandler.dump_traceback_later(3 * WAIT, exit=True)  # should nothing else help
        timers = ((signal.SIGALRM, signal.ITIMER_REAL, WAIT),
                  (signal.SIGPROF, signal.ITIMER_PROF, SECONDS))  # fmt: skip
        for number, timer, seconds in timers:
            signal.signal(number, _too_long)
            signal.setitimer(timer, seconds)
        try:
            yield trespasses
        finally:
            for _, timer, _ in timers:
                signal.setitimer(timer, 0)
            faulthandler.cancel_dump_traceback_later()
            self._heard = None
        if time.process_time() - started > SECONDS:
            trespasses.append(f"took {time.process_time() - started:.0f} s")
        if _memory("VmHWM") - before > GROWTH:
            trespasses.append(f"took {(_memory('VmHWM') - before) / 1e6:.0f} MB")

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._heard is None:
            return
        if event.startswith(_FORBIDDEN):
            self._heard.append(f"{event} {arguments!r:.200}")
        elif event == "open" and arguments[2] & _WRITING:
            self._require_own(event, arguments[:1])
        elif event in _CHANGING:
            self._require_own(event, arguments[: _CHANGING[event]])

    def _require_own(self, event: str, paths: tuple[Any, ...]) -> None:
        for path in paths:
            if isinstance(path, int):
                continue
            real = os.path.realpath(os.fsdecode(path))
            inside = os.path.commonpath([real, self._own]) == self._own
            if not inside and real not in _HARMLESS and self._heard is not None:
                self._heard.append(f"{event} {path!r:.200}")


def limit_memory() -> None:
    """Set an end to what the process can ask for, far beyond what a case may."""
    if sys.platform == "linux":
        most = _memory("VmSize") + 4 * GROWTH
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


_HARMLESS = (os.devnull, os.path.realpath("/proc/self/clear_refs"))
"""Written to by those who throw away, and who count memory anew."""


def _too_long(number: int, frame: object) -> None:
    raise TooLong(f"not within {WAIT if number == signal.SIGALRM else SECONDS} s")


def _forget_peak() -> None:
    if sys.platform == "linux":
        Path("/proc/self/clear_refs").write_text("5")


def _memory(field: str) -> int:
    """Bytes that Linux counts under this name."""
    if sys.platform != "linux":
        return 0
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
