"""Every number of the papers' tables, as printed; nothing here was measured by this library."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from potstill.config import PaperRow


@dataclass(frozen=True)
class Row:
    """One number of a table; texts are the file's, empty where the table is silent."""

    paper: str
    table: str
    dataset: str
    ipc: str
    method: str
    distill_arch: str
    eval_arch: str
    metric: str
    value: float
    std: float | None


@cache
def _all() -> tuple[Row, ...]:
    text = (resources.files(__name__) / "tables.csv").read_text(encoding="utf-8")
    return tuple(
        Row(
            **{key: text for key, text in line.items() if key not in ("value", "std")},
            value=float(line["value"]),
            std=float(line["std"]) if line["std"] else None,
        )
        for line in csv.DictReader(text.splitlines())
    )


def rows(**filters: str | int) -> tuple[Row, ...]:
    """The rows whose columns equal ``filters``, such as ``rows(paper="rcig", table=2, ipc=10)``."""
    wanted = {column: str(value) for column, value in filters.items()}
    return tuple(
        row for row in _all() if all(getattr(row, column) == wanted[column] for column in wanted)
    )


def find(row: PaperRow, metric: str | None = None) -> Row | None:
    """The one line of the table that ``row`` names, of ``metric`` if there are several.

    None if the table has no such line, or more than one, as where it compares evaluation
    networks and ``row`` names none.
    """
    named = {
        "distill_arch": row.distill_arch,
        "eval_arch": row.eval_arch,
        "metric": metric,
    }
    alike = rows(
        paper=row.paper,
        table=row.table,
        dataset=row.dataset,
        method=row.method,
        **{column: text for column, text in named.items() if text is not None},
    )
    # A remark may follow the number: "50 (500 images from 10k)".
    found = [line for line in alike if line.ipc.split()[:1] == [str(row.images_per_class)]]
    return found[0] if len(found) == 1 else None


def paper_value(row: PaperRow) -> tuple[float, float | None] | None:
    """The accuracy (per cent) and its deviation that a table prints for ``row``; see `find`."""
    found = find(row, "accuracy_pct")
    return None if found is None else (found.value, found.std)


def paper_seconds(row: PaperRow) -> float | None:
    """The seconds for one image of every class that a table prints for ``row`` (DWA, Table 11)."""
    found = find(row, "seconds_per_ipc_a100_40gb")
    return None if found is None else found.value
