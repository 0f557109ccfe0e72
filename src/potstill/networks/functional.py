"""A network as a function of one flat parameter vector, and its Jacobian.

J is the Jacobian of the outputs (n, C) on fixed images with respect to the
parameters (p,), at fixed parameters theta_0. It is never built: :class:`Linearisation`
gives J v (forward mode) and J^T u (reverse mode). :func:`image_gradient` gives the
derivative of scalars in J v with respect to the images, which the meta-gradient
needs. This module holds the general path, for any network; ``convnet_jacobian``
holds the same for the plain ConvNet, written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.func import functional_call

from potstill.errors import NetworkError


class Layout:
    """Where each parameter of a network lies in its flat vector of length ``size``.

    ``head`` is the slice of the last linear layer's weight (theta_F); everything
    else, that layer's bias included, is the body (theta_B).

    Raises:
        NetworkError: the network does not end in a linear layer.
    """

    def __init__(self, network: nn.Module) -> None:
        linear = [n for n, m in network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise NetworkError(
                f"{type(network).__name__} has no linear layer, so no last layer in closed form; "
                "choose a network that ends in one"
            )
        self.head_name = linear[-1]
        self.names: list[str] = []
        self.shapes: list[torch.Size] = []
        self.slices: list[slice] = []
        offset = 0
        for name, parameter in network.named_parameters():
            self.names.append(name)
            self.shapes.append(parameter.shape)
            self.slices.append(slice(offset, offset + parameter.numel()))
            offset += parameter.numel()
        self.size = offset
        self.head = self.slices[self.names.index(f"{self.head_name}.weight")]
        self.head_shape = self.shapes[self.names.index(f"{self.head_name}.weight")]

    def split(self, flat: Tensor) -> dict[str, Tensor]:
        """Flat (p,) -> named views of it."""
        return {
            name: flat[part].view(shape)
            for name, part, shape in zip(self.names, self.slices, self.shapes, strict=True)
        }

    def body(self, flat: Tensor) -> Tensor:
        """A copy of flat (p,) with theta_F's entries zero."""
        result = flat.clone()
        result[self.head] = 0
        return result


def flatten(network: nn.Module) -> Tensor:
    """The network's parameters as one new vector (p,)."""
    return torch.cat([p.detach().reshape(-1) for p in network.parameters()])


def couples_batch(network: nn.Module) -> bool:
    """Whether an image's output depends on the rest of its batch (batch norm, training)."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules())


class Functional:
    """``network`` as (theta, images) -> (outputs, features), in training mode.

    Batch norm takes the statistics of the batch at hand and keeps none.

    Args:
        network: ends in a linear layer; it is changed only in that its batch norms
            stop tracking running statistics.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = torch.func.replace_all_batch_norm_modules_(network).train()
        self.layout = Layout(network)
        self.couples_batch = couples_batch(network)
        self._head = network.get_submodule(self.layout.head_name)

    def __call__(self, theta: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Theta (p,), images (n, c, h, w) -> outputs (n, C), features (n, H)."""
        with self._captured() as features:
            outputs = functional_call(self.network, self.layout.split(theta), (images,))
        return outputs, features[0]

    @contextmanager
    def _captured(self) -> Iterator[list[Tensor]]:
        inputs: list[Tensor] = []
        hook = self._head.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        try:
            yield inputs
        finally:
            hook.remove()


class Linearisation(Protocol):
    """J at (theta_0, images), with the forward pass it was built from."""

    outputs: Tensor
    """f(X) at theta_0, (n, C)."""
    features: Tensor
    """h(X), (n, H)."""

    def jvp(self, tangent: Tensor) -> Tensor:
        """Tangent (p,) -> J tangent (n, C)."""
        ...

    def vjp(self, cotangent: Tensor) -> Tensor:
        """Cotangent (n, C) -> J^T cotangent (p,)."""
        ...


class AutogradLinearisation:
    """The general path: reverse mode on a retained graph, forward mode by torch.func.jvp."""

    def __init__(self, function: Functional, theta: Tensor, images: Tensor) -> None:
        self._function, self._images = function, images
        with torch.enable_grad():
            self._theta = theta.detach().requires_grad_()
            self._outputs, features = function(self._theta, images)
        self.outputs, self.features = self._outputs.detach(), features.detach()

    def jvp(self, tangent: Tensor) -> Tensor:
        """Tangent (p,) -> J tangent (n, C)."""
        with torch.no_grad():
            return torch.func.jvp(
                lambda theta: self._function(theta, self._images)[0],
                (self._theta.detach(),),
                (tangent,),
            )[1]

    def vjp(self, cotangent: Tensor) -> Tensor:
        """Cotangent (n, C) -> J^T cotangent (p,)."""
        (gradient,) = torch.autograd.grad(
            self._outputs, self._theta, cotangent.to(self._outputs.dtype), retain_graph=True
        )
        return gradient


def image_gradient(
    function: Functional,
    theta: Tensor,
    images: Tensor,
    tangents: Tensor,
    cotangents: Tensor,
    feature_cotangent: Tensor | None = None,
) -> Tensor:
    """grad_X [ sum_k <cotangents_k, J(X) tangents_k> + <feature_cotangent, h(X)> ].

    By reverse mode twice, <J^T c, v>: the reverse of PyTorch's forward-mode batch norm
    takes the batch statistics for constants and would be wrong.

    Args:
        theta: (p,), the point of linearisation.
        images: X (n, c, h, w).
        tangents: (k, p), k may be 0.
        cotangents: (k, n, C).
        feature_cotangent: (n, H).

    Returns:
        (n, c, h, w).
    """
    x = images.detach().requires_grad_()
    point = theta.detach().requires_grad_()
    with torch.enable_grad():
        outputs, features = function(point, x)
        scalar = x.new_zeros(())
        for tangent, cotangent in zip(tangents, cotangents, strict=True):
            (product,) = torch.autograd.grad(outputs, point, cotangent, create_graph=True)
            scalar = scalar + (product * tangent).sum()
        if feature_cotangent is not None:
            scalar = scalar + (features * feature_cotangent).sum()
        (gradient,) = torch.autograd.grad(scalar, x)
    return gradient
