"""The outer loss, the learning rates, the pool, and S under its optimiser."""

from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill import rng
from potstill.errors import NumericalError
from potstill.methods.rcig.coreset import Coreset
from potstill.methods.rcig.outer import label_margin, outer_loss
from potstill.methods.rcig.pool import ModelPool, home, loss_gradient
from potstill.methods.rcig.problem import MetaGradient
from potstill.methods.rcig.rates import AdaptiveRate, monotone, search
from potstill.methods.rcig.ridge import RidgeKernel
from potstill.methods.rcig.settings import PoolSettings, RCIGSettings
from potstill.networks.convnet import ConvNet
from potstill.networks.functional import flatten
from potstill.networks.init import initialise
from potstill.networks.jacobian import Jacobian
from tests.memory import PeakMemory

CPU = torch.device("cpu")


# The outer loss


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(1, 9), classes=st.integers(2, 5), seed=st.integers(0, 2**31))
@pytest.mark.parametrize("kind", ["platt", "mse"])
def test_outer_loss_and_its_derivatives(kind: str, batch: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(batch, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (batch,), generator=generator)
    f, t = outputs.clone().requires_grad_(), torch.tensor(0.7).double().requires_grad_()
    if kind == "platt":
        reference = F.cross_entropy(f * t.exp(), labels)
    else:
        wanted = F.one_hot(labels, classes).double() - 1 / classes
        reference = (f - wanted).square().sum(1).mean() / 2
    df, dt = torch.autograd.grad(reference, (f, t), materialize_grads=True)
    parts = [
        outer_loss(kind, o, y, t.detach(), batch)  # type: ignore[arg-type]
        for o, y in zip(outputs.split(4), labels.split(4), strict=True)
    ]
    assert float(sum(p.value for p in parts)) == pytest.approx(reference.item())
    assert torch.allclose(torch.cat([p.gradient for p in parts]), df)
    assert torch.allclose(sum(p.log_temperature_gradient for p in parts), dt)


def test_label_margin_pulls_only_what_is_close() -> None:
    labels = torch.tensor([[0.9, 0.0, -0.9], [0.10, 0.05, -0.15]], dtype=torch.float64)
    value, gradient = label_margin(labels)
    assert value.item() == pytest.approx((1 / 6 + 0.05) / 2)
    assert not gradient[0].any()
    leaf = labels.clone().requires_grad_()
    top = leaf.topk(2, dim=1).values
    (top[:, 0] - top[:, 1]).clamp(max=1 / 6).mean().backward()
    assert torch.allclose(gradient, leaf.grad)


# The ridge


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(5, 9), (8, 8), (9, 8), (10, 8), (600, 3)])
def test_ridge_kernel_is_the_inverse(shape: tuple[int, int], bias: bool) -> None:
    h = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    ridge = RidgeKernel(h, 0.1, bias=bias, dtype=torch.float64)
    wide = h.double()
    matrix = wide @ wide.T + float(bias) + 0.1 * torch.eye(len(h))
    rhs = torch.randn(len(h), 2, dtype=torch.float64)
    assert torch.allclose(ridge.solve(rhs), torch.linalg.solve(matrix, rhs))
    assert ridge.solve(rhs.float()).dtype == torch.float32


def test_a_ridge_of_many_images_holds_no_matrix_of_them() -> None:
    rhs, h = torch.randn(4000, 3), torch.randn(4000, 16)
    with PeakMemory() as memory:
        RidgeKernel(h, 0.1, bias=True, dtype=torch.float64).solve(rhs)
    assert memory.peak < 4 * 8 * rhs.numel()


def test_a_kernel_that_is_not_finite_is_refused() -> None:
    with pytest.raises(NumericalError, match=r"l2_rate"):
        RidgeKernel(torch.full((3, 2), torch.nan), 0.1, bias=False, dtype=torch.float64)


# The learning rates


def test_search_ends_just_above_the_last_rate_that_holds() -> None:
    tried: list[float] = []

    def solve(rate: float, steps: int) -> list[float]:
        tried.append(rate)
        return [3.0, 2.0, 1.0] if rate < 2 else [3.0, 2.0, 2.5]

    assert search(1.0, solve, 3) == pytest.approx(0.7 * 1.2**5)
    assert tried == pytest.approx([1.2**k for k in range(5)])


@pytest.mark.parametrize("steps", [0, 1])
def test_a_search_sees_two_losses_at_least_and_ends(steps: int) -> None:
    assert search(1.0, lambda rate, steps: [1.0, 0.5 if rate < 2 else 2.0][:steps], steps) > 1
    with pytest.raises(NumericalError, match=r"method\.solver\.tune to false"):
        search(1.0, lambda rate, steps: [1.0, 0.5], steps)


def test_nan_is_not_monotone() -> None:
    assert not monotone([1.0, float("nan"), 0.5])


