from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.errors import NumericalError
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.train import (
    Schedule,
    Training,
    batching_pays,
    half_squared_error,
    images_at_once,
    train,
)
from potstill.train.steps import _Batches

CLASSES = 3


def networks(count: int, normalisation: str = "none", dtype: torch.dtype = torch.float64):
    made = []
    for index in range(count):
        recipe = NetworkRecipe(depth=2, width=4, normalisation=normalisation)
        network = zoo.build(recipe, channels=1, resolution=8, classes=CLASSES)
        initialise(network, 0, "test/network", index)
        made.append(network.to(dtype))
    return made


def small_set(n: int = 12, sets: int | None = None, dtype: torch.dtype = torch.float64):
    generator = rng.stream(0, "test/set")
    lead = () if sets is None else (sets,)
    images = rng.normal((*lead, n, 1, 8, 8), generator, dtype=dtype)
    return images, rng.normal((*lead, n, CLASSES), generator, dtype=dtype)


def noisy(images, generator):
    return images + 0.1 * rng.normal(tuple(images.shape), generator, dtype=images.dtype)


def states(trained):
    return [tensor for network in trained for tensor in network.state_dict().values()]


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.0),
        (1, 2e-7),
        (250, 5e-5),
        (499, 9.98e-5),
        (500, 1e-4),
        (750, (0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2) * 1e-4),
        (1000, 5.05e-5),
        (1499, (0.01 + 0.99 * (math.pi / 1000) ** 2 / 4) * 1e-4),
        (1500, 1e-6),
        (2499, 1e-6),
    ],
)
def test_schedule_warms_up_falls_like_a_cosine_and_stays(step, rate):
    assert Schedule(length=1500)(step) == pytest.approx(rate, rel=1e-6)


def test_half_squared_error_is_a_mean_over_images_of_sums_over_classes():
    outputs, labels = torch.randn(2, 4, CLASSES)
    slow = sum(0.5 * (outputs[i, c] - labels[i, c]) ** 2 for i in range(4) for c in range(CLASSES))
    torch.testing.assert_close(half_squared_error(outputs, labels), slow / 4)
    stacked = half_squared_error(torch.stack([outputs, labels]), labels)
    torch.testing.assert_close(stacked, torch.stack([slow / 4, torch.tensor(0.0)]))


@pytest.mark.parametrize("batched", [False, True])
def test_training_is_adam_as_the_textbook_has_it(batched):
    """Adam written out (Kingma and Ba, Algorithm 1), with the rate of each step."""
    images, labels = small_set()
    schedule = Schedule(length=6, peak=1e-2, warmup=3)
    trained, reference = networks(2), networks(2)
    losses = train(trained, images, labels, Training(8, schedule), seed=0, batched=batched)

    for index, network in enumerate(reference):
        parameters = list(network.parameters())
        first = [torch.zeros_like(p) for p in parameters]
        second = [torch.zeros_like(p) for p in parameters]
        for step in range(8):
            loss = 0.5 * (network(images) - labels).square().sum() / len(images)
            assert losses[step, index] == pytest.approx(loss.item(), rel=1e-6)
            gradients = torch.autograd.grad(loss, parameters)
            with torch.no_grad():
                for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
                    m.mul_(0.9).add_(0.1 * g)
                    v.mul_(0.999).add_(0.001 * g * g)
                    m_hat, v_hat = m / (1 - 0.9 ** (step + 1)), v / (1 - 0.999 ** (step + 1))
                    p.sub_(schedule(step) * m_hat / (v_hat.sqrt() + 1e-8))
        torch.testing.assert_close(states([trained[index]]), states([network]))


