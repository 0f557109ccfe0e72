"""Coresets of the embedded digits: what they hold, keep and refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from potstill import methods
from potstill.data import datasets
from potstill.data.facts import DATASETS
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, Split
from potstill.errors import DataError, NetworkError, RecipeError
from potstill.methods.coresets import select
from potstill.methods.coresets.choose import network_features
from potstill.methods.distilling import distill
from potstill.methods.recipe import Recipe, override, parse
from potstill.methods.squeeze import TEACHER, settings_of, squeeze
from potstill.runs import Run
from potstill.teacher import Teacher

SMALL: dict[str, Any] = {
    "name": "test",
    "images_per_class": 3,
    "network": {"depth": 2, "width": 4},
    "method": {
        "kind": "coreset",
        "teacher": {
            "network": {"depth": 2, "width": 4, "growth": 1, "normalisation": "instance"},
            "epochs": 1,
        },
    },
    "evaluation": {"networks": 1},
}
ALGORITHMS = ["random", "herding", "k-center", "k-means"]


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(parse({}, source="test").data, None)


def recipe(algorithm: str, *assignments: str) -> Recipe:
    asked = [f"method.algorithm={algorithm}", *assignments]
    return parse(override(SMALL, asked), source="test")


@pytest.fixture(scope="module")
def teacher(digits: SourceDataset) -> Teacher:
    return squeeze(recipe("herding"), digits)


def some(source: SourceDataset, rows: torch.Tensor) -> SourceDataset:
    train = Split(source.train.images[rows], source.train.labels[rows])
    return SourceDataset(source.name, source.class_names, train, source.test, "other")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_coreset_is_of_real_images_as_they_are(algorithm, digits, teacher):
    given = None if algorithm == "random" else teacher
    made = distill(recipe(algorithm), digits, teacher=given)
    assert made.space == "pixels" and len(made) == 30
    assert made.hard_labels().tolist() == [c for c in range(10) for _ in range(3)]
    seen = made.preprocess.apply(digits.train.images)
    real = {
        (int(label), image.numpy().tobytes())
        for image, label in zip(seen, digits.train.labels, strict=True)
    }
    chosen = [
        (int(label), image.numpy().tobytes())
        for image, label in zip(made.images, made.hard_labels(), strict=True)
    ]
    assert len({*chosen}) == 30 and {*chosen} <= real
    again = distill(recipe(algorithm), digits, teacher=given)
    assert again.images.equal(made.images)
    assert made.header["iterations"] == 0


@pytest.mark.parametrize("algorithm", ["random", "herding", "k-center"])
@pytest.mark.parametrize("features", ["trained", "random", "pixels"])
def test_small_coresets_are_part_of_large_ones(algorithm, features, digits, teacher):
    given = teacher if features == "trained" and algorithm != "random" else None
    asked = recipe(algorithm, f"method.features={features}")
    large = distill(asked, digits, teacher=given).images.unflatten(0, (10, 3))
    one = distill(asked.model_copy(update={"images_per_class": 1}), digits, teacher=given)
    assert one.images.equal(large[:, 0])


def test_images_are_compared_by_the_features_asked_for(digits, teacher):
    def of(*assignments: str, teacher: Teacher | None = None) -> torch.Tensor:
        return distill(recipe("herding", *assignments), digits, teacher=teacher).images

    rows = (digits.train.labels == 0).nonzero().flatten()
    images = digits.train.images[rows]
    preprocess = fit(recipe("herding").data, digits.train.images)
    seen = preprocess.apply(images)
    pixels = of("method.features=pixels")
    assert pixels[:3].equal(seen[select.herding(seen.flatten(1).double().numpy(), 3)])
    trained = of(teacher=teacher)
    with torch.no_grad():
        features = teacher.network.features(teacher.preprocess.apply(images)).double()
    assert trained[:3].equal(seen[select.herding(features.numpy(), 3)])
    other = of("method.features=random")
    assert not other.equal(trained) and not other.equal(pixels) and not pixels.equal(trained)
    assert not of("method.features=random", "seed=1").equal(other)


def test_the_teacher_is_trained_kept_and_taken_again(digits, tmp_path, teacher, monkeypatch):
    asked, folder = recipe("k-center"), tmp_path / "run"
    with Run.create(folder, asked) as run:
        made = distill(asked, digits, run)
    assert Teacher.load(folder / TEACHER).digest == teacher.digest
    assert made.header["teacher"]["digest"] == teacher.digest
    assert made.header["teacher"]["settings"]["epochs"] == 1
    assert made.images.equal(distill(asked, digits, teacher=teacher).images)


def test_killed_in_the_teachers_training_and_resumed_gives_the_same_bytes(digits, tmp_path):
    def die(stage: str, *_: Any, **__: float) -> None:
        if stage == "class":
            raise RuntimeError("killed")

    asked = recipe("k-means")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with Run.create(whole, asked) as run:
        distill(asked, digits, run)
    with pytest.raises(RuntimeError), Run.create(parts, asked) as run:
        distill(asked, digits, run, progress=die)
    told: list[str] = []
    with Run.create(parts, asked, resume=True) as run:
        distill(asked, digits, run, progress=lambda stage, *_, **__: told.append(stage))
    assert {*told} == {"class"}
    names = (TEACHER, "distilled.safetensors")
    assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in names)


@pytest.mark.parametrize("start", ["herding", "k-center", "k-means"])
def test_a_matching_method_starts_from_a_coreset(start, digits, teacher):
    method = {"kind": "dm", "iterations": 0, "start": start, "teacher": SMALL["method"]["teacher"]}
    asked = parse({**SMALL, "method": method}, source="test")
    made = distill(asked, digits, teacher=teacher)
    coreset = distill(recipe(start), digits, teacher=teacher)
    assert made.images.equal(coreset.images)
    assert made.header["teacher"]["digest"] == teacher.digest
    trained = distill(asked, digits)
    assert trained.images.equal(made.images)


def test_bad_input_is_refused_in_a_line(digits, teacher):
    def refused(error: type[Exception], words: str, asked: Recipe, source=digits, **given: Any):
        with pytest.raises(error, match=words) as caught:
            distill(asked, source, **given)
        assert "\n" not in str(caught.value)

    few = torch.cat([(digits.train.labels == c).nonzero().flatten()[:2] for c in range(10)])
    refused(
        DataError, "class 0 has 2 images, fewer than the 3", recipe("random"), some(digits, few)
    )
    copies = few[::2].repeat_interleave(4)
    refused(
        DataError,
        "class 0: k-means has no 3 clusters among 1 different",
        recipe("k-means", "method.features=pixels"),
        some(digits, copies),
    )
    refused(RecipeError, "does not take a teacher", recipe("random"), teacher=teacher)
    asked = recipe("herding", "method.features=pixels")
    refused(RecipeError, "does not take a teacher", asked, teacher=teacher)
    foreign = {"name": "torchvision:resnet18", "normalisation": "none", "growth": 2}
    asked = recipe("herding", "method.features=random", f"method.teacher.network={foreign}")
    refused(NetworkError, "ForeignNetwork does not tell .* convnet, or set features", asked)
    renamed = SourceDataset("other", tuple("abcdefghij"), digits.train, digits.test, "other")
    refused(DataError, "made for classes", recipe("herding"), renamed, teacher=teacher)


def test_a_network_of_another_library_has_parts_of_the_name_but_no_features(teacher):
    """torchvision's VGG has ``features``: its convolutions, not what its last layer sees."""
    from torchvision.models import vgg11

    with torch.device("meta"), pytest.raises(NetworkError, match="VGG does not tell"):
        network_features(vgg11(), teacher.preprocess, "cpu")


