"""What networks reach without distilled images: on all real ones, and on a random few.

Both are trained once for the same data, preprocessing, network, protocol, seed and version of
the code, and cached (:mod:`potstill.evaluation.cache`).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from potstill import hardware
from potstill.config import Precision
from potstill.data.source import SourceDataset
from potstill.data.views import fill_value
from potstill.errors import RecipeError
from potstill.evaluation.cache import Cache, trained_on
from potstill.evaluation.labelling import Views
from potstill.evaluation.plan import Assignment, EvaluationProtocol
from potstill.evaluation.protocol import class_sizes, random_real_sets
from potstill.evaluation.scores import accuracies
from potstill.evaluation.students import StudentProtocol, StudentTraining, hard_loss
from potstill.networks.init import initialise_default, seeded_on
from potstill.progress import Progress, part
from potstill.results import OnRandom, OnReal
from potstill.train import EpochTraining, Loss, favour_layout, in_favoured_layout

REAL_STEPS = 5000
"""The budget of a training on all real images, unless another is asked for."""


def random_real(
    given: Assignment, protocol: EvaluationProtocol, cache: Cache, progress: Progress
) -> OnRandom:
    """Accuracy of ``protocol`` on random real images, as many as the set of ``given`` has.

    The images are those of :func:`potstill.evaluation.evaluate`'s baseline.

    Raises:
        PotstillError: what the protocol's ``plan`` and ``scores`` raise.
    """
    plan = protocol.plan(given)
    key = {
        **_real(given),
        "what": "random real images",
        "images": class_sizes(given.dataset),
        "networks": given.networks,
        "protocol": protocol.name,
        "training": protocol.cache_key(given.dataset, given.epochs),
        "steps": plan.steps,
        "teacher": None if given.teacher is None else given.teacher.digest,
    }
    values = cache.numbers(key, "accuracies", given.networks)
    if values is not None:
        return OnRandom.of(values, kept=True)
    sets = random_real_sets(given.dataset, given.source, given.networks, given.seed)
    accuracy = plan.scores(*sets, progress).accuracy
    cache.put(key, {"accuracies": accuracy.values})
    return OnRandom.of(accuracy.values, kept=False)


def all_real(
    given: Assignment,
    protocol: StudentProtocol,
    cache: Cache,
    progress: Progress,
    most_steps: int = REAL_STEPS,
) -> OnReal:
    """Accuracy of ``protocol``, of hard labels, on all training images, within a budget.

    Network i starts where that of every protocol does and sees views as they show them; the
    protocol lasts for as many whole epochs as ``most_steps`` steps allow, one at least and its
    own number at most. Each network is cached by itself, so that a stop loses one at most.

    Args:
        given: the data, network, seed and device; the set's preprocessing is used.
        most_steps: most training steps of each network.

    Raises:
        RecipeError: no steps.
        NumericalError: a training left the finite numbers.
    """
    if most_steps < 1:
        raise RecipeError(f"cannot train for {most_steps} steps; ask for at least 1")
    training, steps = _within(protocol, given.source, most_steps)
    values: list[float] = []
    reused = 0
    for index in range(given.networks):
        key = {
            **_real(given),
            "what": "all real images",
            "network_index": index,
            "protocol": protocol.name,
            "training": asdict(training),
        }
        found = cache.numbers(key, "accuracies", 1)
        if found is None:
            told = part(progress, index, given.networks)
            found = [_train_on_all(given, training, index, told)]
            cache.put(key, {"accuracies": found})
        else:
            reused += 1
        values += found
    return OnReal.of(
        values,
        protocol=protocol.name,
        epochs=training.optimisation.epochs,
        steps=steps,
        budget_steps=most_steps,
        kept=reused,
    )


def _within(
    protocol: StudentProtocol, source: SourceDataset, most_steps: int
) -> tuple[StudentTraining, int]:
    """The protocol in as many whole epochs as the budget holds, and its steps."""
    own = protocol.settings(source.channels, source.resolution)
    views = Views(own.views, torch.zeros(source.channels), seed=0)
    per_epoch = len(views.batches(len(source.train), 0))
    epochs = min(own.optimisation.epochs, max(1, most_steps // per_epoch))
    return own.lasting(epochs), epochs * per_epoch


def _train_on_all(
    given: Assignment, training: StudentTraining, index: int, progress: Progress
) -> float:
    """The accuracy of network ``index`` after its last epoch."""
    source, preprocess = given.source, given.dataset.preprocess
    network = given.build()
    initialise_default(network, given.seed, "evaluation/network", index)
    precision = hardware.precision_of_training(given.precision, given.device)
    favour_layout(network, precision)
    views = Views(training.views, fill_value(preprocess), given.seed, index)
    run = EpochTraining(
        network,
        len(source.train),
        training.optimisation,
        _loss(given, views, f"evaluation/real/dropout/{index}", precision),
        seed=views.seed,
        purpose=views.purpose,
    )
    epochs = training.optimisation.epochs
    while run.epoch < epochs:
        run.run_epoch(part(progress, run.epoch, epochs))
    return accuracies([network], source.test, preprocess, precision)[0]


def _loss(given: Assignment, views: Views, purpose: str, precision: Precision) -> Loss:
    """The loss on a batch of real images, which are 8-bit pixels until they are needed."""
    train, preprocess = given.source.train, given.dataset.preprocess

    def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
        images = preprocess.apply(hardware.sent(train.images[rows], given.device))
        mix = views.of_batch(images, epoch, step)
        with (
            seeded_on(given.device, given.seed, f"{purpose}/{epoch}", step),
            hardware.autocast(precision, given.device),
        ):
            outputs = network(in_favoured_layout(mix.images)).float()
        return hard_loss(outputs, mix, hardware.sent(train.labels[rows], given.device))

    return loss


def _real(given: Assignment) -> dict[str, Any]:
    preprocess = given.dataset.preprocess
    return trained_on(given.source, preprocess, given.network, given.seed, given.device)
