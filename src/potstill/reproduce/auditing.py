"""The audits whose numbers stand in the papers' tables, as the papers made them.

Tables 5 and 6 of RCIG attack networks like the set's own, Table 10 of DWA learns class by class.
"""

from __future__ import annotations

from typing import Any, Literal

from potstill.audits.continual import continual
from potstill.audits.membership import membership
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.evaluation.kept import Kept
from potstill.methods.recipe import Recipe
from potstill.report import departures
from potstill.report.audit_departures import TASKS, continual_row
from potstill.teacher import Teacher
from potstill.train import Progress

Audit = Literal["membership", "continual"]


def learner(recipe: Recipe) -> NetworkRecipe:
    """The network that learns class by class."""
    return departures.student(continual_row(), recipe)


def audit(
    kind: Audit,
    dataset: DistilledDataset,
    source: SourceDataset,
    recipe: Recipe,
    teacher: Teacher | None,
    *,
    device: str,
    kept: Kept,
    progress: Progress,
) -> dict[str, Any]:
    """The audit's document, of the recipe's seed; ``teacher`` labels where the protocol has one.

    Raises:
        PotstillError: what the audit raises.
    """
    if kind == "membership":
        return membership(
            dataset,
            source,
            network=recipe.network,
            baselines=True,
            device=device,
            seed=recipe.seed,
            kept=kept,
            progress=progress,
        )
    return continual(
        dataset,
        source,
        tasks=TASKS,
        network=learner(recipe),
        teacher=teacher,
        device=device,
        seed=recipe.seed,
        kept=kept,
        progress=lambda _task, done, total: progress(done, total),
    )
