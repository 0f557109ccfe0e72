"""What a recipe would cost on this machine, told from one timed step of one network.

The unit is the time in which a network learns from one image: forward, backward, one of a small
batch, in the precision of the work that is counted in it. Between networks it is taken to grow with
their operations and with the numbers that their layers put out. How many units a recipe takes its
method says (:class:`potstill.methods.method.Work`). An estimate tells an hour from a day, and no
more; where a run has begun, its own pace counts instead.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

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
# The network that is timed, on RGB images of so many pixels a side.
_TIMED, _SIDE = NetworkRecipe(name="resnet18", normalisation="batch"), 32
# Operations that take as long as a layer's output of one number: so the times of convnets, residual
# networks, networks of separable convolutions and transformers, 8 to 224 px, were within a factor
# of 2.5 of those told from the one that is timed (one core, single precision).
_OUTPUT = 400
# Of an attack as in the paper, and the seconds that all five take to be fitted to an image.
_NETWORKS, _FOLDS, _FIT = 5, 5, 2.5e-4


class Stopwatch:
    """Tells how long networks take on a device; a cache has what was timed earlier."""

    def __init__(self, cache: Cache, device: str) -> None:
        """Begin without a measurement; it is taken when it is first needed, in each precision."""
        self._cache, self._device = cache, torch.device(device)
        self._here = {**machine(device), "threads": torch.get_num_threads()}
        self._paces: dict[Precision, float] = {}
        self._operations: dict[str, float] = {}

    def unit(
        self, network: NetworkRecipe, shape: DatasetInfo, precision: Precision = "float32"
    ) -> float:
        """Seconds in which ``network`` learns from one image of this shape.

        Raises:
            NetworkError: the network does not fit such images.
        """
        key = storage.canonical([network.model_dump(mode="json"), shape.channels, shape.resolution])
        if key not in self._operations:
            self._operations[key] = operations(network, shape.channels, shape.resolution)
        return self._operations[key] * self._pace(precision)

    def _pace(self, precision: Precision) -> float:
        """Seconds of an operation, from the step that is timed."""
        if precision == "auto":
            precision = "bfloat16" if hardware.native_bfloat16(self._device) else "float32"
        if precision not in self._paces:
            key = {"precision": precision, "machine": self._here}
            known = self._cache.numbers(key, "seconds of an operation", 1)
            if known is None or known[0] <= 0:
                seconds = _timed_step(self._device, precision)
                known = [seconds / operations(_TIMED, 3, _SIDE)]
                self._cache.put(key, {"seconds of an operation": known})
            self._paces[precision] = known[0]
        return self._paces[precision]


def operations(recipe: NetworkRecipe, channels: int, resolution: int) -> float:
    """Operations in which a network learns from one image, its layers' outputs counted in them.

    Potstill's own networks are counted without weights or images being made.

    Raises:
        NetworkError: the network does not fit such images.
    """
    outputs = 0

    def count(_layer: nn.Module, _given: object, output: object) -> None:
        nonlocal outputs
        outputs += output.numel() if isinstance(output, torch.Tensor) else 0

    foreign = recipe.foreign or recipe.library
    with torch.device("cpu" if foreign else "meta"), torch.no_grad():
        network = zoo.build(recipe, channels=channels, resolution=resolution, classes=10)
        for layer in network.modules():
            if next(layer.children(), None) is None:
                layer.register_forward_hook(count)
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(2, channels, resolution, resolution))
    # Backward takes the operations of forward twice.
    return (3 * counter.get_total_flops() + _OUTPUT * outputs) / 2


def shape_of(recipe: Recipe) -> DatasetInfo:
    """The recipe's data set, with the channels and the resolution that the recipe asks for.

    Raises:
        KeyError: it is no published data set.
    """
    found = data_of(recipe, {})
    if found is None:
        raise KeyError(recipe.data.dataset)
    return found


@dataclass(frozen=True)
class Estimate:
    """Seconds that a recipe's set takes, from data to score."""

    teaching: float
    """Of its teacher's training; 0 without one."""
    distilling: float
    scoring: float
    """Of the evaluation that the set is made for, without a baseline."""

    @property
    def total(self) -> float:
        """All of it."""
        return self.teaching + self.distilling + self.scoring


