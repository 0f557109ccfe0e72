"""What a set is worth, and what it betrays: evaluations and audits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from potstill.api.inputs import (
    CacheLike,
    NetworkLike,
    ProgressLike,
    SetLike,
    SourceLike,
    TeacherLike,
    cache_of,
    device_of,
    network_of,
    set_file,
    set_of,
    shown,
    source_of_set,
)
from potstill.api.teachers import labeller_of, teacher_of
from potstill.audits import continual as by_class
from potstill.audits import diversity as distances
from potstill.audits import membership
from potstill.audits.students import Students
from potstill.data.distilled import DistilledDataset
from potstill.evaluation import protocol as protocols
from potstill.evaluation import relabel as store_labels
from potstill.evaluation import robust
from potstill.evaluation.baselines import REAL_STEPS
from potstill.evaluation.plan import EvaluationProtocol
from potstill.files import expanded
from potstill.results import Continual, Diversity, Evaluation, Membership, RobustScores
from potstill.teacher import Teacher


def evaluate(
    dataset: SetLike,
    source: SourceLike | None = None,
    *,
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkLike | None = None,
    seed: int = 0,
    device: str = "auto",
    baseline: bool = False,
    teacher: TeacherLike | None = None,
    epochs: int | None = None,
    best: bool = False,
    data_root: str | Path | None = None,
    download: bool = False,
    progress: ProgressLike = False,
) -> Evaluation:
    """Train fresh networks on ``dataset`` and test them on ``source``'s test images.

    The result is returned and not stored; :func:`potstill.keep` adds it to a set's file.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        source: the real data it stands for, or a pair of torch Datasets, training and test; what
            its recipe names if None.
        protocol: a protocol, or its name in ``potstill.PROTOCOLS``; the set's if None.
        networks: number of networks to train; the set's number if None.
        network: what to train: a name such as ``convnet:instance,width=64``, a class or function
            called with ``channels``, ``resolution`` and ``classes``, or a module, of which copies
            are trained whose parameters are drawn anew; the network that the set was distilled for
            if None.
        seed: seed of every random draw.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        baseline: also score random real images, as many as distilled ones.
        teacher: labels what networks see, under a protocol with soft labels; if None, the labels
            that the set stores, else the teacher in the folder of its run.
        epochs: epochs, for a protocol that counts them; the set's or the protocol's if None.
        best: also test after the epochs that the protocol looks at, and report each best one.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        progress: True for a bar, or what is told of every step.

    Raises:
        PotstillError: one line that says what is wrong, and what to do; which kinds, says
            :func:`potstill.evaluation.protocol.evaluate`.
    """
    where = device_of(device)
    scored, place = set_of(dataset), _place(dataset)
    with shown(progress) as tell:
        real = source_of_set(source, scored, root=data_root, download=download, progress=tell)
        return protocols.evaluate(
            scored,
            real,
            protocol=protocol,
            networks=networks,
            network=network_of(network, real),
            seed=seed,
            device=where,
            baseline=baseline,
            teacher=labeller_of(
                scored, place, device=where, protocol=protocol, path=_path(teacher)
            ),
            epochs=epochs,
            best=best,
            progress=tell,
        )


def relabel(
    dataset: SetLike,
    teacher: TeacherLike | None = None,
    *,
    protocol: str | EvaluationProtocol | None = None,
    epochs: int | None = None,
    seed: int = 0,
    precision: Literal["float16", "float32"] = "float16",
    device: str = "auto",
    progress: ProgressLike = False,
) -> DistilledDataset:
    """The set with a teacher's soft labels of every view, so that networks need no teacher.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        teacher: a teacher or its file; that of the run if None.
        protocol: whose views are labelled; the set's if None.
        epochs: epochs of views to label; the set's or the protocol's if None.
        seed: seed of the views.
        precision: number format of the stored labels.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        progress: True for a bar, or what is told of every epoch.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    labelled, place = set_of(dataset), _place(dataset)
    with shown(progress) as tell:
        return store_labels(
            labelled,
            teacher_of(labelled, place, _path(teacher), None, where),
            protocol=protocol,
            epochs=epochs,
            seed=seed,
            precision=precision,
            device=where,
            progress=tell,
        )


