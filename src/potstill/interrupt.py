"""Ctrl-C between steps instead of within one, and SIGTERM as another Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether the user has asked to stop."""

    requested = False


@contextmanager
def deferred() -> Iterator[Interrupt]:
    """Within the block the first Ctrl-C only sets ``requested``; a second one interrupts.

    Outside the main thread, where Python delivers no signals, nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = signal.getsignal(signal.SIGINT)

    def request(number: int, frame: FrameType | None) -> None:
        interrupt.requested = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, previous)


class Termination:
    """Whether SIGTERM came."""

    came = False


@contextmanager
def termination_as_ctrl_c() -> Iterator[Termination]:
    """Within the block SIGTERM does what Ctrl-C does at that moment.

    Outside the main thread nothing changes.
    """
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return

    def hear(number: int, frame: FrameType | None) -> None:
        termination.came = True
        as_ctrl_c = signal.getsignal(signal.SIGINT)
        if not callable(as_ctrl_c):  # ignored, as in a script's background: SIGTERM is not
            raise KeyboardInterrupt
        as_ctrl_c(signal.SIGINT, frame)

    previous = signal.signal(signal.SIGTERM, hear)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, previous)
