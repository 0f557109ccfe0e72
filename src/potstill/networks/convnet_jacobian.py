"""J and J^T products of the plain ConvNet, written by hand on saved activations.

Block l: z = conv(a, W) + b, y = s(z), a' = mean2x2(y), with s(z) = softplus(beta z)/beta
and s'(z) = sigmoid(beta z) (ReLU: the step). A forward pass keeps a and s'(z) of each
block; every product is then one sweep over them:

- J v:   dz = conv(da, W) + conv(a, V) + v_b,  da' = mean2x2(s' dz)
- J^T u: dz = s' unmean(da'),  gW = <a, dz>,  gb = sum dz,  da = conv^T(dz, W)

The first block's images have few channels, for which library convolutions are slow on a
processor: there the 3x3 patches are laid out once, and every product is a matrix product.
(On a card that takes a launch for each image, and the library is fast.) The general path
in ``functional`` computes the same, two to three times slower.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from potstill.networks.convnet import SOFTPLUS_THRESHOLD, ConvNet, channels_last
from potstill.networks.functional import Layout


class Plan:
    """What the products need to know of a ConvNet without normalisation."""

    def __init__(self, network: ConvNet, layout: Layout) -> None:
        self.layout = layout
        self.beta = network.softplus_beta
        self.padding = network.padding

    @staticmethod
    def covers(network: torch.nn.Module) -> bool:
        """Whether ``network`` is one."""
        return isinstance(network, ConvNet) and network.normalisation == "none"

    def weights(self, flat: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Flat (p,) -> (weight, bias) of each block, then of the head."""
        tensors = list(self.layout.split(flat).values())
        pairs = list(zip(tensors[::2], tensors[1::2], strict=True))
        return [(_filters_last(w), b) for w, b in pairs[:-1]] + pairs[-1:]

    def activation(self, z: Tensor) -> Tensor:
        """s(z), differentiable."""
        return F.relu(z) if self.beta is None else F.softplus(z, self.beta, SOFTPLUS_THRESHOLD)

    def slope(self, z: Tensor) -> Tensor:
        """s'(z), differentiable."""
        return (z > 0).to(z.dtype) if self.beta is None else torch.sigmoid(self.beta * z)

    def activate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """s(z) and s'(z), without a graph; s(z) may come in a wider dtype.

        In single precision s(z) = z - log(s'(z))/beta, cut at 0, is good to 2e-7 and
        takes half the time of softplus; s' below 1e-37 belongs to z whose s(z) is 0.
        """
        if self.beta is None or z.dtype == torch.float64:
            return self.activation(z), self.slope(z)
        wide = z.float()
        slope = torch.mul(wide, self.beta).sigmoid_()
        y = slope.clamp_min(1e-37).log_()
        torch.add(wide, y, alpha=-1 / self.beta, out=y).relu_()
        return y, slope.to(z.dtype)


def _filters_last(weight: Tensor) -> Tensor:
    return weight.contiguous(memory_format=torch.channels_last)


class ConvNetLinearisation:
    """J at (theta, images); see :class:`potstill.networks.functional.Linearisation`.

    The convolutions run in ``dtype``; the head, and what comes out, in theta's.
    """

    def __init__(
        self, plan: Plan, theta: Tensor, images: Tensor, dtype: torch.dtype | None = None
    ) -> None:
        self._plan = plan
        self._dtype = dtype or theta.dtype
        *blocks, self._head = plan.weights(theta)
        self._convolutions: list[_Convolution] = []
        self._slopes: list[Tensor] = []
        with torch.no_grad():
            a = images.to(self._dtype)
            for block, ((w, b), padding) in enumerate(zip(blocks, plan.padding, strict=True)):
                kind = _Patches if block == 0 and not a.is_cuda else _Convolution
                convolution = kind(a, w.to(self._dtype), padding, first=block == 0)
                y, slope = plan.activate(convolution.forward(w, b))
                a = F.avg_pool2d(y, 2).to(self._dtype)
                self._convolutions.append(convolution)
                self._slopes.append(slope)
            self._shape = a.shape
            self.features = a.flatten(1).to(theta.dtype)
            self.outputs = F.linear(self.features, *self._head)

    @torch.no_grad()
    def jvp(self, tangent: Tensor) -> Tensor:
        """Tangent (p,) -> J tangent (n, C)."""
        *blocks, head = self._plan.weights(tangent)
        da = torch.empty(0)
        for block, ((v, vb), convolution, slope) in enumerate(
            zip(blocks, self._convolutions, self._slopes, strict=True)
        ):
            dz = convolution.forward(v, vb)
            if block:
                dz += convolution.move(da)
            da = F.avg_pool2d(dz.mul_(slope), 2)
        dh = da.flatten(1).to(self.features.dtype)
        return F.linear(dh, self._head[0]) + F.linear(self.features, *head)

    @torch.no_grad()
    def vjp(self, cotangent: Tensor) -> Tensor:
        """Cotangent (n, C) -> J^T cotangent (p,)."""
        cotangent = cotangent.to(self.features.dtype)
        gradient = torch.empty(
            self._plan.layout.size, dtype=cotangent.dtype, device=cotangent.device
        )
        parts = list(self._plan.layout.split(gradient).values())
        torch.mm(cotangent.T, self.features, out=parts[-2])
        torch.sum(cotangent, 0, out=parts[-1])
        da = (cotangent @ self._head[0]).to(self._dtype).view(self._shape)
        for block in range(len(self._slopes) - 1, -1, -1):
            dz = _unmean(channels_last(da), self._slopes[block])
            da, gw, gb = self._convolutions[block].backward(dz)
            parts[2 * block].copy_(gw)
            parts[2 * block + 1].copy_(gb)
        return gradient


