"""Whether networks trained on a distilled set betray the images it was distilled from.

RCIG 4.5 and Appendix B: networks are trained on the set alone, and five attacks
(:mod:`potstill.audits.attacks`) try to tell the images that were distilled, the members, from test
images, which were not. An area under the curve of 1/2 is a guess. Two baselines show what there is
to betray: networks trained on the members themselves, and on as many random members as the set has
images. Networks before their training show what the attacks see that is no betrayal: that training
and test images differ, as MNIST's do, which are by other writers.

Every member is guessed at beside a test image of its class. (The paper takes 10,000 of both. Of
MNIST's test images fewer are fives and more are ones, so that beside members balanced by class the
label alone would give an attack 0.515.) The pairs are cut into folds; an attack is fitted on all
folds but one and scored on that one, so that none is scored on what it was fitted on. The mean over
folds is the area of a network: one number for each network.

The paper's 25 are 5 networks on each of 5 sets, distilled from parts of the training images that
share none (Appendix C; ``data.train_chunk``). Each set is an audit;
:func:`potstill.audits.several.together` makes one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from potstill.audits.attacks import ATTACKS, FALSE_POSITIVE_RATES
from potstill.audits.candidates import Candidates, pair_up
from potstill.audits.students import Students
from potstill.audits.targets import Target, attack
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.importing import METHOD
from potstill.data.source import SourceDataset, centred_one_hot
from potstill.errors import DataError, RecipeError
from potstill.evaluation.cache import Cache, trained_on
from potstill.evaluation.protocol import class_sizes, network_made_for, random_real_sets
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.progress import Progress, part, silent
from potstill.results import Accuracy, Areas, Attacked, Membership, Roc, Targets, TargetTraining

STEPS = (100, 200, 500, 1000, 2000, 4000, 8000, 16000)
"""When students are attacked; the tables show the last."""

_FIT = 10
"""Steps of training that the attacks' fits to one fold are counted as."""


@dataclass(frozen=True)
class _Case:
    """The set, the data and the options of one audit."""

    dataset: DistilledDataset
    source: SourceDataset
    network: NetworkRecipe
    networks: int
    folds: int
    steps: tuple[int, ...]
    students: Students
    seed: int
    device: torch.device
    cache: Cache

    def fresh(self, index: int) -> nn.Module:
        """Network ``index`` before its training."""
        network = zoo.build(
            self.network,
            channels=self.source.channels,
            resolution=self.source.resolution,
            classes=self.source.classes,
        ).to(self.device)
        initialise(network, self.seed, "audits/membership/network", index)
        return network

    def attack(self, candidates: Candidates, network: nn.Module, index: int) -> Target:
        """What attacks on ``network`` come to."""
        preprocess = self.dataset.preprocess
        return attack(
            network,
            self.source,
            preprocess,
            candidates,
            folds=self.folds,
            seed=self.seed,
            index=index,
        )


