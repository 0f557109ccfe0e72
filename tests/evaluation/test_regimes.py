from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from potstill import rng
from potstill.config import DataRecipe
from potstill.data import preprocess, siamese
from potstill.data.siamese import WITHOUT_FLIP
from potstill.data.source import centred_one_hot, sample_per_class
from potstill.errors import ArtefactError, DataError, RecipeError
from potstill.evaluation import PROTOCOLS, evaluate, relabel
from potstill.evaluation.plan import Work
from potstill.evaluation.protocol import named
from potstill.evaluation.scores import accuracies
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from tests.evaluation.problems import NETWORK, set_of

NAMES = ("hl", "sl", "sl-kd")


def short(name, shown=450):
    return PROTOCOLS[name].showing(shown)


def accuracy(dataset, digits, name, **options):
    return evaluate(dataset, digits, protocol=short(name), **options).accuracy.values


@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_the_one_that_is_written_down(name, real, digits, standardise, teacher):
    """AdamW on a cosine, cross-entropy with the regime's label, one siamese draw a batch."""
    assert accuracy(real, digits, name, teacher=teacher, seed=3) == tuple(
        plainly_trained(name, real, digits, standardise, teacher, seed=3)
    )


def plainly_trained(name, dataset, source, preprocess, teacher, seed):
    network = zoo.build(NETWORK, channels=1, resolution=8, classes=10)
    initialise_default(network, seed, "evaluation/network", 0)
    network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.01, fused=True)
    rows = torch.cat(
        [
            torch.from_numpy(rng.stream(seed, "evaluation/views/0/order", e).permutation(50))
            for e in range(9)
        ]
    )
    fixed = teacher.network(dataset.images).softmax(1)
    for step in range(9):
        optimiser.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / 9)) / 2
        batch = rows[50 * step : 50 * (step + 1)]
        generator = rng.stream(seed, "evaluation/views/0/draw", step)
        views = siamese.apply(
            dataset.images[batch], siamese.draw(WITHOUT_FLIP, 8, generator, 50)
        ).contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            on_views = teacher.network(views).softmax(1)
        target = {"hl": dataset.hard_labels()[batch], "sl": fixed[batch], "sl-kd": on_views}[name]
        optimiser.zero_grad()
        F.cross_entropy(network(views), target).backward()
        optimiser.step()
    return accuracies([network], source.test, preprocess)


@pytest.mark.parametrize("name", NAMES)
def test_sets_of_any_size_and_method_are_trained_on_alike(name, real, digits, standardise, teacher):
    """As many steps of as many images, whatever the set's own epochs and strategy."""
    few = set_of(digits, standardise, real.images[:10], real.labels[:10], epochs=7)
    few.header["evaluation"]["strategy"] = ["flip"]
    for dataset in (real, few):
        result = evaluate(dataset, digits, protocol=short(name), teacher=teacher)
        assert (result.steps, result.presentations, result.epochs) == (9, 450, None)
        assert result.strategy == WITHOUT_FLIP
        assert result.protocol == f"{name}:450"


def test_every_image_is_shown_equally_often(real, digits, monkeypatch):
    shown = []
    monkeypatch.setattr(
        siamese, "apply", lambda images, drawn: shown.append(images.flatten(1)) or images
    )
    evaluate(real, digits, protocol=PROTOCOLS["hl"].showing(130))
    assert [len(batch) for batch in shown] == [44, 43, 43]
    own = real.images.flatten(1)
    rows = (torch.cat(shown)[:, None] == own).all(2).float().argmax(1)
    assert (own[rows] == torch.cat(shown)).all()
    assert sorted(rows[:50].tolist()) == sorted(rows[50:100].tolist()) == list(range(50))
    assert len(set(rows[100:].tolist())) == 30, "30 of them once more"


def test_hard_labels_are_all_that_hl_reads(real, digits, standardise, teacher):
    labels = centred_one_hot(real.hard_labels(), 10)
    learned = labels + 0.3 * torch.rand(50, 10, generator=torch.Generator().manual_seed(0))
    plain, soft = (set_of(digits, standardise, real.images, one) for one in (labels, learned))
    noise = relabel(plain, teacher, protocol="sl").soft_labels * 0 + 5
    stored = plain.with_soft_labels(noise, {"protocol": "sl"})
    expected = accuracy(plain, digits, "hl")
    assert accuracy(soft, digits, "hl") == accuracy(stored, digits, "hl") == expected
    assert accuracy(plain, digits, "hl", teacher=teacher) == expected, "it is not asked"
    result = evaluate(plain, digits, protocol=short("hl"), teacher=teacher)
    assert result.labels == "hard" and result.teacher is None


