"""What a distilled set is worth: fresh networks trained on it, tested on real images.

Every result names the protocol it comes from. A result is the accuracy of the networks after
the last step: the test set chooses nothing. The best epoch on the test set, which papers
publish, stands beside it under its own name, and only if it is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from potstill import rng
from potstill.config import NetworkRecipe, Precision
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, centred_one_hot, sample_per_class
from potstill.errors import ArtefactError, DataError, RecipeError
from potstill.evaluation.beside import Beside, planned
from potstill.evaluation.fixed_steps import Protocol
from potstill.evaluation.matching import MatchingProtocol
from potstill.evaluation.plan import Assignment, EvaluationProtocol, Work
from potstill.evaluation.price import price
from potstill.evaluation.regimes import REGIMES
from potstill.evaluation.students import HARD_LABEL, StudentProtocol, as_run
from potstill.progress import Progress, part, silent, staged
from potstill.results import Baseline, Evaluation
from potstill.teacher import Teacher

_PROTOCOLS: tuple[EvaluationProtocol, ...] = (
    Protocol("rcig-paper", augmented=False),
    Protocol("rcig-paper-augmented", augmented=True),
    Protocol("rcig-as-run", augmented=False, steps=(2500, 5000)),
    # RCIG's Table 3, for networks other than the ConvNet.
    Protocol("rcig-transfer-augmented", augmented=True, learning_rate=3e-4),
    StudentProtocol("dwa-paper", "soft"),
    StudentProtocol("dwa-as-run", "soft", as_run),
    HARD_LABEL,
    MatchingProtocol("dc", lasting=300),
    MatchingProtocol("dc-mnist", lasting=1000, views="dc"),
    MatchingProtocol("dsa", lasting=1000, views="siamese"),
    MatchingProtocol("cafe", lasting=600),
    MatchingProtocol("datadam-as-run", lasting=1800, views="siamese", batch_size=64),
    *REGIMES,
)
PROTOCOLS: dict[str, EvaluationProtocol] = {protocol.name: protocol for protocol in _PROTOCOLS}
_OWN = frozenset(PROTOCOLS)


def evaluate(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkRecipe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    baseline: bool = False,
    beside: Sequence[Beside] = (),
    teacher: Teacher | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    best: bool = False,
    batched: bool | None = None,
    precision: Precision | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Train fresh networks on ``dataset`` and test them on ``source``'s test images.

    The test images pass through the preprocessing that the artefact carries. The
    networks have ReLUs, whatever activation the set was distilled with. Network i
    starts from stream "evaluation/network" at step i, for the set and the baseline.

    Args:
        dataset: the distilled set.
        source: the real data it stands for.
        protocol: a protocol, or its name in ``PROTOCOLS``; the artefact's if None.
        networks: number of networks to train; the artefact's number if None.
        network: the network to train; the one the set was distilled for if None.
        seed: seed of every random draw.
        device: where networks are trained and tested.
        baseline: also score random real images, as many as distilled ones (of each class, see
            :func:`class_sizes`), others for each network, with hard labels (protocols with a
            teacher: with its labels) and under the same protocol.
        beside: under a label regime, also score other numbers of real images.
        teacher: labels what the students of a protocol with soft labels see, and ``equal-bytes``
            images; if None, the labels that the set stores.
        epochs: epochs, for a protocol that counts them; if None, the artefact's number, and if
            it has none, the protocol's. Those of the matching methods train for one more.
        steps: steps of training, for a protocol that counts them, as a quick look: the result is
            of a protocol of another name.
        best: also test after those epochs that the protocol looks at (all, or every tenth), and
            report each network's best.
        batched: see :func:`potstill.train.train`; protocols that count epochs train their
            networks one after the other.
        precision: in which students and who labels their images multiply, for a protocol that
            trains students; bfloat16 on a card that has it and float32 on a processor if None.
        progress: told of every "evaluation step", over all networks and the baseline's.

    Raises:
        ArtefactError: the set does not say what it was made for, and nothing was passed; or
            its soft labels do not go with the protocol.
        DataError: set and source differ in classes or in the images' shape, there are no
            test images, fewer distilled images than classes to compare a baseline with, or
            neither a teacher that fits nor stored labels where the protocol needs them.
        NetworkError: the network does not fit the images.
        RecipeError: unknown protocol, no network asked for, or something that the protocol
            does not have.
        NumericalError: a training left the finite numbers.
    """
    start = time.perf_counter()
    chosen = named(made_for(dataset, "protocol") if protocol is None else protocol)
    if steps is not None:
        chosen = chosen.lasting_steps(steps)
    recipe = network_made_for(dataset) if network is None else network
    count = int(made_for(dataset, "networks")) if networks is None else networks
    if count < 1:
        raise RecipeError(f"cannot evaluate {count} networks; ask for at least 1")
    _check_fit(dataset, source, baseline)
    dataset = dataset.refitted(source, device=device)
    given = Assignment(
        dataset=dataset,
        source=source,
        network=recipe,
        networks=count,
        seed=seed,
        device=torch.device(device),
        baseline=baseline,
        batched=batched,
        precision=precision,
        teacher=teacher,
        epochs=epochs,
        best=best,
    )
    plan = chosen.plan(given)
    if precision == "bfloat16" and plan.facts.get("precision") != precision:
        raise RecipeError(
            f"protocol {chosen.name} trains in float32; leave out precision, or take a protocol "
            "that trains students, such as dwa-paper"
        )
    costs = price(given, _work(chosen, dataset, epochs), plan.facts.get("labels"))
    others = [planned(kind, given, chosen, costs) for kind in beside]
    rounds = 1 + baseline + len(others)

    def told(done: int) -> Progress:
        return part(staged(progress, "evaluation step"), done, rounds)

    # Plans from elsewhere need not say.
    compact = getattr(plan, "takes_compact", False)
    images = dataset.compact if compact else dataset.images
    found = {**plan.facts, **plan.scores(images, dataset.labels, told(0)).given()}
    if baseline:
        sets = random_real_sets(dataset, source, count, seed)
        scores = plan.scores(*sets, told(1)).given()
        accuracy = scores.pop("accuracy")
        found["baseline"] = Baseline(kind="random real images", **accuracy.given(), **scores)
    if others:
        found["beside"] = tuple(
            score_other(told(done)) for done, score_other in enumerate(others, start=1 + baseline)
        )
    warnings = _warnings(dataset, source, teacher)
    if warnings:
        found["warnings"] = warnings
    return Evaluation(
        protocol=chosen.name,
        dataset=source.name,
        images=len(dataset),
        images_per_class=dataset.images_per_class,
        network=recipe,
        steps=plan.steps,
        seed=seed,
        source_fingerprint=source.fingerprint,
        artefact_digest=dataset.digest,
        price=costs,
        seconds=time.perf_counter() - start,
        **found,
    )


