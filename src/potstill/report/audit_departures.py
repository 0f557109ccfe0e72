"""What an audit did otherwise than the paper's beside it, in short phrases."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from potstill import papers
from potstill.config import PaperRow
from potstill.report import departures
from potstill.report.paper_audits import recipe_row
from potstill.report.records import RunRecord
from potstill.results import Continual, Membership
from potstill.text import count, network_text

_STEPS, _NETWORKS, _CHUNKS = 16_000, 5, 5
TASKS = 5
"""Of Table 10 of DWA."""


class Unlike(NamedTuple):
    """``effort`` makes a number another than the paper's row; with ``other`` it stays that."""

    effort: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.effort, *self.other)


def of_membership(audit: Membership, run: RunRecord) -> Unlike:
    """Against Tables 5 and 6 of RCIG: 5 networks like the run's own, 16,000 augmented steps."""
    found = []
    if audit.network != run.recipe.network:
        found.append(
            f"other networks attacked ({network_text(audit.network)}; the run's is "
            f"{network_text(run.recipe.network)})"
        )
    steps = audit.distilled.last.steps
    if steps != _STEPS:
        found.append(f"{count(steps, 'step')} (the paper's {_STEPS:,})")
    if not audit.training.augmented:
        found.append("trained without augmentation")
    if (audit.networks, audit.chunks) != (_NETWORKS, _CHUNKS):
        found.append(
            f"{count(audit.networks, 'network')} and {count(audit.chunks, 'chunk')} "
            f"(the paper's {_NETWORKS} and {_CHUNKS})"
        )
    return Unlike(tuple(found))


def of_continual(audit: Continual, run: RunRecord) -> Unlike:
    """Against Table 10 of DWA: a ConvNet for each of 5 tasks, trained as the run's recipe asks.

    What the recipe itself asks for otherwise than the paper is no lack of the audit's.
    """
    row, recipe = continual_row(), run.recipe
    asked = audit.model_copy(
        update={
            "network": departures.student(row, recipe),
            "protocol": recipe.evaluation.protocol,
            "epochs": recipe.evaluation.epochs,
        }
    )
    found = departures.of_evaluation(row, run, audit)
    of_recipe = departures.of_evaluation(row, run, asked)
    effort = [phrase for phrase in found if phrase not in of_recipe]
    if audit.networks < recipe.evaluation.networks:
        effort.append(
            f"{count(audit.networks, 'network')} for each task "
            f"(the recipe's {recipe.evaluation.networks})"
        )
    other = [phrase for phrase in found if phrase in of_recipe]
    if len(audit.tasks) != TASKS:
        other.append(f"{count(len(audit.tasks), 'task')} (the paper's {TASKS})")
    if audit.order != "random":
        other.append("classes in the order of the data, not at random")
    return Unlike(tuple(effort), tuple(other))


@cache
def continual_row() -> PaperRow:
    """What all of Table 10 is about: its rows name the classes so far beside the data."""
    row = recipe_row(papers.rows(paper="dwa", table="10")[0])
    return row.model_copy(update={"dataset": row.dataset.split()[0]})
