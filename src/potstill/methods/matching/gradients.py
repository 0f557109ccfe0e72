"""Gradient matching (Zhao, Mopuri and Bilen, ICLR 2021), on views also DSA (ICML 2021).

For class c, at the parameters of a network:

    g^r = grad of the mean cross-entropy of A_c(B_c),   g^s = that of A_c(S_c),
    D_c = sum over weight tensors, over their rows w, of 1 - <g^r_w, g^s_w> / (|g^r_w| |g^s_w| + e),
    L   = sum over classes of D_c.

Weight tensors are matrices (outputs, everything else); parameters of one dimension, biases and
the scales and shifts of norms, do not count. B_c are real images, a constant: their gradient has
no graph. A_c is a siamese draw that both share. The derivative with respect to S_c is of second
order. It is taken class by class, so that one graph is alive at a time: the blocks are disjoint
and the network stands still. The paper moves S_c at once, the authors' code after all classes,
as here, which is the same.

e = 1e-6 is absolute. In half precision, or where S is fitted so well that g^s is tiny, D saturates
at 1 for each row, so everything is float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.data import siamese
from potstill.data.siamese import Draw
from potstill.methods.matching.losses import Matched
from potstill.train import in_favoured_layout

EPSILON = 1e-6

Distance = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
"""(g^r, g^s), the gradients of the same parameters -> a scalar."""

# As for features (losses.py): 256 images at once take a ConvNet half as long again, or twice.
_CHUNK_CPU = 32


def gradient_matching(
    network: nn.Module,
    real: Iterable[Tensor],
    synthetic: Tensor,
    draws: Sequence[Draw] | None = None,
    *,
    distance: str = "rows",
) -> Matched:
    """D_c for each class, and the gradient of their sum.

    Args:
        network: has ``features`` and a linear layer ``head`` on top of them, of all C classes.
        real: B_c for each class, in the order of the network's outputs, (b_c, c, h, h).
        synthetic: S, (C ipc, c, h, h), ordered by class.
        draws: A_c for each class; images are taken as they are if None.
        distance: ``rows`` as above, or of all parameters as one vector ``squared`` or ``cosine``.
    """
    measure = DISTANCES[distance]
    parameters = matched_parameters(network, all_of_them=distance != "rows")
    terms, gradients = [], []
    for label, (batch, block) in enumerate(zip(real, _blocks(network, synthetic), strict=True)):
        draw = None if draws is None else draws[label]
        images = block.detach().requires_grad_()
        wanted = constant_gradient(network, parameters, _seen(batch, draw), label)
        found = _gradient(network, parameters, _seen(images, draw), label, 1.0, graph=True)
        term = measure(wanted, found)
        gradients.append(torch.autograd.grad(term, images)[0])
        terms.append(term.detach())
    return Matched(torch.stack(terms), torch.cat(gradients))


def matched_parameters(network: nn.Module, *, all_of_them: bool = False) -> list[nn.Parameter]:
    """The weight tensors, those of the last layer at the end; or all parameters."""
    head: Any = network.head
    last = {id(parameter) for parameter in head.parameters()}
    body = [p for p in network.parameters() if id(p) not in last]
    return [p for p in (*body, head.weight, head.bias) if all_of_them or p.ndim > 1]


def constant_gradient(
    network: nn.Module, parameters: Sequence[Tensor], images: Tensor, label: int
) -> list[Tensor]:
    """Gradients of the mean loss of images (b, c, h, w) of one class, a few at a time."""
    size = _CHUNK_CPU if images.device.type == "cpu" else len(images)
    total: list[Tensor] = []
    for part in images.split(size):
        share = len(part) / len(images)
        found = _gradient(network, parameters, part, label, share, graph=False)
        total = [a + b for a, b in zip(total, found, strict=True)] if total else found
    return total


def _gradient(
    network: nn.Module,
    parameters: Sequence[Tensor],
    images: Tensor,
    label: int,
    share: float,
    *,
    graph: bool,
) -> list[Tensor]:
    """``share`` times the gradients of the mean loss, with a graph of their own or without.

    The last layer's are written down: with residuals r = (softmax - one-hot) / n and features H,
    that of its weight is r^T H, that of its bias the sum of r, and that of H is r W.
    """
    head: Any = network.head
    in_head = {id(head.weight), id(head.bias)}
    body = [p for p in parameters if id(p) not in in_head]
    with torch.enable_grad():
        features: Tensor = network.features(in_favoured_layout(images))  # type: ignore[operator]
    with torch.set_grad_enabled(graph):
        chances = head(features).softmax(1)
        target = F.one_hot(torch.tensor(label, device=images.device), chances.shape[1])
        residuals = (chances - target) * (share / len(images))
        own = [residuals.T @ features]
        if len(parameters) > len(body) + 1:
            own.append(residuals.sum(0))
        cotangent = residuals @ head.weight
    if not body:
        return own
    return [*torch.autograd.grad(features, body, cotangent, create_graph=graph), *own]


def cosine_of_rows(
    real: Sequence[Tensor], synthetic: Sequence[Tensor], e: float = EPSILON
) -> Tensor:
    """Sum over tensors and their rows of 1 - <a, b> / (|a| |b| + e).

    The norm of a row of zeros, as of a dead channel, has the gradient 0.
    """
    terms = []
    for a, b in zip(real, synthetic, strict=True):
        a, b = a.flatten(1), b.flatten(1)
        terms.append((1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + e)).sum())
    return torch.stack(terms).sum()


def squared_difference(real: Sequence[Tensor], synthetic: Sequence[Tensor]) -> Tensor:
    """|a - b|^2 of all parameters as one vector."""
    return torch.stack([(a - b).square().sum() for a, b in zip(real, synthetic, strict=True)]).sum()


def one_cosine(real: Sequence[Tensor], synthetic: Sequence[Tensor], e: float = EPSILON) -> Tensor:
    """1 - <a, b> / (|a| |b| + e) of all parameters as one vector."""
    a, b = (torch.cat([one.flatten() for one in side]) for side in (real, synthetic))
    return 1 - (a @ b) / (a.norm() * b.norm() + e)


DISTANCES: dict[str, Distance] = {
    "rows": cosine_of_rows,
    "squared": squared_difference,
    "cosine": one_cosine,
}


def _blocks(network: nn.Module, synthetic: Tensor) -> Sequence[Tensor]:
    head: Any = network.head
    return synthetic.chunk(head.out_features)


def _seen(images: Tensor, draw: Draw | None) -> Tensor:
    return images if draw is None else siamese.apply(images, draw)
