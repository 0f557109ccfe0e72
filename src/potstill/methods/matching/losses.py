"""What the matching methods minimise, as pure functions of a network, images and draws.

Distribution matching (Zhao and Bilen, WACV 2023):

    L = sum over classes c of | mean_i psi(A_c(B_c))_i - mean_i psi(A_c(S_c))_i |^2

psi are the features of a fresh network that is never trained, what its last layer would see; B_c
and S_c a batch of real images and the synthetic images of class c, A_c a siamese draw that both
share. The norm is summed over features and the loss over classes: nothing is averaged but images.

The mean of the real features is a constant of the gradient, which is linear in it. So real images
pass without a graph, a few at a time, and fewer of them make the gradient noisier, not biased:

    grad of S_c's images = -(2 / ipc) J^T (mean of real features - mean of synthetic features).

The classes share nothing as long as features depend on one image alone; a network with batch norm
would couple them, and would see its chunks apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from potstill.data import siamese
from potstill.data.siamese import Draw
from potstill.train import in_favoured_layout

Embed = Callable[[Tensor], Tensor]
"""Images (n, c, h, w) -> features (n, d), each of its own image alone."""


class Matched(NamedTuple):
    """What one step of the images needs: a loss and its gradient.

    terms: (C,), of each class. gradient: of their sum with respect to S, (C ipc, c, h, h).
    """

    terms: Tensor
    gradient: Tensor


# Activations of so many images stay in a processor's cache: 256 at once take a ConvNet of width 32
# three times as long, one of width 128 twice.
_CHUNK_CPU = 16


def distribution_matching(
    embed: Embed,
    real: Iterable[Tensor],
    synthetic: Tensor,
    draws: Sequence[Draw] | None = None,
) -> Tensor:
    """The terms of the loss; their sum is differentiable in the synthetic images.

    Args:
        embed: psi, with parameters that ask for no gradient.
        real: B_c for each of the C classes, (b_c, c, h, h); looked at one after the other.
        synthetic: S, (C ipc, c, h, h), ordered by class.
        draws: A_c for each class; images are taken as they are if None.

    Returns:
        (C,).
    """
    if draws is not None:
        real = (siamese.apply(batch, draw) for batch, draw in zip(real, draws, strict=True))
        blocks = synthetic.chunk(len(draws))
        parts = [siamese.apply(block, draw) for block, draw in zip(blocks, draws, strict=True)]
        synthetic = torch.cat(parts)
    return squared_distances(class_means(embed, real), _features(embed, synthetic))


def differentiated(loss: Callable[[Tensor], Tensor], synthetic: Tensor) -> Matched:
    """A loss of S, which gives the terms (C,), with its gradient by one backward pass."""
    images = synthetic.detach().requires_grad_()
    terms = loss(images)
    (gradient,) = torch.autograd.grad(terms.sum(), images)
    return Matched(terms.detach(), gradient)


@torch.no_grad()
def class_means(embed: Embed, batches: Iterable[Tensor]) -> Tensor:
    """Batches (b_c, c, h, w), one for each of C classes -> their mean features (C, d)."""
    return torch.stack([_features(embed, batch).mean(0) for batch in batches])


def squared_distances(means: Tensor, features: Tensor) -> Tensor:
    """|means_c - mean of class c's features|^2: (C, d), (C ipc, d) ordered by class -> (C,)."""
    own = features.view(len(means), -1, means.shape[1]).mean(1)
    return (means - own).square().sum(1)


def _features(embed: Embed, images: Tensor) -> Tensor:
    """Images (n, c, h, w) -> (n, d), a few images at a time."""
    size = _CHUNK_CPU if images.device.type == "cpu" else len(images)
    return torch.cat([embed(in_favoured_layout(part)) for part in images.split(size)])
