"""What a recipe would cost on this machine, told from one timed step of each network.

The unit is the time in which a network learns from one image: forward, backward, one of a small
batch, in the precision of the work that is counted in it. How many units a recipe takes its method
says (:class:`potstill.methods.method.Work`). An estimate tells an hour from a day, and no more;
where a run has begun, its own pace counts instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from pathlib import Path
from typing import Any

import torch

from potstill import hardware, methods, rng
from potstill.audits.membership import STEPS
from potstill.audits.students import Students
from potstill.config import NetworkRecipe, Precision, TeacherRecipe
from potstill.data.facts import DatasetInfo
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import named
from potstill.files import atomic_write, make_folder
from potstill.methods.describing import data_of
from potstill.methods.method import Work
from potstill.methods.recipe import Recipe
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.surroundings import machine
from potstill.train import favour_layout, in_favoured_layout

COSTS = "costs.json"

_FORWARD = 1 / 3
# Of an attack as in the paper, and the seconds that all five take to be fitted to an image.
_NETWORKS, _CHUNKS, _FIT = 5, 5, 2.5e-4


class Stopwatch:
    """Times networks on a device, each once: what it finds is kept in a file."""

    def __init__(self, folder: Path, device: str) -> None:
        """Read what ``folder`` holds; a damaged file is as good as none."""
        self._path, self._device = folder / COSTS, torch.device(device)
        self._here = {**machine(device), "threads": torch.get_num_threads()}
        self._known = _read(self._path)

    def unit(
        self, network: NetworkRecipe, shape: DatasetInfo, precision: Precision = "float32"
    ) -> float:
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


def shape_of(recipe: Recipe) -> DatasetInfo:
    """The recipe's data set, with the channels and the resolution that the recipe asks for.

    Raises:
        KeyError: it is no published data set.
    """
    found = data_of(recipe, {})
    if found is None:
        raise KeyError(recipe.data.dataset)
    return found


def distilling(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds to distil the recipe's set, the teacher's training left out."""
    shape = shape_of(recipe)
    return sum(
        passes.images * stopwatch.unit(passes.network, shape, passes.precision)
        for passes in work(recipe).passes
    )


def work(recipe: Recipe) -> Work:
    """What the recipe's method makes of the published data."""
    return methods.named(recipe.method.kind).work(recipe, shape_of(recipe))


def teacher_of(recipe: Recipe) -> TeacherRecipe | None:
    """The teacher that the recipe's method trains first, if it has one."""
    method = methods.named(recipe.method.kind)
    return None if method.teacher is None else method.teacher(recipe.method)


def teaching(recipe: Recipe, stopwatch: Stopwatch) -> float:
    """Seconds to train the recipe's teacher; 0 if it has none to train."""
    teacher = teacher_of(recipe)
    if teacher is None or teacher.pretrained or teacher.checkpoint:
        return 0.0
    shape = shape_of(recipe)
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
    shape, teacher = shape_of(recipe), teacher_of(recipe)
    unit = stopwatch.unit(network, shape)
    asked = protocol.work(
        recipe.images_per_class * shape.classes,
        shape.channels,
        shape.resolution,
        epochs=recipe.evaluation.epochs,
        mirrored=work(recipe).mirror_images,
    )
    seconds = asked.shown * unit
    if teacher is not None and asked.labelled:
        seconds += asked.labelled * stopwatch.unit(teacher.network, shape) * _FORWARD
    tested = (asked.tests if best else 1) * shape.test
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


def _read(path: Path) -> dict[str, float]:
    """The seconds by their keys; none where the file does not hold such."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        seconds = {str(key): float(value) for key, value in known.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
    return {key: value for key, value in seconds.items() if 0 < value < math.inf}


def _key(network: NetworkRecipe, shape: DatasetInfo, here: dict[str, Any]) -> str:
    facts = {
        "network": network.model_dump(mode="json"),
        "images": [shape.channels, shape.resolution, shape.classes],
        "machine": here,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    name = f"{network.name} {shape.channels}x{shape.resolution}x{shape.resolution}"
    return f"{name} {here['device']} {digest}"


def _timed_step(
    recipe: NetworkRecipe, shape: DatasetInfo, device: torch.device, precision: Precision
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
