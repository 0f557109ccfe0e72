"""Networks trained one after the other, and what is said of all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from potstill.evaluation.plan import Assignment
from potstill.progress import Progress, part
from potstill.results import Accuracy, BestOnTest, Reached

Train = Callable[[int, Tensor, Tensor, Progress], list[float]]
"""(index of the network, images (n, c, h, w) and classes (n,) int64 on the assignment's device,
what is told of its steps) -> accuracies, after each epoch that is looked at if the best is asked
for, or after the last."""


def score_in_turn(
    given: Assignment,
    images: Tensor,
    labels: Tensor,
    train: Train,
    progress: Progress,
    looked_at: Sequence[int] | None = None,
) -> Reached:
    """Train and test each network of an assignment.

    Args:
        given: says how many networks, where, and whether the best epoch is asked for.
        images: (n, c, h, w) for all of them, or (k, n, c, h, w), a set for each.
        labels: (n, C), or (k, n, C) as the images; a class is the largest entry.
        train: trains and tests one network.
        progress: told of every step, over all networks.
        looked_at: epochs, counted from 1, that the accuracies are of if the best is asked for;
            every epoch if None.

    Returns:
        The accuracy, and the best epochs', counted from 1, if asked for.
    """
    histories = []
    for index in range(given.networks):
        own = images[index] if images.ndim == 5 else images
        classes = (labels[index] if labels.ndim == 3 else labels).argmax(1)
        told = part(progress, index, given.networks)
        histories.append(train(index, own.to(given.device), classes.to(given.device), told))
    accuracy = Accuracy.of([history[-1] for history in histories])
    if not given.best:
        return Reached(accuracy=accuracy)
    best = [max(history) for history in histories]
    places = [history.index(most) for history, most in zip(histories, best, strict=True)]
    epochs = [place + 1 if looked_at is None else looked_at[place] for place in places]
    return Reached(accuracy=accuracy, best_on_test=BestOnTest.of(best, epochs=tuple(epochs)))
