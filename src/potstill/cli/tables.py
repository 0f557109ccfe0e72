"""The command that runs the papers' tables, as far as a machine can carry them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import (
    Assignments,
    DataRoot,
    Device,
    Download,
    Json,
    app,
    chosen_device,
    say,
)
from potstill.cli.progress import reporting
from potstill.errors import DataError
from potstill.files import expanded

if TYPE_CHECKING:
    from potstill.papers import Row
    from potstill.reproduce import Entry

_SIGNED = {"accuracy": "+.1f", "auc": "+.2f", "seconds": "+.3g", "hours": "+.3g"}


@app.command()
def reproduce(
    table: Annotated[
        str | None,
        typer.Argument(metavar="[TABLE]", help="Such as rcig/2; rcig for all of a paper's; or all"),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only rows like this, such as mnist-ipc1, *RCIG* or rcig/mnist-*",
        ),
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Run nothing; show every row, its state and its cost")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Starts of each distilled set")] = 1,
    budget: Annotated[
        float, typer.Option(min=0, help="Minutes that a set and its scores may take, estimated")
    ] = 60.0,
    assignments: Assignments = None,
    out: Annotated[Path, typer.Option(help="The folder of its runs")] = Path("runs/tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    download: Download = False,
    as_json: Json = False,
) -> None:
    """Run the rows of a paper's TABLE that fit this machine, or go on with them."""
    from potstill import reproduce as tables

    if table is None and not listing:
        raise typer.BadParameter("name a table, such as rcig/2, or all; --list shows what there is")
    where = chosen_device(device)
    lines = tables.select(table or "all", rows, assignments or ())
    root = None if data_root is None else expanded(data_root, DataError)
    workshop = tables.Workshop(out, data_root=root, device=where, download=download and not listing)
    limit = 60 * budget
    if listing:
        entries = tables.survey(lines, workshop, seeds=seeds, budget=limit)
    else:
        try:
            with reporting("") as bar:
                entries = tables.reproduce(
                    lines,
                    workshop,
                    seeds=seeds,
                    budget=limit,
                    say=say,
                    tell=lambda stage, done, total: bar(done, total, title=stage),
                )
        except KeyboardInterrupt:
            say(f"stopped; the same command goes on with what is in {out}")
            raise typer.Exit(130) from None
    if as_json:
        print(json.dumps({"rows": [entry.document() for entry in entries]}, indent=2))
    else:
        print("\n".join(_listed(entries) if listing else _beside(entries)))
    if any(entry.state == "failed" for entry in entries):
        raise typer.Exit(2)


def _listed(entries: Sequence[Entry]) -> Iterator[str]:
    """Every row with its state, and what it would take."""
    for title, rows in _by_table(entries):
        yield title
        cells = [
            (
                entry.line.name,
                _value(entry.line.row.value, entry.line.row.std, entry.line.row),
                entry.state,
                _cost(entry),
                entry.line.job.recipe if entry.line.job else entry.why,
            )
            for entry in rows
        ]
        yield from _aligned(cells)
        yield ""
    counts = {state: sum(e.state == state for e in entries) for state in _states(entries)}
    yield ", ".join(f"{number} {state}" for state, number in counts.items())
    yield "costs are estimates, of a row's distilled set with all that is measured on it"


def _beside(entries: Sequence[Entry]) -> Iterator[str]:
    """The paper's numbers beside ours; rows without ours say why."""
    from potstill.text import count

    for title, rows in _by_table(entries):
        own = [entry for entry in rows if entry.line.job is not None]
        notes: dict[tuple[str, ...], int] = {}
        for entry in own:
            if entry.departures:
                notes.setdefault(entry.departures, len(notes) + 1)
        yield title
        head = ("row", "paper", "ours", "difference", "how")
        yield from _aligned([head, *(_cells(entry, notes) for entry in own)])
        for departures, number in notes.items():
            yield f"  [{number}] unlike the paper: {'; '.join(departures)}"
        if len(own) < len(rows):
            yield f"  not run: {len(rows) - len(own)} rows without a recipe; --list shows them"
        yield ""
    done = sum(entry.state == "done" for entry in entries)
    settings = sum(entry.state == "setting" for entry in entries)
    own_rows = sum(entry.line.job is not None for entry in entries) - settings
    aside = f"; {count(settings, 'number')} set by recipes" if settings else ""
    yield f"{done} of {own_rows} rows measured{aside}"


def _cells(entry: Entry, notes: Mapping[tuple[str, ...], int]) -> tuple[str, ...]:
    from potstill.text import count

    row = entry.line.row
    paper = _value(row.value, row.std, row)
    if entry.number is None or entry.ours is None or entry.difference is None:
        why = f"{entry.state}: {entry.why}" if entry.why else f"not run ({entry.state})"
        return entry.line.name, paper, "-", "-", why
    how = [entry.number.how]
    if entry.state != "setting":
        values = count(len(entry.number.values), "value")
        how.append(f"{values} of {count(entry.starts, 'start')}")
    if entry.best is not None:
        how.append(f"best epoch on the test set {_value(*entry.best, row)}")
    if entry.state != "done":
        how.append(f"{entry.state}: {entry.why}" if entry.why else entry.state)
    note = f" [{notes[entry.departures]}]" if entry.departures else ""
    signed = format(entry.difference, _format(row, _SIGNED, "+,.0f"))
    return entry.line.name, paper, _value(*entry.ours, row), signed, ", ".join(how) + note


def _by_table(entries: Sequence[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    for (paper, table), rows in groupby(entries, lambda e: (e.line.row.paper, e.line.row.table)):
        name = f"Table {table}" if table.isdecimal() else table
        yield f"{paper.upper()}, {name}", list(rows)


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)]
        yield "  ".join(["", *cells, row[-1]]).rstrip()


def _value(mean: float, std: float | None, row: Row) -> str:
    """A number of a table with its unit."""
    plain = {"accuracy": ".1f", "auc": ".2f", "seconds": ".3g", "hours": ".3g", "memory": ".1f"}
    form = _format(row, plain, ",.0f")
    # Table 1 of RCIG has a digit more than the other tables.
    if form == ".1f" and round(row.value, 1) != round(row.value, 2):
        form = ".2f"
    units = {"accuracy": " %", "seconds": " s", "hours": " h", "memory": " GB"}
    unit = next((text for word, text in units.items() if word in row.metric), "")
    text = format(mean, form)
    spread = "" if std is None else f" ± {_deviation(std, form, text)}"
    return f"{text}{spread}{unit}"


def _deviation(std: float, form: str, mean: str) -> str:
    """As its mean is written; one that is nothing has the mean's decimals."""
    return format(std, form) if std else f"{0:.{len(mean.partition('.')[2])}f}"


def _format(row: Row, forms: dict[str, str], otherwise: str) -> str:
    return next((form for word, form in forms.items() if word in row.metric), otherwise)


def _cost(entry: Entry) -> str:
    from potstill.text import duration

    return "" if entry.seconds is None or entry.state == "done" else duration(entry.seconds)


def _states(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.state for entry in entries))
