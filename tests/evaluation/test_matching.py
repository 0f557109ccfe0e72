from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import torch.nn.functional as F

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.data import dc_views, siamese
from potstill.data.siamese import ALL, WITHOUT_FLIP
from potstill.data.source import centred_one_hot, sample_per_class
from potstill.errors import ArtefactError, RecipeError
from potstill.evaluation import PROTOCOLS, MatchingProtocol, evaluate, matching
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.results import Accuracy, Evaluation
from potstill.train import Optimisation
from tests.evaluation.problems import numbers, set_of

NETWORK = NetworkRecipe(depth=2, width=6, growth=1, normalisation="instance")
PLAIN = MatchingProtocol("plain", 4)
VIEWS = MatchingProtocol("views", 4, views="siamese")
OWN = MatchingProtocol("own", 4, views="dc", batch_size=100)


@pytest.fixture(scope="module")
def some(digits, standardise):
    """Enough real images for two batches: 30 of each class."""
    rows = sample_per_class(digits.train, 10, 30, rng.stream(0, "test/some"))
    labels = centred_one_hot(digits.train.labels[rows], 10)
    images = standardise.apply(digits.train.images[rows])
    return set_of(digits, standardise, images, labels, network=NETWORK.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("epochs", "early", "late"),
    [(1000, 502, 499), (300, 152, 149), (3, 3, 1), (2, 3, 0), (1, 2, 0)],
)
def test_the_rate_falls_at_the_end_of_epoch_half_and_one(some, epochs, early, late):
    training = PROTOCOLS["dsa"].training(some, epochs)
    first = Optimisation("sgd", 0.01, early, 256, 0.9, 5e-4, 0, "constant")
    assert training.phases() == (
        first,
        dataclasses.replace(first, learning_rate=0.001, epochs=late),
    )
    assert first.rate(0, 2) == first.rate(early * 2 - 1, 2) == 0.01
    assert early + late == epochs + 1


def test_the_named_protocols(some):
    assert PROTOCOLS["dc"].training(some) == matching.MatchingTraining(300, None)
    assert PROTOCOLS["dc-mnist"].training(some) == matching.MatchingTraining(
        1000, None, dc_views=True
    )
    assert PROTOCOLS["dsa"].training(some) == matching.MatchingTraining(1000, WITHOUT_FLIP)
    assert PROTOCOLS["cafe"].training(some) == matching.MatchingTraining(600, None)
    assert PROTOCOLS["datadam-as-run"].training(some) == matching.MatchingTraining(
        1800, WITHOUT_FLIP, batch_size=64
    )
    for name in ("dc", "dc-mnist", "dsa", "cafe", "datadam-as-run"):
        protocol = PROTOCOLS[name]
        assert protocol.name == name and not protocol.takes_teacher
        assert protocol.with_augmentation().views == (
            "siamese" if protocol.views == "none" else protocol.views
        )
        assert protocol.without_augmentation().views == "none"


def test_epochs_are_the_callers_else_the_sets_else_the_protocols(digits, some):
    lasting = set_of(digits, some.preprocess, some.images, some.labels, epochs=7)
    assert PROTOCOLS["dc"].training(lasting).epochs == 7
    assert PROTOCOLS["dc"].training(lasting, 9).epochs == 9
    for epochs in (0, -1):
        with pytest.raises(RecipeError, match="at least 1"):
            PROTOCOLS["dc"].training(some, epochs)


def test_the_strategy_is_the_sets_own_else_what_is_usual_for_its_data(digits, some):
    def strategy(name="digits", **evaluation):
        dataset = set_of(digits, some.preprocess, some.images, some.labels, **evaluation)
        dataset.header["source"]["name"] = name
        return PROTOCOLS["dsa"].training(dataset).strategy

    assert strategy() == strategy("mnist") == WITHOUT_FLIP
    assert strategy("fashion_mnist") == strategy("cifar10") == ALL
    assert strategy(strategy=["rotate", "crop"]) == ("crop", "rotate")
    assert strategy(strategy=list(ALL)) == ALL
    for wrong in (["crop", "blur"], [], 3):
        with pytest.raises(ArtefactError, match="strategy") as caught:
            strategy(strategy=wrong)
        assert "\n" not in str(caught.value)


