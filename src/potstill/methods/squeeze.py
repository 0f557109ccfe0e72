"""The teacher of a run: trained on the real data, or taken as the recipe says (squeeze)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor, nn

from potstill import checkpoints, hardware, interrupt, methods, rng
from potstill.config import TeacherRecipe, flat
from potstill.data import views
from potstill.data.inventory import Inventory
from potstill.data.preprocess import Preprocess, Standardise, fit
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import DataError, RecipeError, RunError
from potstill.files import remove_leftovers
from potstill.methods.class_order import require_class_order
from potstill.methods.method import Session
from potstill.methods.product import portable
from potstill.methods.recipe import Recipe
from potstill.networks import zoo
from potstill.networks.batch_norms import batch_norms
from potstill.networks.factory import from_factory
from potstill.networks.init import initialise_default, seeded, seeded_on
from potstill.networks.pretrained import load_weights, pretrained
from potstill.progress import Progress, silent
from potstill.quoting import differences, listed
from potstill.surroundings import Surroundings, going_on, present, require_threads, versions
from potstill.teacher import Teacher
from potstill.train import EpochTraining, Loss, Optimisation, favour_layout, in_favoured_layout

TEACHER = "teacher.safetensors"
CHECKPOINT = "teacher.checkpoint.safetensors"

_SECONDS_BETWEEN_CHECKPOINTS = 120.0
# As in DeiT, and as for DWA's students.
_MIXUP, _CUTMIX = 0.8, 1.0


def squeeze(
    recipe: Recipe,
    source: SourceDataset,
    *,
    folder: Path | None = None,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    whitenings: WhiteningCache | None = None,
    progress: Progress = silent,
) -> Teacher:
    """The teacher that ``recipe`` asks for, its accuracy measured after the last epoch.

    Pretrained networks, and weights from a checkpoint of the user's, are taken as they are.

    Args:
        folder: the run's folder. ``teacher.safetensors`` there is returned if it is of this recipe
            and data, and written otherwise; a training that was stopped goes on from
            ``teacher.checkpoint.safetensors``, to the same bytes. Nothing is written if None.
        device: where to train, and where the teacher's network will be.
        threads: that sums are split over; if None, as many as PyTorch has, or as the training that
            goes on was begun with.
        whitenings: where the preprocessing is looked for before it is fitted, and stored.
        progress: told of every epoch.

    Raises:
        NetworkError: the network does not fit the images, cannot be had, or is to be inverted and
            has no batch norm with running statistics.
        DataError: the images cannot be preprocessed as the recipe says, or are not standardised
            for a teacher that is inverted, or their classes stand in another order than those of
            pretrained weights.
        RecipeError: pretrained weights without the statistics that belong to them.
        NumericalError: a loss left the finite numbers; the last checkpoint stands.
        RunError: the folder holds a teacher of another recipe or of other data, or a checkpoint
            of those, of another network or of another number of threads, or cannot be written.
        KeyboardInterrupt: after a checkpoint was written.
    """
    hardware.prepare()
    _require_possible(recipe)
    if folder is not None:
        remove_leftovers(folder)
    where = torch.device(device)
    # A teacher's file always holds its ZCA.
    data = recipe.data.model_copy(update={"zca_stored": True})
    preprocess = fit(data, source.train.images, device=where, cache=whitenings)
    job = _Job(recipe, source, preprocess, where)
    kept = None if folder is None else folder / TEACHER
    if kept is not None and kept.exists():
        return job.fitting(kept, threads)
    keeper = _Keeper(folder, job, threads)
    with hardware.threads(keeper.surroundings.threads):
        network = job.network().to(job.device)
        if job.trained:
            job.train(network, keeper, progress)
        teacher = job.teacher(network, keeper.surroundings)
    if kept is not None:
        teacher.save(kept)
        kept.with_name(CHECKPOINT).unlink(missing_ok=True)
    return teacher


def squeeze_in(session: Session, recipe: Recipe, source: SourceDataset) -> Teacher:
    """:func:`squeeze` where a method works: in the run's folder, counted as a part of its time."""
    run = session.run
    with nullcontext() if run is None else run.part("teacher"):
        return squeeze(
            recipe,
            source,
            folder=None if run is None else run.path,
            device=session.device,
            whitenings=session.whitenings,
            progress=session.progress,
        )