def test_features_of_many_images_are_those_of_each(digits, teacher):
    images = digits.train.images[:230]
    features = network_features(teacher.network, teacher.preprocess, "cpu")
    with torch.no_grad():
        seen = teacher.network.features(teacher.preprocess.apply(images)).double()
    torch.testing.assert_close(features(images), seen, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("start", ["herding", "k-center", "k-means"])
def test_rcig_starts_from_a_coreset(start, digits, teacher):
    method = {"iterations": 0, "start": start, "teacher": SMALL["method"]["teacher"]}
    started = distill(parse({**SMALL, "method": method}, source="test"), digits, teacher=teacher)
    coreset = distill(recipe(start), digits, teacher=teacher)
    torch.testing.assert_close(started.images, coreset.images)
    assert torch.equal(started.hard_labels(), coreset.hard_labels())
    assert started.header["teacher"]["digest"] == teacher.digest


def test_rcig_trains_the_network_of_its_start_once(tmp_path, digits):
    method = {"iterations": 2, "target_batch": 16, "start": "herding"}
    method["teacher"] = SMALL["method"]["teacher"]
    asked = parse({**SMALL, "method": method, "checkpoint_every": 1}, source="test")
    with Run.create(tmp_path / "run", asked) as run:
        once = distill(asked, digits, run)
    assert (tmp_path / "run" / TEACHER).exists()
    assert torch.equal(once.images, distill(asked, digits).images)


@pytest.mark.parametrize("algorithm", ["herding", "k-center", "k-means"])
def test_dwa_starts_from_a_coreset_of_what_its_teacher_sees(algorithm, digits):
    network = {"depth": 2, "width": 4, "growth": 1, "normalisation": "batch"}
    inverted = {"network": network, "epochs": 1}
    dwa = {"kind": "dwa", "teacher": inverted, "start": algorithm, "learning_rate": 1e-12}
    dwa |= {"iterations": 1, "adjustment_steps": 1, "precision": "float32"}
    asked = parse({**SMALL, "network": network, "method": dwa}, source="test")
    started = distill(asked, digits, teacher=squeeze(asked, digits))
    choosing = {"kind": "coreset", "algorithm": algorithm, "teacher": inverted}
    chosen = parse({**SMALL, "method": choosing}, source="test")
    coreset = distill(chosen, digits, teacher=squeeze(asked, digits))
    torch.testing.assert_close(started.images, coreset.images)


def test_random_images_have_no_start():
    with pytest.raises(RecipeError, match=r"take method\.kind coreset"):
        parse({"method": {"variant": "random", "start": "herding"}}, source="test")


def test_only_a_start_from_a_coreset_has_a_teacher():
    taught = parse({"method": {"kind": "dm", "start": "herding"}}, source="test")
    assert settings_of(taught).network.normalisation == "instance"
    for start in ("real", "noise"):
        with pytest.raises(RecipeError, match=f"a start from {start} has no teacher; remove it"):
            parse({"method": {"kind": "dm", "start": start, "teacher": {}}}, source="test")
    with pytest.raises(RecipeError, match="does not ask for a teacher"):
        settings_of(recipe("random"))


def test_work_is_a_forward_pass_of_everything():
    work = methods.named("coreset").work
    (passes,) = work(recipe("herding"), DATASETS["mnist"]).passes
    assert passes.images == pytest.approx(60_000 / 3)
    assert not work(recipe("random"), DATASETS["mnist"]).passes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_coreset_says_how_it_was_chosen(algorithm):
    describe = methods.named("coreset").describe
    said = describe(recipe(algorithm), {})
    assert (
        said.title
        == {
            "random": "Random real images",
            "herding": "Herding",
            "k-center": "K-center",
            "k-means": "K-means",
        }[algorithm]
    )
    assert ("1 epoch" in said.detail) == (algorithm != "random")


def test_all_images_are_a_set_like_any_other(digits):
    """Class by class, each image once; nothing is compared, so that there is no teacher."""
    average = len(digits.train) // 10
    whole = recipe("all", f"images_per_class={average}")
    made = distill(whole, digits)
    order = digits.train.labels.argsort(stable=True)
    assert made.images.equal(made.preprocess.apply(digits.train.images[order]))
    assert made.hard_labels().equal(digits.train.labels[order])
    assert made.header["description"]["title"] == "All real images"
    with pytest.raises(DataError, match=f"{average} per class .* says 3; set .*={average}"):
        distill(recipe("all"), digits)
