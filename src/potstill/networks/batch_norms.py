"""The batch norms of a network, whose running statistics remember its training data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from potstill.errors import NetworkError


def batch_norms(network: nn.Module, images: Tensor | None = None) -> list[tuple[str, nn.Module]]:
    """Names and batch norms that track running statistics, in the order of the forward pass.

    Args:
        network: any network; it is left as it was.
        images: a batch (n, c, h, w) to find the order on, that of first calls. Without
            it the order of definition is taken, which for every network of
            :mod:`potstill.networks.zoo` is the same.

    Raises:
        NetworkError: no batch norm, or one without running statistics.
    """
    found = {n: m for n, m in network.named_modules() if isinstance(m, _BatchNorm)}
    if images is not None:
        found = _called(network, images, found)
    if not found:
        raise NetworkError(
            f"{type(network).__name__} has no batch norm, whose statistics hold what it saw; take "
            "a network with batch normalisation (network.normalisation: batch)"
        )
    for name, norm in found.items():
        if norm.running_mean is None or norm.running_var is None:
            raise NetworkError(
                f"batch norm {name!r} of {type(network).__name__} keeps no running statistics; "
                "build it with track_running_stats=True and train the network again"
            )
    return list(found.items())


def _called(
    network: nn.Module, images: Tensor, norms: dict[str, _BatchNorm]
) -> dict[str, _BatchNorm]:
    """Those of ``norms`` that a pass over ``images`` in evaluation mode calls, in its order."""
    names = {norm: name for name, norm in norms.items()}
    order: dict[str, _BatchNorm] = {}

    def note(norm: _BatchNorm, _: object) -> None:
        order.setdefault(names[norm], norms[names[norm]])

    hooks = [norm.register_forward_pre_hook(note) for norm in norms.values()]
    training = {module: module.training for module in network.modules()}
    try:
        with torch.no_grad():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
    return order
