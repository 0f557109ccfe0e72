"""How target models are trained on a set, and copied as they are at several steps.

As in RCIG's Appendix B and its published runs: Adam at a constant 3e-4, batches of 256, augmented,
half the squared error against the set's own labels. The rate is constant, so that a copy made
on the way is a network that was trained for so long. Mirror images are the augmentation's alone,
whatever trick the set was distilled with.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn

from potstill.evaluation.augment import OUTSIDE, augment
from potstill.progress import Progress
from potstill.train import Schedule, Training, train


@dataclass(frozen=True)
class Students:
    """How target models are trained on the images that are attacked."""

    learning_rate: float = 3e-4
    batch_size: int = 256
    augmented: bool = True

    def key(self) -> dict[str, Any]:
        """All that decides how networks are trained, for a cache."""
        return {**asdict(self), **({"outside": OUTSIDE} if self.augmented else {})}

    def training(self, steps: int) -> Training:
        """A training of so many steps."""
        constant = Schedule(steps, self.learning_rate, warmup=0, floor=1.0)
        return Training(steps, constant, self.batch_size, augment if self.augmented else None)

    def snapshots(
        self,
        network: nn.Module,
        images: Tensor,
        labels: Tensor,
        steps: Sequence[int],
        *,
        seed: int,
        index: int,
        progress: Progress,
    ) -> list[nn.Module]:
        """Train ``network``; copies of it after each of ``steps``.

        Args:
            network: initialised; trained in place.
            images: (n, c, h, w) in network space.
            labels: (n, C).
            steps: in ascending order, from 1.
            seed: seed of the streams of network ``index``, the same for other images.
            index: number of the network.
            progress: told of every step.

        Raises:
            NumericalError: the training left the finite numbers.
        """
        copies: list[nn.Module] = []

        def watch(stage: str, done: int, total: int, **values: float) -> None:
            if done in steps:
                copies.append(copy.deepcopy(network))
            progress(stage, done, total, **values)

        train(
            [network],
            images,
            labels,
            self.training(steps[-1]),
            seed=seed,
            purpose=f"audits/membership/{index}",
            batched=False,
            progress=watch,
        )
        return copies
