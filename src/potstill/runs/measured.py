"""Which of the results and audits that a run has kept belong on the page.

A set that was relabelled or replaced is another set: what was measured on the one before says
nothing of it. What was measured again is listed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from potstill.results import (
    Continual,
    Diversity,
    Evaluation,
    Membership,
    RobustScores,
    of_set,
)
from potstill.text import count


@dataclass(frozen=True)
class Measured:
    """What was measured on distilled sets, oldest first."""

    results: tuple[Evaluation, ...] = ()
    diversity: tuple[Diversity, ...] = ()
    scores: tuple[RobustScores, ...] = ()
    membership: tuple[Membership, ...] = ()
    continual: tuple[Continual, ...] = ()

    @property
    def audits(self) -> int:
        """Number of audits of all kinds."""
        return sum(map(len, (self.diversity, self.scores, self.membership, self.continual)))

    def of_set(self, digest: str | None) -> Measured:
        """What says no other set than that of this digest; all of it if ``digest`` is None."""
        if digest is None:
            return self
        return Measured(
            results=of_set(self.results, digest),
            diversity=of_set(self.diversity, digest),
            scores=of_set(self.scores, digest),
            membership=of_set(self.membership, digest),
            continual=of_set(self.continual, digest),
        )


def left_out(found: Measured, shown: Measured) -> list[str]:
    """A sentence on what is found and not shown, if there is any."""
    results, audits = len(found.results) - len(shown.results), found.audits - shown.audits
    parts = [count(n, noun) for n, noun in ((results, "result"), (audits, "audit")) if n]
    if not parts:
        return []
    verb = "is" if results + audits == 1 else "are"
    return [
        f"{' and '.join(parts)} {verb} not shown, being of another set than the one that is in "
        "the folder now."
    ]


def once(results: Sequence[Evaluation]) -> tuple[Evaluation, ...]:
    """The results without those that a newer one measured again.

    One that has other real images or best epochs beside it gives way only to one that has them
    too.
    """
    return tuple(
        result
        for place, result in enumerate(results)
        if not any(
            _asked(other) == _asked(result) and _replaces(other, result, newer=later > place)
            for later, other in enumerate(results)
        )
    )


def _asked(result: Evaluation) -> tuple[Any, ...]:
    """What two evaluations have in common that measured the same."""
    training = (result.protocol, result.network, result.epochs, result.steps, result.labels)
    teacher = result.teacher.get("digest") if isinstance(result.teacher, dict) else None
    return (*training, teacher, result.seed, len(result.accuracy.values), result.artefact_digest)


def _replaces(other: Evaluation, result: Evaluation, *, newer: bool) -> bool:
    """Whether ``other``, of two that measured the same, says more, or as much and is newer."""
    theirs, ours = _beside(other), _beside(result)
    return theirs > ours or (newer and theirs == ours)


def _beside(result: Evaluation) -> set[str]:
    beside = {"baseline": result.baseline, "best": result.best_on_test}
    others = {other.kind for other in result.beside}
    return others | {name for name, found in beside.items() if found is not None}
