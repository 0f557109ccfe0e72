"""What differs between two settings, in short phrases.

A setting is a nested document, such as a recipe, or an evaluation: protocol, network, epochs and
number of networks under the key ``evaluation``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Where one of these differs there is another network, solver or teacher, and no use in the rest.
_IDENTITY = ("kind", "name", "pretrained", "module", "checkpoint")
_CONVNET_ONLY = ("depth", "width", "growth")
# What stands before the keys of a section, where it is not the section's name.
_PREFIXES = {"data": "", "method": ""} | {
    name: f"{name}: " for name in ("teacher", "evaluation", "attack")
}
_LABELS = {"dataset": "data set"}


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], whose: str = "the paper's"
) -> tuple[str, ...]:
    """Such as ``network width 32 (the paper's 128)``, in the order of ``theirs``.

    Keys that one of the two lacks are not compared. Of a section with another name, or another
    method, that alone is said.
    """
    return tuple(_compared(ours, theirs, "", whose))


def _compared(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str, whose: str
) -> Iterator[str]:
    both = [key for key in theirs if key in ours]
    other = next((key for key in _IDENTITY if key in both and ours[key] != theirs[key]), None)
    if other is not None:
        label = prefix if other in ("kind", "name") else f"{prefix}{other}"
        yield _phrase(label.removesuffix(": "), ours[other], theirs[other], whose)
        return
    for key in both:
        mine, paper = ours[key], theirs[key]
        if isinstance(mine, Mapping) and isinstance(paper, Mapping):
            inside = _PREFIXES.get(key, f"{_label(key)} ")
            if key == "method" and mine.get("kind") != paper.get("kind"):
                inside = "method "
            yield from _compared(mine, paper, f"{prefix}{inside}", whose)
        elif mine != paper and not (key in _CONVNET_ONLY and ours.get("name") != "convnet"):
            yield _phrase(f"{prefix}{_label(key)}", mine, paper, whose)


def _label(key: str) -> str:
    return _LABELS.get(key, key.replace("_", " "))


def _phrase(label: str, ours: Any, theirs: Any, whose: str) -> str:
    return f"{label.strip()} {_text(ours)} ({whose} {_text(theirs)})"


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return str(value)
