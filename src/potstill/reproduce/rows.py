"""The papers' tables row by row: what each number would take to be measured here.

A table's row is one number. Those that a shipped recipe answers (:mod:`potstill.papers.answers`)
lead to a distilled set and to one thing measured on it; one set serves every row that asks for it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, product

from potstill import papers
from potstill.errors import RecipeError
from potstill.papers import Row
from potstill.papers.answers import Measurement, answer, unanswered


@dataclass(frozen=True)
class TableRow:
    """A row; ``measurement`` is None if no recipe leads to its number, and ``why`` says why."""

    row: Row
    measurement: Measurement | None
    why: str = ""

    @property
    def name(self) -> str:
        """Such as ``mnist-ipc1 RCIG``; patterns are matched against it."""
        return self.row.name

    @property
    def settings(self) -> str:
        """What is set in its recipe, such as ``method.subset=200``; often empty."""
        return " ".join(self.measurement.assignments) if self.measurement else ""


def select(
    table: str,
    pattern: str | None = None,
    assignments: Iterable[str] = (),
    sweeps: Iterable[str] = (),
) -> tuple[TableRow, ...]:
    """The rows of ``table`` (``rcig/2``, ``dwa`` or ``all``) that fit ``pattern``.

    Args:
        table: one table, all of a paper's, or all.
        pattern: whole words of a row's name, or a glob for all of it; with a stroke, its
            recipe's name or a glob for that. Upper and lower case are alike.
        assignments: ``key=value``, set in the recipe of every row that fits.
        sweeps: ``key=value,value,...``: every row that fits is there once for each value, and of
            several sweeps for each combination, as in RCIG's Figures 1, 2 and 5; ``key+key=...``
            gives several keys the same value, as in DWA's Figure 3.

    Raises:
        RecipeError: there is no such table, no such row, or an assignment is impossible.
    """
    known = papers.tables()
    chosen = [name for name in known if table in ("all", name, name.split("/")[0])]
    if not chosen:
        raise RecipeError(f"there is no table {table!r}; use one of {', '.join(known)}, or all")
    found = [_table_row(row, ()) for row in papers.rows() if f"{row.paper}/{row.table}" in chosen]
    rows = tuple(row for row in found if _fits(row, pattern))
    if not rows:
        wider = "" if pattern is None or _is_glob(pattern) else f"try *{pattern}*, or "
        raise RecipeError(
            f"no row of {table} fits {pattern!r}; {wider}leave --rows out to see all with --list"
        )
    # Not before: what one method's recipes take, those of its neighbours in a table may not.
    extra = tuple(assignments)
    grid = [(*extra, *chain(*values)) for values in product(*map(_values, sweeps))]
    if grid == [()]:
        return rows
    return tuple(
        _table_row(one.row, settings)
        for one in rows
        for settings in (grid if one.measurement else grid[:1])
    )


def _values(sweep: str) -> list[tuple[str, ...]]:
    """``key=a,b`` -> (``key=a``,), (``key=b``,); ``one+two=a`` -> (``one=a``, ``two=a``)."""
    name, equals, values = sweep.partition("=")
    keys = [key.strip() for key in name.split("+")]
    parts = [part.strip() for part in values.split(",")]
    if not equals or not all(keys) or not all(parts):
        raise RecipeError(f"a sweep is key=value,value,..., and not {sweep!r}")
    return [tuple(f"{key}={part}" for key in keys) for part in parts]


def _table_row(row: Row, extra: tuple[str, ...]) -> TableRow:
    measurement = answer(row, extra)
    return TableRow(row, measurement, "" if measurement else unanswered(row))


def _fits(row: TableRow, pattern: str | None) -> bool:
    if pattern is None:
        return True
    wanted, name = pattern.lower().strip(), row.name.lower()
    if "/" in wanted:
        # Every recipe of a paper has its name in its own; a row's name has no stroke.
        recipe = row.measurement.recipe if row.measurement else ""
        return fnmatch.fnmatchcase(recipe, wanted)
    if _is_glob(wanted):
        return fnmatch.fnmatchcase(name, wanted)
    return f" {' '.join(wanted.split())} " in f" {name} "


def _is_glob(pattern: str) -> bool:
    return bool(set("*?[") & set(pattern))