def named(protocol: str | EvaluationProtocol) -> EvaluationProtocol:
    """The protocol of this name, or a label regime that shows another number of images (hl:5000).

    Raises:
        RecipeError: there is none.
    """
    if not isinstance(protocol, str):
        return protocol
    regime, _, shown = protocol.partition(":")
    for one in REGIMES:
        if one.name == regime and shown.isdecimal() and len(shown) < 20:
            return one.showing(int(shown))
    if protocol not in PROTOCOLS:
        raise RecipeError(f"unknown protocol {protocol!r}; use one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def register(protocol: EvaluationProtocol) -> None:
    """Make a protocol known by its name for the rest of this process.

    It takes the place of one that was registered before.

    Raises:
        RecipeError: a protocol of potstill's has its name.
    """
    if protocol.name in _OWN:
        raise RecipeError(
            f"there is a protocol {protocol.name!r} already; give this one another name"
        )
    PROTOCOLS[protocol.name] = protocol


def made_for(dataset: DistilledDataset, key: str) -> Any:
    """An entry of the evaluation that the artefact was made for.

    Raises:
        ArtefactError: there is none.
    """
    if key not in dataset.header["evaluation"]:
        raise ArtefactError(f"the distilled set does not say which {key} it was made for; pass one")
    return dataset.header["evaluation"][key]


def network_made_for(dataset: DistilledDataset) -> NetworkRecipe:
    """The network that the artefact was made for.

    Raises:
        ArtefactError: there is none, or code that is not potstill's makes it: a file does not
            choose what code runs.
    """
    recipe = NetworkRecipe.model_validate(made_for(dataset, "network"))
    if recipe.foreign:
        raise ArtefactError(
            f"the distilled set was made for {recipe.name!r}, which is not part of potstill; if "
            "you trust that code, name it with --network"
        )
    return recipe


def random_real_sets(
    dataset: DistilledDataset, source: SourceDataset, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """``count`` draws: images (count, n, c, h, w) in network space, labels (count, n, C)."""
    images, labels = [], []
    sizes = class_sizes(dataset)
    for index in range(count):
        chosen = sample_per_class(
            source.train, source.classes, sizes, rng.stream(seed, "evaluation/baseline", index)
        )
        images.append(dataset.preprocess.apply(source.train.images[chosen]))
        labels.append(centred_one_hot(source.train.labels[chosen], source.classes))
    return torch.stack(images), torch.stack(labels)


def class_sizes(dataset: DistilledDataset) -> list[int]:
    """How many random images of each class stand beside the set, as many as it has in all.

    Equally many where that comes out, whatever its learned labels look like, else the set's own.
    """
    classes = len(dataset.class_names)
    each, left = divmod(len(dataset), classes)
    if not left:
        return [each] * classes
    sizes: list[int] = dataset.hard_labels().bincount(minlength=classes).tolist()
    return sizes


def _check_fit(dataset: DistilledDataset, source: SourceDataset, baseline: bool) -> None:
    if not len(source.test.labels):
        raise DataError(f"{source.name} has no test images; add a test folder, or pass test images")
    if baseline and not dataset.images_per_class:
        raise DataError(
            f"{len(dataset)} images of {source.classes} classes are not one per class, so that "
            "random images cannot be compared with them; leave out the baseline"
        )
    if dataset.labels.shape[1] != source.classes:
        raise DataError(
            f"the distilled set has {dataset.labels.shape[1]} classes and {source.name} has "
            f"{source.classes}; evaluate on the data it was distilled from"
        )
    shapes = tuple(dataset.shape[1:]), tuple(source.test.images.shape[1:])
    if shapes[0] != shapes[1]:
        raise DataError(
            f"distilled images are {_words(shapes[0])} and {source.name}'s "
            f"are {_words(shapes[1])}; evaluate on the data it was distilled from"
        )


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[2]} with {shape[0]} channel{'s' if shape[0] != 1 else ''}"


def _work(chosen: EvaluationProtocol, dataset: DistilledDataset, epochs: int | None) -> Work:
    channels, resolution = dataset.shape[1:3]
    return chosen.work(
        len(dataset),
        channels,
        resolution,
        epochs=chosen.epochs(dataset, epochs),
        mirrored=dataset.mirror_images,
    )


def _warnings(
    dataset: DistilledDataset, source: SourceDataset, teacher: Teacher | None
) -> list[str]:
    """What was made from other data than the set is scored on, under the same name or not."""
    made = [("the set was distilled from", dataset.header["source"], "is evaluated")]
    if teacher is not None:
        made.append(("the teacher was trained on", teacher.header["source"], "labels for a test"))
    warnings = []
    for origin, recorded, use in made:
        fingerprint = str(recorded.get("fingerprint", "unknown"))
        if fingerprint != source.fingerprint:
            warnings.append(
                f"{origin} data with fingerprint {fingerprint[:12]} and {use} on {source.name} "
                f"with {source.fingerprint[:12]}: the same name need not mean the same data"
            )
    return warnings
