"""What a recipe would cost on this machine, told from one timed step of each network.

The unit is the time in which a network learns from one image: forward, backward, one of a small
batch, in the precision of the work that is counted in it. The counts of an RCIG iteration are
between those found at widths 32 and 128: for an image of the target batch 1.5 units, for an image
of S 1.5 for each step of either solver, 5 for the gradient, and one for each step of a pool's
model. An estimate tells an hour from a day, and no more; where a run has begun, its own pace
counts instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from potstill import hardware, rng
from potstill.audits.membership import STEPS
from potstill.audits.students import Students
from potstill.config import DWARecipe, NetworkRecipe, Precision, RCIGRecipe, Recipe
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import named
from potstill.files import atomic_write, make_folder
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.runs import machine
from potstill.train import favour_layout, in_favoured_layout

COSTS = "costs.json"

_TARGET, _SOLVER, _GRADIENT, _FORWARD = 1.5, 1.5, 5.0, 1 / 3
# Steps of conjugate gradient in both solves, at tolerances from 0.01 on and below.
_CG_STEPS = (8, 32)
_LOOSE = 1e-2
# Of an attack as in the paper, and the seconds that all five take to be fitted to an image.
_NETWORKS, _CHUNKS, _FIT = 5, 5, 2.5e-4


@dataclass(frozen=True)
class Shape:
    """A published data set, as far as work depends on it."""

    classes: int
    channels: int
    resolution: int
    training: int
    test: int


SHAPES = {
    "digits": Shape(10, 1, 8, 1442, 355),
    "mnist": Shape(10, 1, 28, 60_000, 10_000),
    "fashion_mnist": Shape(10, 1, 28, 60_000, 10_000),
    "cifar10": Shape(10, 3, 32, 50_000, 10_000),
    "cifar100": Shape(100, 3, 32, 50_000, 10_000),
    "tiny_imagenet": Shape(200, 3, 64, 100_000, 10_000),
    "cub200": Shape(200, 3, 32, 5_994, 5_794),
    "imagenette": Shape(10, 3, 128, 9_469, 3_925),
    "imagewoof": Shape(10, 3, 128, 9_025, 3_929),
    "imagenet64": Shape(1000, 3, 64, 1_281_167, 50_000),
    "imagenet1k": Shape(1000, 3, 224, 1_281_167, 50_000),
}


class Stopwatch:
    """Times networks on a device, each once: what it finds is kept in a file."""

    def __init__(self, folder: Path, device: str) -> None:
        """Read what ``folder`` holds; a damaged file is as good as none."""
        self._path, self._device = folder / COSTS, torch.device(device)
        self._here = {**machine(device), "threads": torch.get_num_threads()}
        self._known = _read(self._path)

    def unit(self, network: NetworkRecipe, shape: Shape, precision: Precision = "float32") -> float:
        """Seconds in which ``network`` learns from one image of this shape.

        Raises:
            NetworkError: the network does not fit such images.
            RunError: the file cannot be written.
        """
        if precision == "auto":
            precision = "bfloat16" if hardware.native_bfloat16(self._device) else "float32"
        key = _key(network, shape, {**self._here, "precision": precision})
        if key not in self._known:
            self._known[key] = _timed_step(network, shape, self._device, precision)
            make_folder(self._path.parent)
            document = {"seconds": self._known}
            atomic_write(self._path, (json.dumps(document, indent=2) + "\n").encode())
        return self._known[key]


def shape_of(recipe: Recipe) -> Shape:
    """Of the recipe's images.

    Raises:
        KeyError: it is no published data set.
    """
    data = recipe.data
    known = SHAPES[data.dataset]
    return Shape(
        known.classes,
        data.channels or known.channels,
        data.resolution or known.resolution,
        known.training,
        known.test,
    )


def iteration(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds of one iteration of the recipe's method; of DWA, of one for every group's images."""
    shape, method = shape_of(recipe), recipe.method
    if isinstance(method, DWARecipe):
        unit = stopwatch.unit(method.teacher.network, shape, method.precision)
        return unit * min(method.class_batch, shape.classes)
    images = recipe.images_per_class * shape.classes * (2 if method.flip else 1)
    visit = sum(method.pool.steps_per_visit) / 2
    work = images * (_SOLVER * _solver_steps(method) + visit)
    work += min(method.subset or images, images) * _GRADIENT
    target = method.target_batch * _TARGET
    return work * stopwatch.unit(recipe.network, shape) + target * stopwatch.unit(
        recipe.network, shape, method.target_precision
    )


