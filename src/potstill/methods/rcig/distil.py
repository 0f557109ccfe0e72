"""RCIG from recipe to distilled set (Algorithm 1), resumable at every checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from potstill import hardware, rng
from potstill.data.datasets import SourceDataset
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess, fit
from potstill.errors import NumericalError, RecipeError
from potstill.methods.loop import iterate
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.rcig import dual, primal, standard
from potstill.methods.rcig.coreset import Coreset
from potstill.methods.rcig.pool import ModelPool
from potstill.methods.rcig.problem import MetaGradient, Problem, support
from potstill.methods.rcig.rates import AdaptiveRate, Rates
from potstill.methods.rcig.settings import RCIGSettings
from potstill.methods.rcig.source import TargetImages, real_start, start
from potstill.methods.recipe import Recipe, method_of
from potstill.networks import zoo
from potstill.networks.jacobian import Jacobian, require_linearisable

Clock = Callable[[str | None], None]
"""Told of the part of an iteration that begins, None after the last."""


def _no_clock(part: str | None) -> None:
    """A clock that measures nothing."""


# Images of up to 32 px processed at a time: on a processor their activations stay in its
# cache, on a card they fit beside the rest. Larger images go in smaller chunks.
_CHUNK = {"cpu": 64, "cuda": 512}


def distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Raises:
        DataError: a class has fewer images than the recipe asks for.
        NumericalError: a number left the finite ones; the newest checkpoint stands.
        KeyboardInterrupt: after a checkpoint was written.
    """
    hardware.prepare()
    device, run = torch.device(session.device), session.run
    preprocess = fit(recipe.data, source.train.images, device=device, cache=session.whitenings)
    settings, iterations, teacher = method_of(recipe, RCIGSettings), 0, None
    if settings.variant == "random":
        images, labels = real_start(source, preprocess, recipe.images_per_class, recipe.seed)
    else:
        clock = Stopwatch(run.part, device) if run else _no_clock
        distiller = Distiller(recipe, source, preprocess, device, clock, session)
        teacher = distiller.teacher
        iterate(distiller, settings.iterations, recipe, session)
        images, labels = distiller.coreset.average()
        iterations = distiller.iteration
    return product(
        recipe,
        source,
        images,
        labels,
        preprocess,
        iterations=iterations,
        mirror_images=settings.flip,
        teacher=teacher,
    )


