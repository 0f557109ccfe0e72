"""Values that came from outside, as messages quote them: in one line, and no longer than it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError


def printable(text: str) -> str:
    """``text`` with the characters that no page shows, line breaks and surrogates among them, as
    Python escapes them: ``\\x1b``, ``\\u202e``."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def is_text(text: str) -> bool:
    """Whether UTF-8 has it: no halves of surrogate pairs, which stand for bytes that are no text
    in the names of files."""
    return not re.search("[\ud800-\udfff]", text)


def shortened(text: str, longest: int = 160) -> str:
    """``text`` in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def quoted(value: Any) -> str:
    """The beginning of ``value`` as Python writes it."""
    try:
        return shortened(repr(value), 80)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number of thousands of digits"


def listed(parts: Sequence[str], most: int = 3) -> str:
    """The first of ``parts``, and how many more there are."""
    shown = ", ".join(parts[:most])
    return f"{shown} and {len(parts) - most} more" if len(parts) > most else shown


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The keys of which one has another value or none, with both: ``seed (1 there, 2 here)``."""
    return [
        f"{shortened(key)} ({_brief(there.get(key))} there, {_brief(here.get(key))} here)"
        for key in sorted({*there, *here})
        if there.get(key) != here.get(key)
    ]


def _brief(value: Any) -> str:
    return shortened(value, 80) if isinstance(value, str) else quoted(value)


def fault(error: ValidationError) -> str:
    """What is wrong first with a document: ``evaluation.epochs: ... (got 7)``."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    stated = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
    reason = shortened(f"{where}: {stated}" if where else str(stated))
    return f"{reason} (got {quoted(first['input'])})"
