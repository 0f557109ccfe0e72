"""The one place that prints: results to stdout, everything else to stderr.

What is printed may quote files, and files are not to be trusted. A line is one line whatever is
in it, and what would move the cursor, change colours or turn the direction of writing is shown
and not done.
"""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Iterable
from typing import Any, TextIO

from potstill.quoting import printable


def print_lines(*lines: str) -> None:
    """Lines of a result, to stdout."""
    _print(lines, sys.stdout)


def print_json(document: Any) -> None:
    """One JSON value, to stdout: exact, in ASCII."""
    print_lines(*json.dumps(document, indent=2).split("\n"))


def say(message: str) -> None:
    """One line to stderr."""
    _print([message], sys.stderr)


def warn(message: str) -> None:
    """One warning to stderr."""
    say(f"warning: {message}")


def say_crash() -> None:
    """The exception at hand as Python shows one that nobody caught, to stderr."""
    _print(traceback.format_exc().rstrip().split("\n"), sys.stderr)


def speak_for_libraries() -> None:
    """From now on print what libraries warn of and log, which may quote files too."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # stderr is so already
        sys.stdout.reconfigure(errors="backslashreplace")
    warnings.showwarning = _show_warning
    logging.lastResort = _Spoken(logging.WARNING)


class _Spoken(logging.Handler):
    """Says what is logged where a library has set up nothing else."""

    def emit(self, record: logging.LogRecord) -> None:
        """One line."""
        say(f"{record.levelname.lower()}: {record.getMessage()}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    warn(f"{message} ({category.__name__})")


def _print(lines: Iterable[str], stream: Any) -> None:
    for line in lines:
        print(printable(line), file=stream)
