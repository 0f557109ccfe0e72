"""Feature distances and the map, held against loops and known arrangements."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from potstill.audits.diversity import common_map, diversity, pair_sum
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, centred_one_hot, sample_per_class
from potstill.errors import DataError
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.rng import stream
from potstill.teacher import Teacher

NETWORK = NetworkRecipe(depth=2, width=4, growth=1, normalisation="batch")


@pytest.fixture(scope="module")
def source() -> SourceDataset:
    return datasets.load(DataRecipe(), None)


def teacher_of(source: SourceDataset, network: nn.Module) -> Teacher:
    shape = {"channels": source.channels, "resolution": source.resolution}
    facts = {"name": source.name, "fingerprint": source.fingerprint, "classes": source.classes}
    return Teacher(
        network,
        preprocess.fit(DataRecipe(), source.train.images),
        source.class_names,
        {
            "network": NETWORK.model_dump(mode="json"),
            "teacher": {},
            "source": {**facts, **shape},
            "epochs": 0,
            "seed": 0,
            "versions": {},
            "results": [],
        },
    )


@pytest.fixture(scope="module")
def teacher(source: SourceDataset) -> Teacher:
    network = zoo.build(
        NETWORK, channels=source.channels, resolution=source.resolution, classes=source.classes
    )
    initialise(network, 0, "test/teacher")
    return teacher_of(source, network)


def a_set(source: SourceDataset, teacher: Teacher, pixels: Tensor, labels: Tensor):
    header = {
        "method": "rcig",
        "recipe": {},
        "evaluation": {"protocol": "test"},
        "source": {"name": source.name, "fingerprint": "00"},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    return DistilledDataset(
        pixels,
        centred_one_hot(labels, source.classes),
        source.class_names,
        teacher.preprocess,
        header,
    )


@pytest.fixture(scope="module")
def dataset(source: SourceDataset, teacher: Teacher) -> DistilledDataset:
    rows = sample_per_class(source.train, source.classes, 3, stream(1, "test/set"))
    return a_set(source, teacher, source.train.images[rows], source.train.labels[rows])


def last_convolution(teacher: Teacher, pixels: Tensor) -> Tensor:
    seen: list[Tensor] = []
    hook = teacher.network.blocks[-1].conv.register_forward_hook(
        lambda _module, _inputs, output: seen.append(output)
    )
    teacher.logits(teacher.preprocess.apply(pixels))
    hook.remove()
    return torch.cat(seen)


def by_loops(features: Tensor) -> float:
    """Eq. 21 as it is written."""
    return sum(
        float(((one.double() - other.double()) ** 2).sum())
        for one in features
        for other in features
    )


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 2**32 - 1), st.floats(-1e4, 1e4))
def test_the_sum_over_pairs_is_that_of_the_loops(images, width, seed, offset):
    draws = np.random.default_rng(seed).normal(size=(images, width, 2)) + offset
    features = torch.from_numpy(draws)
    assert pair_sum(features) == pytest.approx(by_loops(features), rel=1e-6, abs=1e-6)


def test_distances_are_those_of_the_last_convolution(source, teacher, dataset):
    document = diversity(dataset, teacher, source)
    assert (document.teacher.digest, document.teacher.layer) == (teacher.digest, "blocks.1.conv")
    assert document.artefact_digest == dataset.digest
    pixels = (dataset.pixels() * 255).round().to(torch.uint8)
    features = last_convolution(teacher, pixels)
    labels = dataset.hard_labels()
    sums = [by_loops(features[labels == label]) for label in range(source.classes)]
    assert document.distance.sums == pytest.approx(sums, rel=1e-5)
    assert document.distance.classes == pytest.approx([s / 6 for s in sums], rel=1e-5)
    assert document.distance.mean == pytest.approx(np.mean(sums) / 6, rel=1e-5)
    assert document.relative == document.distance.mean / document.real.mean
    # Real images beside real images: about as diverse.
    assert 0.6 < document.relative < 1.6
    assert not teacher.network.blocks[-1].conv._forward_hooks


def test_copies_have_no_diversity_and_blacker_images_less(source, teacher, dataset):
    pixels = (dataset.pixels() * 255).round().to(torch.uint8)
    labels = dataset.hard_labels()
    faint = diversity(a_set(source, teacher, pixels // 4, labels), teacher)
    assert faint.distance.mean < diversity(dataset, teacher).distance.mean
    same = pixels[::3].repeat_interleave(3, 0)
    copies = diversity(a_set(source, teacher, same, labels), teacher)
    assert copies.distance.mean == pytest.approx(0, abs=1e-9)


def test_a_class_of_one_image_has_no_distance(source, teacher, dataset):
    pixels = (dataset.pixels() * 255).round().to(torch.uint8)
    labels = dataset.hard_labels()
    keep = torch.arange(len(labels)) >= 2  # class 0 keeps one of its three
    document = diversity(a_set(source, teacher, pixels[keep], labels[keep]), teacher)
    first, *others = document.distance.classes
    assert first is None and None not in others
    one = torch.arange(0, len(labels), 3)
    single = diversity(a_set(source, teacher, pixels[one], labels[one]), teacher, source)
    assert single.distance.mean is None and single.relative is None
    assert single.real.mean > 0


def test_the_map_places_every_image_of_the_shown_classes(source, teacher, dataset):
    document = diversity(dataset, teacher, source, shown=[7, 2], seed=3)
    points = document.embedding
    assert points.class_names == ("7", "2")
    kinds = list(zip(points.classes, points.real, strict=True))
    assert [kinds.count((place, real)) for real in (False, True) for place in (0, 1)] == [
        3,
        3,
        50,
        50,
    ]
    assert len(points.x) == len(points.y) == len(kinds)
    assert np.isfinite(points.x + points.y).all()
    again = diversity(dataset, teacher, source, shown=[7, 2], seed=3)
    assert document.seconds > 0
    assert again.model_copy(update={"seconds": document.seconds}) == document
    json.dumps(document.document(), allow_nan=False)
    assert diversity(dataset, teacher, source, shown=[7, 2], seed=4).real != document.real


def test_several_sets_lie_on_one_map(source, teacher, dataset):
    other = dataset.first(2)
    points = common_map({"A": dataset, "B": other}, teacher, source, shown=[7, 2])
    assert points.sets == ("A", "B")
    found = list(zip(points.of, points.classes, points.real, strict=True))
    assert {key: found.count(key) for key in found} == {
        **{(0, place, False): 3 for place in (0, 1)},
        **{(1, place, False): 2 for place in (0, 1)},
        **{(-1, place, True): 50 for place in (0, 1)},
    }
    # The same image in both sets has the same logits, and so nearly the same place.
    places = np.array([points.x, points.y]).T
    of, spread = np.array(points.of), places.std(0).max()
    apart = np.linalg.norm(places[of == 0][[0, 1, 3, 4]] - places[of == 1], axis=1)
    assert apart.max() < spread
    alone = common_map({"A": dataset}, teacher, source, shown=[7, 2], seed=3)
    one = diversity(dataset, teacher, source, shown=[7, 2], seed=3).embedding
    assert (alone.x, alone.y, alone.real) == (one.x, one.y, one.real)
    with pytest.raises(ValueError, match="of must be indices of sets"):
        points.model_validate(points.model_dump() | {"of": (2, *points.of[1:])})


def test_without_real_images_the_map_is_of_the_distilled_ones(teacher, dataset):
    document = diversity(dataset, teacher)
    assert not any(document.embedding.real) and len(document.embedding.x) == 30
    assert not {"real", "relative"} & document.document().keys()
    assert diversity(dataset, teacher, shown=[4]).embedding is None  # three points


@pytest.mark.parametrize("shift", [0.0, 1e-4, 1e-9])
def test_images_that_are_all_alike_have_no_map(teacher, dataset, shift):
    images = torch.zeros_like(dataset.images) + shift * dataset.images
    same = DistilledDataset(
        images, dataset.labels, dataset.class_names, dataset.preprocess, dataset.header
    )
    assert diversity(same, teacher).embedding is None


def test_a_network_in_whitened_space_is_seen_through_its_pixels(source, teacher, dataset):
    recipe = DataRecipe(preprocess="zca")
    whitened = preprocess.fit(recipe, source.train.images)
    pixels = (dataset.pixels() * 255).round().to(torch.uint8)
    other = DistilledDataset(
        whitened.apply(pixels),
        dataset.labels,
        dataset.class_names,
        whitened,
        {key: value for key, value in dataset.header.items() if key != "format_version"},
    )
    ours, theirs = (diversity(one, teacher).distance for one in (dataset, other))
    assert theirs.classes == pytest.approx(ours.classes, rel=1e-5)


def test_a_transformer_shows_what_its_head_sees(source, dataset):
    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cut, self.mix, self.head = nn.Conv2d(1, 6, 4, 4), nn.Linear(6, 6), nn.Linear(6, 10)

        def features(self, images: Tensor) -> Tensor:
            return self.mix(self.cut(images).flatten(2).mean(2)).relu()

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.features(images))

    torch.manual_seed(0)
    teacher = teacher_of(source, Patches())
    document = diversity(dataset, teacher)
    assert document.teacher.layer == "input of head"
    pixels = (dataset.pixels() * 255).round().to(torch.uint8)
    features = teacher.network.features(teacher.preprocess.apply(pixels))
    own = features[dataset.hard_labels() == 0]
    assert document.distance.sums[0] == pytest.approx(by_loops(own), rel=1e-4)


def test_what_does_not_fit_is_refused_in_one_line(source, teacher, dataset):
    fewer = replace(teacher, class_names=teacher.class_names[:9])
    with pytest.raises(DataError, match="9 classes of 8x8 with 1 channel and the dist") as caught:
        diversity(dataset, fewer)
    assert "\n" not in str(caught.value)
    smaller = replace(source, class_names=source.class_names[:9])
    with pytest.raises(DataError, match="use the data that the set was distilled from"):
        diversity(dataset, teacher, smaller)
    for shown in ([10], [-1], [3, 3]):
        with pytest.raises(DataError, match="cannot show classes"):
            diversity(dataset, teacher, shown=shown)
