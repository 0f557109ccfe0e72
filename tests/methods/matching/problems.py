"""A small problem in float64: 3 classes, 4 real and 2 synthetic images of 8 px each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.data import siamese
from potstill.data.siamese import ALL, Draw
from potstill.networks import zoo
from potstill.networks.init import initialise_default

CLASSES, REAL, IPC, CHANNELS, SIDE = 3, 4, 2, 3, 8
RECIPE = NetworkRecipe(depth=2, width=4, growth=1, normalisation="instance")


def network(seed: int = 0, softplus_beta: float | None = None, **changes: object) -> nn.Module:
    """The field's ConvNet, small, with its default weights."""
    built = zoo.build(
        RECIPE.model_copy(update=changes),
        channels=CHANNELS,
        resolution=SIDE,
        classes=CLASSES,
        softplus_beta=softplus_beta,
    )
    initialise_default(built, seed, "test/network")
    return built.double()


def pictures(n: int, seed: int) -> Tensor:
    """Noise, (n, c, h, h)."""
    generator = rng.stream(seed, "test/images")
    return rng.normal((n, CHANNELS, SIDE, SIDE), generator, dtype=torch.float64)


def problem(seed: int = 0, real: int = REAL, ipc: int = IPC) -> tuple[list[Tensor], Tensor]:
    """B_c for each class, and S."""
    return list(pictures(CLASSES * real, seed).split(real)), pictures(CLASSES * ipc, seed + 1)


def drawn(seed: int) -> list[Draw]:
    """A siamese draw for each class."""
    return [siamese.draw(ALL, SIDE, rng.stream(seed, "test/draw", c)) for c in range(CLASSES)]


def listed(synthetic: Tensor, ipc: int = IPC) -> tuple[list[Tensor], list[list[Tensor]]]:
    """S image by image, each a leaf, and these by class."""
    leaves = [image.clone().requires_grad_() for image in synthetic]
    return leaves, [leaves[first : first + ipc] for first in range(0, len(leaves), ipc)]
