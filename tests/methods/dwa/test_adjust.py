from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill.config import NetworkRecipe
from potstill.errors import NumericalError
from potstill.methods.dwa.adjust import (
    adjustment_length,
    directed_adjustment,
    random_adjustment,
    rising_adjustment,
)
from potstill.networks import zoo


def teacher() -> nn.Module:
    torch.manual_seed(0)
    recipe = NetworkRecipe(depth=2, width=4, normalisation="batch")
    return zoo.build(recipe, channels=3, resolution=8, classes=5).double()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(5, 3, 8, 8, dtype=torch.float64), torch.arange(5)


def by_hand(network: nn.Module, steps: int, size: float) -> dict[str, Tensor]:
    """K plain steps on a copy of the network: gradient, global norm, move the weights."""
    images, labels = batch()
    copy = teacher()
    copy.load_state_dict(network.state_dict())
    copy.eval()
    for _ in range(steps):
        copy.zero_grad()
        F.cross_entropy(copy(images), labels).backward()
        squares = sum((p.grad**2).sum() for p in copy.parameters())
        for parameter in copy.parameters():
            parameter.data += size / steps * parameter.grad / squares**0.5
    return {name: value.detach() for name, value in copy.named_parameters()}


@pytest.mark.parametrize("steps", [1, 3, 12])
def test_directed_weights_are_k_plain_steps(steps: int) -> None:
    network = teacher()
    weights = directed_adjustment(network, *batch(), steps=steps, size=0.5)
    expected = by_hand(network, steps, 0.5)
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name])


def test_the_climb_raises_the_loss_and_is_at_most_rho_long() -> None:
    network = teacher().eval()
    images, labels = batch()
    weights = directed_adjustment(network, images, labels, steps=12, size=0.1)
    before = F.cross_entropy(network(images), labels)
    after = F.cross_entropy(torch.func.functional_call(network, weights, (images,)), labels)
    assert after > before
    length = adjustment_length(network, weights)
    assert 0.05 < length <= 0.1 + 1e-12
    one = directed_adjustment(network, images, labels, steps=1, size=0.1)
    assert adjustment_length(network, one) == pytest.approx(0.1)


@pytest.mark.parametrize("rise", [1e-3, 0.1, 3.0])
def test_a_climb_to_a_rise_is_the_directed_one_of_some_length(rise: float) -> None:
    network = teacher().eval()
    images, labels = batch()

    def loss(weights: dict[str, Tensor]) -> float:
        outputs = torch.func.functional_call(network, weights, (images,))
        return F.cross_entropy(outputs, labels).item()

    weights = rising_adjustment(network, images, labels, steps=3, rise=rise)
    start = F.cross_entropy(network(images), labels).item()
    assert loss(weights) - start == pytest.approx(rise, rel=1e-2)
    # On the way that longer and longer climbs take: a little less or more falls short or beyond.
    change = {
        name: value - dict(network.named_parameters())[name] for name, value in weights.items()
    }
    shorter = {name: weights[name] - 0.05 * step for name, step in change.items()}
    longer = {name: weights[name] + 0.05 * step for name, step in change.items()}
    assert loss(shorter) < loss(weights) < loss(longer)


def test_a_rise_that_there_is_not_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    images = torch.zeros(2, 1, 2, 2, dtype=torch.float64)  # and both classes: biases cancel
    with torch.no_grad():
        network[1].bias.zero_()
    with pytest.raises(NumericalError, match=r"by 1; lower method\.adjustment_rise"):
        rising_adjustment(network, images, torch.tensor([0, 1]), steps=2, rise=1.0)


def test_the_teacher_is_left_to_the_byte() -> None:
    network = teacher().train()
    before = {n: v.numpy().tobytes() for n, v in network.state_dict().items()}
    weights = directed_adjustment(network, *batch(), steps=2, size=1.0)
    random_adjustment(network, 1.0, np.random.default_rng(0))
    rising_adjustment(network, *batch(), steps=2, rise=0.1)
    for value in weights.values():
        value.add_(1.0)
    assert {n: v.numpy().tobytes() for n, v in network.state_dict().items()} == before
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_two_calls_give_the_same() -> None:
    network = teacher()
    first = directed_adjustment(network, *batch(), steps=2, size=1.0)
    second = directed_adjustment(network, *batch(), steps=2, size=1.0)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_random_adjustment_has_the_length_asked_for() -> None:
    network = teacher()
    weights = random_adjustment(network, 0.3, np.random.default_rng(0))
    assert adjustment_length(network, weights) == pytest.approx(0.3)
    other = random_adjustment(network, 0.3, np.random.default_rng(1))
    assert not torch.equal(weights["head.weight"], other["head.weight"])


def test_no_direction_is_no_step() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).double()
    images, labels = torch.ones(1, 1, 2, 2, dtype=torch.float64), torch.tensor([0])
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([1e6, -1e6]))
    weights = directed_adjustment(network, images, labels, steps=3, size=1.0)
    assert adjustment_length(network, weights) == 0


def test_nan_is_refused() -> None:
    images, labels = batch()
    with pytest.raises(NumericalError, match="no finite gradient"):
        directed_adjustment(teacher(), images * float("nan"), labels, steps=1, size=1.0)