class _Convolution:
    """z = conv(a, W) + b on saved a (n, c, h, w), by the library.

    Nobody asks for the ``first`` one's cotangent of a, the images.
    """

    def __init__(self, a: Tensor, w: Tensor, padding: int, *, first: bool = False) -> None:
        self._a, self._w, self._padding, self._first = channels_last(a), w, padding, first

    def forward(self, v: Tensor, b: Tensor) -> Tensor:
        """conv(a, v) + b"""
        dtype = self._a.dtype
        return F.conv2d(self._a, v.to(dtype), b.to(dtype), padding=self._padding)

    def move(self, da: Tensor) -> Tensor:
        """conv(da, W)"""
        return F.conv2d(da, self._w, padding=self._padding)

    def backward(self, dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """conv^T(dz, W), <a, dz>, sum dz; the first one's first is dz."""
        da, gw, gb = torch.ops.aten.convolution_backward(
            dz, self._a, self._w, [dz.shape[1]], [1, 1], [self._padding] * 2, [1, 1],
            False, [0, 0], 1, [not self._first, True, True],
        )  # fmt: skip
        return dz if self._first else da, gw, gb


class _Patches(_Convolution):
    """The same on images: 3x3 patches and a one for the bias, (n h w, 9 c + 1)."""

    def __init__(self, a: Tensor, w: Tensor, padding: int, *, first: bool = True) -> None:
        n, _, height, width = a.shape
        self._side = (height + 2 * padding - 2, width + 2 * padding - 2)
        patches = F.unfold(a, 3, padding=padding).transpose(1, 2)
        self._patches = F.pad(patches, (0, 1), value=1.0).reshape(n * patches.shape[1], -1)

    def forward(self, v: Tensor, b: Tensor) -> Tensor:
        weights = torch.cat([v.reshape(len(v), -1), b[:, None]], 1).to(self._patches.dtype)
        z = self._patches @ weights.T
        return z.view(-1, *self._side, len(v)).permute(0, 3, 1, 2)

    def backward(self, dz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        flat = dz.permute(0, 2, 3, 1).reshape(-1, dz.shape[1])
        gradient = (self._patches.T @ flat).T
        return dz, gradient[:, :-1].reshape(dz.shape[1], -1, 3, 3), gradient[:, -1]


def _unmean(da: Tensor, slope: Tensor) -> Tensor:
    """Transpose of the 2x2 mean applied to da (n, c, h/2, w/2), times slope (n, c, h, w)."""
    h, w = slope.shape[2:]
    if h % 2 or w % 2:
        grown = torch.ops.aten.avg_pool2d_backward(
            da, slope, [2, 2], [2, 2], [0, 0], False, True, None
        )
    else:
        grown = F.interpolate(da.mul_(0.25), scale_factor=2)
    return grown.mul_(slope)


def convnet_image_gradient(
    plan: Plan,
    theta: Tensor,
    images: Tensor,
    tangents: Tensor,
    cotangents: Tensor,
    feature_cotangent: Tensor | None = None,
) -> Tensor:
    """:func:`potstill.networks.functional.image_gradient`, all tangents in one sweep.

    h(X) and the J(X) v are built forwards, by ops that autograd records; one reverse
    sweep takes their cotangents back to X.
    """
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        features, products = _forward_with_tangents(plan, theta, x, tangents)
        outputs, weights = [*products], [*cotangents]
        if feature_cotangent is not None:
            outputs, weights = [*outputs, features], [*weights, feature_cotangent]
        (gradient,) = torch.autograd.grad(outputs, x, weights)
    return gradient


def _forward_with_tangents(
    plan: Plan, theta: Tensor, images: Tensor, tangents: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """h(X) (n, H), and J(X) v (n, C) for each of the k tangents (k, p)."""
    k, n = len(tangents), len(images)
    weights = plan.weights(theta)
    moves = [plan.weights(tangent) for tangent in tangents]
    a, da = images, images.new_empty(0)
    for block, padding in enumerate(plan.padding):
        w, b = weights[block]
        z = F.conv2d(a, w, b, padding=padding)
        if k:
            v = torch.cat([move[block][0] for move in moves])
            vb = torch.cat([move[block][1] for move in moves])
            # (n, k c', h, w) -> (k n, c', h, w): the k tangents become a longer batch.
            dz = torch.cat(F.conv2d(a, v, vb, padding=padding).chunk(k, dim=1))
            if block:
                dz = dz + F.conv2d(da, w, padding=padding)
            da = F.avg_pool2d(dz * plan.slope(z).repeat(k, 1, 1, 1), 2)
        a = F.avg_pool2d(plan.activation(z), 2)
    features, (head, _) = a.flatten(1), weights[-1]
    if not k:
        return features, []
    from_body = F.linear(da.flatten(1), head).view(k, n, -1)
    from_head = (F.linear(features, *move[-1]) for move in moves)
    return features, [b + h for b, h in zip(from_body, from_head, strict=True)]
