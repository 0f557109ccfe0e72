"""Audits beside the papers': which rows are about a run, and what an audit did otherwise."""

from __future__ import annotations

from typing import NamedTuple

from potstill.config import NetworkRecipe
from potstill.papers.answers import answer
from potstill.papers.departures import alike, of_result, paper_recipe
from potstill.papers.differences import differences
from potstill.papers.rows import ACCURACY, Row, rows
from potstill.results import Continual, Membership
from potstill.runs.records import RunRecord

TASKS = 5
"""Tasks that Table 10 of DWA cuts the classes into."""

_ATTACK = {"steps": 16_000, "augmented": True, "networks": 5}
"""How Tables 5 and 6 of RCIG attack networks."""
SETS = 5
"""Sets whose audits those tables put together, distilled from parts that share no image."""


class Unlike(NamedTuple):
    """``effort`` makes a number another than the paper's row; with ``other`` it stays that."""

    effort: tuple[str, ...] = ()
    other: tuple[str, ...] = ()

    @property
    def phrases(self) -> tuple[str, ...]:
        """Everything that differs, what makes another number first."""
        return (*self.effort, *self.other)


def of_membership(audit: Membership, run: RunRecord) -> Unlike:
    """Against Tables 5 and 6 of RCIG, which attack networks like the set's own."""
    found: tuple[str, ...] = ()
    if run.network is not None:
        attacked, own = (
            {"attack": {"network": network.model_dump(mode="json")}}
            for network in (audit.network, run.network)
        )
        found = differences(attacked, own, "the set's own")
    ours = {
        "steps": audit.distilled.last.steps,
        "augmented": audit.training.augmented,
        "networks": audit.networks,
    }
    return Unlike(found + differences({"attack": ours}, {"attack": _ATTACK}))


def of_sets(number: int) -> tuple[str, ...]:
    """Against the sets of those tables, if fewer are put together."""
    if number >= SETS:
        return ()
    return differences({"attack": {"sets": number}}, {"attack": {"sets": SETS}})


def of_continual(audit: Continual, run: RunRecord, row: Row) -> Unlike:
    """Against a row of Table 10 of DWA: a ConvNet for each of 5 tasks, as the run's recipe asks.

    What the recipe itself asks for otherwise than the paper is no lack of the audit's, nor are
    more networks than it asks for.
    """
    measured, wanted = answer(row), run.evaluation
    asked = {
        "network": audit.network if measured is None else measured.network,
        "protocol": wanted.protocol,
        "epochs": wanted.epochs,
        "networks": max(audit.networks, wanted.networks),
    }
    found = of_result(row, run, audit)
    of_recipe = of_result(row, run, audit.model_copy(update=asked))
    effort = tuple(phrase for phrase in found if phrase not in of_recipe)
    other = tuple(phrase for phrase in found if phrase in of_recipe)
    tasks = {"tasks": len(audit.tasks), "order": audit.order}
    return Unlike(effort, other + differences(tasks, {"tasks": TASKS, "order": "random"}))


def attacks(run: RunRecord) -> dict[str, dict[str, Row]]:
    """What Tables 5 and 6 of RCIG print for the run's data: whom networks learned from, then each
    attack's area.

    The key ``accuracy`` beside the attacks' has the networks' test accuracy. Empty for runs on
    other data, or of other sizes, than the tables'.
    """
    fitting = []
    for row in rows(dataset=run.data.dataset, images_per_class=run.images_per_class):
        asked, paper = answer(row), paper_recipe(row)
        if asked is None or paper is None or asked.quantity != "membership":
            continue
        if paper.data.train_images == run.data.train_images:
            fitting.append((row, asked))
    own = alike(run, [row for row, asked in fitting if asked.trained_on == "distilled"])
    found: dict[str, dict[str, Row]] = {}
    for row, asked in fitting:
        if asked.trained_on != "distilled" or row in own:
            found.setdefault(asked.trained_on, {})[asked.attack] = row
    return found


def lessons(run: RunRecord) -> dict[int, Row]:
    """What Table 10 of DWA prints for a set like the run's, by the classes so far; often empty."""
    near = rows(dataset=run.data.dataset, images_per_class=run.images_per_class)
    learned = {row: asked.classes for row in near if (asked := answer(row)) and asked.classes}
    return {learned[row]: row for row in alike(run, learned)}


def transfer(run: RunRecord, network: NetworkRecipe) -> Row | None:
    """The accuracy that a table comparing networks prints for a set like the run's on this one."""
    compared = [row for row in rows(metric=ACCURACY) if row.distill_arch and row.eval_arch]
    for row in alike(run, compared):
        asked = answer(row)
        if asked is not None and asked.network == network:
            return row
    return None