@pytest.mark.parametrize(
    ("diverged", "falling", "factor"),
    [(15, 35, 0.9), (14, 36, 1.05), (14, 34, 1.0), (0, 50, 1.05), (0, 0, 1.0)],
)
def test_rates_adapt_every_50_solves(diverged: int, falling: int, factor: float) -> None:
    """A solve diverged if it ended above where it began; a rise at its end alone is none."""
    rate = AdaptiveRate(1.0)
    bumpy = 50 - diverged - falling
    runs = [[2.0, 1.0, 2.5]] * (diverged - 1) + [[2.0, 1.0, math.nan]] * min(diverged, 1)
    runs += [[3.0, 2.0, 1.0]] * falling + [[2.0, 1.0, 1.5]] * bumpy
    for losses in runs[:-1]:
        rate.observe(losses)
    assert rate.value == 1.0
    rate.observe(runs[-1])
    assert rate.value == pytest.approx(factor)
    assert rate.solves == 0


# The pool


def pool_of(recipe: PoolSettings) -> tuple[ModelPool, Jacobian, ConvNet]:
    network = ConvNet(1, 8, 3, 2, 3, softplus_beta=5.0)
    return ModelPool(recipe, network, 0, CPU), Jacobian(network), network


def support() -> tuple[torch.Tensor, torch.Tensor]:
    generator = rng.stream(0, "test/support")
    return rng.normal((6, 1, 8, 8), generator), rng.normal((6, 3), generator)


def test_pool_training_is_torch_adam_on_mse() -> None:
    pool, jacobian, network = pool_of(PoolSettings(size=2, learning_rate=1e-3))
    images, labels = support()
    initialise(network, 0, "rcig/newborn", 1)
    assert torch.equal(flatten(network), pool.parameters[1])
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(7):
        optimiser.zero_grad()
        ((network(images) - labels).square().sum(1) / 2).mean().backward()
        optimiser.step()
    pool.train(1, 7, jacobian, images, labels)
    assert torch.allclose(flatten(network), pool.parameters[1], atol=2e-5)


def test_chunks_of_a_pool_step_add_up_to_it() -> None:
    network = ConvNet(1, 8, 3, 2, 3, softplus_beta=5.0).double()
    initialise(network, 0, "test/chunks")
    jacobian, theta = Jacobian(network), flatten(network)
    images, labels = (x.double() for x in support())
    wanted = torch.autograd.grad(
        ((network(images) - labels).square().sum(1) / 2).mean(), list(network.parameters())
    )
    wanted = torch.cat([part.flatten() for part in wanted])
    whole = loss_gradient(jacobian, theta, images, labels)
    assert torch.allclose(whole, wanted, rtol=1e-10, atol=1e-12)
    for chunk in (1, 4, 5):
        parts = loss_gradient(jacobian, theta, images, labels, chunk)
        assert torch.allclose(parts, wanted, rtol=1e-10, atol=1e-12)
    for chunk in (6, 7):
        assert torch.equal(loss_gradient(jacobian, theta, images, labels, chunk), whole)


def test_a_pool_step_in_chunks_takes_no_more_memory_for_more_images() -> None:
    pool, jacobian, _ = pool_of(PoolSettings(size=1))
    images, labels = support()

    def peak(times: int, chunk: int | None) -> int:
        with PeakMemory() as memory:
            pool.train(
                0, 2, jacobian, images.repeat(times, 1, 1, 1), labels.repeat(times, 1), chunk
            )
        return memory.peak - times * 4 * (images.numel() + labels.numel())

    assert peak(20, None) > 5 * peak(2, None)
    assert peak(20, 6) <= 1.01 * peak(2, 6)


def test_a_pool_in_main_memory_trains_as_one_on_the_device(monkeypatch) -> None:
    class Room:
        total_memory = 4000

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Room)
    card = torch.device("cuda")
    assert home(1000, card) == card and home(1001, card) == CPU
    assert home(10**12, CPU) == CPU and home(10**12, torch.device("meta")).type == "meta"
    # Both stand on a processor here, but what is fetched is a copy, as on a card.
    fetched = ModelPool._fetched
    monkeypatch.setattr(ModelPool, "_fetched", lambda *given: copy.deepcopy(fetched(*given)))
    pool, jacobian, _ = pool_of(PoolSettings(size=3, max_steps=5))
    for index, steps in ((0, 3), (2, 4), (0, 1)):
        pool.train(index, steps, jacobian, *support())
    monkeypatch.undo()
    other, _, _ = pool_of(PoolSettings(size=3, max_steps=5))
    for index, steps in ((0, 3), (2, 4), (0, 1)):
        other.train(index, steps, jacobian, *support())
    for name, value in pool.state().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other.state()[name]))


