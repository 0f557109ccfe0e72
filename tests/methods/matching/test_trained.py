"""The methods that train their networks on the images in between, on the embedded digits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from potstill import methods, rng
from potstill.data import datasets, siamese
from potstill.data.facts import DATASETS
from potstill.data.preprocess import fit
from potstill.data.siamese import WITHOUT_FLIP
from potstill.data.source import SourceDataset
from potstill.errors import NumericalError
from potstill.methods.distilling import distill
from potstill.methods.matching.distil import Matcher
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe, override, parse
from potstill.networks import zoo
from potstill.runs import Run
from tests.reference import gradient_matching as reference

SMALL: dict[str, Any] = {
    "name": "test",
    "network": {"depth": 2, "width": 4},
    "images_per_class": 2,
    "evaluation": {"networks": 1},
    "checkpoint_every": 1,
    "log_every": 1,
}
GRADIENTS = {"iterations": 3, "real_batch": 8, "updates": 3, "epochs": 2}


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(parse({}, source="test").data, None)


def recipe(kind: str, *assignments: str) -> Recipe:
    document = {**SMALL, "method": {"kind": kind, **GRADIENTS}}
    return parse(override(document, assignments), source="test")


def test_defaults_are_the_authors():
    dc, dsa = (parse({"method": {"kind": kind}}, source="test") for kind in ("dc", "dsa"))
    assert (dc.evaluation.protocol, dsa.evaluation.protocol) == ("dc", "dsa")
    assert dc.network == dsa.network
    assert (dc.method.start, dc.method.strategy) == ("noise", ())
    assert (dsa.method.start, dsa.method.strategy) == ("real", None)
    for one in (dc.method, dsa.method):
        assert (one.iterations, one.real_batch) == (1000, 256)
        assert (one.learning_rate, one.momentum) == (0.1, 0.5)
        assert (one.network_learning_rate, one.network_batch) == (0.01, 256)


def slow_step(asked: Recipe, digits: SourceDataset, images, velocity, k: int, strategy):
    """Network k as Algorithm 1 says it, in float64: the images and their momentum after it."""
    settings, seed = asked.method, asked.seed
    preprocess = fit(asked.data, digits.train.images)
    members = {
        name: (digits.train.labels == label).nonzero().flatten()
        for label, name in enumerate(digits.class_names)
    }
    classes = torch.arange(10).repeat_interleave(2)
    network = fresh_network(
        lambda: zoo.build(asked.network, channels=1, resolution=8, classes=10), seed, k
    ).double()
    for update in range(settings.updates):
        if update:
            purpose = f"matching/training/{k}/{update}"
            for epoch in range(settings.epochs):
                order = rng.stream(seed, f"{purpose}/order", epoch).permutation(20)
                rows = torch.from_numpy(order)
                seen = images[rows]
                if strategy:
                    generator = rng.stream(seed, f"{purpose}/draw/{epoch}", 0)
                    seen = siamese.apply(seen, siamese.draw(strategy, 8, generator, 20))
                loss = F.cross_entropy(network(seen), classes[rows])
                found = torch.autograd.grad(loss, list(network.parameters()))
                with torch.no_grad():
                    for parameter, gradient in zip(network.parameters(), found, strict=True):
                        parameter -= settings.network_learning_rate * gradient
        real = [
            preprocess.apply(digits.train.images[rows]).double()
            for rows in real_rows(members, settings.real_batch, seed, k, update)
        ]
        draws = siamese_draws(members, strategy, 8, seed, k, update) if strategy else None
        leaves = [image.clone().requires_grad_() for image in images]
        blocks = [leaves[2 * c : 2 * c + 2] for c in range(10)]
        loss = reference.loss(network, real, blocks, draws)
        gradient = torch.stack(torch.autograd.grad(loss, leaves))
        velocity = settings.momentum * velocity + gradient
        images = images - settings.learning_rate * velocity
    return images, velocity


@pytest.mark.parametrize("kind", ["dc", "dsa"])
def test_two_networks_are_those_of_the_algorithm(kind, digits):
    # At the authors' rate of the networks two epochs would change nothing to be seen.
    asked = recipe(kind, "method.network_learning_rate=0.3")
    preprocess = fit(asked.data, digits.train.images)
    state = Matcher(asked, digits, preprocess, Session())
    images = state.images.double()
    velocity = torch.zeros_like(images)
    for k in range(2):
        images, velocity = slow_step(
            asked, digits, images, velocity, k, WITHOUT_FLIP if kind == "dsa" else ()
        )
        state.step()
        torch.testing.assert_close(state.images.double(), images, rtol=1e-3, atol=1e-3)
    start = Matcher(asked, digits, preprocess, Session()).images
    assert (state.images - start).abs().max() > 0.05


@pytest.mark.parametrize("kind", ["dc", "dsa"])
def test_killed_between_networks_and_resumed_gives_the_same_bytes(kind, tmp_path, digits):
    def die(stage: str, done: int, total: int, **_: float) -> None:
        if done == 2:
            raise RuntimeError("killed")

    asked = recipe(kind)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    with Run.create(whole, asked) as run:
        distill(asked, digits, run)
    with pytest.raises(RuntimeError), Run.create(parts, asked) as run:
        distill(asked, digits, run, progress=die)
    told: list[int] = []
    with Run.create(parts, asked, resume=True) as run:
        distill(asked, digits, run, progress=lambda _, done, *rest, **values: told.append(done))
    assert told == [2, 3]
    name = "distilled.safetensors"
    assert (whole / name).read_bytes() == (parts / name).read_bytes()


def test_a_set_says_its_method_and_its_views(digits):
    dc, dsa = (distill(recipe(kind, "method.iterations=1"), digits) for kind in ("dc", "dsa"))
    assert dc.header["description"]["title"] == "DC"
    assert dsa.header["description"]["title"] == "DSA"
    assert "strategy" not in dc.header["evaluation"]
    assert dsa.header["evaluation"]["strategy"] == list(WITHOUT_FLIP)


@pytest.mark.parametrize(
    ("assignments", "words"),
    [
        (
            ["method.learning_rate=1e30", "method.epochs=0"],
            r"step \d: the loss of class \d .*lower",
        ),
        (["method.network_learning_rate=1e30"], r"step 2: the network's .*network_learning_rate"),
    ],
)
def test_numbers_that_are_not_finite_end_the_run_and_say_where(assignments, words, digits):
    with pytest.raises(NumericalError, match="iteration 1, " + words) as caught:
        distill(recipe("dc", *assignments, "method.updates=8"), digits)
    assert "\n" not in str(caught.value)


def test_work_counts_steps_and_trainings():
    asked: Any = recipe("dsa", "images_per_class=10", "method.updates=null", "method.epochs=null")
    (passes,) = methods.named("dsa").work(asked, DATASETS["cifar10"]).passes
    assert passes.images == 3 * (10 * (80 + 3 * 100) + 9 * 50 * 100)
