from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from potstill import checkpoints, rng
from potstill.config import NetworkRecipe
from potstill.errors import NumericalError
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.train import EpochTraining, Optimisation, batches

ROWS, CLASSES = 11, 3
SGD = Optimisation("sgd", 0.05, epochs=3, batch_size=4, weight_decay=0.01)
ADAMW = Optimisation("adamw", 0.01, epochs=3, batch_size=4, weight_decay=0.1, warmup_epochs=1)


SPARING = Optimisation("adamw", 0.01, 3, 4, weight_decay=0.5, decay_vectors=False)


def small_network(dtype: torch.dtype = torch.float64) -> nn.Module:
    recipe = NetworkRecipe(depth=1, width=4, normalisation="batch")
    network = zoo.build(recipe, channels=1, resolution=4, classes=CLASSES)
    initialise(network, 0, "test/network")
    return network.to(dtype)


def images_and_labels() -> tuple[Tensor, Tensor]:
    generator = rng.stream(0, "test/set")
    images = rng.normal((ROWS, 1, 4, 4), generator, dtype=torch.float64)
    return images, torch.from_numpy(generator.integers(0, CLASSES, ROWS))


def noisy_loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
    images, labels = images_and_labels()
    noise = rng.normal((len(rows), 1, 4, 4), rng.stream(epoch, "test/noise", step))
    return F.cross_entropy(network(images[rows] + 0.1 * noise), labels[rows])


def training(optimisation: Optimisation, loss: Any = noisy_loss) -> EpochTraining:
    return EpochTraining(small_network(), ROWS, optimisation, loss, seed=5, purpose="test")


def finish(run: EpochTraining, epochs: int = 3) -> list[float]:
    return [run.run_epoch() for _ in range(epochs - run.epoch)]


def reference(optimisation: Optimisation) -> tuple[nn.Module, list[float]]:
    """The same training, spelt out with PyTorch's own optimisers and schedules."""
    network, means = small_network(), []
    kind = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimisation.optimiser]
    extra = {"momentum": optimisation.momentum} if optimisation.optimiser == "sgd" else {}
    parameters: Any = network.parameters()
    if not optimisation.decay_vectors:
        block, head = network.blocks[0], network.head  # type: ignore[union-attr,index]
        spared = [block.conv.bias, block.norm.weight, block.norm.bias, head.bias]
        parameters = [
            {"params": [block.conv.weight, head.weight]},
            {"params": spared, "weight_decay": 0.0},
        ]
    optimiser = kind(
        parameters,
        lr=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        **extra,
    )
    network.train()
    done, warmup, total = 0, 3 * optimisation.warmup_epochs, 9
    for epoch in range(3):
        order = torch.from_numpy(rng.stream(5, "test/order", epoch).permutation(ROWS))
        losses = []
        for step, rows in enumerate((order[:4], order[4:8], order[8:])):
            for group in optimiser.param_groups:
                fall = (1 + math.cos(math.pi * (done - warmup) / (total - warmup))) / 2
                rise = (done + 1) / warmup if done < warmup else fall
                group["lr"] = optimisation.learning_rate * rise
            optimiser.zero_grad()
            loss = noisy_loss(network, rows, epoch, step)
            loss.backward()
            optimiser.step()
            losses += [loss.item()] * len(rows)
            done += 1
        means.append(sum(losses) / ROWS)
    return network, means


def weights(network: nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())


@pytest.mark.parametrize("optimisation", [SGD, ADAMW, SPARING], ids=["sgd", "adamw", "sparing"])
def test_training_is_that_of_the_reference(optimisation: Optimisation) -> None:
    run = training(optimisation)
    means = finish(run)
    expected, expected_means = reference(optimisation)
    assert means == pytest.approx(expected_means, rel=1e-10)
    for found, wanted in zip(weights(run.network), weights(expected), strict=True):
        torch.testing.assert_close(found, wanted)


class _Stop(Exception):
    pass


@pytest.mark.parametrize("optimisation", [SGD, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (0, 3), (1, 2), (2, 0)])
def test_a_training_stopped_anywhere_ends_in_the_same_bits(
    tmp_path: Path, optimisation: Optimisation, epoch: int, step: int
) -> None:
    whole = training(optimisation)
    means = finish(whole)

    first = training(optimisation)
    early = finish(first, epoch)

    def stop(stage: str, done: int, total: int, **_: float) -> None:
        assert (stage, total) == ("training step", 3)
        if done == step:
            raise _Stop

    if step:
        with pytest.raises(_Stop):
            first.run_epoch(stop)
    checkpoints.write(tmp_path / "state", first.state(), {})
    finish(first)  # what was written is a copy

    second = training(optimisation)
    second.restore(checkpoints.read(tmp_path / "state")[0])
    assert (second.epoch, second.step) == (epoch, step)
    assert early + finish(second) == means
    for found, wanted in zip(weights(second.network), weights(whole.network), strict=True):
        assert torch.equal(found, wanted)


def test_a_restored_training_does_not_share_memory_with_the_state() -> None:
    first, second = training(ADAMW), training(ADAMW)
    first.run_epoch()
    second.restore(first.state())
    finish(second)
    finish(first)
    for found, wanted in zip(weights(first.network), weights(second.network), strict=True):
        assert torch.equal(found, wanted)


def test_rates_rise_linearly_and_fall_along_a_cosine() -> None:
    optimisation = Optimisation("sgd", 2.0, epochs=6, batch_size=4, warmup_epochs=2)
    rates = [optimisation.rate(step, 5) for step in range(30)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0 and rates[20] == pytest.approx(1.0)
    assert 0 < rates[29] < 0.02 and rates[10:] == sorted(rates[10:], reverse=True)
    assert optimisation.rate(30, 5) == pytest.approx(0.0)
    assert Optimisation("sgd", 2.0, epochs=1, batch_size=4, warmup_epochs=1).rate(4, 5) == 2.0


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3))
def test_batches_are_a_permutation_without_a_last_batch_of_one(
    rows: int, size: int, epoch: int
) -> None:
    parts = batches(rows, size, 0, "test", epoch)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(rows))
    sizes = [len(part) for part in parts]
    assert all(n == size for n in sizes[:-1])
    if rows > 1 and size > 1:
        assert 2 <= sizes[-1] <= size + 1
    made = EpochTraining(
        small_network(),
        rows,
        Optimisation("sgd", 0.1, 1, size),
        noisy_loss,
        seed=0,
        purpose="test",
    )
    assert made.steps_per_epoch == len(parts)


def test_order_depends_on_seed_purpose_and_epoch() -> None:
    orders = [
        torch.cat(batches(100, 10, *place)).tolist()
        for place in ((0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0))
    ]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == torch.cat(batches(100, 7, 0, "a", 0)).tolist()


def test_the_network_is_in_training_mode_during_an_epoch() -> None:
    def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
        assert network.training
        return noisy_loss(network, rows, epoch, step)

    run = training(SGD, loss)
    run.network.eval()
    run.run_epoch()


def test_a_loss_that_is_not_finite_stops_and_is_not_kept() -> None:
    def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
        return noisy_loss(network, rows, epoch, step) * (math.nan if (epoch, step) == (1, 1) else 1)

    run = training(SGD, loss)
    run.run_epoch()

    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if done == 2:
            raise _Stop

    with pytest.raises(_Stop):
        run.run_epoch(stop)
    with pytest.raises(NumericalError, match="epoch 2, step 2 is not finite; lower") as caught:
        run.state()
    assert "\n" not in str(caught.value)
    with pytest.raises(NumericalError, match="epoch 2, step 2"):
        run.run_epoch()