class Distiller:
    """The state of one RCIG run, and the step that advances it."""

    def __init__(
        self,
        recipe: Recipe,
        source: SourceDataset,
        preprocess: Preprocess,
        device: torch.device,
        clock: Clock = _no_clock,
        session: Session | None = None,
    ) -> None:
        """``session`` is where a coreset to start from is chosen, if it is to be one."""
        self.recipe, self.settings, self.device = recipe, method_of(recipe, RCIGSettings), device
        self.iteration = 0
        self._clock = clock
        self._target_dtype = target_dtype(self.settings, device)
        side = max(source.resolution, 32)
        self._chunk = max(8, _CHUNK.get(device.type, 64) * 32**2 // side**2)
        self._target = TargetImages(source, preprocess, recipe.seed, device)
        network = zoo.build(
            recipe.network,
            channels=source.channels,
            resolution=source.resolution,
            classes=source.classes,
            softplus_beta=self.settings.softplus_beta,
        )
        if recipe.network.foreign or recipe.network.library:
            shape = (2, source.channels, source.resolution, source.resolution)
            require_linearisable(
                network, rng.normal(shape, rng.stream(recipe.seed, "rcig/foreign"))
            )
        self._jacobian = Jacobian(network.to(device))
        if self.settings.subset and self._jacobian.couples_batch:
            raise RecipeError(
                "batch norm ties the images of a batch together, so a subset's gradient would "
                "be biased; remove method.subset or choose another network.normalisation"
            )
        self._pool = ModelPool(self.settings.pool, network, recipe.seed, device)
        where = session or Session(device=device.type)
        images, labels, self.teacher = start(recipe, source, preprocess, where)
        self.coreset = Coreset(self.settings, images.to(device), labels.to(device))
        solver = self.settings.solver
        self.rates = Rates(
            AdaptiveRate(solver.inner_learning_rate),
            AdaptiveRate(solver.inverse_learning_rate),
            found=not solver.tune,
        )
        self._alphas = torch.zeros(
            self.settings.pool.size, *self._support()[1].shape, device=device
        )

    def step(self) -> dict[str, float]:
        """One meta-iteration: draw, differentiate, update S, train the drawn model."""
        index, visit = self._pool.draw(self.iteration)
        self._clock("data")
        problem = self.problem(index)
        try:
            gradient = self._meta_gradient(problem, index)
        except NumericalError as error:
            raise NumericalError(f"iteration {self.iteration + 1}: {error}") from None
        self._clock("update")
        metrics = gradient.metrics | {
            "log_temperature": self.coreset.log_temperature.item(),
            "image_gradient_norm": gradient.images.norm().item(),
            "label_gradient_norm": gradient.labels.norm().item(),
        }
        self._require_finite(metrics)
        self.coreset.update(gradient)
        self._clock("pool")
        # Like the solvers: without activations of all of S where the backward pass has a subset.
        chunk = self._chunk if self._subset else None
        reborn = self._pool.train(index, visit, self._jacobian, *self._support(), chunk)
        if reborn:
            self._alphas[index] = 0
        self._clock(None)
        self.iteration += 1
        return metrics

    def state(self) -> dict[str, Any]:
        """All that :meth:`restore` needs."""
        self._require_finite_coreset()
        return {
            "coreset": self.coreset.state(),
            "pool": self._pool.state(),
            "rates": asdict(self.rates),
            "alphas": self._alphas,
        }

    def restore(self, iteration: int, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave after ``iteration`` iterations."""
        self.iteration = iteration
        self.coreset.restore(state["coreset"])
        self._pool.restore(state["pool"])
        rates = state["rates"]
        self.rates = Rates(
            AdaptiveRate(**rates["inner"]), AdaptiveRate(**rates["inverse"]), rates["found"]
        )
        self._alphas.copy_(state["alphas"])

    def _support(self) -> tuple[Tensor, Tensor]:
        return support(self.coreset.images, self.coreset.labels, flip=self.settings.flip)

    def problem(self, index: int) -> Problem:
        """This iteration's problem at model ``index`` of the pool."""
        target_images, target_labels = self._target.batch(
            self.settings.target_batch, self.iteration
        )
        return Problem(
            settings=self.settings,
            jacobian=self._jacobian,
            theta=self._pool.model(index),
            images=self.coreset.images.detach(),
            labels=self.coreset.labels.detach(),
            log_temperature=self.coreset.log_temperature.detach(),
            target_images=target_images,
            target_labels=target_labels,
            chunk=self._chunk,
            target_dtype=self._target_dtype,
            draw_rows=self._row_stream(),
            clock=self._clock,
        )

    @property
    def _subset(self) -> int | None:
        """Images of S in a backward pass; None for all."""
        size = self.settings.subset
        return size if size is not None and size < len(self.coreset.images) else None

    def _row_stream(self) -> Callable[[], Tensor] | None:
        """Fresh random subsets of S for this iteration's backward passes (3.6)."""
        size, n = self._subset, len(self.coreset.images)
        if size is None:
            return None
        generator = rng.stream(self.recipe.seed, "rcig/subset", self.iteration)

        def draw() -> Tensor:
            rows = torch.from_numpy(generator.choice(n, size, replace=False))
            return rows.sort().values.to(self.device)

        return draw

    def _meta_gradient(self, problem: Problem, index: int) -> MetaGradient:
        variant = self.settings.variant
        if variant in ("vig", "rig"):
            return standard.meta_gradient(problem, self.rates)
        if self.settings.solver.name == "adam" or variant == "frepo":
            return primal.meta_gradient(problem, self.rates)
        start = self._alphas[index]
        gradient, alpha = dual.meta_gradient(problem, start if start.any() else None)
        self._alphas[index] = alpha
        return gradient

    def _require_finite_coreset(self) -> None:
        """No checkpoint of an S that left the finite numbers in its last update."""
        if not self.coreset.finite():
            raise NumericalError(
                f"iteration {self.iteration}: the images or labels are not finite after the "
                "update; the last checkpoint is kept; lower the learning rates"
            )

    def _require_finite(self, metrics: dict[str, float]) -> None:
        wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
        if wrong:
            raise NumericalError(
                f"iteration {self.iteration + 1}: {wrong[0]} is not finite; the last checkpoint "
                "is kept; lower the learning rates or raise method.l2_rate"
            )


def target_dtype(settings: RCIGSettings, device: torch.device) -> torch.dtype:
    """Type of the convolutions on target images; see ``target_precision``."""
    if settings.target_precision != "auto":
        return torch.bfloat16 if settings.target_precision == "bfloat16" else torch.float32
    return torch.bfloat16 if hardware.native_bfloat16(device) else torch.float32


class Stopwatch:
    """A clock that counts the time from one part's name to the next towards the first.

    Args:
        part: from a name to a context manager that measures its block.
        device: a card works on while Python goes on; its work is waited for where a part ends.
    """

    def __init__(
        self, part: Callable[[str], AbstractContextManager[None]], device: torch.device
    ) -> None:
        self._part, self._device = part, device
        self._open: AbstractContextManager[None] = nullcontext()

    def __call__(self, part: str | None) -> None:
        """``part`` begins here; None: nothing does."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._open.__exit__(None, None, None)
        self._open = self._part(part) if part else nullcontext()
        self._open.__enter__()
