"""What a batch of images does to a teacher's batch norms, and how far it is from its data.

For batch-norm layer l with input z, over batch and places, eq. 4:

    mu_l = mean(z),  v_l = mean((z - mu_l)^2)                                  (biased)
    L_mean = sum over l of f_l |mu_l - running mean_l|_2
    L_var  = sum over l of f_l |v_l - running variance_l|_2

with f_l = 10 for the first layer of the forward pass, 1 for the others, as the authors ran
it. The norms are not squared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.errors import NetworkError
from potstill.networks.batch_norms import batch_norms

_UNNOTICED = 1e-30
# What does nothing but batch norm; subclasses may.
_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@dataclass(frozen=True)
class Moments:
    """Mean and variance of a batch norm's input, and its running ones; all (channels,)."""

    mean: Tensor
    variance: Tensor
    running_mean: Tensor
    running_variance: Tensor


def distances(moments: Sequence[Moments], first_layer_factor: float) -> tuple[Tensor, Tensor]:
    """(L_mean, L_var), scalars, of the layers in the order of the forward pass (eq. 4)."""
    factors = [first_layer_factor] + [1.0] * (len(moments) - 1)
    mean = [m.mean - m.running_mean for m in moments]
    variance = [m.variance - m.running_variance for m in moments]
    return _weighted_norms(factors, mean), _weighted_norms(factors, variance)


class MeasuredNetwork:
    """A frozen copy of a network whose batch norms tell the moments of what they normalise.

    The network that is handed in is neither changed nor kept. The copy is in evaluation mode:
    its running statistics never change, and only the images take part in differentiation.

    Args:
        network: with batch norms that track running statistics.
        weights: parameters to use instead of the network's, by name.
        compiled: whether to go through ``torch.compile``.
        features: whether :attr:`features` is wanted.

    Raises:
        NetworkError: no batch norm, or one without running statistics; no linear layer, where
            features are wanted; in a pass, a network that cannot be compiled.
    """

    def __init__(
        self,
        network: nn.Module,
        weights: Mapping[str, Tensor] | None = None,
        *,
        compiled: bool = False,
        features: bool = False,
    ) -> None:
        self._moments: list[Moments] = []
        self._features: list[Tensor] = []
        twin = copy.deepcopy(network).eval().requires_grad_(False)
        with torch.no_grad():
            for name, parameter in twin.named_parameters():
                if weights is not None:
                    parameter.copy_(weights[name])
        for name, norm in batch_norms(twin):
            if type(norm) in _PLAIN:
                twin = _replace(twin, name, _MeasuredBatchNorm(norm, self._moments))
            else:
                norm.register_forward_pre_hook(_Listener(self._moments))
        if features:
            linear = [module for module in twin.modules() if isinstance(module, nn.Linear)]
            if not linear:
                raise NetworkError(
                    "the teacher has no linear layer, and a term that sees earlier groups looks at "
                    "what the last one is given; set method.sequence_weight to 0"
                )
            linear[-1].register_forward_pre_hook(
                lambda _head, inputs: self._features.append(inputs[0])
            )
        self.module = twin.to(memory_format=torch.channels_last)
        self._forward = _compiled(self.module) if compiled else self.module

    def __call__(self, images: Tensor) -> tuple[Tensor, list[Moments]]:
        """Images (n, c, h, w) -> outputs (n, C), and the moments in the order of the pass."""
        self._moments.clear()
        self._features.clear()
        outputs: Tensor = self._forward(images)
        if not self._moments:
            raise NetworkError(
                "the teacher does not use its batch norms in evaluation mode; take a network that "
                "normalises its activations with them"
            )
        return outputs, list(self._moments)

    @property
    def features(self) -> Tensor:
        """What the last linear layer saw in the last pass, (n, F), with its graph."""
        return self._features[-1].flatten(1)


