"""Units of work in processes of this machine.

Whatever may be large (the work, units, results) goes through files of a temporary folder. What
goes through pipes is small enough to be written at once: a process that died in the midst of a
long message would leave the other end waiting for the rest of it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import Pipe, active_children
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.process import BaseProcess
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from weakref import WeakSet

from potstill.errors import RunError
from potstill.execution.executor import Executor, R, Tell, U, Work
from potstill.execution.here import Here
from potstill.execution.worker import WORK, begin, perform, put, take

_PERIOD = 0.1
"""Seconds between two looks at progress and at the processes' health; results do not wait."""
_started: WeakSet[BaseProcess] = WeakSet()
"""Workers of every iteration."""


@dataclass(frozen=True)
class Processes:
    """Runs units in at most ``workers`` processes; results come as they are done.

    The processes end with the iteration, however it ends, and with this process. They do not
    hear Ctrl-C. PyTorch has as many threads in each as it has here, so that sums come out the
    same. A single unit, or a single worker, runs here. A script that iterates needs
    ``if __name__ == "__main__"``.
    """

    workers: int

    def map(self, work: Work[U, R], units: Sequence[U], tell: Tell) -> Generator[R]:
        """See :meth:`potstill.execution.Executor.map`.

        Raises (while iterated):
            RunError: the work, a unit or a result cannot be sent to another process, there is no
                room for them in the folder for temporary files, or a process died.
            Exception: whatever the work raised.
        """
        workers = min(self.workers, len(units))
        if workers <= 1:
            return Here().map(work, units, tell)
        return _distribute(work, units, tell, workers)


def in_processes(workers: int) -> Executor:
    """Where to run units with so many workers: in processes if there are several, else here."""
    return Processes(workers) if workers > 1 else Here()


def _distribute(work: Work[U, R], units: Sequence[U], tell: Tell, workers: int) -> Generator[R]:
    import torch  # listing recipes comes here and does not need it

    # Refuses, before anything is made, where a script without a guard starts all over in a worker.
    get_preparation_data("potstill")
    received, steps = Pipe(duplex=False)
    with (
        received,
        steps,
        TemporaryDirectory(prefix="potstill-") as name,
        _pool(workers, (Path(name), steps, torch.get_num_threads())) as (pool, processes),
    ):
        folder = Path(name)
        put(folder / WORK, work)
        waiting = enumerate(units)

        def submit(count: int) -> set[futures.Future[Path]]:
            submitted = set()
            for number, unit in islice(waiting, count):
                path = folder / str(number)
                put(path, unit)
                with _deaf_to_ctrl_c():
                    submitted.add(pool.submit(perform, path))
            return submitted

        pending = submit(workers + 1)  # one more than can run, so that no process waits
        while pending:
            done, pending = futures.wait(pending, _PERIOD, futures.FIRST_COMPLETED)
            while received.poll():
                tell(received.recv())
            for future in done:
                result = take(future.result())
                pending |= submit(1)
                yield result
            # The pool may miss the death of a process that it started while it waited for others.
            if not done and any(process.exitcode is not None for process in processes):
                raise BrokenProcessPool


@contextmanager
def _pool(
    workers: int, arguments: tuple[Path, Connection, int]
) -> Iterator[tuple[ProcessPoolExecutor, list[SpawnProcess]]]:
    """A pool, and the processes it has started so far, which end with the block."""
    context = _Spawn()
    try:
        with ProcessPoolExecutor(workers, context, begin, arguments) as pool:
            try:
                yield pool, context.started
            finally:
                for process in context.started:
                    if process.is_alive():
                        process.terminate()
    except BrokenProcessPool:
        raise _died(context.started) from None


class _Spawn(SpawnContext):
    """The context that a pool asks for its processes; it remembers those it made."""

    def __init__(self) -> None:
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]
        """A process that the pool is about to start."""
        process = SpawnProcess(*args, **kwargs)
        self.started.append(process)
        _started.add(process)
        return process


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes started within the block never hear Ctrl-C: they inherit the signal mask."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_program() -> None:
    # Not all of _started: a forked process that ends, too, comes here, and has no such children.
    for process in active_children():
        if process in _started:
            process.terminate()


# Before a program exits, Python waits for the units that pools are at. An iteration that was
# neither finished nor closed must not hold it up, so this has to run before that.
threading._register_atexit(_end_with_program)  # type: ignore[attr-defined]


def _died(processes: Sequence[SpawnProcess]) -> RunError:
    # When one has died, the others are terminated.
    codes = [process.exitcode for process in processes if process.exitcode is not None]
    code = next((code for code in codes if code != -signal.SIGTERM), -signal.SIGTERM)
    how = f"signal {-code}, {signal.strsignal(-code)}" if code < 0 else f"exit code {code}"
    return RunError(
        f"a worker process died ({how}; out of memory, or a script without `if __name__ == "
        '"__main__"`?); what is finished is kept: go on with --resume, and fewer --workers'
    )
