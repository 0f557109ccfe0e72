"""Every step that runs on a card, with nothing left behind on the processor."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from potstill import audits, methods
from potstill.audits.continual import continual
from potstill.audits.diversity import diversity
from potstill.audits.membership import membership
from potstill.audits.students import Students
from potstill.config import NetworkRecipe
from potstill.data import datasets, preprocess
from potstill.data.source import centred_one_hot
from potstill.evaluation.protocol import PROTOCOLS, evaluate
from potstill.evaluation.regimes import RegimeProtocol
from potstill.evaluation.relabel import relabel
from potstill.evaluation.students import StudentProtocol
from potstill.methods.distilling import distill
from potstill.methods.squeeze import squeeze
from tests.devices.pretended import card
from tests.devices.problems import SETTINGS, SMALL, recipe_for
from tests.evaluation.problems import RECIPE, set_of, small_network, teacher_of


@pytest.fixture(scope="module")
def digits():
    return datasets.load(RECIPE, None)


@pytest.fixture(scope="module")
def standardise(digits):
    return preprocess.fit(RECIPE, digits.train.images)


@pytest.fixture(scope="module")
def real(digits, standardise):
    rows = torch.cat([(digits.train.labels == label).nonzero()[:2, 0] for label in range(10)])
    labels = centred_one_hot(digits.train.labels[rows], 10)
    return set_of(digits, standardise, digits.train.images[rows], labels)


def teacher(digits, standardise):
    """A teacher on the card."""
    return teacher_of(small_network().to("meta"), digits, standardise)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda on, off: on + off,
        lambda on, off: torch.nn.functional.conv2d(on, off),
        lambda on, off: on.flatten(1) @ off.flatten(1).T,
        lambda on, off: torch.cat([on, off]),
        lambda on, off: on.numpy(),
    ],
)
def test_the_pretended_card_refuses_what_a_card_refuses(mixed) -> None:
    with card(), pytest.raises((RuntimeError, TypeError)):
        mixed(torch.ones(2, 3, 4, 4, device="meta"), torch.ones(2, 3, 4, 4))


@pytest.mark.parametrize("method", SETTINGS, ids=str)
def test_a_method_distils_on_a_card(method, digits) -> None:
    with card():
        result = distill(recipe_for(method), digits, device="meta")
    assert result.images.device.type == "cpu"


def test_every_method_is_tried() -> None:
    assert set(SMALL) == set(methods.names())


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_trains_and_tests_on_a_card(name, digits, standardise, real) -> None:
    protocol = PROTOCOLS[name]
    short = {"steps": (2, 2)} if hasattr(protocol, "schedule_length") else {}
    short |= {"presentations": 100} if isinstance(protocol, RegimeProtocol) else {}
    with card():
        result = evaluate(
            real,
            digits,
            protocol=dataclasses.replace(protocol, **short),
            networks=2,
            network=NetworkRecipe(depth=2, width=4),
            device="meta",
            epochs=1 if protocol.counts_epochs else None,
            best=protocol.counts_epochs,
            teacher=teacher(digits, standardise) if protocol.takes_teacher else None,
            baseline=True,
        )
    assert len(result.accuracy.values) == 2
    assert (result.precision == "bfloat16") == isinstance(protocol, StudentProtocol)


def test_teachers_are_trained_and_label_on_a_card(digits, standardise, real) -> None:
    with card():
        trained = squeeze(recipe_for({"kind": "dwa"}), digits, device="meta")
        assert trained.accuracy is not None
        labelled = relabel(real, teacher(digits, standardise), epochs=2, device="meta")
    assert labelled.soft_labels is not None


def test_audits_run_on_a_card(digits, standardise, real, monkeypatch) -> None:
    # A map of images that are all in one place cannot be drawn.
    monkeypatch.setattr(audits.diversity, "_tsne", lambda rows, *rest: np.zeros((len(rows), 2)))
    with card():
        students = Students(learning_rate=1e-3, batch_size=8, augmented=True)
        membership(real, digits, steps=[2], networks=1, folds=2, students=students, device="meta")
        continual(real, digits, tasks=2, protocol="hard-label", epochs=1, device="meta")
        diversity(real, teacher(digits, standardise), digits, device="meta")
