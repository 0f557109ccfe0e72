"""How each row of a table stands: what was measured, what is left, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from potstill.errors import PotstillError
from potstill.papers import audits
from potstill.papers.answers import Measurement, published
from potstill.papers.departures import of_result, of_set
from potstill.reproduce import costs
from potstill.reproduce.found import Number
from potstill.reproduce.plan import needs_run, remaining
from potstill.reproduce.rows import TableRow
from potstill.reproduce.workplace import Workplace
from potstill.text import duration

State = Literal["done", "begun", "open", "costly", "no data", "failed", "setting", "no recipe"]
Key = tuple[str, tuple[str, ...]]
"""What tells distilled sets apart: :attr:`~potstill.papers.answers.Measurement.key`."""


@dataclass(frozen=True)
class Standing:
    """A row, and how it stands.

    ``seconds`` is what its distilled set, and all that is to be measured on it, is estimated to
    take still; None where that is unknown. ``number`` pools the starts that are done, or where
    none is, what smaller audits found. ``why`` says what keeps the row from being done, or how.
    A "setting" is no measurement: the number is what the recipe says.
    """

    table_row: TableRow
    state: State
    why: str = ""
    seconds: float | None = None
    number: Number | None = None
    starts: int = 0
    departures: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """The factor that brings our numbers to the table's unit: tables print percent."""
        return 100.0 if "accuracy" in self.table_row.row.metric else 1.0

    @cached_property
    def ours(self) -> tuple[float, float | None] | None:
        """Mean and sample deviation in the table's unit; one value has none."""
        return None if self.number is None else _mean_std(self.number.values, self.scale)

    @cached_property
    def best(self) -> tuple[float, float | None] | None:
        """Mean and deviation at the epochs that the test set chose; None if these are not known."""
        if self.number is None or not self.number.best:
            return None
        return _mean_std(self.number.best, self.scale)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in the table's unit."""
        return None if self.ours is None else self.ours[0] - self.table_row.row.value

    def document(self) -> dict[str, Any]:
        """A JSON object; ``ours``, ``best_on_test`` and ``difference`` are in the table's unit."""
        asked, number = self.table_row.measurement, self.number
        scored = asked if asked is not None and asked.quantity == "accuracy" else None
        ours = None
        if number is not None and self.ours is not None:
            ours = {
                "mean": self.ours[0],
                "std": self.ours[1],
                "values": [value * self.scale for value in number.values],
                "starts": self.starts,
                "how": number.how,
            }
        return {
            "name": self.table_row.name,
            "row": self.table_row.row.document(),
            "published": published(self.table_row.row),
            "recipe": asked.recipe if asked else None,
            "settings": list(asked.assignments) if asked else [],
            "measures": asked.quantity if asked else None,
            "protocol": scored.protocol if scored else None,
            "network": scored.network.model_dump(mode="json") if scored else None,
            "state": self.state,
            "why": self.why,
            "estimated_seconds": self.seconds,
            "ours": ours,
            "best_on_test": self.best[0] if self.best else None,
            "difference": self.difference,
            "departures": list(self.departures),
        }


class Outlook(NamedTuple):
    """What keeps a distilled set from being done, whichever of its rows are."""

    state: State
    why: str
    seconds: float | None


def by_set(rows: Iterable[TableRow]) -> dict[Key, list[Measurement]]:
    """What is to be measured of each distilled set, each once."""
    found: dict[Key, list[Measurement]] = {}
    for row in rows:
        if row.measurement is not None:
            asked = found.setdefault(row.measurement.key, [])
            if row.measurement not in asked:
                asked.append(row.measurement)
    return found


def survey(
    rows: Sequence[TableRow],
    place: Workplace,
    *,
    seeds: int,
    budget: float,
    failures: Mapping[Key, str] | None = None,
) -> list[Standing]:
    """How the rows stand; nothing is distilled, and nothing written but timings into the cache.

    Args:
        rows: which.
        place: where.
        seeds: how many starts of each set are wanted.
        budget: the seconds that a set may take, all starts and measurements together.
        failures: what went wrong, of sets with which it was tried.
    """
    outlooks = {
        key: _outlook(asked, place, seeds, budget, (failures or {}).get(key))
        for key, asked in by_set(rows).items()
    }
    # One set's rows after the other, so that its run is read once.
    order = sorted(range(len(rows)), key=lambda at: _key_of(rows[at]))
    standings = {at: _standing(rows[at], place, seeds, outlooks) for at in order}
    return [standings[at] for at in range(len(rows))]


def _key_of(row: TableRow) -> Key:
    return ("", ()) if row.measurement is None else row.measurement.key


def _outlook(
    asked: Sequence[Measurement], place: Workplace, seeds: int, budget: float, failure: str | None
) -> Outlook:
    try:
        seconds = remaining(asked, place, seeds)
        begun = any(place.run(asked[0], seed) for seed in range(seeds))
    except PotstillError as error:
        return Outlook("failed", str(error), None)
    if failure is not None:
        return Outlook("failed", failure, seconds)
    if seconds == 0:
        return Outlook("open", "", seconds)
    absent = place.absent(asked[0].load().data)
    if absent is not None:
        return Outlook("no data", absent, seconds)
    if seconds is not None and seconds > budget:
        why = f"takes about {duration(seconds)}, more than the budget of {duration(budget)}"
        return Outlook("costly", why, seconds)
    return Outlook("begun" if begun else "open", "", seconds)


def _standing(
    row: TableRow, place: Workplace, seeds: int, outlooks: Mapping[Key, Outlook]
) -> Standing:
    asked = row.measurement
    if asked is None:
        return Standing(row, "no recipe", row.why)
    if not needs_run(asked):
        number = Number((float(costs.work(asked.load()).iterations),), "the recipe's")
        return Standing(row, "setting", number=number)
    state, why, seconds = outlooks[asked.key]
    found: list[_Found] = []
    for seed in range(seeds):
        try:
            found += _found(asked, place, seed)
        except PotstillError as error:
            state, why = "failed", str(error)
    whole = [one for one in found if one.number.whole]
    if len(whole) == seeds:
        state, why = "done", ""
    shown = whole or found
    unlike = dict.fromkeys(phrase for one in shown for phrase in one.departures)
    if asked.chunked and shown:
        unlike |= dict.fromkeys(audits.of_sets(len(shown)))
    pooled = _pooled([one.number for one in shown])
    return Standing(row, state, why, seconds, pooled, len(shown), tuple(unlike))


class _Found(NamedTuple):
    """The number of one start, and what sets it apart from the row."""

    number: Number
    departures: tuple[str, ...]


def _found(asked: Measurement, place: Workplace, seed: int) -> list[_Found]:
    """One, or none if there is no number."""
    run, number = place.run(asked, seed), place.measured(asked, seed)
    if run is None or number is None:
        return []
    phrases = of_set(asked.row, run)
    if number.result is not None:
        phrases += of_result(asked.row, run, number.result)
    return [_Found(number, (*phrases, *number.unlike.phrases))]


def _pooled(numbers: Sequence[Number]) -> Number | None:
    if not numbers:
        return None
    return Number(
        tuple(value for number in numbers for value in number.values),
        numbers[0].how,
        tuple(value for number in numbers for value in number.best),
    )


def _mean_std(values: Sequence[float], scale: float) -> tuple[float, float | None]:
    scaled = [value * scale for value in values]
    return statistics.fmean(scaled), statistics.stdev(scaled) if len(scaled) > 1 else None