def _compiled(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The forward pass through torch.compile, whose failures are explained in one line."""
    from torch._dynamo.exc import TorchDynamoException  # a second that most runs need not wait

    forward = torch.compile(network, dynamic=False)

    def explained(images: Tensor) -> Tensor:
        try:
            outputs: Tensor = forward(images)
        except TorchDynamoException as error:
            cause = " ".join(str(error).partition("\n\n")[0].split())
            raise NetworkError(
                f"torch.compile fails on the teacher ({cause}); mend that, or set "
                "method.compiled to false"
            ) from error
        return outputs

    return explained


class _Listener:
    """A hook that appends the moments of what a module is about to normalise to ``sink``."""

    def __init__(self, sink: list[Moments]) -> None:
        self._sink = sink

    def __call__(self, norm: Any, inputs: tuple[Tensor]) -> None:
        """For modules that do more than to normalise, such as timm's with an activation."""
        axes = [axis for axis in range(inputs[0].ndim) if axis != 1]
        wide = inputs[0].to(norm.running_mean.dtype)
        variance, mean = torch.var_mean(wide, axes, correction=0)
        self._sink.append(Moments(mean, variance, norm.running_mean, norm.running_var))


class _MeasuredBatchNorm(nn.Module):
    """A batch norm in evaluation mode that appends the moments of its input to ``sink``."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: Any, sink: list[Moments]) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("running_mean", norm.running_mean)
        self.register_buffer("running_var", norm.running_var)
        self._sink = sink

    def forward(self, inputs: Tensor) -> Tensor:
        """(n, channels, ...) -> the same, normalised with the running statistics."""
        scale = torch.rsqrt(self.running_var + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -self.running_mean * scale
        if self.bias is not None:
            shift = shift + self.bias
        outputs, mean, variance = _AffineWithMoments.apply(inputs, scale, shift)
        self._sink.append(Moments(mean, variance, self.running_mean, self.running_var))
        return outputs


class _AffineWithMoments(torch.autograd.Function):
    """(z, a, b) -> (a z + b, mean of z, biased variance of z), per channel, in few passes.

    The gradient with respect to z, for N numbers a channel and incoming gradients g, g_mu, g_v,
    is a g + (g_mu - 2 g_v mu) / N + (2 g_v / N) z: one pass, where automatic differentiation of
    the three outputs takes a pass for each and more to add them up. ``a`` and ``b`` are frozen.
    """

    @staticmethod
    def forward(
        context: Any, inputs: Tensor, scale: Tensor, shift: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (n, channels, ...); scale and shift (channels,)."""
        mean, variance = moments(inputs, scale.dtype)
        # With mean 0, variance 1 and an epsilon that 1 does not notice this is a z + b, in the
        # fastest kernel there is for it.
        zeros, ones = torch.zeros_like(scale), torch.ones_like(scale)
        outputs = F.batch_norm(inputs, zeros, ones, scale, shift, training=False, eps=_UNNOTICED)
        context.save_for_backward(inputs, scale, mean)
        return outputs, mean, variance

    @staticmethod
    def backward(
        context: Any, grad_outputs: Tensor, grad_mean: Tensor, grad_variance: Tensor
    ) -> tuple[Tensor, None, None]:
        """The derivative with respect to the inputs; see the class."""
        inputs, scale, mean = context.saved_tensors
        slope = 2 * grad_variance / (inputs.numel() // inputs.shape[1])
        offset = grad_mean / (inputs.numel() // inputs.shape[1]) - slope * mean
        scale, slope, offset = (_per_channel(x, inputs) for x in (scale, slope, offset))
        return torch.addcmul(offset, inputs, slope).addcmul_(grad_outputs, scale), None, None


def moments(inputs: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel of (n, channels, ...), both (channels,) ``dtype``.

    The kernel of batch norm's training mode: on a processor 20 times as fast as
    ``torch.var_mean`` over the same dimensions.
    """
    channels = inputs.shape[1]
    unused = torch.zeros(channels, dtype=dtype, device=inputs.device)
    mean, variance = torch.batch_norm_update_stats(inputs, unused, unused.clone(), 0.0)
    return mean, variance


def _weighted_norms(factors: Sequence[float], gaps: Sequence[Tensor]) -> Tensor:
    norms = [f * torch.linalg.vector_norm(gap) for f, gap in zip(factors, gaps, strict=True)]
    return torch.stack(norms).sum()


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.dtype).view(-1, *[1] * (like.ndim - 2))


def _replace(network: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """``network`` with the submodule ``name`` exchanged; the module itself if it is the network."""
    if not name:
        return module
    network.set_submodule(name, module)
    return network
