"""The audits whose numbers stand in the papers' tables, as the papers made them."""

from __future__ import annotations

from potstill.audits.continual import continual
from potstill.audits.membership import membership
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.evaluation.cache import Cache
from potstill.papers.answers import Measurement
from potstill.papers.audits import TASKS
from potstill.progress import Progress
from potstill.results import Continual, Membership
from potstill.teacher import Teacher


def audit(
    measurement: Measurement,
    dataset: DistilledDataset,
    source: SourceDataset,
    teacher: Teacher | None,
    *,
    seed: int,
    device: str,
    cache: Cache,
    progress: Progress,
) -> Membership | Continual:
    """The audit that a measurement's number is of; ``teacher`` labels where the protocol has one.

    Raises:
        PotstillError: what the audit raises.
    """
    if measurement.quantity == "membership":
        return membership(
            dataset,
            source,
            network=measurement.network,
            baselines=True,
            device=device,
            seed=seed,
            cache=cache,
            progress=progress,
        )
    return continual(
        dataset,
        source,
        tasks=TASKS,
        network=measurement.network,
        teacher=teacher,
        device=device,
        seed=seed,
        cache=cache,
        progress=progress,
    )