@pytest.mark.parametrize("normalisation", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("own_sets", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_batched_and_in_turn_give_the_same_networks(normalisation, own_sets, drawn):
    """Running statistics included. In float64: a bias before a normalisation has a gradient
    of rounding noise alone, which Adam in float32 blows up to full steps."""
    images, labels = small_set(sets=3 if own_sets else None)
    training = Training(
        20, Schedule(20, 1e-2, 5), batch_size=5 if drawn else None, augment=noisy if drawn else None
    )
    in_turn, batched = networks(3, normalisation), networks(3, normalisation)
    losses = train(in_turn, images, labels, training, seed=0, batched=False)
    torch.testing.assert_close(
        train(batched, images, labels, training, seed=0, batched=True), losses
    )
    torch.testing.assert_close(states(batched), states(in_turn), rtol=1e-6, atol=1e-7)
    assert losses[-1].mean() < losses[0].mean()


def test_batched_and_in_turn_agree_in_float32_too():
    images, labels = small_set(dtype=torch.float32)
    training = Training(20, Schedule(20, 1e-2, 5))
    in_turn, batched = (networks(3, dtype=torch.float32) for _ in range(2))
    train(in_turn, images, labels, training, seed=0, batched=False)
    train(batched, images, labels, training, seed=0, batched=True)
    torch.testing.assert_close(states(batched), states(in_turn), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("batched", [False, True])
def test_a_network_does_not_depend_on_its_neighbours(batched):
    images, labels = small_set()
    training = Training(6, Schedule(6, 1e-2, 2), batch_size=5, augment=noisy)
    few, many = networks(2), networks(4)
    train(few, images, labels, training, seed=0, batched=batched)
    train(many, images, labels, training, seed=0, batched=batched)
    torch.testing.assert_close(states(few), states(many[:2]))
    different = [a.equal(b) for a, b in zip(states([many[2]]), states([many[3]]), strict=True)]
    assert not all(different)


def test_batch_norm_trains_on_batches_and_keeps_running_statistics():
    images, labels = small_set()
    for batched in (False, True):
        trained = networks(2, "batch")
        train(trained, images, labels, Training(7, Schedule(7)), seed=0, batched=batched)
        for network in trained:
            norm = network.blocks[0].norm
            assert norm.num_batches_tracked == 7
            # The rate is next to nothing here, so the first layer sees the same all along.
            seen = network.blocks[0].conv(images)
            weight = 1 - 0.9**7
            torch.testing.assert_close(
                norm.running_mean, weight * seen.mean((0, 2, 3)), rtol=1e-3, atol=1e-3
            )
            torch.testing.assert_close(
                norm.running_var,
                weight * seen.transpose(0, 1).flatten(1).var(1) + 1 - weight,
                rtol=1e-3,
                atol=1e-3,
            )


@given(n=st.integers(2, 40), size=st.integers(1, 39), epochs=st.integers(1, 4))
def test_batches_show_every_image_once_before_any_again(n, size, epochs):
    size = min(size, n - 1)
    images = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1)
    sets = _Batches(images, images.view(n, 1), Training(1, Schedule(1), size), 0, "test")
    steps = math.ceil(n * epochs / size)
    parts = [sets.of(0, step) for step in range(steps)]
    assert all(len(part) == size and part.flatten().equal(y.flatten()) for part, y in parts)
    row = torch.cat([part.flatten() for part, _ in parts])
    for epoch in range(epochs):
        assert row[epoch * n : (epoch + 1) * n].sort().values.equal(images.flatten())


@pytest.mark.parametrize("size", [None, 12, 13])
def test_a_set_no_larger_than_a_batch_is_seen_whole_and_in_order(size):
    images, labels = small_set()
    sets = _Batches(images, labels, Training(1, Schedule(1), size), 0, "test")
    assert sets.shared
    assert sets.of(1, 5)[0].equal(images) and sets.of(1, 5)[1].equal(labels)


def test_epochs_and_networks_have_orders_of_their_own():
    images, labels = small_set()
    sets = _Batches(images, labels, Training(1, Schedule(1), 6), 0, "test")
    epochs = [
        torch.cat([sets.of(index, step)[1], sets.of(index, step + 1)[1]])
        for index, step in ((0, 0), (0, 2), (1, 0))
    ]
    assert not epochs[0].equal(epochs[1])
    assert not epochs[0].equal(epochs[2])


@pytest.mark.parametrize("batched", [False, True])
def test_a_loss_that_is_not_finite_names_network_and_step(batched):
    images, labels = small_set(sets=3)
    labels[1, 0, 0] = torch.nan
    with pytest.raises(NumericalError, match="network 1 at training step 0 is not"):
        train(networks(3), images, labels, Training(3, Schedule(3)), seed=0, batched=batched)


@pytest.mark.parametrize("batched", [False, True])
def test_a_late_overflow_names_the_first_step_that_shows_it(batched):
    """Step 0 has rate 0, step 1 the weights overflow, step 2 sees it; looked at once, later."""
    images, labels = small_set(dtype=torch.float32)
    schedule = Schedule(length=2, peak=1e30, warmup=1, floor=1.0)
    with pytest.raises(NumericalError, match="step 2 is not"):
        train(
            networks(2, dtype=torch.float32),
            images,
            labels,
            Training(9, schedule),
            seed=0,
            batched=batched,
        )


@pytest.mark.parametrize("batched", [False, True])
def test_progress_counts_the_steps_of_all_networks(batched):
    images, labels = small_set()
    seen = []
    train(
        networks(3),
        images,
        labels,
        Training(4, Schedule(4)),
        seed=0,
        batched=batched,
        progress=lambda *told: seen.append(told),
    )
    assert {(stage, total) for stage, _, total in seen} == {("training step", 12)}
    steps = [step for _, step, _ in seen]
    assert steps == sorted(set(steps)) and steps[-1] == 12


def test_batching_is_for_tiny_networks_on_a_cpu():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    tiny, wide = nn.Linear(64, 10), nn.Linear(2000, 1000)
    assert batching_pays(tiny, 640, cpu)
    assert not batching_pays(wide, 640, cpu)
    assert not batching_pays(tiny, 640, cuda)


def test_large_images_are_tested_a_few_at_a_time():
    cpu, card = torch.device("cpu"), torch.device("cuda")
    sides = (28, 32, 64, 128, 224, 4096)
    assert [images_at_once(side, card) for side in sides] == [1000, 1000, 512, 128, 41, 1]
    assert [images_at_once(side, cpu) for side in sides] == [100, 100, 100, 100, 41, 1]
