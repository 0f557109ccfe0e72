"""A group of images, the unit of DWA's work: planned, inverted, kept (Algorithm 1, one i).

A group knows its own random streams and nothing of other groups, so that they may be inverted
in any order and anywhere; unless it is to keep apart from earlier ones, which it is then given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn

from potstill import checkpoints, hardware, rng
from potstill.data import pixels
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, members
from potstill.errors import RunError
from potstill.methods.dwa.adjust import (
    Weights,
    adjustment_length,
    directed_adjustment,
    random_adjustment,
    rising_adjustment,
)
from potstill.methods.dwa.bn_statistics import MeasuredNetwork
from potstill.methods.dwa.sequence import further
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.dwa.synthesise import Objective, Range, synthesise, view
from potstill.methods.recipe import Recipe, method_of
from potstill.quoting import fault
from potstill.surroundings import Surroundings, present

History = list[dict[str, float]]


@dataclass(frozen=True)
class Group:
    """The ``index``-th image of each of ``classes``, the ``batch``-th batch of classes."""

    index: int
    batch: int
    classes: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the group's file, such as ``00001-000``, without suffix."""
        return f"{self.index:05d}-{self.batch:03d}"


@dataclass(frozen=True)
class Task:
    """A group and S_0: one real image (n, c, h, w) uint8 for each of its classes.

    earlier: the images (n, c, h, w) uint8 of each group of the same classes before this one, if it
    is to keep apart from them.
    """

    group: Group
    real: Tensor
    earlier: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Inverted:
    """A finished group.

    images: (n, c, h, w) uint8, in the order of the group's classes. history: losses on the way,
    with the iteration. adjustment: |Delta|. seconds: spent in ``adjustment`` and ``synthesis``.
    surroundings: in which it was made.
    """

    group: Group
    images: Tensor
    history: History
    adjustment: float
    seconds: dict[str, float]
    surroundings: Surroundings


def plan(images_per_class: int, classes: int, class_batch: int) -> list[Group]:
    """Every group of a run: each index, and within it the classes in batches."""
    batches = [
        tuple(range(first, min(first + class_batch, classes)))
        for first in range(0, classes, class_batch)
    ]
    return [
        Group(index, number, members)
        for index in range(images_per_class)
        for number, members in enumerate(batches)
    ]


def real_rows(source: SourceDataset, images_per_class: int, seed: int) -> Tensor:
    """Rows (classes, images_per_class) int64 of the training split: S_0 of group i is column i.

    Drawn at random, without repeats across i.

    Raises:
        DataError: a class has fewer images than asked for.
    """
    chosen = []
    for label, rows in enumerate(members(source, images_per_class).values()):
        order = rng.stream(seed, "dwa/real", label).permutation(len(rows))
        chosen.append(rows[torch.from_numpy(order[:images_per_class])])
    return torch.stack(chosen)


