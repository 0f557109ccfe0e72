"""Supervised training of fresh networks on a small set of images with soft labels.

Network i sees the batches and the augmentations of its own random streams, so that
its result does not depend on how many networks are trained beside it, nor on whether
they are trained in one batched computation or one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from potstill import rng
from potstill.hardware import sent
from potstill.networks.init import seeded_on
from potstill.networks.zoo import ForeignNetwork
from potstill.progress import Progress, part, silent
from potstill.train.layout import favour_layout, in_favoured_layout
from potstill.train.trainer import Trainer

Augment = Callable[[Tensor, np.random.Generator], Tensor]
"""(images (n, c, h, w), generator) -> images of the same shape."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0 to ``peak``, cosine to ``floor * peak`` at ``length``, constant after.

    Step 0 has rate 0 and step ``warmup`` the peak, as in optax's
    ``join_schedules([linear_schedule, cosine_decay_schedule])``.
    """

    length: int
    peak: float = 1e-4
    warmup: int = 500
    floor: float = 0.01

    def __call__(self, step: int) -> float:
        """The learning rate of ``step``, counted from 0."""
        if step < self.warmup:
            return self.peak * step / self.warmup
        progress = min(1.0, (step - self.warmup) / max(self.length - self.warmup, 1))
        return self.peak * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * progress)) / 2)


@dataclass(frozen=True)
class Training:
    """How long, how fast, and on what of the set each step works."""

    steps: int
    schedule: Schedule
    batch_size: int | None = None
    """Images per step, drawn without replacement until all were seen; all of them if None."""
    augment: Augment | None = None


def half_squared_error(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over the batch of 1/2 |outputs - labels|^2: (..., n, C) -> (...).

    Dividing by the number of classes as well would change the loss by a constant
    factor, which Adam notices only through its epsilon.
    """
    return (outputs - labels).square().sum(-1).mean(-1) / 2


def train(
    networks: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    training: Training,
    *,
    seed: int,
    purpose: str = "train",
    batched: bool | None = None,
    progress: Progress = silent,
) -> Tensor:
    """Train initialised networks of one architecture in place, by Adam.

    Args:
        networks: k networks on one device; they are left in training mode.
        images: (n, c, h, w) for all of them, or (k, n, c, h, w), a set for each.
        labels: (n, C) for all of them, or (k, n, C), a set for each.
        training: steps, schedule, batches, augmentation.
        seed: seed of the streams ``purpose``/order/i and ``purpose``/augment/i of network i.
        purpose: what the training is for.
        batched: all networks in one computation, or one after the other; the same
            result up to rounding. Whichever :func:`batching_pays` says if None. Networks
            that are not potstill's are always trained one after the other.
        progress: told of every "training step", over all networks.

    Returns:
        The losses (steps, k) float64, before each step, on the CPU.

    Raises:
        NumericalError: a loss is not finite.
    """
    device = next(networks[0].parameters()).device
    sets = _Batches(images.to(device), labels.to(device), training, seed, purpose)
    for network in networks:
        network.train()
    if isinstance(networks[0], ForeignNetwork):
        batched = False  # torch.func may not take what they do
    elif batched is None:
        batched = batching_pays(networks[0], sets.pixels, device)
    if batched and len(networks) > 1:
        return _train_batched(networks, sets, training, progress)
    return _train_in_turn(networks, sets, training, progress)


def _train_in_turn(
    networks: Sequence[nn.Module],
    sets: _Batches,
    training: Training,
    progress: Progress,
) -> Tensor:
    histories = []
    for index, network in enumerate(networks):
        favour_layout(network)

        def losses(step: int, network: nn.Module = network, index: int = index) -> Tensor:
            images, labels = sets.of(index, step)
            with sets.dropout(network, index, step):
                outputs = network(in_favoured_layout(images))
            return half_squared_error(outputs, labels)[None]

        parameters: list[Tensor] = list(network.parameters())
        member, told = range(index, index + 1), part(progress, index, len(networks))
        histories.append(_minimise(parameters, losses, training, member, told))
    return torch.cat(histories, 1)