def reference(some, training, seed, index) -> tuple[dict[str, torch.Tensor], int]:
    """The weights of network ``index``, trained as the protocol is written down, and the steps."""
    network = zoo.build(NETWORK, channels=1, resolution=8, classes=10)
    initialise_default(network, seed, "evaluation/network", index)
    classes, steps, purpose = some.hard_labels(), 0, f"evaluation/views/{index}"
    for epoch in range(training.epochs + 1):
        if epoch in (0, training.epochs // 2 + 2):
            optimiser = torch.optim.SGD(
                network.parameters(),
                lr=0.001 if epoch else 0.01,
                momentum=0.9,
                weight_decay=5e-4,
            )
        order = torch.from_numpy(rng.stream(seed, f"{purpose}/order", epoch).permutation(300))
        for step, rows in enumerate(order.split(training.batch_size)):
            images = some.images[rows]
            if training.dc_views:
                generator = rng.stream(seed, f"{purpose}/draw/{epoch}", step)
                images = dc_views.augmented(images, generator)
            if training.strategy is not None:
                generator = rng.stream(seed, f"{purpose}/draw/{epoch}", step)
                drawn = siamese.draw(training.strategy, 8, generator, len(rows))
                images = siamese.apply(images, drawn)
            optimiser.zero_grad()
            F.cross_entropy(network(images), classes[rows]).backward()
            optimiser.step()
            steps += 1
    return network.state_dict(), steps


@pytest.mark.parametrize("protocol", [PLAIN, VIEWS, OWN], ids=lambda one: one.name)
def test_networks_are_trained_as_the_protocol_is_written_down(digits, some, protocol, monkeypatch):
    trained = []

    def look(networks, test, preprocess):
        trained.append({k: v.clone() for k, v in networks[0].state_dict().items()})
        return [0.5]

    monkeypatch.setattr(matching, "accuracies", look)
    result = evaluate(some, digits, protocol=protocol, networks=2, seed=3)
    assert result.accuracy.values == (0.5, 0.5)
    assert len(trained) == 2  # the test set is looked at once
    for index, found in enumerate(trained):
        wanted, steps = reference(some, protocol.training(some), 3, index)
        assert result.steps == steps == -(-300 // protocol.batch_size) * 5
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-5)


def test_the_result_says_epochs_labels_and_strategy(digits, some):
    result = evaluate(some, digits, protocol=VIEWS, networks=2, seed=3, baseline=True)
    document = json.loads(json.dumps(result.document()))
    assert Evaluation.model_validate(document).document() == document
    assert (result.protocol, result.epochs, result.labels) == ("views", 4, "hard")
    assert result.strategy == WITHOUT_FLIP
    assert "strategy" not in evaluate(some, digits, protocol=PLAIN).document()
    assert numbers(evaluate(some, digits, protocol=VIEWS, networks=2, seed=3, baseline=True)) == (
        numbers(result)
    )
    other = evaluate(some, digits, protocol=VIEWS, networks=2, seed=4, baseline=True)
    assert other.accuracy.values != result.accuracy.values


def test_networks_learn_and_each_is_the_same_whoever_is_trained_beside_it(digits, some):
    both = evaluate(some, digits, protocol=VIEWS, epochs=40, networks=2).accuracy
    alone = evaluate(some, digits, protocol=VIEWS, epochs=40, networks=1).accuracy
    assert both.values[:1] == alone.values
    assert len(set(both.values)) == 2
    assert both.mean > 0.6
    turned = set_of(digits, some.preprocess, some.images, some.labels.roll(1, 1))
    wrong = evaluate(turned, digits, protocol=VIEWS, epochs=40, networks=1, network=NETWORK)
    assert wrong.accuracy.mean < 0.15


def test_views_change_the_training_and_the_set_stays_as_it_was(digits, some):
    images = some.images.clone()
    plain, views = (
        evaluate(some, digits, protocol=protocol, networks=2, seed=1).accuracy.values
        for protocol in (PLAIN, VIEWS)
    )
    assert plain != views
    assert some.images.equal(images)


def test_the_best_epoch_stands_beside_the_last(digits, some):
    result = evaluate(some, digits, protocol=PLAIN, networks=2, best=True)
    last = evaluate(some, digits, protocol=PLAIN, networks=2).accuracy
    assert result.accuracy == last
    best = result.best_on_test
    assert all(1 <= epoch <= 5 for epoch in best.epochs)
    assert best.mean == Accuracy.of(best.values).mean and best.mean >= last.mean


def test_progress_counts_every_step_of_both_phases(digits, some):
    seen = []
    evaluate(
        some,
        digits,
        protocol=PLAIN,
        networks=2,
        baseline=True,
        progress=lambda *told: seen.append(told),
    )
    assert seen == [("evaluation step", step, 2 * 2 * 5 * 2) for step in range(1, 41)]


def test_a_teacher_is_refused(digits, some, teacher):
    with pytest.raises(RecipeError, match="no teacher"):
        evaluate(some, digits, protocol="dsa", teacher=teacher)
