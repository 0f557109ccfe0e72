"""The papers' tables on this machine: what it can carry is run and set beside the paper's numbers.

:func:`select` finds lines, :func:`survey` says how they stand, :func:`reproduce` does what is
left. Numbers that a command measured are taken up if they were measured as the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from potstill.errors import PotstillError
from potstill.progress import Progress, silent
from potstill.reproduce.entries import Entry, Key, groups, needs_run, survey
from potstill.reproduce.found import Number
from potstill.reproduce.lines import Job, Line, select, tables
from potstill.reproduce.workshop import Workshop
from potstill.text import count, duration

__all__ = ["Entry", "Job", "Line", "Number", "Workshop", "reproduce", "select", "survey", "tables"]


def reproduce(
    lines: Sequence[Line],
    workshop: Workshop,
    *,
    seeds: int,
    budget: float,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> list[Entry]:
    """Distil and score what the lines lack, the cheapest sets first; how they stand then.

    A set that fails, or whose run is damaged, does not stop the others.

    Args:
        lines: which.
        workshop: where.
        seeds: how many starts of each set, from seed 0 on.
        budget: the seconds that a set may be estimated to take, all starts and measurements
            together; others are left out.
        say: told in a line of each set that begins or fails.
        progress: told of the steps of each.

    Raises:
        KeyboardInterrupt: what was done is kept, and the same call goes on.
    """
    before = survey(lines, workshop, seeds=seeds, budget=budget)
    ready = {
        (entry.line.job.recipe, entry.line.job.assignments): entry.seconds or 0.0
        for entry in before
        if entry.line.job is not None
        and needs_run(entry.line.job)
        and entry.state in ("open", "begun")
    }
    wanted = groups(lines)
    failures: dict[Key, str] = {}
    for place, key in enumerate(sorted(ready, key=ready.__getitem__), start=1):
        words = " ".join([key[0], *(f"--set {one}" for one in key[1])])
        left = f"{count(seeds, 'start')}, about {duration(ready[key])}"
        say(f"{place} of {len(ready)}: {words}, {left}")
        try:
            for seed in range(seeds):
                _complete(wanted[key], workshop, seed, progress)
        except PotstillError as error:
            failures[key] = str(error)
        except torch.OutOfMemoryError:
            failures[key] = "the device is out of memory; use --device cpu or a larger device"
        if key in failures:
            say(f"{key[0]} failed: {failures[key]}")
    return survey(lines, workshop, seeds=seeds, budget=budget, failures=failures)


def _complete(jobs: Sequence[Job], workshop: Workshop, seed: int, progress: Progress) -> None:
    """Distil one start of a set, and measure what is missing."""
    if any(map(needs_run, jobs)):
        workshop.distil(jobs[0], seed, progress)
    for job in jobs:
        if job.kind == "accuracy" and workshop.measured(job, seed) is None:
            workshop.evaluate(job, seed, progress)
        elif workshop.lacks_audit(job, seed):
            workshop.audit(job, seed, progress)
