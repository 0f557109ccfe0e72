from __future__ import annotations

import torch
from torch import nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.networks.instance_norms import favour_group_norms


def test_group_norms_of_single_channels_are_instance_norms() -> None:
    recipe = NetworkRecipe(depth=2, width=4, growth=1, normalisation="instance")
    results = []
    for exchanged in (False, True):
        network = zoo.build(recipe, channels=3, resolution=8, classes=5).double()
        initialise_default(network, 0, "test/network")
        generator = rng.stream(0, "test/norms")
        for block in network.blocks:
            for parameter in block.norm.parameters():
                parameter.data = rng.normal((4,), generator, dtype=torch.float64)
        if exchanged:
            favour_group_norms(network)
        assert [type(block.norm) is nn.GroupNorm for block in network.blocks] == [exchanged] * 2
        images = rng.normal((3, 3, 8, 8), generator, dtype=torch.float64).requires_grad_()
        outputs = network(images)
        leaves = [images, *network.parameters()]
        weights = rng.normal((3, 5), generator, dtype=torch.float64)
        results.append([outputs, *torch.autograd.grad((outputs * weights).sum(), leaves)])
        assert list(network.state_dict()) == list(dict(network.named_parameters()))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-11)


def test_layers_of_other_kinds_and_with_running_statistics_stay() -> None:
    kinds = (nn.InstanceNorm2d(2, track_running_stats=True), nn.BatchNorm2d(2), nn.GroupNorm(1, 2))
    network = nn.Sequential(*kinds, nn.InstanceNorm2d(2))
    favour_group_norms(network)
    assert tuple(network[:3]) == kinds
    assert isinstance(network[3], nn.GroupNorm) and network[3].weight is None
    images = rng.normal((3, 2, 4, 4), rng.stream(0, "test/images"))
    torch.testing.assert_close(network[3](images), nn.InstanceNorm2d(2)(images))