def estimate(recipe: Recipe, stopwatch: Stopwatch, shape: DatasetInfo | None = None) -> Estimate:
    """What the recipe takes on data of this shape, or on the published data.

    Raises:
        KeyError: no shape was given, and it is no published data set.
        NetworkError: a network does not fit such images.
        RecipeError: there is no such protocol.
    """
    return Estimate(
        teaching(recipe, stopwatch, shape),
        distilling(recipe, stopwatch, shape),
        evaluating(
            recipe,
            recipe.network,
            named(recipe.evaluation.protocol),
            stopwatch,
            best=False,
            shape=shape,
        ),
    )


def distilling(recipe: Recipe, stopwatch: Stopwatch, shape: DatasetInfo | None = None) -> float:
    """Seconds to distil the recipe's set, the teacher's training left out."""
    shape = shape or shape_of(recipe)
    return sum(
        passes.images * stopwatch.unit(passes.network, shape, passes.precision)
        for passes in work(recipe, shape).passes
    )


def work(recipe: Recipe, shape: DatasetInfo | None = None) -> Work:
    """What the recipe's method makes of data of this shape, or of the published data."""
    return methods.named(recipe.method.kind).work(recipe, shape or shape_of(recipe))


def teacher_of(recipe: Recipe) -> TeacherRecipe | None:
    """The teacher that the recipe's method trains first, if it has one."""
    method = methods.named(recipe.method.kind)
    return None if method.teacher is None else method.teacher(recipe.method)


def teaching(recipe: Recipe, stopwatch: Stopwatch, shape: DatasetInfo | None = None) -> float:
    """Seconds to train the recipe's teacher; 0 if it has none to train."""
    teacher = teacher_of(recipe)
    if teacher is None or teacher.pretrained or teacher.checkpoint:
        return 0.0
    shape = shape or shape_of(recipe)
    unit = stopwatch.unit(teacher.network, shape, teacher.precision)
    return teacher.epochs * shape.training * unit


def evaluating(
    recipe: Recipe,
    network: NetworkRecipe,
    protocol: EvaluationProtocol,
    stopwatch: Stopwatch,
    *,
    best: bool,
    shape: DatasetInfo | None = None,
) -> float:
    """Seconds to score the recipe's set, with ``best`` after every epoch."""
    shape, teacher = shape or shape_of(recipe), teacher_of(recipe)
    return scoring(
        recipe.images_per_class * shape.classes,
        network,
        protocol,
        stopwatch,
        shape,
        networks=recipe.evaluation.networks,
        epochs=recipe.evaluation.epochs,
        mirrored=work(recipe, shape).mirror_images,
        labeller=None if teacher is None else teacher.network,
        best=best,
    )


def scoring(
    images: int,
    network: NetworkRecipe,
    protocol: EvaluationProtocol,
    stopwatch: Stopwatch,
    shape: DatasetInfo,
    *,
    networks: int,
    epochs: int | None,
    mirrored: bool,
    labeller: NetworkRecipe | None = None,
    best: bool = False,
) -> float:
    """Seconds to train so many networks on a set of so many images and to test them.

    ``labeller`` is the network that labels what students see; what it takes is left out if None.
    """
    unit = stopwatch.unit(network, shape)
    asked = protocol.work(
        images, shape.channels, shape.resolution, epochs=epochs, mirrored=mirrored
    )
    seconds = asked.shown * unit
    if labeller is not None and asked.labelled:
        seconds += asked.labelled * stopwatch.unit(labeller, shape) * _FORWARD
    tested = (asked.tests if best else 1) * shape.test
    return networks * (seconds + tested * unit * _FORWARD)


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


def _timed_step(device: torch.device, precision: Precision) -> float:
    """Seconds of a training step for each image, after one that is not counted."""
    hardware.prepare()
    network = zoo.build(_TIMED, channels=3, resolution=_SIDE, classes=10).to(device)
    initialise(network, 0, "reproduce/network")
    favour_layout(network)
    batch = 128 if device.type == "cuda" else 4
    images = rng.normal((batch, 3, _SIDE, _SIDE), rng.stream(0, "reproduce/images")).to(device)
    start = 0.0
    for _ in range(2):
        start = time.perf_counter()
        with hardware.autocast(precision, device):
            outputs = network(in_favoured_layout(images))
        outputs.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return (time.perf_counter() - start) / batch
