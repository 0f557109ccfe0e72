"""What the matching methods minimise, as pure functions of a network, images and draws.

Distribution matching (Zhao and Bilen, WACV 2023):

    L = sum over classes c of | mean_i psi(A_c(B_c))_i - mean_i psi(A_c(S_c))_i |^2

psi are the features of a fresh network that is never trained, what its last layer would see; B_c
and S_c a batch of real images and the synthetic images of class c, A_c a siamese draw that both
share. The norm is summed over features and the loss over classes: nothing is averaged but images.

The mean of the real features is a constant of the gradient, which is linear in it. So real images
pass without a graph, a few at a time, and fewer of them make the gradient noisier, not biased:

    grad of S_c's images = -(2 / ipc) J^T (mean of real features - mean of synthetic features).

The classes share nothing as long as features depend on one image alone. A network with batch norm
couples them: then all real images pass it at once, and so do all synthetic ones, each under their
own statistics, in training mode, as the authors ran it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from potstill.data import siamese
from potstill.data.siamese import Draw
from potstill.train import in_favoured_layout

Compared = Callable[[Tensor], list[Tensor]]
"""Images (n, c, h, w) -> what is compared of each, (n, d) for each layer."""


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
    embed: Callable[[Tensor], Tensor],
    real: Iterable[Tensor],
    synthetic: Tensor,
    draws: Sequence[Draw] | None = None,
    *,
    coupled: bool = False,
) -> Tensor:
    """The terms of the loss; their sum is differentiable in the synthetic images.

    Args:
        embed: psi, images (n, c, h, w) -> features (n, d), with parameters that ask for no
            gradient.
        real: B_c for each of the C classes, (b_c, c, h, h); looked at one after the other.
        synthetic: S, (C ipc, c, h, h), ordered by class.
        draws: A_c for each class; images are taken as they are if None.
        coupled: whether the network ties the images of a batch together.

    Returns:
        (C,).
    """
    real, synthetic = seen_by_class(real, synthetic, draws)

    def compared(images: Tensor) -> list[Tensor]:
        return [embed(images)]

    (means,) = class_means(compared, real, coupled=coupled)
    (features,) = together(compared, synthetic, coupled=coupled)
    return squared_distances(means, features)


def seen_by_class(
    real: Iterable[Tensor], synthetic: Tensor, draws: Sequence[Draw] | None
) -> tuple[Iterable[Tensor], Tensor]:
    """Real batches and S after the draw of their class, or as they are."""
    if draws is None:
        return real, synthetic
    blocks = zip(synthetic.chunk(len(draws)), draws, strict=True)
    parts = [siamese.apply(block, draw) for block, draw in blocks]
    return (siamese.apply(*pair) for pair in zip(real, draws, strict=True)), torch.cat(parts)


def differentiated(loss: Callable[[Tensor], Tensor], synthetic: Tensor) -> Matched:
    """A loss of S, which gives the terms (C,), with its gradient by one backward pass."""
    images = synthetic.detach().requires_grad_()
    terms = loss(images)
    (gradient,) = torch.autograd.grad(terms.sum(), images)
    return Matched(terms.detach(), gradient)


@torch.no_grad()
def class_means(
    compared: Compared, batches: Iterable[Tensor], *, coupled: bool = False
) -> list[Tensor]:
    """Batches (b_c, c, h, w), one for each of C classes -> of each layer the means (C, d)."""
    if coupled:
        listed = list(batches)
        sizes = [len(batch) for batch in listed]
        layers = together(compared, torch.cat(listed), coupled=True)
        return [torch.stack([own.mean(0) for own in layer.split(sizes)]) for layer in layers]
    means = [[layer.mean(0) for layer in together(compared, batch)] for batch in batches]
    return [torch.stack(layer) for layer in zip(*means, strict=True)]


def squared_distances(means: Tensor, features: Tensor) -> Tensor:
    """|means_c - mean of class c's features|^2: (C, d), (C ipc, d) ordered by class -> (C,)."""
    own = features.view(len(means), -1, means.shape[1]).mean(1)
    return (means - own).square().sum(1)


def together(compared: Compared, images: Tensor, *, coupled: bool = False) -> list[Tensor]:
    """Images (n, c, h, w) -> (n, d) of each layer, a few images at a time unless coupled."""
    parts = [compared(part) for part in parts_of_batch(images, coupled=coupled)]
    return [torch.cat(layer) for layer in zip(*parts, strict=True)]


def parts_of_batch(images: Tensor, *, coupled: bool = False) -> list[Tensor]:
    """Images (n, c, h, w) in the layout of their device, a few at a time unless coupled."""
    size = _CHUNK_CPU if images.device.type == "cpu" and not coupled else len(images)
    return [in_favoured_layout(part) for part in images.split(size)]
