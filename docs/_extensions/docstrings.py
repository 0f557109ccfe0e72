"""Docstrings as they stand in the code, made ready for reStructuredText.

They are plain text: formulas are indented below a colon, tables have bars, and so have norms.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _ready(lines: list[str]) -> list[str]:
    """The lines with formulas and tables as literal blocks, and bars in text escaped."""
    ready: list[str] = []
    literal_above: int | None = None  # the indent of the text that a literal block stands below
    table = False
    for number, line in enumerate(lines):
        if literal_above is not None and line.strip() and _indent(line) <= literal_above:
            literal_above = None
        following = next((each for each in lines[number + 1 :] if each.strip()), "")
        after_blank = number + 1 < len(lines) and not lines[number + 1].strip()
        if literal_above is not None:
            ready.append(line)
        elif line.lstrip().startswith("|"):
            ready += ([] if table else ["::", ""]) + ["    " + line]
            table = True
            continue
        elif line.endswith(":") and after_blank and _indent(following) > _indent(line):
            literal_above = _indent(line)
            ready.append(_escaped(line) + ("" if line.endswith("::") else ":"))
        else:
            ready.append(_escaped(line))
        table = False
    return ready


def _escaped(line: str) -> str:
    """The line with bars that are no markup, outside of ``code``."""
    parts = re.split(r"(``.*?``)", line)
    return "".join(part if part.startswith("``") else part.replace("|", r"\|") for part in parts)


def _process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = _ready(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _process, priority=400)  # before napoleon's
    return {"parallel_read_safe": True}
