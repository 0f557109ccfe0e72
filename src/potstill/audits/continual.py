"""Learning class by class from a distilled set, as DWA's Table 10 does.

GDumb (Prabhu, Torr, Dokania; ECCV 2020): the classes come in tasks, and all that is kept of each is
its distilled images. After each task a fresh network is trained from scratch on the images of the
classes so far and tested on the real test images of these classes. So every row of the table is an
evaluation of a part of the set, under the protocol of the whole.

A teacher's soft labels are restricted to the classes so far: its outputs for the others are left
out before the softmax. The labels that a set stores cannot be used, because they belong to views
that mix images of all classes.
"""

from __future__ import annotations

import math
import time
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, Split
from potstill.errors import DataError, RecipeError
from potstill.evaluation.cache import Cache, trained_on
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import evaluate, made_for, named, network_made_for
from potstill.progress import Progress, silent, staged
from potstill.results import Continual, Evaluation, Task
from potstill.teacher import Teacher

Order = Literal["random", "given"]


def continual(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    tasks: int = 5,
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkRecipe | None = None,
    epochs: int | None = None,
    teacher: Teacher | None = None,
    order: Order = "random",
    baseline: bool = False,
    device: str | torch.device = "cpu",
    seed: int = 0,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> Continual:
    """Train on the classes of one task, of two, and so on; test on the classes so far.

    Args:
        dataset: the distilled set.
        source: the real data it stands for.
        tasks: number of tasks; the first get one class more if they cannot be equal.
        protocol: protocol to train networks by; the artefact's if None.
        networks: number of networks for each task; the artefact's number if None.
        network: the network to train; the one the set was distilled for if None.
        epochs: epochs, for a protocol that counts them; the artefact's or the protocol's if None.
        teacher: labels what networks see, for a protocol with soft labels.
        order: order of the classes: from stream "audits/continual/order", or as the data has them.
        baseline: also train on as many random real images of the same classes.
        device: where networks are trained and tested.
        seed: seed of every random draw.
        cache: where each finished task is stored and looked for, so that a stop loses one at most;
            nowhere if None, or if the network is not one of potstill's.
        progress: told of every training step; each task is a stage.

    Raises:
        RecipeError: fewer tasks than one or more than classes; else as
            :func:`potstill.evaluation.evaluate`.
        DataError: a protocol with soft labels without a teacher, a class without distilled
            images; else as an evaluation.
        ArtefactError, NetworkError, NumericalError: as an evaluation.
    """
    start = time.perf_counter()
    chosen = named(made_for(dataset, "protocol") if protocol is None else protocol)
    _check(dataset, source, tasks, chosen, teacher)
    dataset = dataset.refitted(source, device=device)
    asked: dict[str, Any] = {
        "protocol": chosen,
        "networks": int(made_for(dataset, "networks")) if networks is None else networks,
        "network": network_made_for(dataset) if network is None else network,
        "epochs": epochs,
        "baseline": baseline,
        "device": torch.device(device),
        "seed": seed,
    }
    store = Cache() if cache is None or asked["network"].foreign else cache
    results: list[Evaluation] = []
    rows: list[Task] = []
    parts = _parts(source.classes, tasks, order, seed)
    for index in range(tasks):
        classes = np.sort(np.concatenate(parts[: index + 1])).tolist()
        told = staged(progress, f"task {index + 1} of {tasks}, training step")
        result = _evaluation(dataset, source, teacher, classes, asked, store, told)
        results.append(result)
        rows.append(
            Task(
                classes=parts[index].tolist(),
                classes_so_far=len(classes),
                images=result.images,
                tested=int(torch.isin(source.test.labels, torch.tensor(classes)).sum()),
                steps=result.steps,
                accuracy=result.accuracy,
                **_only(result, "baseline"),
            )
        )
    return _audit(dataset, source, results, rows, teacher, order, seed, start)


def _evaluation(
    dataset: DistilledDataset,
    source: SourceDataset,
    teacher: Teacher | None,
    classes: list[int],
    asked: dict[str, Any],
    cache: Cache,
    progress: Progress,
) -> Evaluation:
    """The result on the part of the set that has these classes, cached or new."""
    key = _key(dataset, source, teacher, classes, asked)
    cached = cache.get(key, Evaluation)
    if cached is not None and _answers(cached, asked):
        return cached
    result = evaluate(
        restricted_set(dataset, classes),
        restricted_source(source, classes),
        teacher=None if teacher is None else restricted_teacher(teacher, classes),
        progress=progress,
        **asked,
    )
    cache.put(key, result.document())
    return result


def _answers(result: Evaluation, asked: dict[str, Any]) -> bool:
    """Whether a result, which may be of a file that somebody changed, is of what was asked."""
    found = (result.protocol, result.network, len(result.accuracy.values), bool(result.baseline))
    network, networks, baseline = (asked[name] for name in ("network", "networks", "baseline"))
    return found == (asked["protocol"].name, network, networks, baseline)


def _audit(
    dataset: DistilledDataset,
    source: SourceDataset,
    results: list[Evaluation],
    tasks: list[Task],
    teacher: Teacher | None,
    order: Order,
    seed: int,
    start: float,
) -> Continual:
    """Everything together; ``results`` are those that the tasks are taken from."""
    first = results[0]
    found = _only(first, "epochs", "labels", "warnings")
    if teacher is not None:
        found["teacher"] = teacher.summary()
    means = [task.accuracy.mean for task in tasks]
    return Continual(
        kind="continual",
        dataset=source.name,
        images=len(dataset),
        images_per_class=dataset.images_per_class,
        artefact_digest=dataset.digest,
        source_fingerprint=source.fingerprint,
        protocol=first.protocol,
        network=first.network,
        networks=len(first.accuracy.values),
        order=order,
        tasks=tuple(tasks),
        average_accuracy=math.fsum(means) / len(means),
        seed=seed,
        seconds=time.perf_counter() - start,
        **found,
    )


def _only(result: Evaluation, *names: str) -> dict[str, Any]:
    """The fields of these names that the result was given."""
    return {name: value for name, value in result.given().items() if name in names}


def _key(
    dataset: DistilledDataset,
    source: SourceDataset,
    teacher: Teacher | None,
    classes: list[int],
    asked: dict[str, Any],
) -> dict[str, Any]:
    """What the result on these classes is cached under."""
    network, seed, device = asked["network"], asked["seed"], asked["device"]
    return {
        **trained_on(source, dataset.preprocess, network, seed, device),
        "what": "some classes of a set",
        "set": dataset.digest,
        "classes": classes,
        "protocol": asked["protocol"].name,
        "training": asked["protocol"].cache_key(dataset, asked["epochs"]),
        "networks": asked["networks"],
        "teacher": None if teacher is None else teacher.digest,
        "baseline": asked["baseline"],
    }


def restricted_set(dataset: DistilledDataset, classes: list[int]) -> DistilledDataset:
    """The images of these classes, in the set's order, without soft labels of views.

    Labels lose the other classes' columns. They are shifted by the constant that makes centred
    one-hot labels of all classes centred ones of these, so that nothing changes for all classes.
    """
    chosen = torch.isin(dataset.hard_labels(), torch.tensor(classes))
    shift = 1 / len(dataset.class_names) - 1 / len(classes)
    dropped = ("format_version", "relabelling", "results")
    return DistilledDataset(
        dataset.images[chosen],
        dataset.labels[chosen][:, classes] + shift,
        [dataset.class_names[label] for label in classes],
        dataset.preprocess,
        {key: value for key, value in dataset.header.items() if key not in dropped},
    )


def restricted_source(source: SourceDataset, classes: list[int]) -> SourceDataset:
    """The real images of these classes; the fingerprint stays that of all."""
    places = torch.full((source.classes,), -1)
    places[classes] = torch.arange(len(classes))

    def part(split: Split) -> Split:
        labels = places[split.labels]
        return Split(split.images[labels >= 0], labels[labels >= 0])

    names = tuple(source.class_names[label] for label in classes)
    train, test = part(source.train), part(source.test)
    return SourceDataset(source.name, names, train, test, source.fingerprint)


def restricted_teacher(teacher: Teacher, classes: list[int]) -> Teacher:
    """The teacher with its outputs for these classes alone."""
    return Teacher(
        nn.Sequential(teacher.network, _Columns(classes)),
        teacher.preprocess,
        tuple(teacher.class_names[label] for label in classes),
        teacher.header,
    )


class _Columns(nn.Module):
    def __init__(self, columns: list[int]) -> None:
        super().__init__()
        self._columns = columns

    def forward(self, outputs: Tensor) -> Tensor:
        """(n, C) -> (n, the columns)."""
        return outputs[:, self._columns]


def _parts(classes: int, tasks: int, order: Order, seed: int) -> list[np.ndarray[Any, Any]]:
    """The classes of each task."""
    row = np.arange(classes)
    if order == "random":
        row = rng.stream(seed, "audits/continual/order").permutation(classes)
    return np.array_split(row, tasks)


def _check(
    dataset: DistilledDataset,
    source: SourceDataset,
    tasks: int,
    protocol: EvaluationProtocol,
    teacher: Teacher | None,
) -> None:
    classes = len(dataset.class_names)
    if not 1 <= tasks <= classes:
        raise RecipeError(f"cannot make {tasks} tasks of {classes} classes; ask for 1 to {classes}")
    if source.classes != classes:
        raise DataError(
            f"the distilled set has {classes} classes and {source.name} has {source.classes}; "
            "use the data that the set was distilled from"
        )
    if teacher is not None and teacher.classes != classes:
        raise DataError(
            f"the teacher knows {teacher.classes} classes and the set has {classes}; pass a "
            "teacher of the same data"
        )
    if protocol.takes_teacher and teacher is None:
        raise DataError(
            f"protocol {protocol.name} needs the teacher itself, because stored labels mix all "
            "classes; pass --teacher FILE or --protocol hard-label"
        )
    missing = sorted({*range(classes)} - {*dataset.hard_labels().tolist()})
    if missing:
        raise DataError(
            f"the set has no image of class {dataset.class_names[missing[0]]}, which could not "
            "be learned; use a set with images of every class"
        )
