"""Class-incremental learning held against evaluations of the parts it is made of."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill.audits.continual import (
    continual,
    restricted_set,
    restricted_source,
    restricted_teacher,
)
from potstill.config import DataRecipe, NetworkRecipe, TeacherRecipe
from potstill.data import datasets, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.source import centred_one_hot, sample_per_class
from potstill.errors import DataError, RecipeError
from potstill.evaluation import Protocol, evaluate
from potstill.evaluation.cache import Cache
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.rng import stream
from potstill.teacher import Teacher

NETWORK = NetworkRecipe(depth=1, width=8, growth=1, normalisation="batch")
QUICK = Protocol("quick", False, (30, 30), (30, 30), learning_rate=1e-2, warmup=3)
ASKED = {"tasks": 4, "protocol": QUICK, "baseline": True}


@pytest.fixture(scope="module")
def digits():
    return datasets.load(DataRecipe(), None)


@pytest.fixture(scope="module")
def dataset(digits):
    """Four real images per class in random order, with learned labels, that is, noisy ones."""
    draws = stream(0, "test/set")
    rows = sample_per_class(digits.train, 10, 4, draws)[torch.from_numpy(draws.permutation(40))]
    labels = centred_one_hot(digits.train.labels[rows], 10)
    labels += 0.02 * torch.from_numpy(draws.normal(size=labels.shape)).float()
    header = {
        "method": "test",
        "recipe": {},
        "evaluation": {
            "protocol": "rcig-paper",
            "network": NETWORK.model_dump(mode="json"),
            "networks": 2,
        },
        "source": {"name": "digits", "fingerprint": digits.fingerprint},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    pre = preprocess.fit(DataRecipe(), digits.train.images)
    return DistilledDataset(digits.train.images[rows], labels, digits.class_names, pre, header)


@pytest.fixture(scope="module")
def teacher(digits, dataset):
    network = zoo.build(NETWORK, channels=1, resolution=8, classes=10)
    initialise_default(network, 0, "test/teacher")
    header = {
        "network": NETWORK.model_dump(mode="json"),
        "teacher": TeacherRecipe().model_dump(mode="json"),
        "source": {"name": "digits", "fingerprint": "00", "channels": 1, "resolution": 8},
        "epochs": 0,
        "seed": 0,
        "versions": {},
        "results": [],
    }
    return Teacher(network, dataset.preprocess, digits.class_names, header)


@pytest.fixture(scope="module")
def audit(dataset, digits):
    return continual(dataset, digits, **ASKED)


def test_classes_come_in_tasks_and_all_come(audit):
    json.dumps(audit.document(), allow_nan=False)
    assert (audit.kind, audit.order, audit.protocol) == ("continual", "random", "quick")
    rows = audit.tasks
    assert [len(row.classes) for row in rows] == [3, 3, 2, 2]
    assert [row.classes_so_far for row in rows] == [3, 6, 8, 10]
    assert [row.images for row in rows] == [12, 24, 32, 40]
    everything = [label for row in rows for label in row.classes]
    assert sorted(everything) == [*range(10)] != everything
    assert all(len(row.accuracy.values) == 2 == audit.networks for row in rows)
    means = [row.accuracy.mean for row in rows]
    assert audit.average_accuracy == pytest.approx(sum(means) / 4)
    # Three classes are easier than ten, and all are better than a guess.
    assert means[0] > means[-1] > 0.3
    assert min(row.baseline.mean for row in rows) > 0.3


def test_only_images_of_classes_so_far_are_tested_on(audit, digits):
    seen: list[int] = []
    for row in audit.tasks:
        seen += row.classes
        assert row.tested == sum(int((digits.test.labels == label).sum()) for label in seen)


def test_the_last_task_is_an_evaluation_of_the_whole_set(audit, dataset, digits):
    whole = evaluate(dataset, digits, protocol=QUICK, baseline=True)
    last = audit.tasks[-1]
    assert last.accuracy == whole.accuracy
    assert last.baseline == whole.baseline
    assert audit.artefact_digest == dataset.digest
    assert audit.source_fingerprint == digits.fingerprint
    assert not audit.warnings


def test_an_earlier_task_knows_nothing_of_later_classes(dataset, digits, audit):
    """Whatever the images of other classes are, and the real ones, the first task is the same."""
    later = [label for row in audit.tasks[1:] for label in row.classes]
    other = torch.isin(dataset.hard_labels(), torch.tensor(later))
    images = torch.where(other[:, None, None, None], 0.0, dataset.images)
    header = {key: value for key, value in dataset.header.items() if key != "format_version"}
    blank = DistilledDataset(
        images, dataset.labels, dataset.class_names, dataset.preprocess, header
    )
    again = continual(blank, digits, tasks=4, protocol=QUICK)
    assert again.tasks[0].accuracy == audit.tasks[0].accuracy
    assert again.tasks[1].accuracy != audit.tasks[1].accuracy


def test_the_order_is_the_seeds_or_the_datas(dataset, digits):
    def order(**options):
        options |= {"tasks": 5, "protocol": QUICK, "networks": 1}
        return [list(row.classes) for row in continual(dataset, digits, **options).tasks]

    assert order(order="given") == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert order(seed=1) == order(seed=1) != order(seed=2)


def test_one_task_is_all_classes(dataset, digits):
    (row,) = continual(dataset, digits, tasks=1, protocol=QUICK).tasks
    assert row.accuracy == evaluate(dataset, digits, protocol=QUICK).accuracy


@given(st.sets(st.integers(0, 9), min_size=1))
def test_a_part_is_what_it_was_in_the_whole(chosen):
    source = datasets.load(DataRecipe(), None)
    rows = torch.arange(0, 200, 5)
    pre = preprocess.fit(DataRecipe(), source.train.images)
    labels = source.train.labels[rows]
    header = {
        "method": "test",
        "recipe": {},
        "evaluation": {"protocol": "test"},
        "source": {"name": "digits", "fingerprint": "00"},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    whole = DistilledDataset(
        source.train.images[rows], centred_one_hot(labels, 10), source.class_names, pre, header
    )
    classes = sorted(chosen)
    if not chosen & {*labels.tolist()}:
        return
    part = restricted_set(whole, classes)
    kept = [index for index, label in enumerate(labels.tolist()) if label in chosen]
    assert torch.equal(part.images, whole.images[kept])
    names = [part.class_names[label] for label in part.hard_labels()]
    assert names == [source.class_names[labels[index]] for index in kept]
    # Centred labels of all classes become centred labels of these.
    wanted = centred_one_hot(part.hard_labels(), len(classes))
    torch.testing.assert_close(part.labels, wanted, atol=1e-6, rtol=0)
    real = restricted_source(source, classes)
    assert real.class_names == tuple(source.class_names[label] for label in classes)
    old = torch.tensor(classes)[real.test.labels]
    assert torch.equal(old, source.test.labels[torch.isin(source.test.labels, old.unique())])


def test_a_teacher_labels_with_the_classes_so_far_alone(teacher, dataset):
    part = restricted_teacher(teacher, [7, 2, 5])
    outputs = part.logits(dataset.images[:6])
    torch.testing.assert_close(outputs, teacher.logits(dataset.images[:6])[:, [7, 2, 5]])
    assert part.class_names == ("7", "2", "5") and part.classes == 3


def test_soft_labels_need_a_teacher_who_is_named(teacher, dataset, digits):
    options = {"tasks": 2, "protocol": "dwa-paper", "networks": 1, "epochs": 2}
    audit = continual(dataset, digits, teacher=teacher, baseline=True, **options)
    assert audit.teacher == teacher.summary()
    assert (audit.epochs, audit.labels) == (2, "on the fly")
    whole = evaluate(dataset, digits, teacher=teacher, protocol="dwa-paper", networks=1, epochs=2)
    assert audit.tasks[-1].accuracy.mean == pytest.approx(whole.accuracy.mean, abs=0.01)
    with pytest.raises(DataError, match="stored labels mix all classes") as caught:
        continual(dataset, digits, **options)
    assert "\n" not in str(caught.value)
    hard = continual(dataset, digits, **{**options, "protocol": "hard-label"})
    assert hard.labels == "hard"


def test_what_cannot_be_is_refused(dataset, digits, teacher):
    for tasks in (0, 11):
        with pytest.raises(RecipeError, match="ask for 1 to 10"):
            continual(dataset, digits, tasks=tasks, protocol=QUICK)
    with pytest.raises(DataError, match="10 classes and digits has 3"):
        continual(dataset, restricted_source(digits, [1, 2, 3]), protocol=QUICK)
    few = restricted_teacher(teacher, [1, 2])
    with pytest.raises(DataError, match="teacher knows 2 classes"):
        continual(dataset, digits, protocol="dwa-paper", teacher=few)
    header = {key: value for key, value in dataset.header.items() if key != "format_version"}
    first = dataset.hard_labels() != 4
    gap = DistilledDataset(
        dataset.images[first],
        dataset.labels[first],
        dataset.class_names,
        dataset.preprocess,
        header,
    )
    with pytest.raises(DataError, match="no image of class 4"):
        continual(gap, digits, protocol=QUICK)


def test_other_data_is_warned_of_once(dataset, digits):
    other = restricted_source(digits, [*range(10)])
    other = type(other)("digits", other.class_names, other.train, other.test, "f" * 64)
    audit = continual(dataset, other, tasks=2, protocol=QUICK, networks=1)
    assert len(audit.warnings) == 1 and "fingerprint" in audit.warnings[0]


def test_progress_counts_each_task(dataset, digits):
    told = []
    continual(
        dataset,
        digits,
        tasks=2,
        protocol=QUICK,
        networks=1,
        progress=lambda *at: told.append(at),
    )
    stages = [f"task {task} of 2, training step" for task in (1, 2)]
    assert told == [(stage, step, 30) for stage in stages for step in range(1, 31)]


def test_a_stop_loses_one_task_at_most(dataset, digits, audit, tmp_path, monkeypatch):
    finished = []

    def stop_at_the_third(*arguments, **options):
        if len(finished) == 2:
            raise KeyboardInterrupt
        finished.append(evaluate(*arguments, **options))
        return finished[-1]

    monkeypatch.setattr("potstill.audits.continual.evaluate", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        continual(dataset, digits, cache=Cache(tmp_path), **ASKED)
    (damaged, _) = sorted(tmp_path.iterdir())
    damaged.write_text(json.dumps(json.loads(damaged.read_text()) | {"value": {}}))
    monkeypatch.setattr("potstill.audits.continual.evaluate", evaluate)
    resumed = continual(dataset, digits, cache=Cache(tmp_path), **ASKED)
    assert {**resumed.document(), "seconds": 0} == {**audit.document(), "seconds": 0}
    monkeypatch.setattr("potstill.audits.continual.evaluate", None)
    assert continual(dataset, digits, cache=Cache(tmp_path), **ASKED).tasks == audit.tasks
    with pytest.raises(TypeError):
        continual(dataset, digits, cache=Cache(tmp_path), **ASKED, seed=1)
