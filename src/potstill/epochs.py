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
from potstill.errors import NumericalError

Loss = Callable[[nn.Module, Tensor, int, int], Tensor]
"""(network, rows (b,) int64 on the CPU, epoch, step in the epoch), counted from 0 -> the mean
loss over these rows, a scalar."""
Progress = Callable[[int, int], None]
"""(steps done, steps in all) of an epoch. An exception it raises stops between two steps."""

# Losses are looked at this often: each look waits for the device.
_STEPS_BETWEEN_CHECKS = 50


@dataclass(frozen=True)
class Optimisation:
    """How a network is trained.

    The rate climbs linearly over the warm-up, which ends at ``learning_rate``, and falls to 0
    along a cosine, step by step, or stays there if ``schedule`` is constant. ``weight_decay``
    shrinks every parameter, as in the field: for sgd it is added to the gradient, for adamw it is
    decoupled. ``momentum`` is sgd's, without Nesterov; adamw has PyTorch's betas.
    """

    optimiser: Literal["sgd", "adamw"]
    learning_rate: float
    epochs: int
    batch_size: int
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup_epochs: int = 0
    schedule: Literal["cosine", "constant"] = "cosine"

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
        rows: how many there are to train on.
        optimisation: optimiser, schedule and batches.
        loss: of a batch of rows; augments, casts and moves as it likes.
        seed: of the order of the rows, drawn from the stream ``purpose``/order of each epoch.
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
        self.epoch = epoch
        """Epochs done."""
        self.step = 0
        """Steps done of the epoch after these."""
        self._rows, self._optimisation, self._loss = rows, optimisation, loss
        self._seed, self._purpose = seed, purpose
        device = next(network.parameters()).device
        self._losses = torch.zeros(self.steps_per_epoch, dtype=torch.float64, device=device)
        self._optimiser = _optimiser(optimisation, network)

    @property
    def steps_per_epoch(self) -> int:
        """Batches, the last of which may be incomplete."""
        return len(_batch_sizes(self._rows, self._optimisation.batch_size))

    def run_epoch(self, progress: Progress | None = None) -> float:
        """Train for one epoch, or for the rest of one that was stopped, in training mode.

        Returns:
            The mean loss over the rows of the whole epoch, each before its step.

        Raises:
            NumericalError: a loss is not finite; the network is spoilt.
        """
        self.network.train()
        size = self._optimisation.batch_size
        parts = batches(self._rows, size, self._seed, self._purpose, self.epoch)
        while self.step < len(parts):
            self._losses[self.step] = self._train_on(parts[self.step])
            self.step += 1
            if self.step % _STEPS_BETWEEN_CHECKS == 0 or self.step == len(parts):
                self._require_finite()
            if progress is not None:
                progress(self.step, len(parts))
        self.epoch, self.step = self.epoch + 1, 0
        shares = torch.tensor([len(part) / self._rows for part in parts], dtype=torch.float64)
        return float(self._losses.cpu() @ shares)

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs, as :mod:`potstill.checkpoints` takes it.

        Raises:
            NumericalError: the network is spoilt.
        """
        self._require_finite()
        return {
            "epoch": self.epoch,
            "step": self.step,
            "losses": self._losses,
            "network": dict(self.network.state_dict()),
            "optimiser": [
                dict(self._optimiser.state[parameter]) for parameter in self.network.parameters()
            ],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.epoch, self.step = state["epoch"], state["step"]
        self._losses.copy_(state["losses"])
        self.network.load_state_dict(state["network"])
        document = self._optimiser.state_dict()
        document["state"] = {
            place: {name: value.clone() for name, value in values.items()}
            for place, values in enumerate(state["optimiser"])
            if values
        }
        self._optimiser.load_state_dict(document)

    def _train_on(self, rows: Tensor) -> Tensor:
        """One step; the loss before it."""
        total = self.epoch * self.steps_per_epoch + self.step
        for group in self._optimiser.param_groups:
            group["lr"] = self._optimisation.rate(total, self.steps_per_epoch)
        self._optimiser.zero_grad(set_to_none=True)
        loss = self._loss(self.network, rows, self.epoch, self.step)
        torch.autograd.backward(loss)
        self._optimiser.step()
        return loss.detach()

    def _require_finite(self) -> None:
        wrong = (~self._losses[: self.step].isfinite()).nonzero()
        if len(wrong):
            raise NumericalError(
                f"the loss is not finite in epoch {self.epoch + 1}, step {int(wrong[0]) + 1}; "
                "lower the learning rate"
            )


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
    if optimisation.optimiser == "sgd":
        return torch.optim.SGD(
            network.parameters(),
            lr=optimisation.learning_rate,
            momentum=optimisation.momentum,
            weight_decay=optimisation.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(
        network.parameters(),
        lr=optimisation.learning_rate,
        weight_decay=optimisation.weight_decay,
        fused=True,
    )