def test_soft_labels_are_stored_and_read(real, digits, teacher):
    stored = relabel(real, teacher, protocol="sl", precision="float32")
    assert stored.soft_labels.shape == (1, 50, 10)
    torch.testing.assert_close(stored.soft_labels[0], teacher.logits(real.images))
    result = evaluate(stored, digits, protocol=short("sl"))
    assert result.labels == "stored" and result.teacher["digest"] == teacher.digest
    assert result.accuracy.values == accuracy(real, digits, "sl", teacher=teacher)


def test_whitened_floats_and_a_teacher_of_plain_pixels(real, digits, standardise, teacher):
    """The teacher's labels are the same in whichever space the set keeps its images."""
    zca = preprocess.fit(DataRecipe(dataset="digits", preprocess="zca"), digits.train.images)
    whitened = set_of(digits, zca, zca.apply(pixels_of(real)), real.labels)
    labels = [
        relabel(one, teacher, protocol="sl", precision="float32").soft_labels
        for one in (real, whitened)
    ]
    torch.testing.assert_close(*labels, atol=1e-3, rtol=1e-3)
    for name in NAMES:
        assert 0 < accuracy(whitened, digits, name, teacher=teacher, baseline=True)[0] < 1


def pixels_of(dataset):
    return (dataset.pixels() * 255).round().to(torch.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_random_images_are_trained_on_in_the_same_way(name, real, digits, standardise, teacher):
    """The baseline is what the evaluation of those very images gives."""
    options = {"protocol": short(name), "teacher": teacher, "networks": 2, "seed": 5}
    beside = evaluate(real, digits, baseline=True, **options)
    expected = []
    for index, rows in enumerate(random_rows(digits, 5)):
        labels = centred_one_hot(digits.train.labels[rows], 10)
        own = set_of(digits, standardise, digits.train.images[rows], labels)
        expected.append(evaluate(own, digits, **options).accuracy.values[index])
    assert beside.baseline.values == tuple(expected)


def random_rows(digits, seed):
    for index in range(2):
        generator = rng.stream(seed, "evaluation/baseline", index)
        yield sample_per_class(digits.train, 10, 5, generator)


def test_what_the_regimes_refuse(real, digits, standardise, teacher):
    def refused(error, words, name, dataset=real, **options):
        with pytest.raises(error, match=words):
            evaluate(dataset, digits, protocol=name, **options)

    refused(DataError, "holds none; pass --teacher FILE or run potstill relabel --prot", "sl")
    refused(DataError, "a teacher beside the student; pass --teacher FILE", "sl-kd")
    refused(RecipeError, "counts images shown, not epochs.*hl:N", "hl", epochs=3)
    refused(RecipeError, "no epochs to choose the best of", "hl", best=True)
    refused(RecipeError, "cannot show a network 0 images", "hl:0")
    refused(RecipeError, "unknown protocol 'hl:many'", "hl:many")
    refused(RecipeError, "unknown protocol 'dc:300'", "dc:300")
    views = relabel(real, teacher, protocol="dwa-paper")
    refused(ArtefactError, "belong to the views of protocol dwa-paper", "sl", views)
    stored = relabel(real, teacher, protocol="sl")
    refused(DataError, "needs the teacher to label random", "sl", stored, baseline=True)
    refused(DataError, "a teacher beside the student", "sl-kd", stored)
    fewer = replace(teacher, class_names=teacher.class_names[:9])
    refused(DataError, "the teacher knows 9 classes", "sl", teacher=fewer)
    with pytest.raises(RecipeError, match="no soft labels to store"):
        relabel(real, teacher, protocol="sl-kd")
    with pytest.raises(RecipeError, match="not epochs"):
        relabel(real, teacher, protocol="sl", epochs=2)


@pytest.mark.parametrize("name", NAMES)
def test_names_and_forms(name):
    protocol = PROTOCOLS[name]
    assert named(f"{name}:5000") == protocol.showing(5000)
    assert named(f"{name}:20000") == protocol == named(name)
    plain = protocol.without_augmentation()
    assert plain.name == f"{name}-plain" and plain.with_augmentation() == protocol
    assert plain.without_augmentation() is plain and protocol.with_augmentation() is protocol
    assert protocol.takes_teacher == (name != "hl")


def test_work_is_the_same_for_any_number_of_images():
    def work(name, images):
        return PROTOCOLS[name].work(images, 3, 32, epochs=None, mirrored=True)

    for images in (10, 500):
        assert work("hl", images) == Work(20_000)
        assert work("sl", images) == Work(20_000, labelled=images)
        assert work("sl-kd", images) == Work(20_000, labelled=20_000)