def test_models_start_at_every_age_and_start_afresh_at_the_limit() -> None:
    pool, jacobian, _ = pool_of(PoolSettings(size=4, max_steps=8))
    assert pool.state()["ages"] == [0, 2, 4, 6]
    before = pool.parameters.clone()
    assert not pool.train(0, 7, jacobian, *support())
    assert pool.train(3, 2, jacobian, *support())
    assert pool.state()["ages"] == [7, 2, 4, 0]
    assert pool.state()["steps"] == [7, 0, 0, 0]
    assert not torch.equal(pool.parameters[3], before[3])
    assert torch.equal(pool.parameters[1], before[1])


def test_draws_cover_the_pool_and_the_range() -> None:
    pool, _, _ = pool_of(PoolSettings(size=3, steps_per_visit=(1, 4)))
    draws = [pool.draw(iteration) for iteration in range(200)]
    assert {index for index, _ in draws} == {0, 1, 2}
    assert {steps for _, steps in draws} == {1, 2, 3, 4}
    assert draws == [pool.draw(iteration) for iteration in range(200)]


def test_a_restored_pool_goes_on_as_if_nothing_happened() -> None:
    recipe = PoolSettings(size=3, max_steps=5)
    pool, jacobian, _ = pool_of(recipe)
    pool.train(0, 3, jacobian, *support())
    pool.train(2, 4, jacobian, *support())
    state = {
        key: value.clone() if isinstance(value, torch.Tensor) else value
        for key, value in pool.state().items()
    }
    other, _, _ = pool_of(recipe)
    other.restore(state)
    for model in (pool, other):
        model.train(0, 2, jacobian, *support())
        model.train(1, 2, jacobian, *support())
    assert torch.equal(pool.parameters, other.parameters)
    assert pool.state()["ages"] == other.state()["ages"]


# S


def gradient(seed: int) -> MetaGradient:
    generator = rng.stream(seed, "test/gradient")
    return MetaGradient(
        rng.normal((6, 1, 8, 8), generator),
        rng.normal((6, 3), generator),
        rng.normal((1,), generator)[0],
        {},
    )


def test_adabelief_by_its_definition() -> None:
    """Distances to the old mean; at steps 1/0.9 times as long S would be 1e-3 off."""
    recipe = RCIGSettings(image_learning_rate=1e-2)
    coreset = Coreset(recipe, *support())
    x, _ = support()
    m = v = torch.zeros_like(x)
    for step in range(1, 6):
        g = gradient(step).images
        coreset.update(gradient(step))
        v = 0.999 * v + 0.001 * (g - m).square()
        m = 0.9 * m + 0.1 * g
        x = x - 1e-2 * (m / (1 - 0.9**step)) / (v / (1 - 0.999**step)).sqrt()
    assert torch.allclose(coreset.images, x, atol=1e-5)


def test_the_average_is_bias_corrected() -> None:
    coreset = Coreset(RCIGSettings(ema_decay=0.9), *support())
    assert torch.equal(coreset.average()[0], support()[0])
    seen = []
    for step in range(4):
        coreset.update(gradient(step))
        seen.append(coreset.images.clone())
    weights = torch.tensor([0.9**3, 0.9**2, 0.9, 1.0])
    expected = sum(w * x for w, x in zip(weights, seen, strict=True)) / weights.sum()
    assert torch.allclose(coreset.average()[0], expected, atol=1e-5)


def test_labels_stay_where_they_are_if_not_learned() -> None:
    coreset = Coreset(RCIGSettings(learn_labels=False), *support())
    coreset.update(gradient(0))
    assert torch.equal(coreset.labels, support()[1])
    assert not torch.equal(coreset.images, support()[0])
    assert torch.allclose(coreset.average()[1], support()[1])


def test_a_restored_coreset_goes_on_as_if_nothing_happened() -> None:
    first = Coreset(RCIGSettings(), *support())
    for step in range(3):
        first.update(gradient(step))
    second = Coreset(RCIGSettings(), *support())
    second.restore(first.state())
    for step in range(3, 6):
        first.update(gradient(step))
        second.update(gradient(step))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.log_temperature, second.log_temperature)
    assert torch.equal(first.average()[0], second.average()[0])


def test_learning_rates_end_on_the_fraction_that_the_recipe_says() -> None:
    recipe = RCIGSettings(iterations=4, final_learning_rate=0.2, image_learning_rate=1.0)
    coreset = Coreset(recipe, *support())
    seen = []
    for step in range(5):
        seen.append(coreset.rates()[0])
        coreset.update(gradient(step))
    assert seen == pytest.approx([1.0, 0.2 + 0.8 * (1 + 0.5**0.5) / 2, 0.6,
                                  0.2 + 0.8 * (1 - 0.5**0.5) / 2, 0.2])  # fmt: skip
