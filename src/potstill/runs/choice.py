"""Which of a run's results stands for it where there is room for one.

Not the newest, which may be a quick look, but the one most like what the recipe asks for.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from potstill.config import EvaluationRecipe, NetworkRecipe
from potstill.results import Evaluation


def preferred(
    results: Iterable[Evaluation], wanted: EvaluationRecipe, network: NetworkRecipe | None
) -> Evaluation | None:
    """The result that stands for others; None if there is none.

    On ``network``, of the wanted protocol and for its epochs (the most, if it names none) rather
    than not, in this order; then of the most networks; then the newest.
    """

    def likeness(result: Evaluation) -> tuple[Any, ...]:
        lasting = result.epochs or 0
        return (
            result.network == network,
            result.protocol == wanted.protocol,
            lasting if wanted.epochs is None else lasting == wanted.epochs,
            len(result.accuracy.values),
        )

    newest_first = list(results)[::-1]
    return max(newest_first, key=likeness, default=None)


def representatives(
    results: Iterable[Evaluation], wanted: EvaluationRecipe
) -> tuple[Evaluation, ...]:
    """Of each network and protocol the result that stands for it, in order of appearance."""
    alike: dict[Any, list[Evaluation]] = {}
    for result in results:
        alike.setdefault((result.network, result.protocol), []).append(result)
    chosen = (preferred(group, wanted, network) for (network, _), group in alike.items())
    return tuple(result for result in chosen if result is not None)