@dataclass(frozen=True)
class Inverter:
    """Inverts the teacher for one group after another; its only state is on disk.

    On a processor a group has one thread, wherever it runs: sums then come out the same with
    any number of workers, and two workers are faster than two threads.
    """

    recipe: Recipe
    network: nn.Module
    preprocess: Preprocess
    folder: Path | None = None
    """Where finished groups are written; nowhere if None."""
    origin: Mapping[str, str] = field(default_factory=dict)
    """What else a group's file must match to be taken for this one's: digests by name."""
    device: str = "cpu"

    def __call__(self, task: Task, tell: Callable[[int], None]) -> Inverted:
        """Algorithm 1 for one group; ``tell`` is told of the iterations done since it last was.

        Raises:
            NumericalError: a loss left the finite numbers.
            RunError: the group's file cannot be written.
        """
        hardware.prepare()
        with hardware.threads(1 if self.device == "cpu" else None):
            inverted = self._invert(task, tell)
        if self.folder is not None:
            write(self.folder, inverted, self.origin)
        return inverted

    def _invert(self, task: Task, tell: Callable[[int], None]) -> Inverted:
        surroundings = present(self.device)
        settings = method_of(self.recipe, DWASettings)
        group = task.group
        network = self.network.to(self.device).to(memory_format=torch.channels_last)
        real = self.preprocess.apply(task.real).to(self.device)
        labels = torch.tensor(group.classes, device=self.device)

        def draw(step: int) -> np.random.Generator:
            return rng.stream(self.recipe.seed, f"dwa/view/{group.name}", step)

        start = perf_counter()
        climbed = view(real, settings, draw(0)) if settings.adjustment_view == "first" else real
        weights = self._adjusted(network, climbed, labels, group)
        length = adjustment_length(network, weights)
        sequential = settings.sequence_weight > 0
        adjusted = MeasuredNetwork(
            network, weights, compiled=settings.compiled, features=sequential
        )
        apart = further(adjusted, self.preprocess, real, task.earlier) if sequential else None
        unadjusted = None
        if settings.statistics == "unadjusted":
            unadjusted = MeasuredNetwork(network, compiled=settings.compiled)
        middle = perf_counter()

        history: History = []
        done = 0

        def observe(iteration: int, losses: dict[str, float]) -> None:
            nonlocal done
            history.append({"iteration": iteration, **losses})
            tell(iteration - done)
            done = iteration

        images = synthesise(
            self._start(real, group),
            Objective(settings, adjusted, unadjusted, labels, apart),
            settings,
            self._valid(),
            draw,
            observe,
            every=self.recipe.log_every,
        )
        seconds = {"adjustment": middle - start, "synthesis": perf_counter() - middle}
        return Inverted(group, self._pixels(images), history, length, seconds, surroundings)

    def _adjusted(self, network: nn.Module, real: Tensor, labels: Tensor, group: Group) -> Weights:
        """theta_T + Delta; ``real`` is S_0 as the climb sees it."""
        settings = method_of(self.recipe, DWASettings)
        if settings.adjustment == "none":
            return {name: value.detach() for name, value in network.named_parameters()}
        if settings.adjustment == "directed":
            return _climbed(settings, network, real, labels)
        length = settings.random_size
        if length is None:
            length = adjustment_length(network, _climbed(settings, network, real, labels))
        stream = rng.stream(self.recipe.seed, f"dwa/adjustment/{group.name}")
        return random_adjustment(network, length, stream)

    def _start(self, real: Tensor, group: Group) -> Tensor:
        if method_of(self.recipe, DWASettings).start != "noise":
            return real
        stream = rng.stream(self.recipe.seed, f"dwa/start/{group.name}")
        return rng.normal(tuple(real.shape), stream).to(real)

    def _valid(self) -> Range:
        ends = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
        channels = len(self.preprocess.mean)
        low, high = self.preprocess.apply(ends.expand(2, channels, 1, 1)).to(self.device)
        return Range(low, high)

    def _pixels(self, images: Tensor) -> Tensor:
        """Network space to 8-bit pixels, as ``storage`` says."""
        found = self.preprocess.invert(images.cpu().contiguous()) * 255
        if method_of(self.recipe, DWASettings).storage == "jpeg":
            return pixels.through_jpeg(found.clamp(0, 255).to(torch.uint8))
        return found.round().clamp(0, 255).to(torch.uint8)


def _climbed(settings: DWASettings, network: nn.Module, images: Tensor, labels: Tensor) -> Weights:
    """The directed adjustment of the length, or to the rise, that is asked for."""
    steps, precision = settings.adjustment_steps, settings.precision
    if settings.adjustment_rise is None:
        size = settings.adjustment_size
        return directed_adjustment(
            network, images, labels, steps=steps, size=size, precision=precision
        )
    rise = settings.adjustment_rise
    return rising_adjustment(network, images, labels, steps=steps, rise=rise, precision=precision)


class _Kept(BaseModel):
    """A group's file, read back."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)

    images: Tensor
    history: list[dict[str, float]] = Field(min_length=1)
    adjustment: float
    seconds: dict[str, float]
    surroundings: Surroundings

    @model_validator(mode="after")
    def _counted(self) -> Self:
        if any(line.get("iteration", 0) < 1 for line in self.history):
            raise ValueError("a line of the history says no iteration")
        return self


def write(folder: Path, inverted: Inverted, origin: Mapping[str, str]) -> None:
    """Keep a finished group in ``folder``, whole or not at all.

    Raises:
        RunError: the disk is full or gone.
    """
    state: dict[str, Any] = {
        "images": inverted.images,
        "classes": list(inverted.group.classes),
        "history": inverted.history,
        "adjustment": inverted.adjustment,
        "seconds": inverted.seconds,
        "surroundings": inverted.surroundings.model_dump(mode="json"),
    }
    checkpoints.write(_path(folder, inverted.group), state, origin)


def read(
    folder: Path, group: Group, origin: Mapping[str, str], shape: tuple[int, ...]
) -> Inverted | None:
    """The finished group in ``folder``, of images of this ``shape`` (c, h, w); None if not there.

    Raises:
        RunError: the file is damaged, or was made with another teacher or other images.
    """
    path = _path(folder, group)
    if not path.exists():
        return None
    try:
        state, header = checkpoints.read(path)
    except RunError:
        raise RunError(
            f"{path} is damaged or of an earlier version; delete it, and this group alone is made "
            "again"
        ) from None
    for name, digest in origin.items():
        if header.get(name) != digest:
            raise RunError(f"{path} was made with another {name}; use that one, or another --out")
    try:
        kept = _Kept.model_validate(state)
    except ValidationError as error:
        raise RunError(
            f"{path} is damaged ({fault(error)}); delete it, and this group alone is made again"
        ) from None
    images = kept.images
    if images.dtype != torch.uint8 or images.shape != (len(group.classes), *shape):
        raise RunError(f"{path} holds images of {tuple(images.shape)}; delete it to make it again")
    return Inverted(group, images, kept.history, kept.adjustment, kept.seconds, kept.surroundings)


def _path(folder: Path, group: Group) -> Path:
    return folder / f"{group.name}.safetensors"