class _Job:
    """What is asked for, in the forms that its steps need."""

    def __init__(
        self,
        recipe: Recipe,
        source: SourceDataset,
        preprocess: Preprocess,
        device: torch.device,
    ) -> None:
        self.settings = settings_of(recipe)
        self.device = device
        self._recipe, self._source, self._preprocess = recipe, source, preprocess
        self.trained = self.settings.pretrained is None and self.settings.checkpoint is None
        self.header = _header(recipe, source, self.settings.epochs if self.trained else 0)
        self.inventory = Inventory.of(source)

    def network(self) -> nn.Module:
        """The network, to be trained or, if its weights were given, ready."""
        settings, source = self.settings, self._source
        shape = {
            "channels": source.channels,
            "resolution": source.resolution,
            "classes": source.classes,
        }
        if settings.pretrained is not None:
            network = pretrained(settings.pretrained, **shape, weights=True)
            require_class_order(network, settings.pretrained, source, self._preprocess)
        elif settings.module is not None:
            # The factory's own weights, drawn from a stream of the recipe's seed.
            with seeded(self._recipe.seed, "teacher/network"):
                network = from_factory(settings.module, **shape)
        else:
            network = zoo.build(settings.network, **shape)
            initialise_default(network, self._recipe.seed, "teacher/network")
        network = network.float()
        if settings.checkpoint is not None:
            load_weights(network, settings.checkpoint)
        if _inverts(self._recipe):
            batch_norms(network)
        return network

    def train(self, network: nn.Module, keeper: _Keeper, progress: Progress) -> None:
        """Train ``network`` in place, for what is left of it."""
        settings = self.settings
        favour_layout(network)
        training = EpochTraining(
            network,
            len(self._source.train),
            Optimisation(
                settings.optimiser,
                settings.learning_rate,
                settings.epochs,
                settings.batch_size,
                momentum=settings.momentum,
                weight_decay=settings.weight_decay,
                warmup_epochs=settings.warmup_epochs,
                decay_vectors=settings.decay_vectors,
            ),
            training_loss(settings, self._source, self._preprocess, self._recipe.seed, self.device),
            seed=self._recipe.seed,
            purpose="teacher",
        )
        keeper.attend(training)
        with interrupt.deferred() as ctrl_c:

            def stop_if_asked() -> None:
                if ctrl_c.requested:
                    keeper.write()
                    raise KeyboardInterrupt

            def after_step(stage: str, done: int, total: int, **values: float) -> None:
                stop_if_asked()
                keeper.write_if_due()

            while training.epoch < settings.epochs:
                loss = training.run_epoch(after_step)
                progress("teacher epoch", training.epoch, settings.epochs, loss=loss)
            stop_if_asked()
        # As it comes out of a file, so that whoever goes on computes the same bits.
        network.to(memory_format=torch.contiguous_format)

    def teacher(self, network: nn.Module, surroundings: Surroundings) -> Teacher:
        """The trained ``network`` as a teacher, with its accuracy if there are test images."""
        source = self._source
        header = {**self.header, "surroundings": surroundings.document()}
        teacher = Teacher(network, self._preprocess, source.class_names, header)
        if not len(source.test):
            return teacher
        result = {
            "accuracy": teacher.score(source.test),
            "dataset": source.name,
            "epochs": self.header["epochs"],
        }
        return dataclasses.replace(teacher, header={**header, "results": [result]})

    def fitting(self, path: Path, threads: int | None) -> Teacher:
        """The teacher in the file ``path``, which must be the one asked for.

        A path in the recipe does not say which weights lie there, so they are compared.
        """
        teacher = Teacher.load(path, self.settings.module)
        known = Inventory.stated(teacher.header["source"], teacher.class_names)
        known.require_same(self.inventory, path)
        require_threads(path, teacher.header.get("surroundings", {}).get("threads"), threads)
        found = _identity(teacher.header, teacher.preprocess)
        _require_same(path, "teacher", found, self.identity())
        if self.settings.checkpoint is not None:
            mine = dataclasses.replace(teacher, network=self.network())
            _require_same(path, "teacher", {"weights": teacher.digest}, {"weights": mine.digest})
        teacher.network.to(self.device)
        return teacher

    def identity(self) -> dict[str, Any]:
        """What decides the weights, apart from data and machine."""
        return _identity(self.header, self._preprocess)


