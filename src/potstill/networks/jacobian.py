"""One entrance to the Jacobian of any network: by hand where that exists, else autograd."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from potstill.errors import NetworkError
from potstill.networks.convnet_jacobian import (
    ConvNetLinearisation,
    Plan,
    convnet_image_gradient,
)
from potstill.networks.factory import one_line
from potstill.networks.functional import (
    AutogradLinearisation,
    Functional,
    Layout,
    Linearisation,
    flatten,
    image_gradient,
)


class Jacobian:
    """Products with J of ``network`` at any (theta, images), in bounded memory.

    Args:
        network: ends in a linear layer.
        general: take the autograd path even where a hand-written one exists.

    ``couples_batch`` says that batch statistics tie the images of a batch together:
    then images are never processed in chunks.
    """

    def __init__(self, network: nn.Module, *, general: bool = False) -> None:
        self.function = Functional(network)
        self.layout: Layout = self.function.layout
        self.couples_batch = self.function.couples_batch
        by_hand = Plan.covers(network) and not general
        self._plan = Plan(network, self.layout) if by_hand else None  # type: ignore[arg-type]

    def at(
        self, theta: Tensor, images: Tensor, *, dtype: torch.dtype | None = None
    ) -> Linearisation:
        """Linearise at theta (p,) on images (n, c, h, w).

        ``dtype`` is that of the convolutions where the hand-written path runs.
        """
        if self._plan is not None:
            return ConvNetLinearisation(self._plan, theta, images, dtype)
        return AutogradLinearisation(self.function, theta, images)

    def in_chunks(self, theta: Tensor, images: Tensor, chunk: int) -> Linearisation:
        """The same, recomputing activations chunk by chunk instead of keeping them."""
        return ChunkedLinearisation(self, theta, images, chunk)

    def image_gradient(
        self,
        theta: Tensor,
        images: Tensor,
        tangents: Tensor,
        cotangents: Tensor,
        feature_cotangent: Tensor | None = None,
    ) -> Tensor:
        """grad_X [ sum_k <cotangents_k, J(X) tangents_k> + <feature_cotangent, h(X)> ].

        Shapes as in :func:`potstill.networks.functional.image_gradient`.
        """
        cotangents = cotangents.to(images.dtype)
        if feature_cotangent is not None:
            feature_cotangent = feature_cotangent.to(images.dtype)
        if self._plan is not None:
            return convnet_image_gradient(
                self._plan, theta, images, tangents, cotangents, feature_cotangent
            )
        return image_gradient(self.function, theta, images, tangents, cotangents, feature_cotangent)


def require_linearisable(network: nn.Module, images: Tensor) -> None:
    """Try every product on ``images`` (n, c, h, w); ``network`` is left alone.

    Raises:
        NetworkError: a product fails, outputs are drawn at random, or the last linear layer
            is not what they come from.
    """
    twin = copy.deepcopy(network)
    theta = flatten(twin)
    try:
        jacobian = Jacobian(twin)
        at = jacobian.at(theta, images)
        again = jacobian.at(theta, images).outputs
        at.jvp(theta)
        at.vjp(at.outputs)
        jacobian.image_gradient(theta, images, theta[None], at.outputs[None], at.features)
        layout = jacobian.layout
        head = twin.get_submodule(layout.head_name)
        ends_in_head = torch.allclose(head(at.features), at.outputs, atol=1e-5)
    except NetworkError:
        raise
    except Exception as error:  # the user's code may fail by anything
        raise NetworkError(
            f"the network cannot be linearised ({one_line(error)}); build it from operations that "
            "PyTorch differentiates twice and in forward mode, none of them in place"
        ) from error
    if not torch.equal(again, at.outputs):
        raise NetworkError(
            "the network's outputs are drawn at random; turn its dropout off (p=0) for rcig"
        )
    if not ends_in_head:
        raise NetworkError(
            f"the network does not end in its last linear layer, {layout.head_name}; rcig solves "
            "that in closed form, so nothing may follow it"
        )


class ChunkedLinearisation:
    """J on many images: nothing but images, outputs and features is kept."""

    def __init__(self, jacobian: Jacobian, theta: Tensor, images: Tensor, chunk: int) -> None:
        self._jacobian, self._theta = jacobian, theta
        self._images, self._chunks = images, images.split(chunk)
        self._size = chunk
        outputs, features = zip(*map(self._forward, self._chunks), strict=True)
        self.outputs, self.features = torch.cat(outputs), torch.cat(features)

    def _forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        part = self._jacobian.at(self._theta, images)
        return part.outputs, part.features

    def jvp(self, tangent: Tensor) -> Tensor:
        """Tangent (p,) -> (n, C)."""
        return torch.cat([self._jacobian.at(self._theta, x).jvp(tangent) for x in self._chunks])

    def vjp(self, cotangent: Tensor) -> Tensor:
        """Cotangent (n, C) -> (p,); rows of zeros cost nothing."""
        total = torch.zeros_like(self._theta)
        rows = cotangent.any(1).nonzero()[:, 0]
        for part in rows.split(self._size) if len(rows) else ():
            total += self._jacobian.at(self._theta, self._images[part]).vjp(cotangent[part])
        return total
