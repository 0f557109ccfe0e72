from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from potstill import rng
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets, preprocess
from potstill.data.datasets import Split
from potstill.data.distilled import DistilledDataset
from potstill.data.source import centred_one_hot
from potstill.errors import ArtefactError, DataError, NetworkError, RecipeError
from potstill.evaluation import PROTOCOLS, Protocol, evaluate
from potstill.evaluation.augment import augment
from potstill.evaluation.fixed_steps import with_mirror_images
from potstill.evaluation.protocol import class_sizes, random_real_sets
from potstill.evaluation.scores import accuracies
from potstill.results import Accuracy, Evaluation
from tests.evaluation.problems import numbers

RECIPE = DataRecipe(dataset="digits")
NETWORK = NetworkRecipe(depth=2, width=8)
QUICK = Protocol("quick", False, (40, 40), (40, 40), learning_rate=3e-3, warmup=5)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    return datasets.load(RECIPE, None)


@pytest.fixture(scope="module")
def standardise(digits):
    return preprocess.fit(RECIPE, digits.train.images)


def distilled(source, pre, images, labels, *, flip=False, **evaluation) -> DistilledDataset:
    header = {
        "method": "test",
        "recipe": {"method": {"flip": flip}},
        "evaluation": {
            "protocol": "rcig-paper",
            "network": NETWORK.model_dump(mode="json"),
            "networks": 2,
            **evaluation,
        },
        "source": {"name": source.name, "fingerprint": source.fingerprint},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    return DistilledDataset(images, labels, source.class_names, pre, header)


@pytest.fixture(scope="module")
def class_means(digits, standardise):
    """Ten images, the mean of each class: the simplest set that beats random images."""
    images = standardise.apply(digits.train.images)
    means = torch.stack([images[digits.train.labels == label].mean(0) for label in range(10)])
    return distilled(digits, standardise, means, centred_one_hot(torch.arange(10), 10))


@pytest.mark.parametrize(
    ("name", "augmented", "images", "steps", "length"),
    [
        ("rcig-paper", False, 10, 1000, 1000),
        ("rcig-paper", False, 100, 2000, 2000),
        ("rcig-paper-augmented", True, 10, 1000, 1000),
        ("rcig-paper-augmented", True, 500, 2000, 2000),
        ("rcig-as-run", False, 10, 2500, 1000),
        ("rcig-as-run", False, 100, 5000, 2000),
    ],
)
def test_the_named_protocols(name, augmented, images, steps, length):
    training = PROTOCOLS[name].training(images)
    assert training.steps == steps
    assert training.augment is (augment if augmented else None)
    schedule = training.schedule
    assert (schedule.length, schedule.peak, schedule.warmup) == (length, 1e-4, 500)
    assert schedule(500) == 1e-4
    assert schedule(length) == pytest.approx(1e-6) == schedule(steps - 1 + length)


def test_no_two_protocols_are_one_under_two_names():
    alike = [
        dataclasses.replace(each, name="")
        for each in PROTOCOLS.values()
        if isinstance(each, Protocol)
    ]
    assert len(set(alike)) == len(alike) == 4


@pytest.mark.parametrize(("images", "size"), [(10, None), (256, None), (257, 256)])
def test_batches_are_whole_sets_up_to_256_images(images, size):
    assert PROTOCOLS["rcig-paper"].training(images).batch_size == size


def test_an_accuracy_is_mean_and_sample_deviation():
    values = (0.5, 0.75, 0.25, 0.625)
    result = Accuracy.of(values)
    assert result.mean == pytest.approx(np.mean(values))
    assert result.std == pytest.approx(np.std(values, ddof=1))
    assert result.values == values
    assert Accuracy.of([0.25]).document() == {"mean": 0.25, "std": 0.0, "values": [0.25]}


def test_the_result_is_a_document_with_every_number(digits, class_means):
    result = evaluate(class_means, digits, protocol=QUICK, networks=3, seed=4)
    document = result.document()
    assert Evaluation.model_validate(document | {"a key of tomorrow": 1}) == result
    values = result.accuracy.values
    assert len(values) == 3
    assert result.accuracy == Accuracy.of(values)
    assert document.pop("accuracy")["values"] == list(values)
    assert document.pop("seconds") == result.seconds > 0
    assert document.pop("price") == result.price.document()
    assert document == {
        "protocol": "quick",
        "dataset": "digits",
        "images": 10,
        "images_per_class": 1,
        "network": NETWORK.model_dump(mode="json"),
        "steps": 40,
        "seed": 4,
        "source_fingerprint": digits.fingerprint,
        "artefact_digest": class_means.digest,
    }


def test_protocol_network_and_number_default_to_the_artefacts(
    digits, standardise, class_means, monkeypatch
):
    monkeypatch.setitem(PROTOCOLS, "quick", QUICK)
    network = NetworkRecipe(depth=1, width=3, normalisation="batch")
    dataset = distilled(
        digits,
        standardise,
        class_means.images,
        class_means.labels,
        protocol="quick",
        networks=1,
        network=network.model_dump(mode="json"),
    )
    result = evaluate(dataset, digits)
    assert result.protocol == "quick"
    assert result.network == network
    assert len(result.accuracy.values) == 1 and result.accuracy.std == 0.0


@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_same_seed_same_numbers(digits, class_means, normalisation):
    network = NETWORK.model_copy(update={"normalisation": normalisation})
    protocol = dataclasses.replace(QUICK, augmented=True, largest_full_batch=6)

    def run(seed):
        return evaluate(
            class_means, digits, protocol=protocol, network=network, seed=seed, baseline=True
        )

    first = run(0)
    assert numbers(run(0)) == numbers(first)
    other = run(1)
    assert other.accuracy.values != first.accuracy.values
    assert other.baseline.values != first.baseline.values
    assert len(set(first.baseline.values)) == 2


def test_one_network_more_leaves_the_others_as_they_were(digits, class_means):
    few = evaluate(class_means, digits, protocol=QUICK, networks=2, baseline=True, batched=False)
    more = evaluate(class_means, digits, protocol=QUICK, networks=3, baseline=True, batched=False)
    for ours, theirs in ((few.accuracy, more.accuracy), (few.baseline, more.baseline)):
        assert theirs.values[:2] == ours.values


def test_batched_networks_score_as_networks_in_turn(digits, class_means):
    scores = [
        evaluate(class_means, digits, protocol=QUICK, networks=3, batched=batched).accuracy
        for batched in (False, True)
    ]
    # Rounding can tip an image that lies on the fence; there are 355 of them.
    assert scores[0].values == pytest.approx(scores[1].values, abs=0.01)


def test_all_training_images_beat_class_means_beat_random_images(digits, standardise, class_means):
    everything = distilled(
        digits,
        standardise,
        standardise.apply(digits.train.images),
        centred_one_hot(digits.train.labels, 10),
    )
    long = Protocol("long", False, (150, 150), (150, 150), learning_rate=1e-2, warmup=20)
    wide = NETWORK.model_copy(update={"width": 16})
    whole = evaluate(everything, digits, protocol=long, network=wide).accuracy
    few = evaluate(class_means, digits, protocol=long, network=wide, baseline=True)
    assert whole.mean > 0.9
    assert whole.mean > few.accuracy.mean > few.baseline.mean + 0.05
    assert few.baseline.mean > 0.2
    assert few.baseline.kind == "random real images"


def test_random_sets_are_real_images_of_every_class_and_differ(digits, standardise):
    images = standardise.apply(digits.train.images[:30])
    dataset = distilled(digits, standardise, images, torch.randn(30, 10))
    real = standardise.apply(digits.train.images)
    sets, labels = random_real_sets(dataset, digits, 2, 0)
    assert sets.shape == (2, 30, 1, 8, 8)
    expected = torch.full((30, 10), -0.1)
    expected[torch.arange(30), torch.arange(10).repeat_interleave(3)] = 0.9
    torch.testing.assert_close(labels, expected.expand(2, -1, -1))
    assert not sets[0].equal(sets[1])
    for image, label in zip(sets[1], labels[1], strict=True):
        twins = (real == image).flatten(1).all(1)
        assert digits.train.labels[twins].eq(label.argmax()).any()


def test_a_set_of_uneven_classes_stands_beside_as_many_images(digits, standardise):
    rows = torch.cat([(digits.train.labels == c).nonzero()[: 1 + c % 2, 0] for c in range(10)])
    images = standardise.apply(digits.train.images[rows])
    uneven = distilled(digits, standardise, images, centred_one_hot(digits.train.labels[rows], 10))
    assert class_sizes(uneven) == [1, 2] * 5
    _, labels = random_real_sets(uneven, digits, 2, seed=0)
    assert labels.shape == (2, 15, 10)
    assert labels[1].argmax(1).bincount().tolist() == [1, 2] * 5
    # Labels that were learned may say anything; the set still has a row of images for each class.
    even = distilled(digits, standardise, images[:10], uneven.labels[:10])
    assert class_sizes(even) == [1] * 10


def restated(dataset, **fields):
    header = {key: value for key, value in dataset.header.items() if key != "format_version"}
    parts = (dataset.images, dataset.labels, dataset.class_names, dataset.preprocess)
    return DistilledDataset(*parts, header | fields)


def test_the_flip_trick_is_training_with_mirror_images(digits, standardise, class_means):
    images, labels = with_mirror_images(class_means.images, class_means.labels)
    assert images[13].equal(class_means.images[3].flip(-1)) and labels[13].equal(labels[3])
    tricked = distilled(digits, standardise, class_means.images, class_means.labels, flip=True)
    doubled = distilled(digits, standardise, images, labels)
    first, second = (
        evaluate(dataset, digits, protocol=QUICK).accuracy for dataset in (tricked, doubled)
    )
    assert first == second
    assert first != evaluate(class_means, digits, protocol=QUICK).accuracy
    stated, unstated = (
        restated(dataset, mirror_images=mirrored)
        for dataset, mirrored in ((class_means, True), (tricked, False))
    )
    assert evaluate(stated, digits, protocol=QUICK).accuracy == first
    assert evaluate(unstated, digits, protocol=QUICK).accuracy != first


def test_test_images_pass_through_the_artefacts_own_preprocessing(digits, standardise, class_means):
    """Fitted on inverted digits, standardisation differs, and so must the score."""
    other = preprocess.fit(RECIPE, 255 - digits.train.images)
    strange = distilled(digits, other, class_means.images, class_means.labels)
    calls = []
    apply = strange.preprocess.apply
    strange.preprocess.apply = lambda images: calls.append(len(images)) or apply(images)
    result = evaluate(strange, digits, protocol=QUICK).accuracy
    assert sum(calls) == len(digits.test)
    assert result != evaluate(class_means, digits, protocol=QUICK).accuracy


class Brightest(nn.Module):
    """Takes the first ten pixels as its outputs; wrong, were it left in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, images):
        outputs = images.flatten(1)[:, :10] * self.weight
        return outputs if not self.training else -outputs


def test_accuracy_counts_every_test_image_once(standardise):
    generator = rng.stream(0, "test/images")
    images = torch.from_numpy(generator.integers(0, 250, (237, 1, 8, 8), np.uint8))
    labels = torch.from_numpy(generator.integers(0, 10, 237))
    right = torch.from_numpy(generator.uniform(size=237) < 0.7)
    for index in right.nonzero().flatten():
        images[index, 0].view(-1)[labels[index]] = 255
    expected = (images.flatten(1)[:, :10].float().argmax(1) == labels).double().mean().item()
    same = nn.ModuleList([Brightest(), Brightest()])
    same[1].weight.data.neg_()
    found = accuracies(list(same), Split(images, labels), standardise)
    assert found[0] == pytest.approx(expected)
    assert found[1] < 0.2


def test_progress_runs_through_set_and_baseline(digits, class_means):
    seen = []
    evaluate(
        class_means,
        digits,
        protocol=QUICK,
        baseline=True,
        progress=lambda *told: seen.append(told),
    )
    assert {(stage, total) for stage, _, total in seen} == {("evaluation step", 160)}
    assert seen == sorted(seen) and seen[-1][1] == 160


def test_other_data_under_the_same_name_is_a_warning(digits, class_means):
    altered = dataclasses.replace(digits, fingerprint="f" * 64)
    result = evaluate(class_means, altered, protocol=QUICK, networks=1)
    assert result.source_fingerprint == "f" * 64
    [warning] = result.warnings
    assert digits.fingerprint[:12] in warning and "ffffffffffff" in warning
    assert not evaluate(class_means, digits, protocol=QUICK, networks=1).warnings


def one_class_less(digits):
    return dataclasses.replace(digits, class_names=digits.class_names[:9])


def other_shape(digits):
    return dataclasses.replace(
        digits,
        train=Split(digits.train.images[..., :7, :7], digits.train.labels),
        test=Split(digits.test.images[..., :7, :7], digits.test.labels),
    )


def without_test(digits):
    return dataclasses.replace(digits, test=Split(digits.test.images[:0], digits.test.labels[:0]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (one_class_less, ["10 classes", "9"]),
        (other_shape, ["8x8", "7x7"]),
        (without_test, ["no test images"]),
    ],
)
def test_a_set_that_does_not_fit_the_data_is_refused(digits, class_means, change, words):
    with pytest.raises(DataError) as caught:
        evaluate(class_means, change(digits), protocol=QUICK)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"protocol": "fastest"}, RecipeError, ["fastest", "rcig-paper"]),
        ({"networks": 0}, RecipeError, ["0 networks"]),
        ({"network": NetworkRecipe(name="vgg11")}, NetworkError, ["vgg11", "8 px"]),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(digits, class_means, arguments, error, words):
    with pytest.raises(error) as caught:
        evaluate(class_means, digits, **arguments)
    assert all(word in str(caught.value) for word in words)
    assert "\n" not in str(caught.value)


def test_a_set_of_fewer_images_than_classes_has_no_random_counterpart(
    digits, standardise, class_means
):
    five = distilled(digits, standardise, class_means.images[:5], class_means.labels[:5])
    assert evaluate(five, digits, protocol=QUICK, networks=1).images == 5
    with pytest.raises(DataError, match="baseline"):
        evaluate(five, digits, protocol=QUICK, baseline=True)


def test_an_artefact_that_does_not_say_what_it_is_for_needs_to_be_told(digits, class_means):
    silent = DistilledDataset(
        class_means.images,
        class_means.labels,
        class_means.class_names,
        class_means.preprocess,
        {**class_means.header, "evaluation": {"protocol": "hard-label"}},
    )
    with pytest.raises(ArtefactError, match="network"):
        evaluate(silent, digits, protocol=QUICK)
    with pytest.raises(ArtefactError, match="networks"):
        evaluate(silent, digits, protocol=QUICK, network=NETWORK)
    evaluate(silent, digits, protocol=QUICK, network=NETWORK, networks=1)


def test_numbers_are_cached_under_what_they_were_cached_under_before(digits, standardise):
    """Whoever changes these throws away what users' caches hold."""
    images, labels = torch.zeros(10, 1, 8, 8), torch.eye(10)
    for flip in (False, True):
        dataset = distilled(digits, standardise, images, labels, flip=flip)
        assert PROTOCOLS["rcig-as-run"].cache_key(dataset, None) == {
            "name": "rcig-as-run",
            "augmented": False,
            "steps": (2500, 5000),
            "schedule_length": (1000, 2000),
            "learning_rate": 1e-4,
            "warmup": 500,
            "largest_full_batch": 256,
            "method": "rcig",
            "flip": flip,
        }
        student = PROTOCOLS["hard-label"]
        assert student.cache_key(dataset, 3) == dataclasses.asdict(student.training(dataset, 3))


@pytest.mark.parametrize(
    ("images", "mirrored", "shown"),
    [(10, False, 1000 * 10), (10, True, 1000 * 20), (300, False, 2000 * 256)],
)
def test_fixed_steps_say_how_many_images_they_show(images, mirrored, shown):
    work = PROTOCOLS["rcig-paper"].work(images, 1, 28, epochs=None, mirrored=mirrored)
    assert (work.shown, work.labelled, work.tests) == (shown, 0, 1)


def test_students_say_how_many_images_they_see_and_who_labels_them():
    soft, hard = (
        PROTOCOLS[name].work(100, 3, 32, epochs=7, mirrored=False)
        for name in ("dwa-paper", "hard-label")
    )
    assert (soft.shown, soft.labelled, soft.tests) == (700, 700, 2)
    assert (hard.shown, hard.labelled) == (700, 0)


def test_the_best_epoch_is_asked_for_where_papers_print_it():
    published = {name for name, protocol in PROTOCOLS.items() if protocol.publishes_best}
    assert published == {"dwa-paper", "dwa-as-run"}