def membership(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    steps: Sequence[int] = STEPS,
    networks: int = 5,
    folds: int = 5,
    baselines: bool = False,
    network: NetworkRecipe | None = None,
    students: Students | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
    cache: Cache | None = None,
    progress: Progress = silent,
) -> Membership:
    """Train networks on a distilled set and attack them.

    Args:
        dataset: the distilled set, of any method.
        source: what it was distilled from, with ``data.train_images`` of its recipe: the
            training images are the members.
        steps: training steps after which each network is attacked; the largest ends its training.
        networks: number of networks to train. Network i starts from stream
            "audits/membership/network" at step i, whatever it is trained on.
        folds: number of parts that members and others are cut into, to fit and to score on.
        baselines: also attack networks trained on all members, and on random ones.
        network: the network to train; the one the set was distilled for if None.
        students: how networks are trained; as in the paper if None.
        device: where networks are trained. Attacks are fitted on the processor.
        seed: seed of every random draw.
        cache: where what each attacked network came to is stored and looked for, so that a stop
            loses one at most; nowhere if None, or if the network is not one of potstill's.
        progress: told of every "training step", what the attacks cost counted as steps too.

    Raises:
        ArtefactError: the set does not say which network it was made for, and none was passed.
        DataError: the source is not what the set was distilled from, has too few images for
            so many folds, or the set fewer images than classes to compare a baseline with.
        NetworkError: the network does not fit the images.
        RecipeError: no network, no step, or fewer than two folds.
        NumericalError: a training left the finite numbers.
    """
    start = time.perf_counter()
    chosen = network_made_for(dataset) if network is None else network
    dataset = dataset.refitted(source, device=device)
    case = _Case(
        dataset=dataset,
        source=source,
        network=chosen,
        networks=networks,
        folds=folds,
        steps=tuple(sorted({*steps})),
        students=students or Students(),
        seed=seed,
        device=torch.device(device),
        cache=Cache() if cache is None or chosen.foreign else cache,
    )
    warnings = _check(case, baselines)
    candidates = pair_up(source, folds, seed)
    sets = {"distilled": (dataset.images, dataset.labels)}
    if baselines:
        sets["members"] = _members(case)
        sets["random"] = random_real_sets(dataset, source, networks, seed)
    scores = {}
    for done, (name, (images, labels)) in enumerate(sets.items()):
        told = part(progress, done, len(sets))
        targets = _targets(case, candidates, name, images, labels, told)
        scores[name] = _scores(case.steps, targets, images.shape[-4])
    untrained = _untrained(case, candidates)
    found: dict[str, Any] = {"distilled": scores.pop("distilled")}
    if baselines:
        found["baselines"] = scores
    if warnings:
        found["warnings"] = warnings
    return Membership(
        kind="membership",
        dataset=source.name,
        images=len(dataset),
        images_per_class=dataset.images_per_class,
        artefact_digest=dataset.digest,
        source_fingerprint=source.fingerprint,
        network=chosen,
        training=_training(case),
        attacks=ATTACKS,
        networks=networks,
        folds=folds,
        seed=seed,
        members=len(candidates.members),
        others=len(candidates.others),
        untrained=Areas(auc=_areas(untrained)),
        seconds=time.perf_counter() - start,
        **found,
    )


def _targets(
    case: _Case,
    candidates: Candidates,
    name: str,
    images: Tensor,
    labels: Tensor,
    progress: Progress,
) -> list[list[Target]]:
    """At each step the k networks that are trained on (n, c, h, w) or (k, n, c, h, w)."""
    total = case.steps[-1] + len(case.steps) * case.folds * _FIT
    targets = []
    for index in range(case.networks):

        def report(done: int, index: int = index) -> None:
            part(progress, index, case.networks)("training step", done, total)

        def train(index: int = index, report: Callable[[int], None] = report) -> list[Target]:
            snapshots = case.students.snapshots(
                case.fresh(index),
                images[index] if images.ndim == 5 else images,
                labels[index] if labels.ndim == 3 else labels,
                case.steps,
                seed=case.seed,
                index=index,
                progress=lambda stage, done, total, **values: report(done),
            )
            found = []
            for done, network in enumerate(snapshots, start=1):
                found.append(case.attack(candidates, network, index))
                report(case.steps[-1] + done * case.folds * _FIT)
            return found

        targets.append(_once(case, name, index, train))
        report(total)
    return [list(each) for each in zip(*targets, strict=True)]


def _untrained(case: _Case, candidates: Candidates) -> list[Target]:
    """What attacks on the networks come to before their training."""

    def attacked(index: int) -> list[Target]:
        return [case.attack(candidates, case.fresh(index), index)]

    return [
        _once(case, "nothing", index, partial(attacked, index))[0] for index in range(case.networks)
    ]


def _once(case: _Case, name: str, index: int, attacked: Callable[[], list[Target]]) -> list[Target]:
    """Network ``index`` at each step, from the cache if it is there."""
    key = {
        **trained_on(case.source, case.dataset.preprocess, case.network, case.seed, case.device),
        "what": f"attacks on networks trained on {name}",
        "set": case.dataset.digest if name == "distilled" else None,
        "images": class_sizes(case.dataset) if name == "random" else None,
        "students": case.students.key(),
        "steps": [] if name == "nothing" else case.steps,
        "chunks": case.folds,  # the name that files in caches have
        "network_index": index,
    }
    cached = case.cache.get(key, _Cached)
    moments = max(1, len(key["steps"]))
    if cached is not None and [one.folds for one in cached.targets] == [case.folds] * moments:
        return cached.targets
    targets = attacked()
    case.cache.put(key, _Cached(targets=targets).model_dump(mode="json", by_alias=True))
    return targets