def settings_of(recipe: Recipe) -> TeacherRecipe:
    """The teacher that the recipe's method trains first.

    Raises:
        RecipeError: its method has none.
    """
    method = methods.named(recipe.method.kind)
    if method.teacher is None:
        raise RecipeError(
            f"{recipe.name} is a recipe for {method.name}, which has no teacher; take one for "
            f"{' or '.join(_taught())}"
        )
    teacher = method.teacher(recipe.method)
    if teacher is None:
        raise RecipeError(
            f"{recipe.name} does not ask for a teacher; leave the teacher out, or take a recipe "
            "that does"
        )
    return teacher


def _taught() -> list[str]:
    """The methods that have a teacher whatever their settings."""
    known = [methods.named(name) for name in methods.names()]
    return [m.name for m in known if m.teacher is not None and m.teacher(m.settings()) is not None]


def _inverts(recipe: Recipe) -> bool:
    return methods.named(recipe.method.kind).inverts


def _require_possible(recipe: Recipe) -> None:
    """What would otherwise come to light when the training is over, or never."""
    kind = recipe.data.preprocess
    if _inverts(recipe) and kind != "standardise":
        raise DataError(
            f"images made from a teacher stay in the range of valid pixels, which {kind} does not "
            "have; set data.preprocess to standardise"
        )
    name = settings_of(recipe).pretrained
    if name is not None and recipe.data.mean is None:
        raise RecipeError(
            f"the weights of {name} belong to fixed statistics, not to those of the data; set "
            "data.mean and data.std (ImageNet's: [0.485, 0.456, 0.406] and [0.229, 0.224, 0.225])"
        )


def training_loss(
    settings: TeacherRecipe,
    source: SourceDataset,
    preprocess: Preprocess,
    seed: int,
    device: torch.device,
) -> Loss:
    """The cross-entropy on cropped, flipped and mixed training images of ``source``.

    The images stay 8-bit on ``device``: a batch is preprocessed when it is needed, by
    ``settings.std`` if the teacher has one of its own. Mixed images have the labels of both, in
    their shares.

    Raises:
        DataError: ``settings.std`` is of another number of channels.
    """
    preprocess = _while_trained(settings, preprocess)
    images, labels = source.train.images.to(device), source.train.labels.to(device)
    fill = views.fill_value(preprocess).to(device)

    def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
        generator = rng.stream(seed, f"teacher/views/{epoch}", step)
        rows = hardware.sent(rows, device)
        batch = preprocess.apply(images[rows])
        if settings.crop == "resized":
            batch = views.random_resized_crop(batch, generator)
        elif settings.crop_padding:
            batch = views.random_crop(batch, settings.crop_padding, fill, generator)
        if settings.flip:
            batch = views.random_flip(batch, generator)
        mix = _mixed(settings, batch, generator)
        with (
            seeded_on(device, seed, f"teacher/dropout/{epoch}", step),
            hardware.autocast(settings.precision, device),
        ):
            outputs = network(in_favoured_layout(mix.images)).float()
        own = F.cross_entropy(outputs, labels[rows], label_smoothing=settings.label_smoothing)
        if settings.mix == "none":
            return own
        partners = labels[rows][mix.partners]
        other = F.cross_entropy(outputs, partners, label_smoothing=settings.label_smoothing)
        return mix.share * own + (1 - mix.share) * other

    return loss


