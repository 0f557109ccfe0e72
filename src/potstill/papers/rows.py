"""Every number of the papers' tables, as printed; nothing here was measured by this library."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Any

from potstill.config import PaperRow

ACCURACY = "accuracy_pct"
SECONDS = "seconds_per_ipc_a100_40gb"
"""Seconds for one image of every class, of Table 11 of DWA."""


class Row(PaperRow):
    """One number of a table, in the unit that ends the name of its metric."""

    remark: str = ""
    """What the table says of this row beside data set and size."""
    metric: str
    value: float
    std: float | None = None
    """The deviation that is printed with the value."""

    @property
    def title(self) -> str:
        """The paper and the table, such as ``RCIG, Table 2``."""
        name = f"Table {self.table}" if self.table.isdecimal() else self.table
        return f"{self.paper.upper()}, {name}"

    @property
    def name(self) -> str:
        """What tells the row from others of its table, such as ``mnist-ipc1 RCIG convnet``."""
        size = f"{self.dataset.replace('_', '-')}-ipc{self.images_per_class}"
        networks = " to ".join(part for part in (self.distill_arch, self.eval_arch) if part)
        quantity = "" if self.metric == ACCURACY else self.metric
        return " ".join(filter(None, (size, self.method, networks, quantity, self.remark)))

    def document(self) -> dict[str, Any]:
        """The row as a JSON object; texts are empty where the table is silent."""
        return {
            "paper": self.paper,
            "table": self.table,
            "dataset": self.dataset,
            "ipc": str(self.images_per_class),
            "method": self.method,
            "distill_arch": self.distill_arch or "",
            "eval_arch": self.eval_arch or "",
            "remark": self.remark,
            "metric": self.metric,
            "value": self.value,
            "std": self.std,
        }


@cache
def _all() -> tuple[Row, ...]:
    text = (resources.files(__package__) / "tables.csv").read_text(encoding="utf-8")
    return tuple(
        Row.model_validate({column: cell for column, cell in line.items() if cell})
        for line in csv.DictReader(text.splitlines())
    )


def rows(**filters: str | int) -> tuple[Row, ...]:
    """The rows whose columns equal ``filters``, such as ``rows(paper="rcig", table=2)``."""
    wanted = {column: str(value) for column, value in filters.items()}
    return tuple(
        row
        for row in _all()
        if all(str(getattr(row, column)) == value for column, value in wanted.items())
    )


def tables() -> tuple[str, ...]:
    """The names of all tables, such as ``rcig/2``, in the papers' order."""
    return tuple(dict.fromkeys(f"{row.paper}/{row.table}" for row in _all()))


def find(key: PaperRow, metric: str = ACCURACY) -> Row | None:
    """The one number of a metric that ``key`` names.

    None if the table has no such row, or more than one, as where it compares evaluation networks
    and ``key`` names none.
    """
    found = [row for row in _all() if row.metric == metric and key.names(row)]
    return found[0] if len(found) == 1 else None
