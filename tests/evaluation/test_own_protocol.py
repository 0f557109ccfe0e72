"""A protocol that is none of potstill's is used wherever a protocol is asked for."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import pytest
import torch

from potstill import recipes
from potstill.api import importing
from potstill.audits.continual import continual
from potstill.data.source import Split
from potstill.errors import DataError, RecipeError
from potstill.evaluation import PROTOCOLS, evaluate, relabel
from potstill.evaluation.cache import Cache
from potstill.evaluation.plan import Work
from potstill.evaluation.robust import scores
from potstill.evaluation.scores import accuracies
from potstill.networks.init import initialise
from potstill.reproduce import costs
from potstill.results import Accuracy, Reached
from tests.evaluation.problems import NETWORK
from tests.test_reproduce import Ones


@dataclass(frozen=True)
class Perceptron:
    """Gradient steps on all images together, by hand; mirror images stand for augmentation."""

    name: str = "perceptron"
    passes: int = 20
    mirrored: bool = False
    takes_teacher = False
    counts_epochs = True
    publishes_best = False

    def epochs(self, dataset, asked=None):
        return self.passes if asked is None else asked

    def cache_key(self, dataset, epochs):
        return asdict(self) | {"epochs": self.epochs(dataset, epochs)}

    def work(self, images, channels, resolution, *, epochs, mirrored):
        lasting = self.passes if epochs is None else epochs
        return Work(lasting * images * (2 if self.mirrored else 1), tests=lasting)

    def views_to_label(self, dataset, epochs):
        return None

    def with_augmentation(self):
        return replace(self, name="perceptron-mirrored", mirrored=True)

    def without_augmentation(self):
        return replace(self, name="perceptron", mirrored=False)

    def plan(self, assignment):
        return Passes(self, assignment, self.epochs(assignment.dataset, assignment.epochs))


class Passes:
    def __init__(self, protocol, assignment, epochs):
        self.protocol, self.given, self.steps = protocol, assignment, epochs
        self.facts = {"epochs": epochs, "labels": "hard"}

    def scores(self, images, labels, progress):
        values = []
        for index in range(self.given.networks):
            network = self.given.build()
            initialise(network, self.given.seed, "test/perceptron", index)
            seen = images[index] if images.ndim == 5 else images
            wanted = labels[index] if labels.ndim == 3 else labels
            if self.protocol.mirrored:
                seen, wanted = torch.cat([seen, seen.flip(-1)]), torch.cat([wanted, wanted])
            optimiser = torch.optim.Adam(network.parameters(), 1e-2)
            for _ in range(self.steps):
                optimiser.zero_grad()
                (network(seen) - wanted).square().sum().backward()
                optimiser.step()
            progress("network", index + 1, self.given.networks)
            test, preprocess = self.given.source.test, self.given.dataset.preprocess
            values += accuracies([network], test, preprocess)
        return Reached(accuracy=Accuracy.of(values))


OWN = Perceptron()


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(PROTOCOLS, OWN.name, OWN)
    return OWN.name


@pytest.fixture(scope="module")
def few(digits):
    train = Split(digits.train.images[:150], digits.train.labels[:150])
    return replace(
        digits, train=train, test=Split(digits.test.images[:60], digits.test.labels[:60])
    )


def test_it_evaluates(real, few, registered):
    found = evaluate(real, few, protocol=registered, epochs=30, networks=2, baseline=True)
    assert (found.protocol, found.epochs, found.steps, found.labels) == (registered, 30, 30, "hard")
    assert found.accuracy.mean > 0.3 and found.baseline.mean > 0.2


def test_it_has_robust_scores(real, few, registered, tmp_path):
    def run(epochs=20):
        options = {"protocol": registered, "networks": 1, "epochs": epochs, "real_steps": 2}
        return scores(real, few, cache=Cache(tmp_path), **options)

    found = run()
    assert found.protocol == found.ars.plain.protocol == registered
    assert found.ars.augmented.protocol == "perceptron-mirrored"
    assert found.ior.distilled == found.ars.plain.distilled != found.ars.augmented.distilled
    assert not found.ior.random.kept and run().ior.random.kept
    assert not run(epochs=21).ior.random.kept


def test_it_learns_class_by_class(real, few, registered, tmp_path, monkeypatch):
    asked = {"tasks": 2, "protocol": registered, "networks": 1, "epochs": 5}
    found = continual(real, few, cache=Cache(tmp_path), **asked)
    assert found.epochs == 5 and len(found.tasks) == 2
    monkeypatch.setattr("potstill.audits.continual.evaluate", None)
    assert continual(real, few, cache=Cache(tmp_path), **asked).tasks == found.tasks


def test_it_has_no_labels_to_store(real, teacher, registered):
    with pytest.raises(RecipeError, match="perceptron has no soft labels to store"):
        relabel(real, teacher, protocol=registered)


def test_its_cost_is_told_from_its_work():
    recipe = recipes.load("rcig/mnist-ipc1")
    for best, tests in ((False, 1), (True, 20)):
        found = costs.evaluating(recipe, NETWORK, OWN, Ones(), best=best)
        assert found == pytest.approx(5 * (20 * 10 + tests * 10_000 / 3))


def test_its_epochs_can_be_stated_of_an_import(registered):
    stated = {"protocol": registered, "networks": 2, "epochs": 7}
    assert importing._evaluation(registered, 2, 7) == stated
    with pytest.raises(DataError, match="counts steps, not epochs"):
        importing._evaluation("rcig-paper", 2, 7)
