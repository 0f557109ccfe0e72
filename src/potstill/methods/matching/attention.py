"""DataDAM: attention matching (Sajedi et al., ICCV 2023).

phi_j are the activations of block j of a fresh, frozen ConvNet of J blocks, before pooling, and h
the features that its last layer sees. The attention of an image in block j is

    a_j = sum over channels of |phi_j|^p,    z_j = a_j / max(|a_j|, 1e-12),

one vector over all places. With siamese draws A_c, batches B_c and blocks S_c:

    L_SAM = sum over j < J, over classes, of |mean z_j(A_c B_c) - mean z_j(A_c S_c)|^2,
    L_MMD = sum over classes of |mean h(A_c B_c) - mean h(A_c S_c)|^2,
    L     = scale (L_SAM + lambda L_MMD).

The last block enters through h alone. L_MMD is the loss of distribution matching. As there, means
of real images are constants, and fewer of them make the gradient noisier, not biased.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor

from potstill.data.siamese import Draw
from potstill.methods.matching.losses import class_means, seen_by_class, squared_distances, together

Activations = Callable[[Tensor], tuple[list[Tensor], Tensor]]
"""Images (n, c, h, w) -> phi_j (n, channels, h_j, w_j) of each block, and h (n, d)."""

_SMALLEST = 1e-12


def attention_matching(
    activations: Activations,
    real: Iterable[Tensor],
    synthetic: Tensor,
    draws: Sequence[Draw] | None = None,
    *,
    power: int,
    feature_weight: float,
    coupled: bool = False,
) -> Tensor:
    """The terms of L_SAM + lambda L_MMD; their sum is differentiable in the synthetic images.

    Args:
        activations: of a network whose parameters ask for no gradient.
        real: B_c for each of the C classes, (b_c, c, h, h); looked at one after the other.
        synthetic: S, (C ipc, c, h, h), ordered by class.
        draws: A_c for each class; images are taken as they are if None.
        power: p, 1, 2 or 4.
        feature_weight: lambda.
        coupled: whether the network ties the images of a batch together, so that real images
            have to pass all at once, and so do synthetic ones.

    Returns:
        (C,).
    """

    def compared(images: Tensor) -> list[Tensor]:
        maps, features = activations(images)
        return [*(attention(one, power) for one in maps[:-1]), features]

    real, synthetic = seen_by_class(real, synthetic, draws)
    means = class_means(compared, real, coupled=coupled)
    *maps, features = together(compared, synthetic, coupled=coupled)
    terms = [squared_distances(mean, own) for mean, own in zip(means[:-1], maps, strict=True)]
    return sum(terms, feature_weight * squared_distances(means[-1], features))


def attention(maps: Tensor, power: int) -> Tensor:
    """Maps (n, channels, h, w) -> z (n, h w), of length 1 unless a map is 0."""
    powers = maps.abs() if power == 1 else maps.square()
    if power == 4:
        powers = powers.square()
    summed = powers.sum(1).flatten(1)
    return summed / summed.norm(dim=1, keepdim=True).clamp_min(_SMALLEST)
