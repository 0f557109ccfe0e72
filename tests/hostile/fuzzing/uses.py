"""What is done with a hostile input, and what may come of it: success, or one line."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from potstill import cli
from potstill.errors import PotstillError

Use = Callable[[], bool]
"""Whether the input was accepted.

Raises:
    Fault: something came of it that may not.
    Exception: any other is a fault, too.
"""

_LONGEST = 3000  # characters of a message, with two paths in it


class Fault(Exception):
    """What may come of no input."""


def command(*words: str | Path) -> Use:
    """A command of potstill, as a shell would start it."""

    def use() -> bool:
        said, complained = _stream("strict"), _stream("backslashreplace")
        with redirect_stdout(said), redirect_stderr(complained):
            code = cli.run([str(word) for word in words])
            said.flush()  # fails where the text is none that a screen can have
        require_printable(_text(said))
        require_printable(_text(complained))
        if code == 2:
            require_line(_text(complained))
        elif code != 0:
            raise Fault(f"exit code {code}")
        return code == 0

    use.__name__ = " ".join(map(str, words))
    return use


def call(act: Callable[[], object]) -> Use:
    """A call of the library."""

    def use() -> bool:
        try:
            act()
        except PotstillError as error:
            require_line(f"error: {error}\n")
            require_printable(str(error))
            return False
        return True

    use.__name__ = getattr(act, "__qualname__", "a call")
    return use


def require_line(complaint: str) -> None:
    """One error, in the last line.

    Raises:
        Fault: there are others, none, or more than a line.
    """
    lines = complaint.removesuffix("\n").split("\n")
    if not lines[-1].startswith("error: ") or len(lines[-1]) > _LONGEST:
        raise Fault(f"no error in a line: {complaint[-2000:]}")
    if any(word in complaint for word in ("Traceback", "Warning: ", "error: out of memory")):
        raise Fault(complaint[-2000:])


def require_printable(text: str) -> None:
    """Nothing that moves a terminal's cursor or hides what it shows.

    Raises:
        Fault: there is a control character but the end of a line.
    """
    bad = {letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")} - {"\n"}
    if bad:
        line = next(line for line in text.split("\n") if bad.intersection(line))
        raise Fault(f"prints {sorted(bad)!r}: {line[:200]!r}")


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, newline="\n")


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def all_of(uses: Sequence[Use]) -> tuple[int, int]:
    """How many uses were made of the input, and how many refused.

    Raises:
        Fault: something came of one that may not; it says of which.
    """
    accepted = 0
    for use in uses:
        try:
            accepted += use()
        except Exception as error:
            error.add_note(f"in: {use.__name__[:1000]}")
            raise
    return accepted, len(uses) - accepted
