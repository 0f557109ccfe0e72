"""A card that is not there: its tensors have no values, and check devices as CUDA does.

What is on ``meta`` is carried out in shapes, types and devices alone; what is on the processor is
computed as ever. An image on the card that meets a label which was left on the processor fails as
on a real card, so that a machine without one finds a forgotten ``.to(device)``. Whatever the host
asks the card for is one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._pytree import tree_flatten

from potstill import hardware

_SUPPORTED = "_device_dtype_check_for_fused"
_COPY = torch.ops.aten._to_copy.default


class _Card(FakeTensorMode):
    """Pretends for tensors on the card alone."""

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        flat, _ = tree_flatten((args, options))
        on_card = torch.device(options.get("device") or "cpu").type != "cpu"
        if not any(isinstance(value, FakeTensor) for value in flat):
            return (
                super().dispatch(func, types, args, kwargs) if on_card else func(*args, **options)
            )
        if func is _COPY and options.get("device") and not on_card:
            dtype = options.get("dtype") or args[0].dtype
            return _one(args[0]).to(dtype).expand(args[0].shape).contiguous()
        if func in _STAND_INS:
            return _STAND_INS[func](*args)
        return super().dispatch(func, types, args, kwargs)


@contextmanager
def card() -> Iterator[None]:
    """What is put on ``meta`` inside is on the pretended card."""
    with ExitStack() as undone:
        tolist = Tensor.tolist
        for where, name, what in (
            (Tensor, "tolist", lambda tensor: tolist(tensor.cpu())),
            (nn.Module, "_apply", _apply),
            (hardware, "native_bfloat16", lambda device: True),
            (hardware, "autocast", lambda precision, device: nullcontext()),
            (sys.modules["torch.optim.adam"], _SUPPORTED, lambda *args, **kwargs: None),
            (sys.modules["torch.optim.sgd"], _SUPPORTED, lambda *args, **kwargs: None),
        ):
            undone.enter_context(patch.object(where, name, what))
        undone.enter_context(_Card(allow_non_fake_inputs=True))
        yield


def _one(tensor: Tensor) -> Tensor:
    """A one of the same type, on the processor; 0 if it counts, as errors are counted."""
    counts = not tensor.is_floating_point() and tensor.dtype != torch.bool
    return torch.full((), 0 if counts else 1, dtype=tensor.dtype)


def _step(*args: Any) -> None:
    """A step of an optimiser takes no tensor from elsewhere."""
    for value in tree_flatten(args)[0]:
        if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
            raise RuntimeError("an optimiser on the card with a tensor on the processor")


def _moments(images: Tensor, *args: Any) -> tuple[Tensor, Tensor]:
    """Means and variances of channels."""
    return images.new_empty(images.shape[1]), images.new_empty(images.shape[1])


_STAND_INS: dict[Any, Callable[..., Any]] = {
    torch.ops.aten._local_scalar_dense.default: lambda tensor: _one(tensor).item(),
    torch.ops.aten.nonzero.default: lambda tensor: tensor.new_empty(
        (0, tensor.dim()), dtype=torch.int64
    ),
    torch.ops.aten._fused_sgd_.default: _step,
    torch.ops.aten._fused_adamw_.default: _step,
    torch.ops.aten.batch_norm_update_stats.default: _moments,
}
"""Operations that have no form without values."""


def _apply(module: nn.Module, change: Any, recurse: bool = True) -> nn.Module:
    """As PyTorch's, which exchanges the insides of tensors, but with new ones."""
    for child in module.children():
        _apply(child, change)
    for name, parameter in module._parameters.items():
        if parameter is not None:
            with torch.no_grad():
                changed = nn.Parameter(change(parameter), parameter.requires_grad)
            module._parameters[name] = changed
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module