def scores(
    dataset: SetLike,
    source: SourceLike | None = None,
    *,
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkLike | None = None,
    seed: int = 0,
    device: str = "auto",
    teacher: TeacherLike | None = None,
    epochs: int | None = None,
    real_steps: int = REAL_STEPS,
    data_root: str | Path | None = None,
    download: bool = False,
    cache: CacheLike = None,
    progress: ProgressLike = False,
) -> RobustScores:
    """Scores that labels and augmentation cannot lift: HLR, IOR, LRS, ARS.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        source: as in :func:`evaluate`.
        protocol: as in :func:`evaluate`.
        networks: number trained on each set of images; the set's number if None.
        network: as in :func:`evaluate`.
        seed: seed of every random draw.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        teacher: as in :func:`evaluate`; random images need one, whatever labels the set stores.
        epochs: of the set's own protocol, if it counts them.
        real_steps: the budget of each training on all real images.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        cache: a folder that keeps the baselines for the next time.
        progress: True for a bar, or what is told of every step.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    scored, place = set_of(dataset), _place(dataset)
    with shown(progress) as tell:
        real = source_of_set(source, scored, root=data_root, download=download, progress=tell)
        return robust.scores(
            scored,
            real,
            protocol=protocol,
            networks=networks,
            network=network_of(network, real),
            seed=seed,
            device=where,
            teacher=labeller_of(
                scored,
                place,
                device=where,
                protocol=protocol,
                path=_path(teacher),
                stored_suffice=False,
            ),
            epochs=epochs,
            real_steps=real_steps,
            cache=cache_of(cache, "baselines"),
            progress=tell,
        )


def attack(
    dataset: SetLike,
    source: SourceLike | None = None,
    *,
    steps: Sequence[int] = membership.STEPS,
    networks: int = 5,
    folds: int = 5,
    baselines: bool = False,
    network: NetworkLike | None = None,
    augment: bool = True,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    download: bool = False,
    cache: CacheLike = None,
    progress: ProgressLike = False,
) -> Membership:
    """Guess from networks trained on a set which images it was distilled from.

    Audits of several sets are made one by :func:`potstill.audits.several.together`.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        source: what it was distilled from, as in :func:`evaluate`.
        steps: training steps after which each network is attacked.
        networks: number of networks to train.
        folds: parts of the images that attacks are fitted and scored on.
        baselines: also attack networks trained on all real images, and on as many as the set has.
        network: as in :func:`evaluate`.
        augment: train on augmented images, as in the paper; without, more leaks.
        seed: seed of every random draw.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        cache: a folder that keeps what each attacked network came to.
        progress: True for a bar, or what is told of every step.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    attacked = set_of(dataset)
    with shown(progress) as tell:
        real = source_of_set(source, attacked, root=data_root, download=download, progress=tell)
        return membership.membership(
            attacked,
            real,
            steps=steps,
            networks=networks,
            folds=folds,
            baselines=baselines,
            network=network_of(network, real),
            students=Students(augmented=augment),
            device=where,
            seed=seed,
            cache=cache_of(cache, "attacks"),
            progress=tell,
        )


def continual(
    dataset: SetLike,
    source: SourceLike | None = None,
    *,
    tasks: int = 5,
    order: by_class.Order = "random",
    protocol: str | EvaluationProtocol | None = None,
    networks: int | None = None,
    network: NetworkLike | None = None,
    epochs: int | None = None,
    teacher: TeacherLike | None = None,
    baseline: bool = False,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    download: bool = False,
    cache: CacheLike = None,
    progress: ProgressLike = False,
) -> Continual:
    """Train on more and more classes of a set, test on the classes so far.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        source: as in :func:`evaluate`.
        tasks: number of parts to cut the classes into.
        order: of the classes: "random", or "given", as the data has them.
        protocol: as in :func:`evaluate`.
        networks: number of networks for each task; the set's number if None.
        network: as in :func:`evaluate`.
        epochs: epochs, for a protocol that counts them.
        teacher: as in :func:`evaluate`.
        baseline: also train on as many random real images.
        seed: seed of every random draw.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        cache: a folder that keeps each finished task.
        progress: True for a bar, or what is told of every step.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    learned, place = set_of(dataset), _place(dataset)
    with shown(progress) as tell:
        real = source_of_set(source, learned, root=data_root, download=download, progress=tell)
        return by_class.continual(
            learned,
            real,
            tasks=tasks,
            order=order,
            protocol=protocol,
            networks=networks,
            network=network_of(network, real),
            epochs=epochs,
            teacher=labeller_of(
                learned, place, device=where, protocol=protocol, path=_path(teacher)
            ),
            baseline=baseline,
            device=where,
            seed=seed,
            cache=cache_of(cache, "classes"),
            progress=tell,
        )


def diversity(
    dataset: SetLike,
    teacher: TeacherLike | None = None,
    source: SourceLike | None = None,
    *,
    real: bool = True,
    shown_classes: Sequence[int] | None = None,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    download: bool = False,
) -> Diversity:
    """How far apart the images of a class are, as a teacher sees them.

    :func:`potstill.report.write_map` draws the map of the images that is in the result.

    Args:
        dataset: the distilled set, its file, or the folder of its run.
        teacher: a teacher or its file; that of the run if None.
        source: as in :func:`evaluate`.
        real: compare with as many random real images.
        shown_classes: classes on the map; the first ten if None.
        seed: seed of the draw of real images and of the map.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    measured, place = set_of(dataset), _place(dataset)
    beside = None
    if real:
        beside = source_of_set(
            source, measured, root=data_root, download=download, require_test=False
        )
    seer = teacher_of(measured, place, _path(teacher), None, where)
    return distances.diversity(measured, seer, beside, shown=shown_classes, device=where, seed=seed)


def _place(dataset: SetLike) -> Path | None:
    """Where a set lies, if the caller named it by that."""
    return set_file(dataset) if isinstance(dataset, str | Path) else None


def _path(teacher: TeacherLike | None) -> Teacher | Path | None:
    return expanded(teacher) if isinstance(teacher, str | Path) else teacher
