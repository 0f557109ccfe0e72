"""The command that runs the papers' tables, as far as a machine can carry them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.keeping import CacheFolder, cache_of, whitenings_of
from potstill.cli.options import (
    Assignments,
    DataRoot,
    Device,
    Download,
    Json,
    Threads,
    app,
    chosen_device,
)
from potstill.cli.progress import reporting
from potstill.cli.terminal import print_json, print_lines, say
from potstill.cli.text import aligned
from potstill.errors import DataError
from potstill.files import expanded

if TYPE_CHECKING:
    from potstill.papers import Row
    from potstill.reproduce import Standing

_SIGNED = {"accuracy": "+.1f", "auc": "+.2f", "seconds": "+.3g", "hours": "+.3g"}


@app.command()
def reproduce(
    table: Annotated[
        str | None,
        typer.Argument(
            metavar="[TABLE]", help="A table such as rcig/2; rcig: all of a paper's; or all"
        ),
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
    seeds: Annotated[int, typer.Option(min=1, help="Number of starts of each distilled set")] = 1,
    budget: Annotated[
        float,
        typer.Option(min=0, help="Minutes that a set and its scores may be estimated to take"),
    ] = 60.0,
    assignments: Assignments = None,
    sweeps: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY[+KEY]=VALUE,...",
            help="Every row once for each value of a setting, or of keys that go together; of "
            "several sweeps, for each combination",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder to keep the runs in")] = Path("runs/tables"),
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Threads = None,
    download: Download = False,
    cache: CacheFolder = None,
    as_json: Json = False,
) -> None:
    """Run the rows of a paper's TABLE that fit this machine, or go on with them."""
    from potstill import hardware
    from potstill import reproduce as tables

    if table is None and not listing:
        raise typer.BadParameter("name a table, such as rcig/2, or all; --list shows what there is")
    where = chosen_device(device)
    chosen = tables.select(table or "all", rows, assignments or (), sweeps or ())
    root = None if data_root is None else expanded(data_root, DataError)
    place = tables.Workplace(
        out,
        data_root=root,
        device=where,
        download=download and not listing,
        caches=lambda name: cache_of(cache, name),
        whitenings=whitenings_of(cache),
    )
    limit = 60 * budget
    if listing:
        standings = tables.survey(chosen, place, seeds=seeds, budget=limit)
    else:
        try:
            with hardware.threads(threads), reporting("") as bar:
                standings = tables.reproduce(
                    chosen,
                    place,
                    seeds=seeds,
                    budget=limit,
                    say=say,
                    progress=bar,
                )
        except KeyboardInterrupt:
            say(f"stopped; the same command goes on with what is in {out}")
            raise typer.Exit(130) from None
    if as_json:
        print_json({"rows": [standing.document() for standing in standings]})
    else:
        print_lines(*(_listed(standings) if listing else _beside(standings)))
    if any(standing.state == "failed" for standing in standings):
        raise typer.Exit(2)


def _listed(standings: Sequence[Standing]) -> Iterator[str]:
    """Every row with its state, and what it would take."""
    for title, rows in _by_table(standings):
        yield title
        yield from aligned([_listed_row(standing) for standing in rows])
        yield ""
    counts = {state: sum(e.state == state for e in standings) for state in _states(standings)}
    yield ", ".join(f"{number} {state}" for state, number in counts.items())
    yield "costs are estimates, of a row's distilled set with all that is measured on it"


def _listed_row(standing: Standing) -> tuple[str, ...]:
    row, asked = standing.table_row.row, standing.table_row.measurement
    paper = _value(row.value, row.std, row)
    led = f"{asked.recipe} {standing.table_row.settings}".strip() if asked else standing.why
    return row.name, paper, standing.state, _cost(standing), led


def _beside(standings: Sequence[Standing]) -> Iterator[str]:
    """The paper's numbers beside ours; rows without ours say why."""
    from potstill.papers.answers import published
    from potstill.text import count

    for title, rows in _by_table(standings):
        own = [standing for standing in rows if standing.table_row.measurement is not None]
        notes: dict[tuple[str, ...], int] = {}
        taken: dict[str, str] = {"": ""}
        for standing in own:
            if standing.departures:
                notes.setdefault(standing.departures, len(notes) + 1)
            taken.setdefault(published(standing.table_row.row), f" ({chr(96 + len(taken))})")
        yield title
        head = ("row", "paper", "ours", "difference", "how")
        yield from aligned([head, *(_cells(standing, notes, taken) for standing in own)])
        for text, mark in taken.items():
            if text:
                yield f" {mark} the paper's number: {text}"
        for departures, number in notes.items():
            yield f"  [{number}] unlike the paper: {'; '.join(departures)}"
        if len(own) < len(rows):
            yield f"  not run: {len(rows) - len(own)} rows without a recipe; --list shows them"
        yield ""
    done = sum(standing.state == "done" for standing in standings)
    settings = sum(standing.state == "setting" for standing in standings)
    own_rows = sum(standing.table_row.measurement is not None for standing in standings) - settings
    aside = f"; {count(settings, 'number')} set by recipes" if settings else ""
    yield f"{done} of {own_rows} rows measured{aside}"


def _cells(
    standing: Standing, notes: Mapping[tuple[str, ...], int], taken: Mapping[str, str]
) -> tuple[str, ...]:
    from potstill.papers.answers import published
    from potstill.text import count

    row = standing.table_row.row
    paper = _value(row.value, row.std, row) + taken[published(row)]
    if standing.number is None or standing.ours is None or standing.difference is None:
        why = f"{standing.state}: {standing.why}" if standing.why else f"not run ({standing.state})"
        return row.name, paper, "-", "-", why
    how = [standing.number.how]
    if standing.state != "setting":
        values = count(len(standing.number.values), "value")
        how.append(f"{values} of {count(standing.starts, 'start')}")
    if standing.best is not None:
        how.append(f"best epoch on the test set {_value(*standing.best, row)}")
    if standing.state != "done":
        how.append(f"{standing.state}: {standing.why}" if standing.why else standing.state)
    note = f" [{notes[standing.departures]}]" if standing.departures else ""
    signed = format(standing.difference, _format(row, _SIGNED, "+,.0f"))
    return (
        standing.table_row.name,
        paper,
        _value(*standing.ours, row),
        signed,
        ", ".join(how) + note,
    )


def _by_table(standings: Sequence[Standing]) -> Iterator[tuple[str, list[Standing]]]:
    for title, rows in groupby(standings, lambda standing: standing.table_row.row.title):
        yield title, list(rows)


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
    """A deviation, written as its mean is; one that is nothing has the mean's decimals."""
    return format(std, form) if std else f"{0:.{len(mean.partition('.')[2])}f}"


def _format(row: Row, forms: dict[str, str], otherwise: str) -> str:
    return next((form for word, form in forms.items() if word in row.metric), otherwise)


def _cost(standing: Standing) -> str:
    from potstill.text import duration

    return (
        "" if standing.seconds is None or standing.state == "done" else duration(standing.seconds)
    )


def _states(standings: Sequence[Standing]) -> list[str]:
    return list(dict.fromkeys(standing.state for standing in standings))
