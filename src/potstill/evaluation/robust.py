"""Scores that labels and augmentation cannot lift (DD-Ranking, arXiv 2505.13300).

Accuracy on distilled images mixes what is in the images, what is in the labels (soft ones are a
teacher's knowledge) and what augmentation adds. Accuracies below are fractions after the last
step, means over the same networks:

- HLR, hard label recovery: all real images with hard labels, less distilled images with hard
  labels, both under protocol ``hard-label``. Less is better.
- IOR, improvement over random: distilled images less as many random real ones, both under the
  set's own protocol. More is better.
- LRS, label-robust score: a = w IOR - (1 - w) HLR, LRS = (e^a - e^-1) / (e - e^-1), w = 1/2.
- ARS, augmentation-robust score: the same map of g (distilled - random, with augmentation) +
  (1 - g) (distilled - random, without), under the set's own protocol, g = 1/2.

The map takes [-1, 1] to [0, 1]; a set that is worth what random real images are, at an HLR of 0,
has e^0 there, 0.269. Of LRS and ARS, more is better.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch

from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.errors import DataError, RecipeError
from potstill.evaluation.baselines import REAL_STEPS, all_real, random_real
from potstill.evaluation.cache import Cache
from potstill.evaluation.plan import Assignment, EvaluationProtocol
from potstill.evaluation.protocol import PROTOCOLS, evaluate, made_for, named
from potstill.evaluation.students import HARD_LABEL
from potstill.progress import Progress, silent, staged
from potstill.results import (
    AugmentationRobust,
    Evaluation,
    HardLabelled,
    LabelRobust,
    OnRandom,
    OnReal,
    OverRandom,
    Recovery,
    RobustScores,
)
from potstill.teacher import Teacher

HARD = HARD_LABEL.name
"""Name of the protocol of HLR."""
LABEL_WEIGHT = 0.5
AUGMENTATION_WEIGHT = 0.5


def robust(improvement: float) -> float:
    """(e^a - e^-1) / (e - e^-1): [-1, 1] to [0, 1]."""
    return (math.exp(improvement) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust(hlr: float, ior: float, weight: float = LABEL_WEIGHT) -> float:
    """LRS from accuracies, which are fractions."""
    return robust(weight * ior - (1 - weight) * hlr)


def augmentation_robust(
    augmented: float, plain: float, weight: float = AUGMENTATION_WEIGHT
) -> float:
    """ARS of the improvements over random images with and without augmentation, fractions."""
    return robust(weight * augmented + (1 - weight) * plain)


def scores(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkRecipe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    teacher: Teacher | None = None,
    epochs: int | None = None,
    real_steps: int = REAL_STEPS,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> RobustScores:
    """HLR, IOR, LRS and ARS of a distilled set, with what they are made of.

    Args:
        dataset: the distilled set.
        source: the real data it stands for.
        protocol: the set's own protocol, or its name; the artefact's if None.
        networks: number trained on each set of images; the artefact's number if None.
        network: the network to train; the one the set was made for if None.
        seed: seed of every random draw.
        device: where networks are trained and tested.
        teacher: labels what the students of a protocol with soft labels see, random real images
            among them; such protocols need one.
        epochs: epochs of the set's own protocol, if it counts them; if None, the artefact's number,
            and if it has none, the protocol's.
        real_steps: the budget of each training on all real images, under ``hard-label``: as many
            whole epochs as it holds, one at least, the protocol's number at most. A budget that
            is too small makes HLR too small.
        cache: where the baselines are stored and looked for; they are trained if None, and if the
            network is not one of potstill's.
        progress: told of every training step; a stage is what is trained on, and the protocol.

    Raises:
        DataError: the protocol needs a teacher and there is none, there are fewer images than
            classes, or set, source and teacher do not fit.
        RecipeError: a protocol that has no form with and without augmentation, or no networks.
        PotstillError: what :func:`potstill.evaluation.evaluate` raises.
    """
    start = time.perf_counter()
    own = named(made_for(dataset, "protocol") if protocol is None else protocol)
    augmented, plain = with_and_without(own)
    _check(dataset, own, teacher)
    dataset = dataset.refitted(source, device=device)
    results: dict[str, Evaluation] = {}
    for each in (own, augmented, plain, HARD_LABEL):
        if each.name not in results:
            # HLR asks what the set's images are worth, however briefly its own protocol is run.
            lasting = epochs if own.name == HARD or each.name != HARD else None
            results[each.name] = evaluate(
                dataset,
                source,
                protocol=each,
                networks=networks,
                network=network,
                seed=seed,
                device=device,
                **_asked(each, teacher, lasting),
                progress=staged(progress, f"distilled images, {each.name}"),
            )
    first = results[own.name]
    given = Assignment(
        dataset=dataset,
        source=source,
        network=first.network,
        networks=len(first.accuracy.values),
        seed=seed,
        device=torch.device(device),
        baseline=True,
    )
    # The code of a network that is not potstill's may change, and no key would show it.
    store = Cache() if cache is None or given.network.foreign else cache
    randoms: dict[str, OnRandom] = {}
    for each in (own, augmented, plain):
        if each.name not in randoms:
            told = staged(progress, f"random real images, {each.name}")
            asked = replace(given, **_asked(each, teacher, epochs))
            randoms[each.name] = random_real(asked, each, store, told)
    told = staged(progress, f"all real images, {HARD}")
    real = all_real(given, HARD_LABEL, store, told, real_steps)
    found = _composed(results, randoms, real, (own.name, augmented.name, plain.name))
    warnings = _warnings(first, found["hlr"], store)
    if warnings:
        found["warnings"] = warnings
    return RobustScores(
        kind="scores",
        dataset=first.dataset,
        images=first.images,
        images_per_class=first.images_per_class,
        network=first.network,
        networks=given.networks,
        protocol=own.name,
        teacher=None if teacher is None else teacher.summary(),
        seed=seed,
        weights={"lrs": LABEL_WEIGHT, "ars": AUGMENTATION_WEIGHT},
        source_fingerprint=source.fingerprint,
        artefact_digest=dataset.digest,
        seconds=time.perf_counter() - start,
        **found,
    )


def with_and_without(
    protocol: EvaluationProtocol,
) -> tuple[EvaluationProtocol, EvaluationProtocol]:
    """The forms of a protocol with augmentation and without, one of which it is.

    The one that it is not is the protocol that is registered under its name, if there is one.

    Raises:
        RecipeError: it has no such form.
    """
    augmented, plain = protocol.with_augmentation(), protocol.without_augmentation()
    if augmented is not protocol:
        augmented = PROTOCOLS.get(augmented.name, augmented)
    if plain is not protocol:
        plain = PROTOCOLS.get(plain.name, plain)
    return augmented, plain


def _composed(
    results: dict[str, Evaluation],
    randoms: dict[str, OnRandom],
    real: OnReal,
    names: tuple[str, str, str],
) -> dict[str, Any]:
    """The four scores by name; ``names``: own protocol, augmented and plain."""

    def over_random(name: str, **more: str) -> OverRandom:
        distilled, random = results[name].accuracy, randoms[name]
        value = distilled.mean - random.mean
        return OverRandom(value=value, distilled=distilled, random=random, **more)

    hard = results[HARD]
    distilled = HardLabelled(
        **hard.accuracy.given(), protocol=HARD, epochs=hard.epochs, steps=hard.steps
    )
    hlr = real.mean - distilled.mean
    own = over_random(names[0])
    augmented, plain = (over_random(name, protocol=name) for name in names[1:])
    share = AUGMENTATION_WEIGHT
    return {
        "hlr": Recovery(value=hlr, real=real, distilled=distilled),
        "ior": own,
        "lrs": LabelRobust(
            value=label_robust(hlr, own.value),
            improvement=LABEL_WEIGHT * own.value - (1 - LABEL_WEIGHT) * hlr,
        ),
        "ars": AugmentationRobust(
            value=augmentation_robust(augmented.value, plain.value),
            improvement=share * augmented.value + (1 - share) * plain.value,
            augmented=augmented,
            plain=plain,
        ),
    }


def _warnings(first: Evaluation, hlr: Recovery, store: Cache) -> list[str]:
    warnings = [*first.warnings]
    if hlr.value < 0:
        warnings.append(
            f"networks on all real images reached less in {hlr.real.epochs} epochs than on the "
            "distilled ones, so that HLR and LRS flatter the set; raise --real-steps"
        )
    if store.problem is not None:
        warnings.append(f"the baselines are not kept: {store.problem}")
    return warnings


def _check(dataset: DistilledDataset, own: EvaluationProtocol, teacher: Teacher | None) -> None:
    if own.takes_teacher and teacher is None:
        raise DataError(
            f"the scores compare with random real images, which protocol {own.name} needs a "
            "teacher to label; pass --teacher FILE"
        )
    if teacher is not None and not own.takes_teacher:
        raise RecipeError(
            f"protocol {own.name} takes no teacher; leave it out, or take a protocol that does"
        )
    if not dataset.images_per_class:
        raise DataError(
            f"{len(dataset)} images of {len(dataset.class_names)} classes are not one per class, "
            "so that random images cannot be compared with them; score a set with one at least"
        )


def _asked(
    protocol: EvaluationProtocol, teacher: Teacher | None, epochs: int | None
) -> dict[str, Any]:
    """The options that the caller passed and this protocol has."""
    return {
        "teacher": teacher if protocol.takes_teacher else None,
        "epochs": epochs if protocol.counts_epochs else None,
    }
