"""CAFE: alignment of features (Wang et al., CVPR 2022), as its authors ran it.

phi_j are the activations of block j of a ConvNet, before pooling, and h the features that its last
layer sees. For maps phi let M(phi) = sum over classes of |mean phi(B_c) - mean phi(S_c)|^2, the
squares summed over all numbers of a map. With three blocks:

    L_f = 0.1 M(phi_1) + 0.1 M(phi_2) + 1 M(phi_3) + 2 M(h),
    L_d = sum over real images r of CE((<h(r), m_1>, .., <h(r), m_C>), class of r),
    m_c = mean h(S_c),
    L   = L_f + 0.01 L_d.

h is the pooled phi_3, so it enters twice, hence the 2. L_d is a sum: with 2560 real images 0.01 of
it is 25.6 times their mean. Real images are constants.

Departures: with another number of blocks every map but the last has the weight of the first two,
which the authors, of three, did not need to say. They also add a cross-entropy of the network on
the real batch, which does not depend on S and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.data.siamese import Draw
from potstill.methods.matching.attention import Activations
from potstill.methods.matching.losses import (
    Compared,
    parts_of_batch,
    seen_by_class,
    squared_distances,
    together,
)


def feature_alignment(
    activations: Activations,
    real: Iterable[Tensor],
    synthetic: Tensor,
    draws: Sequence[Draw] | None = None,
    *,
    weights: Sequence[float],
    centre_weight: float,
) -> Tensor:
    """The terms of L; their sum is differentiable in the synthetic images.

    A class has the terms of L_f that compare it, and of L_d those of its real images.

    Args:
        real: B_c for each of the C classes, (b_c, c, h, h); looked at one after the other.
        synthetic: S, (C ipc, c, h, h), ordered by class.
        draws: A_c for each class; images are taken as they are if None.
        weights: of M for each block's maps, and of M(h).
        centre_weight: of L_d.

    Returns:
        (C,).
    """

    def compared(images: Tensor) -> list[Tensor]:
        maps, features = activations(images)
        return [*(one.flatten(1) for one in maps), features]

    real, synthetic = seen_by_class(real, synthetic, draws)
    found = together(compared, synthetic)
    wanted = [_means_and_features(compared, batch) for batch in real]
    means = [torch.stack(layer) for layer in zip(*(one for one, _ in wanted), strict=True)]
    features = [own for _, own in wanted]
    terms = [
        weight * squared_distances(mean, own)
        for weight, mean, own in zip(weights, means, found, strict=True)
    ]
    centres = found[-1].unflatten(0, (len(features), -1)).mean(1)
    return sum(terms, centre_weight * centre_losses(features, centres))


@torch.no_grad()
def _means_and_features(compared: Compared, batch: Tensor) -> tuple[list[Tensor], Tensor]:
    """Of a batch the mean (d,) of each layer, and the last one (b, d).

    The maps of a whole batch would take a hundred megabytes; they are added up part by part.
    """
    sums: list[Tensor] = []
    features = []
    for part in parts_of_batch(batch):
        layers = compared(part)
        found = [layer.sum(0) for layer in layers]
        sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        features.append(layers[-1])
    return [total / len(batch) for total in sums], torch.cat(features)


def centre_losses(features: Sequence[Tensor], centres: Tensor) -> Tensor:
    """For each class the summed cross-entropy of its features (b_c, d) against centres (C, d)."""
    losses = []
    for label, own in enumerate(features):
        target = torch.full((len(own),), label, device=own.device)
        losses.append(F.cross_entropy(own @ centres.T, target, reduction="sum"))
    return torch.stack(losses)
