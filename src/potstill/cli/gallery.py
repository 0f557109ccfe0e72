"""The command that lists what others have published."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import Json, app
from potstill.cli.terminal import print_json, print_lines
from potstill.errors import DataError

if TYPE_CHECKING:
    from potstill.papers.published import Entry


@app.command()
def gallery(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="A set to show in full, such as dm/cifar10-ipc10, or a pattern such as dm/*",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List sets that others have published, and say how each is imported."""
    from potstill.papers import published

    chosen = _chosen(published.entries(), name)
    if as_json:
        print_json({"sets": [entry.document() for entry in chosen]})
    elif name is not None and len(chosen) == 1:
        print_lines(*_whole(chosen[0]))
    else:
        print_lines(*_listed(chosen))


def _chosen(entries: Sequence[Entry], name: str | None) -> list[Entry]:
    chosen = [entry for entry in entries if fnmatch.fnmatchcase(entry.name, name or "*")]
    if not chosen:
        raise DataError(
            f"there is no published set {name!r}; `potstill gallery` lists those that are known"
        )
    return chosen


def _listed(entries: Sequence[Entry]) -> Iterator[str]:
    width = max(len(entry.name) for entry in entries)
    for entry in entries:
        yield f"{entry.name:{width}}  {entry.claims}"
    yield ""
    yield "accuracies are those that others state; none of these files has been scored here"
    yield "potstill gallery NAME says where a set is, and the command that imports it"


def _whole(entry: Entry) -> Iterator[str]:
    """All that is known of a set, and what to type."""
    of = entry.collection
    facts = {
        "paper": f"{of.method}: {of.paper}",
        "where": of.where,
        "file": entry.file,
        "form": of.form,
        "known from": of.known,
        "accuracy": entry.claims,
        "scored here": "no: the file was not at hand",
    }
    yield entry.name
    for word, text in facts.items():
        yield f"  {word:12}{text}"
    for remark in filter(None, (of.remark, entry.published.remark)):
        yield f"  {'remark':12}{remark}"
    yield ""
    if entry.before:
        yield "first, where what this imports is installed, in Python:"
        yield from (f"  {line}" for line in entry.before.splitlines())
        yield ""
    yield entry.command
