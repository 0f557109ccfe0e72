"""The attacks on numbers with known answers, and what they see held against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from potstill.audits import attacks
from potstill.audits.attacks import ATTACKS, FALSE_POSITIVE_RATES, Evidence
from potstill.config import DataRecipe
from potstill.data import datasets, preprocess
from potstill.data.source import Split
from potstill.rng import stream

FITTED = tuple(name for name in ATTACKS if name != "threshold")


def evidence(outputs: np.ndarray, labels: np.ndarray) -> Evidence:
    wanted = np.eye(outputs.shape[1])[labels] - 1 / outputs.shape[1]
    return Evidence(outputs, ((outputs - wanted) ** 2).sum(1) / 2, labels)


def guessed(images: int, spread: float, seed: int) -> tuple[Evidence, np.ndarray]:
    """Half members, whose outputs are the labels; others are off by ``spread`` on average."""
    draws = stream(seed, "test/attacks")
    labels = draws.integers(0, 3, images)
    is_member = np.arange(images) % 2 == 0
    noise = np.where(is_member, 0.05, 0.05 + spread)[:, None] * draws.normal(size=(images, 3))
    return evidence(np.eye(3)[labels] - 1 / 3 + noise, labels), is_member


def by_pairs(is_member: np.ndarray, scores: np.ndarray) -> float:
    """The area as the share of pairs in the right order, ties half."""
    pairs = [
        (member > other) + (member == other) / 2
        for member in scores[is_member]
        for other in scores[~is_member]
    ]
    return float(np.mean(pairs))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=2, max_size=30))
def test_the_area_is_the_share_of_pairs_in_order(rows):
    is_member = np.array([True, False, *(member for member, _ in rows)])
    scores = np.array([3.0, 1.0, *(float(value) for _, value in rows)])
    area = attacks.area(is_member, scores)
    assert area == pytest.approx(by_pairs(is_member, scores))
    rates = attacks.curve(is_member, scores)
    assert len(rates) == len(FALSE_POSITIVE_RATES) and rates[-1] == 1
    assert (np.diff(rates) >= 0).all()
    # The curve that is kept has nearly the area of the whole one.
    assert np.trapezoid(rates, FALSE_POSITIVE_RATES) == pytest.approx(area, abs=0.03)


def test_a_curve_shows_an_attacker_who_is_sure():
    is_member = np.array([True, True, False, False])
    assert (attacks.curve(is_member, np.array([4.0, 3.0, 2.0, 1.0])) == 1).all()
    half = attacks.curve(is_member, np.array([4.0, 1.0, 3.0, 2.0]))
    assert half[0] == half[20] == 0.5
    assert [*FALSE_POSITIVE_RATES] == sorted({*FALSE_POSITIVE_RATES})
    assert FALSE_POSITIVE_RATES[0] == 0 and FALSE_POSITIVE_RATES[-1] == 1


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_tells_what_can_be_told_and_no_more(attack):
    known, truth = guessed(300, 0.6, 0)
    asked, answer = guessed(200, 0.6, 1)
    assert attacks.area(answer, attacks.membership_scores(attack, known, truth, asked, 0)) > 0.9
    known, truth = guessed(300, 0.0, 2)
    asked, answer = guessed(200, 0.0, 3)
    area = attacks.area(answer, attacks.membership_scores(attack, known, truth, asked, 0))
    assert 0.38 < area < 0.62


@pytest.mark.parametrize("attack", FITTED)
def test_fitted_attacks_learn_which_way_round_it_is(attack):
    known, truth = guessed(300, 0.6, 4)
    asked, answer = guessed(200, 0.6, 5)
    assert attacks.area(answer, attacks.membership_scores(attack, known, ~truth, asked, 0)) < 0.1


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_the_same_again(attack):
    known, truth = guessed(120, 0.1, 6)
    asked, _ = guessed(60, 0.1, 7)
    one, again = (attacks.membership_scores(attack, known, truth, asked, 3) for _ in range(2))
    assert (one == again).all() and np.isfinite(one).all()


def test_fitted_attacks_see_the_label():
    """Outputs and losses say nothing; members are those of class 0."""
    draws = stream(8, "test/attacks")
    labels = draws.integers(0, 2, 400)
    outputs = draws.normal(size=(400, 2))
    seen = Evidence(outputs, draws.normal(size=400) ** 2, labels)
    assert seen.features.shape == (400, 5)
    one, other = seen.rows(np.arange(200)), seen.rows(np.arange(200, 400))
    for attack in ("lr", "mlp", "rf"):
        guesses = attacks.membership_scores(attack, one, one.labels == 0, other, 0)
        assert attacks.area(other.labels == 0, guesses) > 0.95


def test_what_is_seen_is_what_loops_over_images_see():
    source = datasets.load(DataRecipe(), None)
    pre = preprocess.fit(DataRecipe(), source.train.images)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))
    split = Split(source.test.images[:130], source.test.labels[:130])
    seen = attacks.observe(network.train(), split, pre)
    assert not network.training and len(seen) == 130
    hits = 0
    for index in range(0, 130, 13):
        image, label = split.images[index : index + 1], int(split.labels[index])
        with torch.no_grad():
            output = network(pre.apply(image))[0].double().numpy()
        wanted = np.array([(k == label) - 0.1 for k in range(10)])
        assert seen.outputs[index] == pytest.approx(output, abs=1e-5)
        loss = 0.5 * sum((output - wanted) ** 2)
        assert seen.losses[index] == pytest.approx(loss, abs=1e-5)
        assert seen.labels[index] == label
        hits += output.argmax() == label
    tenth = seen.rows(np.arange(0, 130, 13))
    assert tenth.accuracy == pytest.approx(hits / 10)
    both = attacks.joined(tenth, seen)
    assert len(both) == 140 and (both.losses[:10] == tenth.losses).all()
