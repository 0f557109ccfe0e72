"""The loop that every training goes through: one rate, one loss and one move a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from potstill.checkpoints import load_moments
from potstill.errors import NumericalError
from potstill.progress import Progress, silent

# Losses are looked at this often: each look waits for the device.
_STEPS_BETWEEN_CHECKS = 50


class Trainer:
    """Parameters under an optimiser, in rounds of equally many steps: epochs, or one round.

    Networks that are trained side by side have losses of their own. The parameters move by the
    gradient of the sum, which for optimisers that look at each number alone is each network's own.

    Args:
        optimiser: has the parameters that are trained, all on one device.
        rate: the learning rate of a step, counted from 0 over all rounds.
        steps: in a round.
        networks: how many have a loss.
        name_loss: (round, step in the round, network), counted from 0 -> that loss in words.
    """

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        rate: Callable[[int], float],
        *,
        steps: int,
        networks: int = 1,
        name_loss: Callable[[int, int, int], str],
    ) -> None:
        self.round = 0
        """Number of rounds done."""
        self.step = 0
        """Number of steps done of the round after these."""
        self._optimiser, self._rate, self._name_loss = optimiser, rate, name_loss
        self._parameters = [p for group in optimiser.param_groups for p in group["params"]]
        device = self._parameters[0].device
        self._losses = torch.zeros(steps, networks, dtype=torch.float64, device=device)

    def run_round(self, loss: Callable[[int], Tensor], progress: Progress = silent) -> Tensor:
        """Train for one round, or for the rest of one that was stopped.

        Args:
            loss: step in the round -> the losses (networks,), or () of one, with their graph.
            progress: told of every "training step".

        Returns:
            The losses of the whole round, each before its step: (steps, networks) float64, on
            the CPU.

        Raises:
            NumericalError: a loss is not finite; the parameters are spoilt.
        """
        steps = len(self._losses)
        while self.step < steps:
            self._losses[self.step] = self._move(loss)
            self.step += 1
            if self.step % _STEPS_BETWEEN_CHECKS == 0 or self.step == steps:
                self._require_finite()
            progress("training step", self.step, steps)
        self.round, self.step = self.round + 1, 0
        return self._losses.to("cpu", copy=True)

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs besides the parameters, as checkpoints take it.

        Raises:
            NumericalError: the parameters are spoilt.
        """
        self._require_finite()
        return {
            "round": self.round,
            "step": self.step,
            "losses": self._losses,
            "optimiser": [dict(self._optimiser.state[p]) for p in self._parameters],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave; it shares no memory with this."""
        self.round, self.step = state["round"], state["step"]
        self._losses.copy_(state["losses"])
        moments = {place: values for place, values in enumerate(state["optimiser"]) if values}
        load_moments(self._optimiser, moments)

    def _move(self, loss: Callable[[int], Tensor]) -> Tensor:
        """Take one step; the losses before it."""
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(self.round * len(self._losses) + self.step)
        self._optimiser.zero_grad(set_to_none=True)
        losses = loss(self.step)
        torch.autograd.backward(losses.sum())
        self._optimiser.step()
        return losses.detach()

    def _require_finite(self) -> None:
        wrong = (~self._losses[: self.step].isfinite()).nonzero()
        if len(wrong):
            step, network = wrong[0].tolist()
            raise NumericalError(
                f"{self._name_loss(self.round, step, network)} is not finite; lower the learning "
                "rate or check the images and labels"
            )