def _train_batched(
    networks: Sequence[nn.Module],
    sets: _Batches,
    training: Training,
    progress: Progress,
) -> Tensor:
    """Every parameter and buffer of the k networks is one tensor (k, ...).

    Running statistics are updated in place inside vmap, which is right because they
    carry the batch dimension themselves.
    """
    parameters, buffers = stack_module_state(list(networks))
    members = range(len(networks))

    def outputs(
        parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        result: Tensor = functional_call(networks[0], (parameters, buffers), (images,))
        return result

    def losses(step: int) -> Tensor:
        if sets.shared:
            images, labels = sets.of(0, step)
            dimension = None
        else:
            pairs = [sets.of(index, step) for index in members]
            images, labels = (torch.stack(parts) for parts in zip(*pairs, strict=True))
            dimension = 0
        predicted = torch.vmap(outputs, (0, 0, dimension))(parameters, buffers, images)
        return half_squared_error(predicted, labels)

    def report(stage: str, done: int, total: int, **values: float) -> None:
        progress(stage, len(networks) * done, len(networks) * total, **values)

    history = _minimise(list(parameters.values()), losses, training, members, report)
    with torch.no_grad():
        for index, network in enumerate(networks):
            for name, parameter in network.named_parameters():
                parameter.copy_(parameters[name][index])
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name][index])
    return history


def batching_pays(network: nn.Module, pixels: int, device: torch.device) -> bool:
    """Whether several networks train faster in one computation than in turn.

    On a CPU batching saves the cost of calling, which is most of the time for tiny
    networks alone; beyond them its grouped convolutions are slower than plain ones
    (``benchmarks/evaluate.py``: 2 to 3 times as fast for a ConvNet of width 8 on ten
    8 px images, 0.7 times for width 32 on ten 28 px images). On other devices nobody has
    measured it, and the plain way is the default.

    Args:
        network: one of them.
        pixels: in the images of one step.
        device: where they train.
    """
    work = pixels * sum(parameter.numel() for parameter in network.parameters())
    return device.type == "cpu" and work < 100_000_000


def _minimise(
    parameters: list[Tensor],
    losses: Callable[[int], Tensor],
    training: Training,
    members: range,
    progress: Progress,
) -> Tensor:
    """Adam on ``losses(step)`` of these networks: (k,) before each step, (steps, k) in all."""

    def name_loss(_round: int, step: int, network: int) -> str:
        return f"the loss of network {members[network]} at training step {step}"

    trainer = Trainer(
        torch.optim.Adam(parameters, lr=0.0, fused=True),
        training.schedule,
        steps=training.steps,
        networks=len(members),
        name_loss=name_loss,
    )
    return trainer.run_round(losses, progress)


class _Batches:
    """The images and labels that network i trains on at a step."""

    def __init__(
        self, images: Tensor, labels: Tensor, training: Training, seed: int, purpose: str
    ) -> None:
        self._images, self._labels, self._device = images, labels, images.device
        self._augment = training.augment
        self._seed, self._purpose = seed, purpose
        self._n = images.shape[-4]
        size = training.batch_size
        self._size = None if size is None or size >= self._n else size
        self.pixels = (self._size or self._n) * images.shape[-2] * images.shape[-1]
        """Pixels in the images of one step."""
        self._own = images.ndim == 5, labels.ndim == 3
        self.shared = not any(self._own) and self._size is None and self._augment is None
        """Whether every network sees the same at every step."""

    def of(self, index: int, step: int) -> tuple[Tensor, Tensor]:
        """Images (b, c, h, w), labels (b, C) of network ``index``."""
        images = self._images[index] if self._own[0] else self._images
        labels = self._labels[index] if self._own[1] else self._labels
        if self._size is not None:
            chosen = sent(torch.from_numpy(self._order(index, step, self._size)), images.device)
            images, labels = images[chosen], labels[chosen]
        if self._augment is not None:
            generator = rng.stream(self._seed, f"{self._purpose}/augment/{index}", step)
            images = self._augment(images, generator)
        return images, labels

    def dropout(self, network: nn.Module, index: int, step: int) -> AbstractContextManager[None]:
        """What a network that is none of potstill's draws in a step; potstill's draw nothing."""
        if not isinstance(network, ForeignNetwork):
            return nullcontext()
        return seeded_on(self._device, self._seed, f"{self._purpose}/dropout/{index}", step)

    def _order(self, index: int, step: int, size: int) -> NDArray[np.int64]:
        """Places step * size, ... in an endless row of permutations, one for each epoch."""
        first, last = step * size // self._n, ((step + 1) * size - 1) // self._n
        row = np.concatenate(
            [
                rng.stream(self._seed, f"{self._purpose}/order/{index}", epoch).permutation(self._n)
                for epoch in range(first, last + 1)
            ]
        )
        start = step * size - first * self._n
        return row[start : start + size]
