"""What the matching methods draw, from streams named by network, update and class.

A class is known by its name, so that its draws do not depend on where it stands among others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from potstill import rng
from potstill.data import siamese
from potstill.data.siamese import Draw, Strategy
from potstill.networks.init import initialise_default
from potstill.networks.instance_norms import favour_group_norms
from potstill.train import favour_layout


def real_rows(
    members: Mapping[str, Tensor],
    batch: int,
    seed: int,
    network: int,
    update: int = 0,
    *,
    purpose: str = "real",
) -> list[Tensor]:
    """A batch of each class, without replacement; of a class of fewer images, all of them.

    Args:
        members: for each class's name its rows among the training images, (N_c,) int64.
        batch: b, images of each class.
        seed: seed of the run.
        network: k, the network that sees them.
        update: which update of the images under this network.
        purpose: what they are drawn for.

    Returns:
        For each class (min(b, N_c),) int64.
    """
    chosen = []
    for name, rows in members.items():
        generator = rng.stream(seed, f"matching/{purpose}/{update}/{name}", network)
        size = min(batch, len(rows))
        places = generator.choice(len(rows), size, replace=False, shuffle=False)
        chosen.append(rows[torch.from_numpy(places)])
    return chosen


def siamese_draws(
    names: Iterable[str], strategy: Strategy, side: int, seed: int, network: int, update: int = 0
) -> list[Draw]:
    """A siamese draw for each class of these names, for images of ``side`` px."""
    return [
        siamese.draw(strategy, side, rng.stream(seed, f"matching/siamese/{update}/{name}", network))
        for name in names
    ]


def fresh_network(build: Callable[[], nn.Module], seed: int, network: int) -> nn.Module:
    """Network k: initialised by PyTorch's defaults, in the form that its device computes fastest.

    Args:
        build: makes the network, on its device.
    """
    made = build()
    initialise_default(made, seed, "matching/network", network)
    favour_layout(made)
    favour_group_norms(made)
    return made
