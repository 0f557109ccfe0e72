"""Numbers and names as a reader wants them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from potstill.results import Accuracy

_ABBREVIATIONS = frozenset({"cpu", "gpu", "zca"})


def percent(fraction: float) -> str:
    """A fraction as percent with one decimal, without the sign."""
    return f"{100 * fraction:.1f}"


def points(difference: float) -> str:
    """A signed difference of fractions in percentage points."""
    text = f"{100 * abs(difference):.1f}"
    sign = "" if text == "0.0" else "+" if difference > 0 else "−"  # noqa: RUF001
    return f"{sign}{text}"


def accuracy_text(accuracy: Accuracy) -> str:
    """``mean ± std`` in percent; a single network has no spread."""
    if len(accuracy.values) < 2:
        return percent(accuracy.mean)
    return f"{percent(accuracy.mean)} ± {percent(accuracy.std)}"


def duration(seconds: float) -> str:
    """Such as ``0.4 s``, ``42 s``, ``3 min 20 s``, ``1 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h" + (f" {minutes % 60} min" if minutes % 60 else "")


def steps_text(done: int, planned: int | None) -> str:
    """``done`` alone where it is all or all is unknown, else ``done of planned``."""
    return f"{done:,}" if planned in (done, None) else f"{done:,} of {planned:,}"


def count(number: int, noun: str) -> str:
    """``1 image``, ``10 images``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def spaced(name: str) -> str:
    """``inner_steps`` as ``Inner steps``."""
    words = name.replace("_", " ").split()
    text = " ".join(word.upper() if word in _ABBREVIATIONS else word for word in words)
    return text[:1].upper() + text[1:]


def shortened(text: str, longest: int = 160) -> str:
    """``text`` in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 3]}..."


def quoted(value: Any) -> str:
    """The beginning of a value that came from outside, as Python writes it."""
    try:
        return shortened(repr(value), 80)
    except ValueError:  # Python does not write integers of thousands of digits
        return "a number of thousands of digits"


def fault(error: ValidationError) -> str:
    """What is wrong first with a document: ``evaluation.epochs: ... (got 7)``."""
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    stated = first["ctx"]["error"] if first["type"] == "value_error" else first["msg"]
    reason = shortened(f"{where}: {stated}" if where else str(stated))
    return f"{reason} (got {quoted(first['input'])})"
