"""Distribution matching on the embedded digits: what it learns, keeps and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from potstill import methods, rng
from potstill.data import datasets, siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS
from potstill.data.preprocess import fit
from potstill.data.siamese import WITHOUT_FLIP
from potstill.data.source import SourceDataset, Split
from potstill.errors import DataError, NetworkError, NumericalError, RecipeError
from potstill.methods.distilling import distill
from potstill.methods.matching.distil import Matcher
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.matching.settings import Operation
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe, override, parse
from potstill.networks import zoo
from potstill.runs import Run
from tests.reference import distribution_matching as reference

SMALL = {
    "name": "test",
    "network": {"depth": 2, "width": 4},
    "images_per_class": 2,
    "method": {"kind": "dm", "iterations": 5, "real_batch": 8},
    "evaluation": {"networks": 1},
    "checkpoint_every": 2,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(parse({}, source="test").data, None)


def recipe(*assignments: str) -> Recipe:
    return parse(override(SMALL, assignments), source="test")


def same(a: DistilledDataset, b: DistilledDataset) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


def matcher(source: SourceDataset, *assignments: str) -> Matcher:
    asked = recipe(*assignments)
    return Matcher(asked, source, fit(asked.data, source.train.images), Session())


def changed(source: SourceDataset, rows: torch.Tensor, order: list[int]) -> SourceDataset:
    """These training images, and the classes in another order."""
    places = torch.empty(len(order), dtype=torch.int64)
    places[torch.tensor(order)] = torch.arange(len(order))
    train = Split(source.train.images[rows], places[source.train.labels[rows]])
    names = tuple(source.class_names[label] for label in order)
    return SourceDataset(source.name, names, train, source.test, "other")


def test_defaults_are_the_fields_network_and_protocol():
    asked = parse({"method": {"kind": "dm"}}, source="test")
    network = asked.network
    assert (network.name, network.depth, network.width) == ("convnet", 3, 128)
    assert (network.growth, network.normalisation) == (1, "instance")
    assert (asked.evaluation.protocol, asked.evaluation.networks) == ("dsa", 20)
    assert get_args(Operation) == get_args(siamese.Operation) == siamese.ALL


@pytest.mark.parametrize(
    "assignments",
    [[], ["method.start=noise"], ["method.strategy=[]"], ["method.strategy=[crop, flip]"]],
    ids=lambda a: " ".join(a) or "default",
)
def test_the_set_is_learned_and_says_how(assignments, digits):
    made = distill(recipe(*assignments), digits)
    start = distill(recipe(*assignments, "method.iterations=0"), digits)
    assert made.space == "network" and made.images.shape == (20, 1, 8, 8)
    assert made.hard_labels().tolist() == [c for c in range(10) for _ in range(2)]
    assert (made.images - start.images).flatten(1).norm(dim=1).min() > 1e-4
    wanted = {"method.strategy=[]": None, "method.strategy=[crop, flip]": ["crop", "flip"]}
    expected = wanted.get(assignments[0] if assignments else "", list(WITHOUT_FLIP))
    assert made.header["evaluation"].get("strategy") == expected
    assert made.header["description"]["title"] == "DM"
    assert made.mirror_images is False


def test_a_step_is_that_of_the_equation(digits):
    state = matcher(digits, "method.learning_rate=3", "method.momentum=0.5")
    before, seed = state.images.clone(), 0
    members = {
        name: (digits.train.labels == label).nonzero().flatten()
        for label, name in enumerate(digits.class_names)
    }
    velocity = torch.zeros_like(before)
    for k in range(2):
        network = fresh_network(
            lambda: zoo.build(recipe().network, channels=1, resolution=8, classes=10), seed, k
        )
        preprocess = fit(recipe().data, digits.train.images)
        real = [
            preprocess.apply(digits.train.images[rows]) for rows in real_rows(members, 8, seed, k)
        ]
        draws = siamese_draws(members, WITHOUT_FLIP, 8, seed, k)
        leaves = [image.clone().requires_grad_() for image in before]
        blocks = [leaves[2 * c : 2 * c + 2] for c in range(10)]
        loss = reference.loss(network.features, real, blocks, draws)
        gradient = torch.stack(torch.autograd.grad(loss, leaves))
        velocity = 0.5 * velocity + gradient
        before = before - 3 * velocity
        assert state.step()["loss"] == pytest.approx(loss.item(), rel=1e-4)
        torch.testing.assert_close(state.images, before, rtol=1e-4, atol=1e-4)


def test_the_same_seed_gives_the_same_bytes(digits):
    assert same(distill(recipe(), digits), distill(recipe(), digits))
    assert not same(distill(recipe(), digits), distill(recipe("seed=1"), digits))


@pytest.mark.parametrize("after", [1, 3])
def test_killed_between_networks_and_resumed_gives_the_same_bytes(after, tmp_path, digits):
    def die(stage: str, done: int, total: int, **_: float) -> None:
        if done == after:
            raise RuntimeError("killed")

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with Run.create(whole, recipe()) as run:
        distill(recipe(), digits, run)
    with pytest.raises(RuntimeError), Run.create(parts, recipe()) as run:
        distill(recipe(), digits, run, progress=die)
    told: list[int] = []
    with Run.create(parts, recipe(), resume=True) as run:
        distill(recipe(), digits, run, progress=lambda _, done, *rest, **values: told.append(done))
    assert told[0] == after - after % 2 + 1
    names = ("distilled.safetensors",)
    assert all((whole / name).read_bytes() == (parts / name).read_bytes() for name in names)


def test_the_order_of_the_classes_does_not_matter(digits):
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    there = changed(digits, torch.arange(len(digits.train)), order)
    ours, theirs = (matcher(source) for source in (digits, there))
    for state in (ours, theirs):
        state.step()
    blocks = theirs.images.view(10, 2, 1, 8, 8)
    for place, label in enumerate(order):
        torch.testing.assert_close(blocks[place], ours.images.view(10, 2, 1, 8, 8)[label])


def test_a_class_with_few_images_gives_all_it_has(digits):
    few = torch.cat([(digits.train.labels == c).nonzero().flatten()[: 2 + c] for c in range(10)])
    state = matcher(changed(digits, few, list(range(10))), "method.real_batch=6")
    assert [len(batch) for batch in state.real()] == [2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    assert state.step()["loss"] > 0


def test_what_cannot_be_is_refused_in_a_line(digits):
    few = torch.cat([(digits.train.labels == c).nonzero().flatten()[:1] for c in range(10)])
    small = changed(digits, few, list(range(10)))
    with pytest.raises(DataError, match=r"class 0 has 1 images, fewer than the 2 asked for"):
        distill(recipe(), small)
    assert len(distill(recipe("method.start=noise"), small)) == 20
    without = changed(digits, (digits.train.labels != 4).nonzero().flatten(), list(range(10)))
    with pytest.raises(DataError, match="class 4 has no training images"):
        distill(recipe("method.start=noise"), without)
    with pytest.raises(NetworkError, match="take one of potstill's"):
        distill(recipe("network.name=torchvision:resnet18", "network.normalisation=none"), digits)
    with pytest.raises(RecipeError, match="names an operation twice"):
        recipe("method.strategy=[crop, crop]")
    with pytest.raises(RecipeError, match="does not take a teacher"):
        distill(recipe(), digits, teacher=object())  # type: ignore[arg-type]


def test_numbers_that_are_not_finite_end_the_run_and_keep_the_checkpoint(tmp_path: Path, digits):
    wild = recipe("method.learning_rate=1e30", "checkpoint_every=1")
    with (
        pytest.raises(NumericalError, match=r"iteration \d+: .*lower method\.learning_rate"),
        Run.create(tmp_path, wild) as run,
    ):
        distill(wild, digits, run)


def test_work_counts_forward_passes_of_real_images():
    asked: Any = recipe("method.real_batch=300", "method.iterations=7")
    work = methods.named("dm").work(asked, DATASETS["mnist"])
    (passes,) = work.passes
    assert (work.iterations, passes.network) == (7, asked.network)
    assert passes.images == pytest.approx(7 * (10 * 300 / 3 + 20))
    assert methods.named("dm").work(asked, DATASETS["digits"]).passes[0].images == pytest.approx(
        7 * (1442 / 3 + 20)
    )


def test_noise_is_drawn_from_a_stream_of_each_class(digits):
    images = matcher(digits, "method.start=noise").images
    expected = rng.normal((2, 1, 8, 8), rng.stream(0, "matching/start/7"))
    assert torch.equal(images[14:16], expected)
