"""The audits whose numbers stand in the papers' tables, as the papers made them.

Tables 5 and 6 of RCIG attack networks like the set's own, Table 10 of DWA learns class by class.
"""

from __future__ import annotations

from typing import Literal

from potstill.audits.continual import continual
from potstill.audits.membership import membership
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.evaluation.cache import Cache
from potstill.methods.recipe import Recipe
from potstill.progress import Progress
from potstill.report import departures
from potstill.report.audit_departures import TASKS, continual_row
from potstill.results import Continual, Membership
from potstill.teacher import Teacher

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
    cache: Cache,
    progress: Progress,
) -> Membership | Continual:
    """The audit, of the recipe's seed; ``teacher`` labels where the protocol has one.

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
            cache=cache,
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
        cache=cache,
        progress=progress,
    )
