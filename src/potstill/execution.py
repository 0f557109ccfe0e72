"""Where independent units of work run: one after the other here, or in processes of their own.

A unit's result depends on the unit alone, never on where or in which order it runs.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from potstill.errors import RunError

_U = TypeVar("_U")
_R = TypeVar("_R")

Tell = Callable[[int], None]
"""Told of so many steps more, by a unit that is being worked on."""
Work = Callable[[_U, Tell], _R]
"""A unit's work. In other processes it must be picklable, and so must units and results."""

Executor = Callable[[Work[Any, Any], Sequence[Any], Tell], Generator[Any]]
"""Runs work on units; yields the results, as they are done."""


def in_turn(work: Work[_U, _R], units: Sequence[_U], tell: Tell) -> Generator[_R]:
    """The results, in the order of the units."""
    for unit in units:
        yield work(unit, tell)


def in_processes(workers: int) -> Callable[[Work[_U, _R], Sequence[_U], Tell], Generator[_R]]:
    """Like :func:`in_turn`, in at most ``workers`` processes; results come as they are done.

    Leaving the iteration, by an error or by Ctrl-C, ends the processes.

    Raises (when iterated):
        RunError: the work cannot be sent to another process, or a process died.
        Exception: whatever the work raised.
    """

    def execute(work: Work[_U, _R], units: Sequence[_U], tell: Tell) -> Generator[_R]:
        if min(workers, len(units)) <= 1:
            return in_turn(work, units, tell)
        return _distribute(_pickled(work), units, tell, min(workers, len(units)))

    return execute


@dataclass
class _Member:
    process: BaseProcess
    connection: Connection


def _distribute(payload: bytes, units: Sequence[Any], tell: Tell, workers: int) -> Generator[Any]:
    waiting = list(reversed(units))
    members: dict[Connection, _Member] = {}
    try:
        for _ in range(workers):
            member = _start()
            members[member.connection] = member
            _send(member, payload)
            _send(member, waiting.pop())
        while members:
            for ready in wait(list(members)):
                member = members[ready]  # type: ignore[index]
                kind, content = _receive(member)
                if kind == "steps":
                    tell(content)
                elif kind == "failed":
                    raise content
                else:
                    if waiting:
                        _send(member, waiting.pop())
                    else:
                        _end(members.pop(member.connection))
                    yield content
    finally:
        for member in members.values():
            _end(member)


def _start() -> _Member:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    return _Member(process, ours)


def _send(member: _Member, message: Any) -> None:
    try:
        member.connection.send(message)
    except OSError:
        raise _died(member) from None


def _receive(member: _Member) -> tuple[str, Any]:
    try:
        message: tuple[str, Any] = member.connection.recv()
    except (EOFError, OSError):
        raise _died(member) from None
    return message


def _died(member: _Member) -> RunError:
    member.process.join()
    return RunError(
        f"a worker process died (exit code {member.process.exitcode}; out of memory, or a script "
        'without `if __name__ == "__main__"`?); what is finished is kept: go on with --resume, '
        "and fewer --workers"
    )


def _end(member: _Member) -> None:
    member.process.terminate()
    member.process.join()
    member.connection.close()


def _serve(connection: Connection) -> None:
    """A worker's life: the work, then units in, steps and results out, until the other end closes.

    The work comes through the connection and not with the process, whose start would wait
    forever for a child that dies before it has read something large.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    work = None
    while True:
        try:
            unit = connection.recv()
        except EOFError:
            return
        try:
            if work is None:
                work = pickle.loads(unit)
                continue
            result = work(unit, lambda steps: connection.send(("steps", steps)))
        except Exception as error:
            connection.send(("failed", error))
            return
        connection.send(("done", result))


def _pickled(work: Any) -> bytes:
    try:
        return pickle.dumps(work)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(
            f"the work cannot be sent to other processes ({reason}); use --workers 1"
        ) from None
