"""DC, DSA, CAFE and DataDAM on the embedded digits: what they learn, keep and refuse."""

from __future__ import annotations

from dataclasses import replace
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
from potstill.errors import NetworkError, NumericalError, RecipeError
from potstill.methods.distilling import distill
from potstill.methods.matching.distil import Matcher, NetworkVisit
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.matching.losses import Matched
from potstill.methods.matching.parts import parts_of
from potstill.methods.matching.settings import CAFESettings, DataDAMSettings
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe, override, parse
from potstill.networks import zoo
from potstill.runs import Run
from tests.methods.matching import problems
from tests.reference import attention_matching, feature_alignment
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


METHODS: dict[str, dict[str, Any]] = {
    "dc": GRADIENTS,
    "dsa": GRADIENTS,
    "cafe": {"iterations": 3, "real_batch": 8, "query_batch": 4, "most_updates": 3}
    | {"most_epochs": 3},
    "datadam": {"iterations": 3, "real_batch": 8},
}


def recipe(kind: str, *assignments: str) -> Recipe:
    document = {**SMALL, "method": {"kind": kind, **METHODS[kind]}}
    return parse(override(document, assignments), source="test")


@pytest.mark.parametrize("kind", sorted(METHODS))
def test_colour_images_are_distilled_too(kind: str, digits: SourceDataset):
    colours = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    train, test = (
        replace(split, images=(split.images * colours).to(torch.uint8))
        for split in (digits.train, digits.test)
    )
    made = distill(recipe(kind, "method.iterations=1"), replace(digits, train=train, test=test))
    assert made.images.shape == (20, 3, 8, 8)
    assert made.images.isfinite().all()


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


def test_defaults_of_cafe_and_datadam():
    cafe, datadam = (parse({"method": {"kind": k}}, source="test") for k in ("cafe", "datadam"))
    assert (cafe.evaluation.protocol, datadam.evaluation.protocol) == ("cafe", "datadam-as-run")
    one, other = cafe.method, datadam.method
    assert (one.iterations, one.real_batch, one.query_batch) == (2000, 256, 128)
    assert (one.learning_rate, one.milestones) == (0.1, (1200, 1600, 1800))
    assert (one.settled, one.moved, one.start, one.strategy) == (0.04, 0.03, "noise", ())
    assert (other.iterations, other.real_batch, other.learning_rate) == (8000, 64, 1.0)
    assert (other.power, other.feature_weight, other.scale) == (4, 0.01, 100)
    assert (other.start, other.strategy, other.milestones) == ("real", None, ())


def test_losses_have_the_weights_of_the_settings():
    """100 L_SAM + 100 lambda L_MMD, and 0.1, 0.1, 1, 2 and 0.01."""
    real, synthetic = problems.problem()
    net = problems.network(depth=3)
    draws = problems.drawn(1)
    blocks = list(synthetic.split(problems.IPC))
    found = parts_of(DataDAMSettings(), 2).loss(net, real, synthetic, draws).terms.sum()
    expected = 100 * attention_matching.loss(net, real, blocks, draws, 4, 0.01)
    torch.testing.assert_close(found, expected.detach())
    found = parts_of(CAFESettings(), 2).loss(net, real, synthetic, None).terms.sum()
    expected = feature_alignment.loss(net, real, blocks, [0.1, 0.1, 1.0, 2.0], 0.01)
    torch.testing.assert_close(found, expected.detach())


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


@pytest.mark.parametrize("kind", METHODS)
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
    made = {kind: distill(recipe(kind, "method.iterations=1"), digits).header for kind in METHODS}
    titles = {kind: header["description"]["title"] for kind, header in made.items()}
    assert titles == {"dc": "DC", "dsa": "DSA", "cafe": "CAFE", "datadam": "DataDAM"}
    views = {kind: header["evaluation"].get("strategy") for kind, header in made.items()}
    seen = list(WITHOUT_FLIP)
    assert views == {"dc": None, "dsa": seen, "cafe": None, "datadam": seen}


def visit(digits: SourceDataset, *assignments: str) -> NetworkVisit:
    asked = recipe("cafe", *assignments)
    preprocess = fit(asked.data, digits.train.images)
    return NetworkVisit(Matcher(asked, digits, preprocess, Session()))


def test_a_query_is_of_fresh_training_images(digits):
    asked = visit(digits)
    found = [asked.accuracy() for _ in range(2)]
    assert found[0] == found[1]  # of one update and epoch
    train = asked.training()
    train()
    other = asked.accuracy()
    seen, classes = [], []
    members = {
        name: (digits.train.labels == label).nonzero().flatten()
        for label, name in enumerate(digits.class_names)
    }
    for label, rows in enumerate(real_rows(members, 4, 0, 0, 0, purpose="query/1")):
        seen.append(fit(recipe("cafe").data, digits.train.images).apply(digits.train.images[rows]))
        classes += [label] * 4
    right = asked._network(torch.cat(seen)).argmax(1) == torch.tensor(classes)
    assert other == pytest.approx(right.float().mean().item())


def test_as_run_a_share_of_the_last_answer_is_added(digits):
    plain, carried = visit(digits), visit(digits, "method.carry_accuracy=true")
    answer = plain.accuracy()
    assert [carried.accuracy() for _ in range(3)] == pytest.approx(
        [answer, answer * 1.1, answer * 1.11]
    )


def test_a_dynamic_run_logs_what_its_networks_did(digits):
    told: list[dict[str, float]] = []
    distill(recipe("cafe"), digits, progress=lambda *_, **values: told.append(values))
    assert {(one["updates"], one["epochs"], one["caps"]) for one in told} == {(3, 6, 3)}


def test_the_rate_of_the_images_is_halved_at_milestones(digits):
    asked = recipe("cafe", "method.milestones=[1, 2]")
    preprocess = fit(asked.data, digits.train.images)
    state = Matcher(asked, digits, preprocess, Session())
    ones = Matched(torch.ones(10), torch.ones_like(state.images))
    moved = []
    for k in range(4):
        state.iteration, before = k, state.images.clone()
        state._velocity.zero_()
        state.move(ones)
        moved.append(round((before - state.images).mean().item(), 4))
    assert moved == [0.1, 0.05, 0.025, 0.025]


def test_a_fixed_schedule_has_no_queries(digits):
    asked = recipe("cafe", "method.schedule=fixed", "method.updates=2", "method.epochs=1")
    told: list[dict[str, float]] = []
    distill(asked, digits, progress=lambda *_, **values: told.append(values))
    assert told[0].keys() == {"loss", "image_gradient_norm"}
    with pytest.raises(RecipeError, match="a dynamic schedule finds out"):
        recipe("cafe", "method.updates=2")


def test_a_set_from_batch_norm_is_for_networks_with_instance_norm(digits):
    made = distill(recipe("datadam", "network.normalisation=batch"), digits)
    assert made.header["evaluation"]["network"]["normalisation"] == "instance"
    assert made.header["recipe"]["network"]["normalisation"] == "batch"


def test_what_cannot_be_is_refused_in_a_line(digits):
    def refused(words: str, asked: Recipe) -> None:
        with pytest.raises(NetworkError, match=words) as caught:
            distill(asked, digits)
        assert "\n" not in str(caught.value)

    for kind in ("dc", "dsa", "cafe"):
        refused(
            r"set network\.normalisation to instance", recipe(kind, "network.normalisation=batch")
        )
    other = ["network.name=alexnet", "network.normalisation=none", "data.resolution=32"]
    for kind in ("cafe", "datadam"):
        refused(f"{kind} looks into the blocks of a ConvNet", recipe(kind, *other))


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
