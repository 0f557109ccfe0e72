"""Small problems in float64 for the tests of RCIG."""

from __future__ import annotations

from typing import Any

import torch

from potstill import rng
from potstill.methods.rcig.problem import Problem
from potstill.methods.rcig.settings import RCIGSettings, SolverSettings
from potstill.networks.convnet import ConvNet
from potstill.networks.functional import flatten
from potstill.networks.init import initialise
from potstill.networks.jacobian import Jacobian

TIGHT = SolverSettings(tolerance=1e-13, max_steps=300)


def small_problem(
    *,
    images: int = 6,
    classes: int = 3,
    normalisation: str = "none",
    general: bool = False,
    beta: float | None = 5.0,
    draw_rows: Any = None,
    dtype: torch.dtype = torch.float64,
    **settings: Any,
) -> Problem:
    """6 images of 8x8 px, 3 classes, a ConvNet of depth 2 and width 3, 20 targets."""
    network = ConvNet(1, 8, classes, 2, 3, normalisation, beta).to(dtype)
    initialise(network, 0, "test/problem")
    generator = rng.stream(1, "test/problem")
    settings = {"l2_rate": 0.05, "solver": TIGHT} | settings
    return Problem(
        settings=RCIGSettings(**settings),
        theta=flatten(network),
        jacobian=Jacobian(network, general=general),
        images=rng.normal((images, 1, 8, 8), generator, dtype=dtype),
        labels=rng.normal((images, classes), generator, dtype=dtype),
        log_temperature=torch.tensor(0.3, dtype=dtype),
        target_images=rng.normal((20, 1, 8, 8), generator, dtype=dtype),
        target_labels=torch.from_numpy(generator.integers(classes, size=20)),
        chunk=7,
        draw_rows=draw_rows,
    )


def relative_error(value: torch.Tensor, reference: torch.Tensor) -> float:
    return float((value - reference).norm() / reference.norm())
