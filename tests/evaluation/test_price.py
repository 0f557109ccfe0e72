from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from potstill import rng
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import preprocess
from potstill.data.source import centred_one_hot, sample_per_class
from potstill.errors import DataError, RecipeError
from potstill.evaluation import PROTOCOLS, evaluate, relabel
from potstill.evaluation import price as prices
from potstill.evaluation.plan import Assignment, Work
from potstill.evaluation.protocol import named
from potstill.evaluation.regimes import RegimePlan
from potstill.networks import zoo
from potstill.results import Evaluation
from potstill.text import price_text
from tests.evaluation.problems import NETWORK, set_of

HL, SL, SL_KD = (PROTOCOLS[name].showing(20) for name in ("hl", "sl", "sl-kd"))


def sections(path):
    """Bytes of each tensor in the data section of a safetensors file, header left out."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__")
    return {
        name: end - begin for name, one in header.items() for begin, end in [one["data_offsets"]]
    }


def assignment(dataset, source, teacher=None):
    return Assignment(dataset, source, NETWORK, 1, 0, torch.device("cpu"), teacher=teacher)


def priced(dataset, source, protocol, teacher=None):
    """What :func:`evaluate` says, without training."""
    given = assignment(dataset, source, teacher)
    work = named(protocol).work(len(dataset), 1, 8, epochs=1, mirrored=False)
    return prices.price(given, work, named(protocol).plan(given).facts.get("labels"))


@pytest.fixture(scope="module")
def whitened(digits, real):
    zca = preprocess.fit(DataRecipe(dataset="digits", preprocess="zca"), digits.train.images)
    learned = real.labels + 0.1 * rng_labels()
    return set_of(digits, zca, zca.apply((real.pixels() * 255).round().byte()), learned)


def rng_labels():
    return torch.rand(50, 10, generator=torch.Generator().manual_seed(0))


def test_bytes_are_those_of_the_files(tmp_path, digits, real, whitened, teacher):
    def written(dataset, **options):
        dataset.save(tmp_path / "set.safetensors")
        return sections(tmp_path / "set.safetensors"), priced(dataset, digits, **options)

    found, cost = written(real, protocol=HL)
    assert cost.images == found["images"] == 50 * 64
    assert (cost.preprocessing, cost.labeller) == (0, 0)
    assert cost.labels == 25, "50 indices of 4 bits"
    assert cost.total == cost.images + cost.labels

    found, cost = written(whitened, protocol="rcig-paper")
    assert cost.images == found["images"] == 4 * 50 * 64
    assert cost.labels == found["labels"] == 4 * 50 * 10
    whitening = found["preprocess.whitening"] + found["preprocess.pixel_mean"]
    assert cost.preprocessing == whitening == 4 * (64 * 65 // 2 + 64)

    found, cost = written(relabel(real, teacher, protocol="sl"), protocol=SL)
    assert cost.labels == found["soft_labels"] == 2 * 50 * 10
    assert cost.labels == priced(real, digits, SL, teacher=teacher).labels

    found, cost = written(relabel(real, teacher, protocol="dwa-paper"), protocol="dwa-paper")
    assert cost.labels == found["soft_labels"] == 2 * 3 * 50 * 10, "of 3 epochs"

    teacher.save(tmp_path / "teacher.safetensors")
    cost = priced(real, digits, SL_KD, teacher=teacher)
    assert cost.labeller == sum(sections(tmp_path / "teacher.safetensors").values())
    assert cost.labels == 0


def test_measures_of_a_price(digits, real, teacher):
    cost = priced(real, digits, HL)
    training = len(digits.train)
    assert cost.bits_per_class == 8 * (50 * 64 + 25) / 10
    assert cost.storage_ratio == (50 * 64 + 25) / (training * 64)
    assert cost.random_images == (50 * 64 + 25) // (64 + 20) == 38
    assert priced(real, digits, SL, teacher=teacher).random_images == 50


def test_random_images_pay_for_whitening_too(digits, whitened):
    cost = priced(whitened, digits, HL)
    assert cost.random_images == (cost.total - cost.preprocessing) // 84
    given = assignment(whitened, digits)
    refitted = prices.price(given, Work(20), "hard", refitted=True)
    assert refitted.preprocessing == 0
    assert refitted.total == cost.total - cost.preprocessing


@pytest.mark.parametrize(
    ("images", "classes", "size"), [(50, 10, 25), (3, 10, 2), (7, 2, 1), (9, 2, 2), (5, 1, 0)]
)
def test_classes_are_packed(images, classes, size):
    assert prices.class_bytes(images, classes) == size


def test_the_published_figures():
    """ImageNet-1K at 1 image, 300 epochs, float16: 572 MiB; CIFAR-100 at 50, 1000: 1.0 GB."""
    assert round(prices.soft_label_bytes(1000, 1000, 300) / 2**20) == 572
    assert prices.soft_label_bytes(5000, 100, 1000) == 1_000_000_000
    assert prices.image_bytes(50_000, (3, 32, 32)) == 153_600_000
    recipe = NetworkRecipe(name="resnet18", normalisation="batch")
    with torch.device("meta"):
        resnet = zoo.build(recipe, channels=3, resolution=32, classes=10)
    assert round(prices.tensor_bytes(resnet.state_dict().values()) / 1e5) == 447


def test_operations_are_counted_by_hand():
    """8 x 8 and 4 x 4 maps, 3 x 3 kernels, one linear layer; two for each product and sum."""
    network = zoo.build(NETWORK, channels=1, resolution=8, classes=10).eval()
    forward = 2 * (64 * 9 * 1 * 8 + 16 * 9 * 8 * 8 + 8 * 4 * 10)
    assert prices.forward_operations(network, (1, 8, 8)) == forward
    assert prices.training_operations(Work(20, labelled=20), forward, 7) == 20 * (3 * forward + 7)


def test_a_teacher_works_only_beside_the_student(digits, real, teacher):
    forward = prices.forward_operations(teacher.network, (1, 8, 8))  # NETWORK, as the students
    assert priced(real, digits, SL, teacher=teacher).operations == 20 * 3 * forward
    assert priced(real, digits, SL_KD, teacher=teacher).operations == 20 * 4 * forward
    assert priced(real, digits, HL, teacher=teacher).operations == 20 * 3 * forward


def test_other_real_images_under_the_same_training(digits, real, standardise, teacher):
    result = evaluate(
        real,
        digits,
        protocol=PROTOCOLS["hl"].showing(100),
        teacher=teacher,
        networks=2,
        beside=("equal-bytes", "full-data"),
    )
    few, many = result.beside
    assert result.price == priced(real, digits, PROTOCOLS["hl"].showing(100))
    assert (few.kind, few.protocol, few.images) == ("equal-bytes random", "sl:100", 38)
    assert (many.kind, many.protocol, many.images) == (
        "all real images",
        "hl:100",
        len(digits.train),
    )
    assert Evaluation.model_validate(json.loads(json.dumps(result.document()))) == result
    for index, value in enumerate(few.values):
        sizes = [4] * 8 + [3] * 2
        rows = sample_per_class(
            digits.train, 10, sizes, rng.stream(0, "evaluation/equal-bytes", index)
        )
        labels = centred_one_hot(digits.train.labels[rows], 10)
        own = set_of(digits, standardise, digits.train.images[rows], labels)
        alone = evaluate(own, digits, protocol="sl:100", teacher=teacher, networks=2)
        assert alone.accuracy.values[index] == value


def test_more_images_than_are_shown_are_drawn_from(digits, real, teacher, monkeypatch):
    sizes = []
    scores = RegimePlan.scores
    monkeypatch.setattr(
        RegimePlan,
        "scores",
        lambda plan, images, *more: sizes.append(len(images[0])) or scores(plan, images, *more),
    )
    found = evaluate(
        real, digits, protocol=SL_KD, teacher=teacher, beside=("equal-bytes", "full-data")
    )
    assert sizes[1:] == [20, 20]
    assert [one.images for one in found.beside] == [found.price.random_images, len(digits.train)]


def test_what_cannot_stand_beside_a_set(digits, real, teacher):
    def refused(error, words, **options):
        with pytest.raises(error, match=words):
            evaluate(real, digits, **options)

    refused(
        RecipeError, "only under hl, sl and sl-kd", protocol="dc", epochs=1, beside=["full-data"]
    )
    refused(DataError, "needs the teacher to label random", protocol=HL, beside=["equal-bytes"])
    # 64 bytes and half a one, where a real image with its label has 84.
    tiny = set_of(digits, real.preprocess, digits.train.images[:1], real.labels[:1])
    with pytest.raises(DataError, match="fewer bytes than one real image"):
        evaluate(tiny, digits, protocol=HL, teacher=teacher, beside=["equal-bytes"])


def test_another_teachers_data_is_told(digits, real, teacher):
    trained_on = {**teacher.header["source"], "fingerprint": "f" * 64}
    other = replace(teacher, header={**teacher.header, "source": trained_on})
    (warning,) = evaluate(real, digits, protocol=SL, teacher=other).warnings
    assert warning.startswith("the teacher was trained on data with fingerprint ffffffffffff")


def test_a_price_in_words(digits, real, teacher):
    assert price_text(priced(real, digits, HL)) == (
        "3.2 kB images + 25 B labels; 2.58 kbit a class, 3.49 % of the training set, as "
        "38 random images with soft labels; 1.7e+06 operations a network"
    )
