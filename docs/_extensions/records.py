"""Pages' tables that are made from potstill's own registries, so that they cannot fall behind."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

import potstill
from potstill import recipes
from potstill.papers.published import Entry, entries


def _published() -> Iterator[str]:
    """A section for each collection of published sets."""
    for collection, group in groupby(entries(), lambda entry: entry.collection):
        yield f"## {collection.method}\n"
        facts = {
            "Paper": collection.paper,
            "Where": collection.where,
            "A file holds": f"{collection.form}, {collection.space}",
            "Known from": collection.known,
        }
        yield from (f"{word}\n: {_linked(text)}\n" for word, text in facts.items())
        if collection.remark:
            yield f"{collection.remark}\n"
        chosen = list(group)
        yield "| set | file | accuracy that others state |\n| --- | --- | --- |"
        yield from (f"| `{each.name}` | `{each.file}` | {each.claims} |" for each in chosen)
        yield ""
        yield from _command(chosen[0])


def _command(entry: Entry) -> Iterator[str]:
    if entry.before:
        yield f"First, where Flax is installed:\n\n```python\n{entry.before}\n```\n"
    yield f"```sh\n{_wrapped(entry.command)}\n```\n"


def _wrapped(command: str) -> str:
    """One option a line, as a shell reads it."""
    return command.replace(" --", " \\\n    --")


def _linked(text: str) -> str:
    words = (f"<{word}>" if word.startswith("https://") else word for word in text.split(" "))
    return " ".join(words)


def _recipes() -> Iterator[str]:
    """Every shipped recipe with what it says of itself."""
    for name in recipes.names():
        yield f"`{name}`\n: {' '.join(recipes.load(name).description.split())}\n"


def _api() -> Iterator[str]:
    """Every name of the package with the object that it is."""
    yield "| name | defined in |\n| --- | --- |"
    for name in sorted(potstill.__all__, key=str.lower):
        module, attribute = potstill._HOMES[name]
        yield f"| `potstill.{name}` | {{py:obj}}`{module}.{attribute}` |"


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    for name, lines in {"published": _published(), "recipes": _recipes(), "api": _api()}.items():
        (folder / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True}