class _Cached(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    # The name that files in caches have.
    targets: list[Target] = Field(alias="victims")


def _scores(steps: Sequence[int], targets: list[list[Target]], images: int) -> Targets:
    """What networks trained on so many images came to, by step."""
    curve = [
        Attacked(
            steps=step,
            accuracy=Accuracy.of([one.accuracy for one in networks]),
            member_accuracy=Accuracy.of([one.member_accuracy for one in networks]),
            auc=_areas(networks),
        )
        for step, networks in zip(steps, targets, strict=True)
    ]
    last = targets[-1]
    rates = {
        name: np.mean([tpr for one in last for tpr in one.curves[name]], axis=0) for name in ATTACKS
    }
    tpr = {name: tuple(mean.round(5).tolist()) for name, mean in rates.items()}
    return Targets(images=images, curve=tuple(curve), roc=Roc(fpr=FALSE_POSITIVE_RATES, tpr=tpr))


def _areas(networks: list[Target]) -> dict[str, Accuracy]:
    """Of each attack the area on each network, the mean over folds."""
    return {name: Accuracy.of([fmean(one.areas[name]) for one in networks]) for name in ATTACKS}


def _members(case: _Case) -> tuple[Tensor, Tensor]:
    """All of them, to be trained on: (m, c, h, w) in network space and (m, C)."""
    real = case.source.train
    images = case.dataset.preprocess.apply(real.images)
    return images, centred_one_hot(real.labels, case.source.classes)


def _check(case: _Case, baselines: bool) -> list[str]:
    """Refuse what cannot be audited; warnings."""
    if case.networks < 1 or case.folds < 2 or not case.steps or case.steps[0] < 1:
        raise RecipeError(
            f"cannot attack {case.networks} networks after {list(case.steps)} steps in "
            f"{case.folds} folds; ask for at least 1 network, 1 step and 2 folds"
        )
    source, dataset = case.source, case.dataset
    ours, real = (
        (len(labels), *images.shape[1:])
        for labels, images in (
            (dataset.class_names, dataset.images),
            (source.class_names, source.train.images),
        )
    )
    if ours != real:
        raise DataError(
            f"{source.name} and the distilled set differ in classes or in the images' shape "
            f"({real} and {ours}); use the data that the set was distilled from"
        )
    if baselines and not dataset.images_per_class:
        raise DataError(
            f"{len(dataset)} images of {source.classes} classes are not one per class, so that "
            "random images cannot be compared with them; leave out the baselines"
        )
    return _known_members(dataset, source)


def _known_members(dataset: DistilledDataset, source: SourceDataset) -> list[str]:
    """Refuse another source than the set's own: its training images are no members.

    What made an imported set is not known; its fingerprint is that of the data it stands for.
    """
    recorded = dataset.header["source"].get("fingerprint", "unknown")
    if recorded == "unknown":
        return [
            f"the set does not say which images it was distilled from: that they are the training "
            f"images of {source.name} is taken on trust"
        ]
    if recorded != source.fingerprint:
        raise DataError(
            f"the set was distilled from data with fingerprint {str(recorded)[:12]} and "
            f"{source.name} here has {source.fingerprint[:12]}, so that its members are not "
            "known; use the data that the set was distilled from"
        )
    if dataset.header["method"] == METHOD:
        return [
            "the set was imported, and its members are taken on trust: that it was made from the "
            f"{len(source.train)} training images that {source.name} has here and from no others "
            "(potstill import --train-images says how many)"
        ]
    return []


def _training(case: _Case) -> TargetTraining:
    students = case.students
    return TargetTraining(
        optimiser="adam",
        learning_rate=students.learning_rate,
        batch_size=students.batch_size,
        augmented=students.augmented,
        steps=case.steps[-1],
    )
