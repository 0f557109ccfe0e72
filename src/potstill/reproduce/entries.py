"""How each line of a table stands: what was measured, what is left, and why."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

from potstill.data.facts import DATASETS
from potstill.errors import PotstillError
from potstill.report import departures
from potstill.report.text import duration
from potstill.reproduce.found import Number
from potstill.reproduce.lines import Job, Line
from potstill.reproduce.workshop import Workshop

State = Literal["done", "begun", "open", "costly", "no data", "failed", "setting", "no recipe"]
Key = tuple[str, tuple[str, ...]]
Failures = Mapping[Key, str]


@dataclass(frozen=True)
class Entry:
    """A line, and how it stands.

    ``seconds`` is what its distilled set, and all that is to be measured on it, is estimated to
    take still; None where that is unknown. ``number`` pools the starts that are done, or where
    none is, what smaller audits found. ``why`` says what keeps the line from being done, or how.
    A "setting" is no measurement: the number is what the recipe says.
    """

    line: Line
    state: State
    why: str = ""
    seconds: float | None = None
    number: Number | None = None
    starts: int = 0
    departures: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """What makes ours comparable: tables print percent."""
        return 100.0 if "accuracy" in self.line.row.metric else 1.0

    @cached_property
    def ours(self) -> tuple[float, float | None] | None:
        """Mean and sample deviation in the table's unit; one value has none."""
        return None if self.number is None else _mean_std(self.number.values, self.scale)

    @cached_property
    def best(self) -> tuple[float, float | None] | None:
        """Of the epochs that the test set chose, likewise."""
        if self.number is None or not self.number.best:
            return None
        return _mean_std(self.number.best, self.scale)

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, in the table's unit."""
        return None if self.ours is None else self.ours[0] - self.line.row.value

    def document(self) -> dict[str, Any]:
        """As JSON has it; ``ours``, ``best_on_test`` and ``difference`` in the table's unit."""
        row, job, number = self.line.row, self.line.job, self.number
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
            "name": self.line.name,
            "row": dict(row.__dict__),
            "recipe": job.recipe if job else None,
            "settings": list(job.assignments) if job else [],
            "measures": job.kind if job else None,
            "protocol": job.protocol or None if job else None,
            "network": job.network.model_dump(mode="json") if job and job.network else None,
            "state": self.state,
            "why": self.why,
            "estimated_seconds": self.seconds,
            "ours": ours,
            "best_on_test": self.best[0] if self.best else None,
            "difference": self.difference,
            "departures": list(self.departures),
        }


def groups(lines: Iterable[Line]) -> dict[Key, list[Job]]:
    """What is to be measured of each distilled set."""
    found: dict[Key, list[Job]] = {}
    for line in lines:
        if line.job is not None:
            jobs = found.setdefault((line.job.recipe, line.job.assignments), [])
            if line.job not in jobs:
                jobs.append(line.job)
    return found


def remaining(jobs: Sequence[Job], workshop: Workshop, seeds: int) -> float | None:
    """Seconds that are left for all of a set's starts; None where it cannot be told."""
    if jobs[0].load().data.dataset not in DATASETS:
        return None
    if not any(needs_run(job) for job in jobs):
        return 0.0
    return sum(workshop.cost(jobs, seed) for seed in range(seeds))


def needs_run(job: Job) -> bool:
    """Whether there must be a distilled set."""
    return job.kind != "iterations"


def survey(
    lines: Sequence[Line],
    workshop: Workshop,
    *,
    seeds: int,
    budget: float,
    failures: Failures | None = None,
) -> list[Entry]:
    """How the lines stand; nothing is distilled.

    Args:
        lines: which.
        workshop: where.
        seeds: how many starts of each set are wanted.
        budget: the seconds that a set may take, all starts and measurements together.
        failures: what went wrong, of sets with which it was tried.
    """
    standing = {}
    for key, jobs in groups(lines).items():
        standing[key] = _standing(jobs, workshop, seeds, budget, (failures or {}).get(key))
    # One set's lines after the other, so that its run is read once.
    order = sorted(range(len(lines)), key=lambda place: _set_of(lines[place]))
    entries = {place: _entry(lines[place], workshop, seeds, standing) for place in order}
    return [entries[place] for place in range(len(lines))]


def _set_of(line: Line) -> Key:
    return (line.job.recipe, line.job.assignments) if line.job is not None else ("", ())


def _standing(
    jobs: Sequence[Job], workshop: Workshop, seeds: int, budget: float, failure: str | None
) -> tuple[State, str, float | None]:
    """What keeps a set from being done, whichever of its lines are."""
    try:
        seconds = remaining(jobs, workshop, seeds)
        begun = any(workshop.held(jobs[0], seed) for seed in range(seeds))
    except PotstillError as error:
        return "failed", str(error), None
    if failure is not None:
        return "failed", failure, seconds
    if seconds == 0:
        return "open", "", seconds
    absent = workshop.absent(jobs[0].load().data)
    if absent is not None:
        return "no data", absent, seconds
    if seconds is not None and seconds > budget:
        why = f"takes about {duration(seconds)}, more than the budget of {duration(budget)}"
        return "costly", why, seconds
    return "begun" if begun else "open", "", seconds


def _entry(
    line: Line,
    workshop: Workshop,
    seeds: int,
    standing: Mapping[Key, tuple[State, str, float | None]],
) -> Entry:
    job = line.job
    if job is None:
        return Entry(line, "no recipe", line.why)
    if not needs_run(job):
        number = Number((float(job.load().method.iterations),), "the recipe's")
        return Entry(line, "setting", number=number)
    state, why, seconds = standing[job.recipe, job.assignments]
    found: list[_Found | None] = []
    for seed in range(seeds):
        try:
            found.append(_found(line, job, workshop, seed))
        except PotstillError as error:
            found.append(None)
            state, why = "failed", str(error)
    whole = [one for one in found if one is not None and one.number.whole]
    if len(whole) == seeds:
        state, why = "done", ""
    shown = whole or [one for one in found if one is not None]
    unlike = dict.fromkeys(phrase for one in shown for phrase in one.departures)
    pooled = _pooled([one.number for one in shown])
    return Entry(line, state, why, seconds, pooled, len(shown), tuple(unlike))


class _Found(NamedTuple):
    """The number of one start, and what sets it apart from the row."""

    number: Number
    departures: tuple[str, ...]


def _found(line: Line, job: Job, workshop: Workshop, seed: int) -> _Found | None:
    held = workshop.held(job, seed)
    number = None if held is None else held.number(job, seed)
    if held is None or number is None:
        return None
    row = line.paper_row
    if job.kind == "continual":
        row = row.model_copy(update={"dataset": row.dataset.split()[0]})
    phrases = departures.of_recipe(row, held.run)
    if number.result is not None:
        phrases += departures.of_evaluation(row, held.run, number.result)
    return _Found(number, (*phrases, *number.unlike.phrases))


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
