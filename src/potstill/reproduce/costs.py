"""What a recipe would cost on this machine, told from one timed step of each network.

The unit is the time in which a network learns from one image: forward, backward, one of a small
batch, in the precision of the work that is counted in it. How many units a recipe takes its method
says (:class:`potstill.methods.method.Work`). An estimate tells an hour from a day, and no more;
where a run has begun, its own pace counts instead.
"""

from __future__ import annotations

import time

import torch

from potstill import hardware, methods, rng, storage
from potstill.audits.membership import STEPS
from potstill.audits.students import Students
from potstill.config import NetworkRecipe, Precision, TeacherRecipe
from potstill.data.facts import DatasetInfo
from potstill.evaluation.cache import Cache
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import named
from potstill.methods.describing import data_of
from potstill.methods.method import Work
from potstill.methods.recipe import Recipe
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.surroundings import machine
from potstill.train import favour_layout, in_favoured_layout

_FORWARD = 1 / 3
# Of an attack as in the paper, and the seconds that all five take to be fitted to an image.
_NETWORKS, _FOLDS, _FIT = 5, 5, 2.5e-4


class Stopwatch:
    """Times networks on a device, each once: a cache has what is known from earlier."""

    def __init__(self, cache: Cache, device: str) -> None:
        """Begin without a measurement; each is taken when it is first asked for."""
        self._cache, self._device = cache, torch.device(device)
        self._here = {**machine(device), "threads": torch.get_num_threads()}
        self._known: dict[str, float] = {}

    def unit(
        self, network: NetworkRecipe, shape: DatasetInfo, precision: Precision = "float32"
    ) -> float:
        """Seconds in which ``network`` learns from one image of this shape.

        Raises:
            NetworkError: the network does not fit such images.
        """
        if precision == "auto":
            precision = "bfloat16" if hardware.native_bfloat16(self._device) else "float32"
        key = {
            "network": network.model_dump(mode="json"),
            "images": [shape.channels, shape.resolution],
            "precision": precision,
            "machine": self._here,
        }
        name = storage.canonical(key)
        if name not in self._known:
            cached = self._cache.numbers(key, "seconds", 1)
            if cached is None or cached[0] <= 0:
                cached = [_timed_step(network, shape, self._device, precision)]
                self._cache.put(key, {"seconds": cached})
            self._known[name] = cached[0]
        return self._known[name]


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
    """Seconds of a membership audit with both baselines, of 5 networks and 5 folds."""
    shape, batch = shape_of(recipe), Students().batch_size
    unit = stopwatch.unit(recipe.network, shape)
    members = recipe.data.train_images or shape.training
    few = min(batch, recipe.images_per_class * shape.classes)
    trained = STEPS[-1] * (batch + 2 * few) * unit
    looks = 3 * len(STEPS) + 1
    seen = looks * (members + shape.test) * unit * _FORWARD
    fitted = looks * _FOLDS * 2 * min(members, shape.test) * _FIT
    return _NETWORKS * (trained + seen + fitted)


def learning(recipe: Recipe, network: NetworkRecipe, tasks: int, stopwatch: Stopwatch) -> float:
    """Seconds of learning class by class: the k-th of so many tasks has k parts of the images."""
    protocol = named(recipe.evaluation.protocol)
    return (tasks + 1) / 2 * evaluating(recipe, network, protocol, stopwatch, best=False)


def _timed_step(
    recipe: NetworkRecipe, shape: DatasetInfo, device: torch.device, precision: Precision
) -> float:
    """One training step after one that is not counted, for each image; of a few classes."""
    hardware.prepare()
    network = zoo.build(
        recipe, channels=shape.channels, resolution=shape.resolution, classes=10
    ).to(device)
    initialise(network, 0, "reproduce/network")
    favour_layout(network)
    batch = 128 if device.type == "cuda" else 4 if shape.resolution <= 32 else 2
    size = (batch, shape.channels, shape.resolution, shape.resolution)
    images = rng.normal(size, rng.stream(0, "reproduce/images")).to(device)
    start = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with hardware.autocast(precision, device):
            outputs = network(in_favoured_layout(images))
        outputs.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / batch
