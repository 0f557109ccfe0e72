"""The papers' tables on this machine: what it can carry is run and set beside the paper's numbers.

:func:`select` finds rows, :func:`survey` says how they stand, :func:`reproduce` does what is
left. Numbers that a command measured are taken up if they were measured as the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from potstill.errors import PotstillError
from potstill.papers.answers import Measurement
from potstill.progress import Progress, silent
from potstill.reproduce.plan import lacks, needs_run
from potstill.reproduce.rows import TableRow, select
from potstill.reproduce.table import Key, Standing, by_set, survey
from potstill.reproduce.workplace import Workplace
from potstill.text import count, duration

__all__ = ["Standing", "TableRow", "Workplace", "reproduce", "select", "survey"]


def reproduce(
    rows: Sequence[TableRow],
    place: Workplace,
    *,
    seeds: int,
    budget: float,
    say: Callable[[str], None],
    progress: Progress = silent,
) -> list[Standing]:
    """Distil and measure what the rows lack, the cheapest sets first; how they stand then.

    A set that fails, or whose run is damaged, does not stop the others.

    Args:
        rows: which.
        place: where.
        seeds: how many starts of each set, from seed 0 on.
        budget: the seconds that a set may be estimated to take, all starts and measurements
            together; others are left out.
        say: told in a line of each set that begins or fails.
        progress: told of the steps of each.

    Raises:
        KeyboardInterrupt: what was done is kept, and the same call goes on.
    """
    before = survey(rows, place, seeds=seeds, budget=budget)
    ready = {
        asked.key: standing.seconds or 0.0
        for standing in before
        if (asked := standing.table_row.measurement) is not None
        and needs_run(asked)
        and standing.state in ("open", "begun")
    }
    wanted = by_set(rows)
    failures: dict[Key, str] = {}
    for number, key in enumerate(sorted(ready, key=ready.__getitem__), start=1):
        words = " ".join([key[0], *(f"--set {one}" for one in key[1])])
        left = f"{count(seeds, 'start')}, about {duration(ready[key])}"
        say(f"{number} of {len(ready)}: {words}, {left}")
        try:
            for seed in range(seeds):
                _complete(wanted[key], place, seed, progress)
        except PotstillError as error:
            failures[key] = str(error)
        except torch.OutOfMemoryError:
            failures[key] = "the device is out of memory; use --device cpu or a larger device"
        if key in failures:
            say(f"{key[0]} failed: {failures[key]}")
    return survey(rows, place, seeds=seeds, budget=budget, failures=failures)


def _complete(
    asked: Sequence[Measurement], place: Workplace, seed: int, progress: Progress
) -> None:
    """Distil one start of a set, and measure what is missing."""
    if any(map(needs_run, asked)):
        place.distil(asked[0], seed, progress)
    for one in asked:
        if lacks(one, place, seed):
            work = place.evaluate if one.quantity == "accuracy" else place.audit
            work(one, seed, progress)
