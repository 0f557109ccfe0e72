from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from potstill.data.source import Split, centred_one_hot
from potstill.errors import DataError, RecipeError
from potstill.evaluation import PROTOCOLS, evaluate
from potstill.evaluation.baselines import all_real, random_real
from potstill.evaluation.cache import Cache
from potstill.evaluation.fixed_steps import Protocol
from potstill.evaluation.plan import Assignment
from potstill.evaluation.robust import (
    augmentation_robust,
    label_robust,
    robust,
    scores,
    with_and_without,
)
from potstill.networks.init import initialise_default
from potstill.progress import silent
from tests.evaluation.problems import NETWORK, numbers, set_of, small_network, teacher_of

HARD = PROTOCOLS["hard-label"]
SHORT = Protocol("short", augmented=False, steps=(3, 3), schedule_length=(3, 3), warmup=1)


def assignment(dataset, source, **changes) -> Assignment:
    given = Assignment(dataset, source, NETWORK, 2, 0, torch.device("cpu"), baseline=True)
    return replace(given, **changes)


@pytest.fixture(scope="module")
def few(digits):
    """150 training and 60 test images of the digits."""
    train = Split(digits.train.images[:150], digits.train.labels[:150])
    test = Split(digits.test.images[:60], digits.test.labels[:60])
    return replace(digits, train=train, test=test, fingerprint="few")


def test_the_check_value_of_the_source():
    assert label_robust(0.30, 0.05) == pytest.approx(0.219, abs=5e-4)
    assert robust(-1) == 0
    assert robust(1) == pytest.approx(1)
    assert augmentation_robust(0, 0) == pytest.approx((1 - 1 / math.e) / (math.e - 1 / math.e))


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 1), st.floats(1e-3, 0.5))
def test_scores_rise_with_what_is_good(hlr, ior, weight, step):
    assert label_robust(hlr + step, ior, weight) <= label_robust(hlr, ior, weight)
    assert label_robust(hlr, ior + step, weight) >= label_robust(hlr, ior, weight)
    assert augmentation_robust(ior, hlr, weight) <= augmentation_robust(ior + step, hlr, weight)
    assert label_robust(hlr, ior, 1.0) == pytest.approx(robust(ior))
    assert augmentation_robust(ior, hlr, 0.0) == pytest.approx(robust(hlr))


def test_all_real_images_train_as_a_set_of_all_of_them_does(few, standardise):
    labels = centred_one_hot(few.train.labels, 10)
    everything = set_of(few, standardise, few.train.images, labels)
    found = all_real(assignment(everything, few), HARD, Cache(), silent, most_steps=5)
    slow = evaluate(everything, few, protocol="hard-label", networks=2, epochs=found.epochs, seed=0)
    assert (found.epochs, found.steps) == (2, 4)
    assert found.budget_steps == 5
    assert found.values == slow.accuracy.values
    assert found.steps == slow.steps


