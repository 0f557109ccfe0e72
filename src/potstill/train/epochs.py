"""Training by epochs: SGD or AdamW on a schedule, stopped and resumed at any step.

Nothing is drawn from a generator that lives longer than a batch: the order of the rows is a
function of the epoch, and what a loss draws should be one of its epoch and step. So a training
that was stopped between two steps and restored ends in the same bits as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from potstill import rng
from potstill.progress import Progress, silent
from potstill.train.trainer import Trainer

Loss = Callable[[nn.Module, Tensor, int, int], Tensor]
"""(network, rows (b,) int64 on the CPU, epoch, step in the epoch), counted from 0 -> the mean
loss over these rows, a scalar."""


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    The rate climbs linearly over the warm-up, which ends at ``learning_rate``, and falls to 0
    along a cosine, step by step, or stays there if ``schedule`` is constant. ``weight_decay``
    shrinks every parameter, as in the field: for sgd it is added to the gradient, for adamw it is
    decoupled. Without ``decay_vectors`` it spares biases and the weights of norms, all parameters
    of one axis, and whatever is not called a weight, such as a transformer's class token.
    ``momentum`` is sgd's, without Nesterov; adamw has PyTorch's betas.
    """

    optimiser: Literal["sgd", "adamw"]
    learning_rate: float
    epochs: int
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"
    decay_vectors: bool = True

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of ``step``, counted from 0 over all epochs."""
        warmup = self.warmup_epochs * steps_per_epoch
        if step < warmup:
            return self.learning_rate * (step + 1) / warmup
        if self.schedule == "constant":
            return self.learning_rate
        falling = max(1, self.epochs * steps_per_epoch - warmup)
        return self.learning_rate * (1 + math.cos(math.pi * (step - warmup) / falling)) / 2


class EpochTraining:
    """A network in training, and how far it is.

    Args:
        network: initialised, on its device; trained in place.
        rows: number of rows to train on.
        optimisation: optimiser, schedule and batches.
        loss: the loss on a batch of rows; it augments, casts and moves them as it likes.
        seed: seed of the order of the rows, the stream ``purpose``/order of each epoch.
        purpose: what the training is for.
        epoch: how many epochs others have trained the network for, with orders and losses of
            their own: where counting begins.
    """

    def __init__(
        self,
        network: nn.Module,
        rows: int,
        optimisation: Optimisation,
        loss: Loss,
        *,
        seed: int,
        purpose: str,
        epoch: int = 0,
    ) -> None:
        self.network = network
        self._rows, self._optimisation, self._loss = rows, optimisation, loss
        self._seed, self._purpose = seed, purpose
        steps = self.steps_per_epoch
        self._trainer = Trainer(
            _optimiser(optimisation, network),
            lambda step: optimisation.rate(step, steps),
            steps=steps,
            name_loss=lambda epoch, step, _: f"the loss in epoch {epoch + 1}, step {step + 1}",
        )
        self._trainer.round = epoch

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return self._trainer.round

    @property
    def step(self) -> int:
        """Number of steps done of the epoch after :attr:`epoch`."""
        return self._trainer.step

    @property
    def steps_per_epoch(self) -> int:
        """Batches, the last of which may be incomplete."""
        return len(_batch_sizes(self._rows, self._optimisation.batch_size))

    def run_epoch(self, progress: Progress = silent) -> float:
        """Train for one epoch, or for the rest of one that was stopped, in training mode.

        Args:
            progress: told of every "training step" of this epoch.

        Returns:
            The mean loss over the rows of the whole epoch, each before its step.

        Raises:
            NumericalError: a loss is not finite; the network is spoilt.
        """
        self.network.train()
        epoch, size = self.epoch, self._optimisation.batch_size
        parts = batches(self._rows, size, self._seed, self._purpose, epoch)
        losses = self._trainer.run_round(
            lambda step: self._loss(self.network, parts[step], epoch, step), progress
        )
        shares = torch.tensor([len(part) / self._rows for part in parts], dtype=torch.float64)
        return float(losses[:, 0] @ shares)

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, as :mod:`potstill.checkpoints` takes it.

        Raises:
            NumericalError: the network is spoilt.
        """
        return {**self._trainer.state(), "network": dict(self.network.state_dict())}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.network.load_state_dict(state["network"])
        self._trainer.restore(state)


def batches(rows: int, size: int, seed: int, purpose: str, epoch: int) -> list[Tensor]:
    """The rows 0, 1, ... in this epoch's order, from stream ``purpose``/order: (b,) int64 each."""
    order = torch.from_numpy(rng.stream(seed, f"{purpose}/order", epoch).permutation(rows))
    return list(order.split(_batch_sizes(rows, size)))


def _batch_sizes(rows: int, size: int) -> list[int]:
    """A last batch of one row joins the one before: batch norm has no spread to divide it by."""
    sizes = [min(size, rows - first) for first in range(0, rows, size)]
    if len(sizes) > 1 and sizes[-1] == 1 < size:
        sizes[-2:] = [size + 1]
    return sizes


def _optimiser(optimisation: Optimisation, network: nn.Module) -> torch.optim.Optimizer:
    parameters = _parameters(optimisation, network)
    if optimisation.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=optimisation.learning_rate,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        parameters,
        lr=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        fused=True,
    )


def _parameters(optimisation: Optimisation, network: nn.Module) -> list[dict[str, Any]]:
    """The network's, in one group, or in two of which the second does not decay."""
    named = dict(network.named_parameters())
    if optimisation.decay_vectors:
        return [{"params": list(named.values())}]
    matrices = {name: p for name, p in named.items() if p.ndim > 1 and "weight" in name}
    others = [p for name, p in named.items() if name not in matrices]
    return [{"params": list(matrices.values())}, {"params": others, "weight_decay": 0.0}]