def _while_trained(settings: TeacherRecipe, preprocess: Preprocess) -> Preprocess:
    """What images go through while the teacher is trained."""
    if settings.std is None:
        return preprocess
    mean = preprocess.mean
    if len(settings.std) != len(mean):
        raise DataError(
            f"method.teacher.std has length {len(settings.std)}, the images have {len(mean)} "
            "channels; give one number for each"
        )
    return Standardise(mean, torch.tensor(settings.std, dtype=mean.dtype))


def _mixed(settings: TeacherRecipe, images: Tensor, generator: np.random.Generator) -> views.Mix:
    """The images (b, c, h, w), mixed as the settings say."""
    kind = settings.mix
    if kind == "either":
        kind = "mixup" if generator.random() < 0.5 else "cutmix"
    if kind == "none":
        return views.Mix(images, torch.arange(len(images), device=images.device), 1.0)
    if kind == "mixup":
        return views.mixup(images, generator, _MIXUP)
    return views.cutmix(images, generator, _CUTMIX)


class _Origin(BaseModel):
    """What a checkpoint's header says of data and machine."""

    source: Inventory
    surroundings: Surroundings


class _Keeper:
    """Keeps the state of a training on disk, if there is a folder, and has what was kept there.

    ``surroundings`` are those to train in, with the number of threads that it was begun with.
    """

    def __init__(self, folder: Path | None, job: _Job, threads: int | None) -> None:
        self._path = None if folder is None else folder / CHECKPOINT
        self._job, self._state = job, None
        self._training: EpochTraining
        self._last = monotonic()
        if self._path is None or not self._path.exists():
            self.surroundings = present(job.device, threads)
            return
        self._state, header = checkpoints.read(self._path)
        with checkpoints.restoring(self._path):
            kept = _Origin.model_validate(header.pop("origin"))
        kept.source.require_same(job.inventory, self._path)
        _require_same(self._path, "training", header, job.identity())
        self.surroundings = going_on(self._path, kept.surroundings, job.device, threads)

    def attend(self, training: EpochTraining) -> None:
        """Restore what was kept into ``training``, and keep it from now on."""
        self._training = training
        if self._path is not None and self._state is not None:
            with checkpoints.restoring(self._path):
                fresh = {**training.state(), "optimiser": []}  # which fills on the way
                checkpoints.require_like({**self._state, "optimiser": []}, fresh)
                training.restore(self._state)
            self._state = None

    def write_if_due(self) -> None:
        """Write if the last checkpoint is old: a crash costs no more time than that."""
        if monotonic() - self._last >= _SECONDS_BETWEEN_CHECKPOINTS:
            self.write()

    def write(self) -> None:
        """Write the present state, which must be finite."""
        if self._path is not None:
            origin = _Origin(source=self._job.inventory, surroundings=self.surroundings)
            header = {**self._job.identity(), "origin": origin.model_dump(mode="json")}
            checkpoints.write(self._path, self._training.state(), header)
        self._last = monotonic()


def _header(recipe: Recipe, source: SourceDataset, epochs: int) -> dict[str, Any]:
    wanted = settings_of(recipe)
    settings = wanted.model_dump(mode="json")
    settings["checkpoint"] = portable(wanted.checkpoint)
    network = settings["network"]
    if settings["pretrained"] is not None:
        network = {"pretrained": settings["pretrained"]}
    elif settings["module"] is not None:
        network = {"module": settings["module"]}
    return {
        "network": network,
        "teacher": settings,
        "source": source.document(),
        "epochs": epochs,
        "seed": recipe.seed,
        "versions": versions(),
        "results": [],
    }


def _identity(header: Mapping[str, Any], preprocess: Preprocess) -> dict[str, Any]:
    # A teacher from before a setting existed was trained with what is the default now.
    settings = {**TeacherRecipe().model_dump(mode="json"), **header["teacher"]}
    return {
        "seed": header["seed"],
        "method": {"teacher": settings},
        "preprocess": preprocess.describe(),
    }


def _require_same(path: Path, what: str, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    differing = differences(flat(there), flat(here))
    if differing:
        raise RunError(
            f"{path} is a {what} of another recipe, which differs in: {listed(differing)}; use "
            "another --out, or the same recipe"
        )