def test_a_budget_is_kept_but_for_one_epoch(few, standardise, real):
    steps = []
    for most in (1, 2, 3, 4):
        found = all_real(
            assignment(real, few, networks=1),
            HARD,
            Cache(),
            lambda stage, *told: steps.append(told),
            most,
        )
        assert found.steps == max(2, 2 * (most // 2))
        assert steps[-1] == (found.steps, found.steps)
    short = replace(HARD, settings=lambda c, r: HARD.settings(c, r).lasting(3))
    assert all_real(assignment(real, few, networks=1), short, Cache(), silent).epochs == 3
    with pytest.raises(RecipeError, match="at least 1"):
        all_real(assignment(real, few), HARD, Cache(), silent, 0)


@pytest.mark.parametrize("name", ["hard-label", "rcig-paper"])
def test_random_images_are_those_of_the_evaluation(name, few, real):
    protocol = PROTOCOLS[name]
    if name == "rcig-paper":
        protocol = replace(protocol, steps=(3, 3))
    found = random_real(assignment(real, few), protocol, Cache(), silent)
    slow = evaluate(real, few, protocol=protocol, networks=2, baseline=True).baseline
    assert found.values == slow.values
    assert found.kept is False


def counting(monkeypatch):
    """How many networks were initialised for the training on all images."""
    from potstill.evaluation import baselines

    count = []
    monkeypatch.setattr(
        baselines,
        "initialise_default",
        lambda *given: (count.append(given[3]), initialise_default(*given)),
    )
    return count


def test_baselines_are_trained_once(few, real, tmp_path, monkeypatch):
    trained = counting(monkeypatch)
    cache = Cache(tmp_path / "cache")
    first = all_real(assignment(real, few), HARD, cache, silent, 2)
    again = all_real(assignment(real, few), HARD, Cache(tmp_path / "cache"), silent, 2)
    assert trained == [0, 1]
    assert (first.kept, again.kept) == (0, 2)
    assert again.values == first.values
    # A third network is trained beside the two that are there.
    more = all_real(assignment(real, few, networks=3), HARD, cache, silent, 2)
    assert trained == [0, 1, 2]
    assert more.values[:2] == first.values
    random_real(assignment(real, few), HARD, cache, silent)
    assert random_real(assignment(real, few), HARD, cache, silent).kept is True


def test_everything_that_matters_is_in_the_key(few, real, standardise, digits, tmp_path):
    cache = Cache(tmp_path)
    base = assignment(real, few, networks=1)
    wider = NETWORK.model_copy(update={"width": 9})
    fewer = set_of(few, standardise, real.images[:20], real.labels[:20], epochs=3)
    other = type(standardise)(standardise.mean + 0.1, standardise.std)
    elsewhere = set_of(few, other, real.images, real.labels, epochs=3)
    all_real(base, HARD, cache, silent, 2)
    random_real(base, HARD, cache, silent)
    changes = {
        "seed": {"seed": 1},
        "network": {"network": wider},
        "preprocessing": {"dataset": elsewhere},
        "data": {"source": replace(few, fingerprint="other")},
    }
    for what, change in changes.items():
        changed = replace(base, **change)
        assert all_real(changed, HARD, cache, silent, 2).kept == 0, what
        assert random_real(changed, HARD, cache, silent).kept is False, what
    assert all_real(base, HARD, cache, silent, 4).kept == 0
    for change in ({"epochs": 1}, {"networks": 2}, {"dataset": fewer}):
        assert random_real(replace(base, **change), HARD, cache, silent).kept is False, change
    plain = with_and_without(HARD)[1]
    assert random_real(base, plain, cache, silent).kept is False
    assert all_real(base, HARD, cache, silent, 2).kept == 1


def test_random_images_under_another_teacher_are_others(few, real, teacher, standardise, tmp_path):
    cache, protocol = Cache(tmp_path), PROTOCOLS["dwa-paper"]
    stranger = teacher_of(small_network(seed=1), few, standardise)
    for labeller in (teacher, stranger):
        given = assignment(real, few, networks=1, teacher=labeller)
        assert random_real(given, protocol, cache, silent).kept is False
        assert random_real(given, protocol, cache, silent).kept is True


class Kept(BaseModel):
    accuracy: float


def test_damaged_and_foreign_files_are_as_good_as_none(tmp_path):
    cache = Cache(tmp_path)
    key = {"what": "x", "pair": (1, 2)}
    cache.put(key, {"accuracy": 0.5})
    (path,) = tmp_path.iterdir()
    found = cache.get({"what": "x", "pair": [1, 2]}, Kept)
    assert found is not None and found.accuracy == 0.5
    assert cache.get({"what": "y"}, Kept) is None
    whole = path.read_text()
    for damaged in (whole[:20], "[]", json.dumps({"key": {"what": "z"}, "value": {}}), "\xff"):
        path.write_text(damaged)
        assert cache.get(key, Kept) is None
    blocked = Cache(path)
    blocked.put(key, {"accuracy": 0.5})
    assert blocked.problem is not None
    assert str(path) in blocked.problem
    assert blocked.get(key, Kept) is None


@pytest.mark.parametrize(
    "value", [{}, {"accuracies": 0.5}, {"accuracies": [0.5]}, {"accuracies": [0.5, "much"]}]
)
def test_a_value_of_another_kind_is_as_good_as_none(value, few, real, tmp_path):
    first = random_real(assignment(real, few), SHORT, Cache(tmp_path), silent)
    (path,) = tmp_path.iterdir()
    key = json.loads(path.read_text())["key"]
    path.write_text(json.dumps({"key": key, "value": value}))
    again = random_real(assignment(real, few), SHORT, Cache(tmp_path), silent)
    assert again == first and not again.kept
    assert Cache(tmp_path).numbers(key, "accuracies", 2) == list(first.values)


def test_hlr_is_of_the_sets_images_however_briefly_its_protocol_runs(few, real, teacher):
    short = scores(real, few, teacher=teacher, networks=1, epochs=1, real_steps=2)
    longer = scores(real, few, teacher=teacher, networks=1, epochs=40, real_steps=2)
    assert short.hlr == longer.hlr and short.hlr.distilled.epochs == 3
    assert short.ior != longer.ior


def test_too_little_training_on_real_images_is_a_warning(few, real):
    words = "HLR and LRS flatter the set; raise --real-steps"
    for real_steps in (1, 120):
        found = scores(
            real, few, protocol="hard-label", networks=1, epochs=60, real_steps=real_steps
        )
        warned = [words in warning for warning in found.warnings]
        assert any(warned) == (found.hlr.value < 0) == (real_steps == 1)


def test_protocols_have_a_form_with_and_without_augmentation(real):
    for name in ("rcig-paper", "rcig-paper-augmented", "rcig-as-run"):
        augmented, plain = with_and_without(PROTOCOLS[name])
        assert (augmented.name, plain.name) == (
            name.removesuffix("-augmented") + "-augmented",
            name.removesuffix("-augmented"),
        )
        assert augmented.training(10).augment is not None
        assert plain.training(10).augment is None
    for name in ("dwa-paper", "hard-label"):
        augmented, plain = with_and_without(PROTOCOLS[name])
        assert augmented is PROTOCOLS[name]
        views = plain.training(real).views
        assert (views.padding, views.flip, views.mix) == (0, False, "none")
        assert plain.training(real).optimisation == augmented.training(real).optimisation
    single = replace(PROTOCOLS["rcig-transfer-augmented"], name="own")
    augmented, plain = with_and_without(single)
    assert augmented is single and (plain.name, plain.augmented) == ("own-plain", False)
    assert replace(plain, name="own", augmented=True) == single


def test_plain_views_are_the_images(real):
    from potstill.evaluation.labelling import Views

    _, plain = with_and_without(PROTOCOLS["hard-label"])
    views = Views.of(real, plain.training(real).views, seed=0)
    images = real.images[:7]
    mix = views.of_batch(images, epoch=1, step=2)
    assert mix.images.equal(images)
    assert mix.partners.tolist() == list(range(7))
    assert mix.share == 1.0


def test_scores_are_made_of_their_parts(few, real, teacher):
    told = []
    document = scores(
        real,
        few,
        networks=2,
        teacher=teacher,
        real_steps=4,
        progress=lambda *each: told.append(each),
    )
    own = evaluate(real, few, networks=2, teacher=teacher, baseline=True)
    hard = evaluate(real, few, networks=2, protocol="hard-label")
    hlr, ior, ars = document.hlr, document.ior, document.ars
    assert ior.distilled == own.accuracy
    assert ior.random.values == own.baseline.values
    assert hlr.distilled.values == hard.accuracy.values
    assert ior.value == own.accuracy.mean - own.baseline.mean
    assert hlr.value == hlr.real.mean - hlr.distilled.mean
    assert document.lrs.value == label_robust(hlr.value, ior.value)
    assert ars.augmented.value == ior.value
    assert ars.plain.protocol == "dwa-paper-plain"
    assert ars.value == augmentation_robust(ior.value, ars.plain.value)
    assert document.kind == "scores"
    assert document.artefact_digest == real.digest
    assert document.teacher["digest"] == teacher.digest
    assert [stage for stage, done, total in told if done == total] == [
        "distilled images, dwa-paper",
        "distilled images, dwa-paper-plain",
        "distilled images, hard-label",
        "random real images, dwa-paper",
        "random real images, dwa-paper-plain",
        "all real images, hard-label",
    ]
    json.dumps(document.document(), allow_nan=False)
    again = scores(real, few, networks=2, teacher=teacher, real_steps=4)
    assert numbers(again) == numbers(document)


def test_scores_refuse_what_cannot_be_compared(few, real, teacher, standardise, tmp_path):
    with pytest.raises(DataError, match="pass --teacher FILE"):
        scores(real, few)
    with pytest.raises(RecipeError, match="takes no teacher"):
        scores(real, few, protocol="hard-label", teacher=teacher)
    short = set_of(few, standardise, real.images[:9], real.labels[:9], epochs=1)
    with pytest.raises(DataError, match="not one per class"):
        scores(short, few, protocol="hard-label")
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file")
    document = scores(
        real,
        replace(few, fingerprint="?"),
        protocol="hard-label",
        epochs=1,
        real_steps=1,
        cache=cache,
    )
    assert len(document.warnings) == 2
    assert "not kept" in document.warnings[1]
