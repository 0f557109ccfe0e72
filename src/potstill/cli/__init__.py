"""The command line: parses, composes, prints.

Exit code 0, or 2 with one line on stderr for anything the user can mend, or 130 after Ctrl-C, or
143 after SIGTERM, which stops a command in the same way.
Results go to stdout, progress and warnings to stderr.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from potstill import interrupt, methods
from potstill.cli.commands import app
from potstill.cli.terminal import say, say_crash, speak_for_libraries, warn
from potstill.errors import PotstillError, PotstillWarning

# The base of all usage errors, for which typer has no public name.
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
# 128 and the number of the signal, as shells have it.
_STOPPED, _TERMINATED = 130, 143


def main() -> None:
    """The console script: run the command line and exit with its code."""
    # Read when PyTorch starts its threads. Waiting threads that spin, the default, are twenty
    # times slower as soon as anything else uses a core, and hardly faster when nothing does.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    speak_for_libraries()
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader left, as `| head` does. What is still buffered must not raise at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception:
        say_crash()
        code = 1
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    with interrupt.termination_as_ctrl_c() as termination, _own_warnings_in_a_line():
        code = _run(arguments)
    return _TERMINATED if code == _STOPPED and termination.came else code


@contextmanager
def _own_warnings_in_a_line() -> Iterator[None]:
    others = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, PotstillWarning):
            warn(str(message))
        else:
            others(message, category, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", PotstillWarning)
        warnings.showwarning = show
        yield


def _run(arguments: Sequence[str]) -> int:
    """The exit code, which tells no SIGTERM from Ctrl-C."""
    try:
        code = app(list(arguments), prog_name="potstill", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return _STOPPED
    except Exception as error:
        message = _mendable(error)
        if message is None:
            raise
        say(f"error: {' '.join(message.split())}")
        return 2
    return code if isinstance(code, int) else 0


def _mendable(error: Exception) -> str | None:
    if isinstance(error, PotstillError):
        return str(error)
    if isinstance(error, _USAGE_ERROR):
        return f"{error.format_message()} (see --help)"
    # By name: importing torch to look for its error would slow down every other.
    if type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error):
        return f"out of memory; {_smaller()} or use another --device"
    return None


def _smaller() -> str:
    """What to lower in a recipe, for each method that says."""
    records = (methods.named(name) for name in methods.names())
    advice = [f"{' or '.join(each.memory)} ({each.name})" for each in records if each.memory]
    return f"set a smaller {', '.join(advice)},"