def distilling(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds to distil the recipe's set, the teacher's training left out."""
    method = recipe.method
    if isinstance(method, DWARecipe):
        batches = math.ceil(shape_of(recipe).classes / method.class_batch)
        groups = recipe.images_per_class * batches
        steps = method.iterations + (method.adjustment_steps if method.adjustment != "none" else 0)
        return groups * steps * iteration(recipe, stopwatch)
    if method.variant == "random":
        return 0.0
    return method.iterations * iteration(recipe, stopwatch)


def teaching(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds to train the recipe's teacher; 0 if it has none to train."""
    method = recipe.method
    if isinstance(method, RCIGRecipe) or method.teacher.pretrained or method.teacher.checkpoint:
        return 0.0
    shape, teacher = shape_of(recipe), method.teacher
    unit = stopwatch.unit(teacher.network, shape, teacher.precision)
    return teacher.epochs * shape.training * unit


def evaluating(
    recipe: Recipe,
    network: NetworkRecipe,
    protocol: EvaluationProtocol,
    stopwatch: Stopwatch,
    *,
    best: bool,
) -> float:
    """Seconds to score the recipe's set, with ``best`` after every epoch."""
    shape, method = shape_of(recipe), recipe.method
    unit = stopwatch.unit(network, shape)
    work = protocol.work(
        recipe.images_per_class * shape.classes,
        shape.channels,
        shape.resolution,
        epochs=recipe.evaluation.epochs,
        mirrored=isinstance(method, RCIGRecipe) and method.flip,
    )
    seconds = work.shown * unit
    if isinstance(method, DWARecipe):
        teacher = stopwatch.unit(method.teacher.network, shape)
        seconds += work.labelled * teacher * _FORWARD
    tested = (work.tests if best else 1) * shape.test
    return recipe.evaluation.networks * (seconds + tested * unit * _FORWARD)


def attacking(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds of a membership audit with both baselines, of 5 networks and 5 chunks."""
    shape, batch = shape_of(recipe), Students().batch_size
    unit = stopwatch.unit(recipe.network, shape)
    members = recipe.data.train_images or shape.training
    few = min(batch, recipe.images_per_class * shape.classes)
    trained = STEPS[-1] * (batch + 2 * few) * unit
    looks = 3 * len(STEPS) + 1
    seen = looks * (members + shape.test) * unit * _FORWARD
    fitted = looks * _CHUNKS * 2 * min(members, shape.test) * _FIT
    return _NETWORKS * (trained + seen + fitted)


def learning(recipe: Recipe, network: NetworkRecipe, tasks: int, stopwatch: Stopwatch) -> float:
    """Seconds of learning class by class: the k-th of so many tasks has k parts of the images."""
    protocol = named(recipe.evaluation.protocol)
    return (tasks + 1) / 2 * evaluating(recipe, network, protocol, stopwatch, best=False)


def _solver_steps(method: RCIGRecipe) -> int:
    if method.variant == "frepo":
        return 0
    if method.solver.name == "adam":
        return method.solver.inner_steps + method.solver.inverse_steps
    return _CG_STEPS[0] if method.solver.tolerance >= _LOOSE else _CG_STEPS[1]


def _read(path: Path) -> dict[str, float]:
    """The seconds by their keys; none where the file does not hold such."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        seconds = {str(key): float(value) for key, value in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {key: value for key, value in seconds.items() if 0 < value < math.inf}


def _key(network: NetworkRecipe, shape: Shape, here: dict[str, Any]) -> str:
    facts = {
        "network": network.model_dump(mode="json"),
        "images": [shape.channels, shape.resolution, shape.classes],
        "machine": here,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{network.name} {shape.channels}x{shape.resolution}x{shape.resolution}"
    return f"{name} {here['device']} {digest}"


def _timed_step(
    recipe: NetworkRecipe, shape: Shape, device: torch.device, precision: Precision
) -> float:
    """The faster of two training steps after one that is not counted, for each image."""
    hardware.prepare()
    network = zoo.build(
        recipe, channels=shape.channels, resolution=shape.resolution, classes=shape.classes
    ).to(device)
    initialise(network, 0, "reproduce/network")
    favour_layout(network)
    batch = 128 if device.type == "cuda" else 8 if shape.resolution <= 32 else 2
    size = (batch, shape.channels, shape.resolution, shape.resolution)
    images = rng.normal(size, rng.stream(0, "reproduce/images")).to(device)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        with hardware.autocast(precision, device):
            outputs = network(in_favoured_layout(images))
        outputs.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]) / batch
