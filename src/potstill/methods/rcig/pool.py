"""The pool of partly trained networks (3.3, Algorithm 1).

Each meta-iteration draws one model, and afterwards trains it on the current S with
standard dynamics: MSE on the centred labels, Adam, all parameters. A model older than
``max_steps`` starts afresh. So that the pool holds every age from the beginning, model
i of m starts with a step count of i max_steps / m: only the count, not the training.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from potstill import rng
from potstill.methods.rcig.settings import PoolSettings
from potstill.networks.functional import flatten
from potstill.networks.init import initialise
from potstill.networks.jacobian import Jacobian
from potstill.solvers.adam import Moments


class ModelPool:
    """m parameter vectors with their optimisers.

    Attributes:
        parameters: (m, p) float32, on the device or, where they and their optimisers would take
            more than a quarter of a card's memory, in main memory.
    """

    def __init__(
        self, recipe: PoolSettings, network: nn.Module, seed: int, device: torch.device
    ) -> None:
        self._recipe, self._network, self._seed, self._device = recipe, network, seed, device
        self._births = 0
        shape = (recipe.size, sum(p.numel() for p in network.parameters()))
        self._home = home(3 * 4 * math.prod(shape), device)
        self.parameters = torch.empty(shape, device=self._home)
        for parameters in self.parameters:
            parameters.copy_(self._newborn())
        self._means, self._squares = (torch.zeros_like(self.parameters) for _ in range(2))
        self._steps = [0] * recipe.size
        self._ages = [i * recipe.max_steps // recipe.size for i in range(recipe.size)]

    def model(self, index: int) -> Tensor:
        """Parameters of model ``index`` (p,) on the device, to be read."""
        return self.parameters[index].to(self._device)

    def draw(self, iteration: int) -> tuple[int, int]:
        """The model of this iteration, and how many steps it then trains."""
        generator = rng.stream(self._seed, "rcig/pool", iteration)
        low, high = self._recipe.steps_per_visit
        index = int(generator.integers(self._recipe.size))
        return index, int(generator.integers(low, high, endpoint=True))

    def train(
        self,
        index: int,
        steps: int,
        jacobian: Jacobian,
        images: Tensor,
        labels: Tensor,
        chunk: int | None = None,
    ) -> bool:
        """``steps`` full-batch steps of model ``index``; whether it then started afresh.

        The gradient of 1/2 |f - y|^2 / n is J^T (f - y) / n, at parameters that move. It is a sum
        over images, so that chunks of them give the same up to rounding.

        Args:
            images: S (n, c, h, w); labels: (n, C); mirror images included.
            chunk: images whose activations are held at a time; all if None.
        """
        theta, moments = self._fetched(index)
        for _ in range(steps):
            gradient = loss_gradient(jacobian, theta, images, labels, chunk)
            moments.update(theta, gradient, self._recipe.learning_rate)
        self._ages[index] += steps
        reborn = self._ages[index] >= self._recipe.max_steps
        if reborn:
            theta, moments = self._newborn(), Moments.zeros_like(theta)
            self._ages[index] = 0
        for vectors, new in zip(
            self._vectors(), (theta, moments.mean, moments.square), strict=True
        ):
            vectors[index] = new
        self._steps[index] = moments.step
        return reborn

    def state(self) -> dict[str, Any]:
        """Everything that training changes, for :meth:`restore`."""
        return {
            "births": self._births,
            "ages": self._ages,
            "parameters": self.parameters,
            "mean": self._means,
            "square": self._squares,
            "steps": self._steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self._births, self._ages = state["births"], list(state["ages"])
        self._steps = list(state["steps"])
        for vectors, name in zip(self._vectors(), ("parameters", "mean", "square"), strict=True):
            vectors.copy_(state[name])

    def _fetched(self, index: int) -> tuple[Tensor, Moments]:
        """Model ``index`` and its moments on the device, to be changed and put back."""
        theta, mean, square = (vectors[index].to(self._device) for vectors in self._vectors())
        return theta, Moments(mean, square, self._steps[index])

    def _vectors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Parameters, and the means and squares of their gradients, (m, p) each."""
        return self.parameters, self._means, self._squares

    def _newborn(self) -> Tensor:
        initialise(self._network, self._seed, "rcig/newborn", self._births)
        self._births += 1
        return flatten(self._network).to(self._device)


def loss_gradient(
    jacobian: Jacobian, theta: Tensor, images: Tensor, labels: Tensor, chunk: int | None = None
) -> Tensor:
    """Gradient (p,) of 1/2 |f(X) - y|^2 / n in the parameters theta (p,).

    Args:
        images: X (n, c, h, w); labels: y (n, C).
        chunk: images whose activations are held at a time; all if None.
    """

    def part(x: Tensor, y: Tensor) -> Tensor:
        j = jacobian.at(theta, x)
        return j.vjp((j.outputs - y) / len(labels))

    size = chunk or len(labels)
    first, *others = zip(images.split(size), labels.split(size), strict=True)
    gradient = part(*first)
    for one in others:
        gradient += part(*one)
    return gradient


def home(size: int, device: torch.device) -> torch.device:
    """Where ``size`` bytes lie that ``device`` needs a few of at a time.

    A card keeps three quarters of its memory for other things.
    """
    if device.type != "cuda":
        return device
    room = torch.cuda.get_device_properties(device).total_memory
    return device if size <= room // 4 else torch.device("cpu")
