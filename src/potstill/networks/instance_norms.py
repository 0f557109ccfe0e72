"""Instance norms in the form that processors compute fastest."""

from __future__ import annotations

from torch import nn


def favour_group_norms(network: nn.Module) -> None:
    """Exchange instance norms for group norms of one channel a group, in place, on CPUs.

    They are the same function with the same parameters, up to rounding. PyTorch's instance norm
    knows no channels-last layout: with it, a ConvNet of width 32 or 128 takes about twice as long
    over a forward pass, and 1.2 to 1.5 times as long over a step of training. Layers that keep
    running statistics are left alone.
    """
    if next(network.parameters()).device.type != "cpu":
        return
    for name, module in list(network.named_modules()):
        if name and type(module) is nn.InstanceNorm2d and not module.track_running_stats:
            channels = module.num_features
            group = nn.GroupNorm(channels, channels, module.eps, module.affine)
            group.weight, group.bias = module.weight, module.bias
            network.set_submodule(name, group.train(module.training))
