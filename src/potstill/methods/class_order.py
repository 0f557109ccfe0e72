"""Whether the classes of data stand in the order that a pretrained head has them in.

Weights from a library say nothing of folders. ImageNet's classes stand in the order of their
WordNet numbers; folders that are named by words sort otherwise, and every label would be wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset
from potstill.errors import DataError
from potstill.quoting import quoted

_LOOKS = 5
# A good network takes a few classes for their twins (ImageNet's two maillots, its two sunglasses).
_LEAST_SHARE, _LEAST = 0.05, 2


def require_class_order(
    network: nn.Module, name: str, source: SourceDataset, preprocess: Preprocess
) -> None:
    """Refuse data whose classes the network knows under other numbers.

    It looks at the first five training images of every class. A class is out of place if all of
    them are taken for one other class, which no other class out of place is taken for. A network
    that is merely bad does not sort images so.

    Args:
        network: images (n, c, h, w) in network space -> outputs (n, C), in evaluation mode.
        name: what the message calls it.

    Raises:
        DataError: more than a twentieth of the classes are out of place, and two at least.
    """
    taken_for = _taken_for(network, source, preprocess)
    claims = list(taken_for.values())
    moved = {own: other for own, other in taken_for.items() if claims.count(other) == 1}
    if len(moved) < max(_LEAST, _LEAST_SHARE * source.classes):
        return
    own, other = next(iter(moved.items()))
    raise DataError(
        f"the classes are not in the order of {name}: images of class {own} "
        f"({quoted(source.class_names[own])}) are its class {other}, and so for {len(moved)} of "
        f"{source.classes}; name the class folders so that they sort as its classes do "
        "(ImageNet's by WordNet number, n01440764 first)"
    )


@torch.no_grad()
def _taken_for(network: nn.Module, source: SourceDataset, preprocess: Preprocess) -> dict[int, int]:
    """For each class whose images are all taken for one other class: that one."""
    was_training = network.training
    network.eval()
    found = {}
    try:
        for label in range(source.classes):
            rows = (source.train.labels == label).nonzero().flatten()[:_LOOKS]
            if len(rows):
                images = preprocess.apply(source.train.images[rows])
                seen: Tensor = network(images).argmax(1).unique()
                if len(seen) == 1 and int(seen) != label:
                    found[label] = int(seen)
    finally:
        network.train(was_training)
    return found
