"""Networks that memorise are caught, networks that saw other images are not."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import Tensor

from potstill.audits import targets
from potstill.audits.attacks import ATTACKS
from potstill.audits.candidates import pair_up
from potstill.audits.membership import membership
from potstill.audits.several import together
from potstill.audits.students import Students
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, Split, centred_one_hot, fingerprint
from potstill.errors import ArtefactError, DataError, RecipeError
from potstill.evaluation.cache import Cache
from potstill.results import Membership
from potstill.rng import stream

NETWORK = NetworkRecipe(depth=1, width=24)
QUICK = Students(learning_rate=3e-3, batch_size=64, augmented=False)
SMALL = {"steps": [2], "networks": 1, "folds": 2, "students": QUICK}


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(DataRecipe(), None)


def source_of(train: Split, test: Split) -> SourceDataset:
    names = tuple("0123456789")
    return SourceDataset("digits", names, train, test, fingerprint(train, test))


def part(split: Split, rows: slice, labels: Tensor | None = None) -> Split:
    return Split(split.images[rows], split.labels[rows] if labels is None else labels)


@pytest.fixture(scope="module")
def guessing(digits: SourceDataset) -> SourceDataset:
    """Digits with random labels: whoever knows one has seen it."""
    draws = stream(0, "test/labels")
    train, test = (torch.from_numpy(draws.permutation(100) % 10) for _ in range(2))
    rows = slice(100)
    return source_of(part(digits.train, rows, train), part(digits.test, rows, test))


def set_of(source: SourceDataset, images: Tensor, labels: Tensor, **source_facts):
    header = {
        "method": "test",
        "recipe": {},
        "evaluation": {"protocol": "test", "network": NETWORK.model_dump(mode="json")},
        "source": {"name": source.name, "fingerprint": source.fingerprint, **source_facts},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    pre = preprocess.fit(DataRecipe(), source.train.images)
    targets = centred_one_hot(labels, source.classes)
    return DistilledDataset(images, targets, source.class_names, pre, header)


@pytest.fixture(scope="module")
def small(digits: SourceDataset) -> SourceDataset:
    return source_of(part(digits.train, slice(60)), part(digits.test, slice(50)))


@pytest.fixture(scope="module")
def other_images(small: SourceDataset, digits: SourceDataset) -> DistilledDataset:
    """Two training images of each digit, none of which is a member."""
    rows = torch.cat([(digits.train.labels[60:] == k).nonzero()[:2, 0] + 60 for k in range(10)])
    return set_of(small, digits.train.images[rows], digits.train.labels[rows])


def final(scores, attack="threshold") -> float:
    return scores.curve[-1].auc[attack].mean


@pytest.fixture(scope="module")
def memorised(guessing: SourceDataset):
    dataset = set_of(guessing, guessing.train.images, guessing.train.labels)
    return membership(
        dataset, guessing, steps=[400, 5], networks=2, folds=3, students=QUICK, baselines=False
    )


def test_a_network_that_memorises_is_caught_by_every_attack(memorised):
    assert final(memorised.distilled) > 0.98
    for attack in ATTACKS:
        assert final(memorised.distilled, attack) > 0.85, attack
    early, late = memorised.distilled.curve
    assert (early.steps, late.steps) == (5, 400)
    assert early.auc["threshold"].mean < late.auc["threshold"].mean
    assert late.member_accuracy.mean > 0.97
    assert late.accuracy.mean < 0.3


def test_the_document_is_json_with_an_area_for_each_network(memorised):
    document = memorised.document()
    json.dumps(document, allow_nan=False)
    assert memorised.kind == "membership" and memorised.attacks == ATTACKS
    assert (memorised.members, memorised.others, memorised.images) == (100, 100, 100)
    assert memorised.training.steps == 400
    assert not {"warnings", "baselines"} & document.keys()
    for moment in memorised.distilled.curve:
        assert len(moment.accuracy.values) == 2
        assert {len(area.values) for area in moment.auc.values()} == {2}
    roc = memorised.distilled.roc
    for attack in ATTACKS:
        area = np.trapezoid(roc.tpr[attack], roc.fpr)
        assert area == pytest.approx(final(memorised.distilled, attack), abs=0.03)


def test_the_distilled_images_are_trained_on_and_not_those_they_started_from(guessing):
    """A set of the others: to its networks the members, which it started from, are strangers.

    Networks trained on the initial real images would know the members instead.
    """
    dataset = set_of(guessing, guessing.test.images, guessing.test.labels)
    audit = membership(
        dataset, guessing, steps=[400], networks=1, folds=2, students=QUICK, baselines=True
    )
    assert final(audit.distilled) < 0.02
    assert audit.distilled.curve[-1].accuracy.mean > 0.97
    assert final(audit.baselines["members"]) > 0.98
    assert audit.baselines["members"].images == 100


def test_networks_that_never_saw_the_members_do_not_betray_them(digits):
    half = len(digits.train) // 2
    source = source_of(part(digits.train, slice(half)), digits.test)
    own = slice(half, half + 200)
    dataset = set_of(source, digits.train.images[own], digits.train.labels[own])
    audit = membership(dataset, source, steps=[150], networks=2, folds=3, students=QUICK)
    assert audit.distilled.curve[-1].accuracy.mean > 0.85
    for attack in ATTACKS:
        assert final(audit.distilled, attack) == pytest.approx(0.5, abs=0.07), attack


def test_classes_that_differ_in_size_betray_nothing(digits):
    """Members are mostly of low classes, others of high ones; the network is not trained."""

    def first(split: Split, of: list[int]) -> Split:
        rows = torch.cat([(split.labels == k).nonzero()[: of[k], 0] for k in range(10)])
        return Split(split.images[rows], split.labels[rows])

    low = [30, 30, 30, 30, 30, 10, 10, 10, 10, 10]
    source = source_of(first(digits.train, low), first(digits.test, low[::-1]))
    dataset = set_of(source, source.train.images, source.train.labels)
    audit = membership(dataset, source, steps=[1], networks=3, folds=2, students=QUICK)
    assert audit.members == audit.others == 100
    for attack in ATTACKS:
        assert audit.untrained.auc[attack].mean == pytest.approx(0.5, abs=0.12), attack


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_every_member_stands_beside_another_of_its_class_in_one_fold(digits, folds):
    candidates = pair_up(digits, folds, 0)
    classes = digits.train.labels[candidates.members]
    assert torch.equal(classes, digits.test.labels[candidates.others])
    assert len({*candidates.members.tolist()}) == len({*candidates.others.tolist()}) == len(classes)
    assert torch.equal(classes.bincount(), digits.test.labels.bincount())
    seen = []
    for inside, outside in candidates.folds(folds):
        assert sorted([*inside, *outside]) == [*range(len(classes))]
        seen += inside.tolist()
    assert sorted(seen) == [*range(len(classes))]
    again, other = pair_up(digits, folds, 0), pair_up(digits, folds, 1)
    assert (candidates.members == again.members).all()
    assert (candidates.members != other.members).any()


def test_networks_before_their_training_betray_nothing(memorised):
    for attack in ATTACKS:
        area = memorised.untrained.auc[attack]
        assert len(area.values) == 2
        assert area.mean == pytest.approx(0.5, abs=0.15), attack


def test_random_members_are_as_many_as_distilled_images(small, other_images):
    audit = membership(other_images, small, baselines=True, **SMALL)
    assert [*audit.baselines] == ["members", "random"]
    counts = {name: scores.images for name, scores in audit.baselines.items()}
    assert counts == {"members": 60, "random": 20}
    pairs = [
        min(int((small.train.labels == k).sum()), int((small.test.labels == k).sum()))
        for k in range(10)
    ]
    assert audit.members == audit.others == sum(pairs) == 50


def test_a_seed_decides_everything_and_neither_other_networks_nor_steps(small, other_images):
    def run(**changes):
        audit = membership(other_images, small, **{**SMALL, "steps": [3, 6], **changes})
        return audit.model_copy(update={"seconds": 0.0})

    one = run()
    assert run() == one
    assert run(seed=1).distilled != one.distilled
    two = run(networks=2, steps=[3])
    for ours, theirs in zip(one.distilled.curve, two.distilled.curve, strict=False):
        assert theirs.accuracy.values[:1] == ours.accuracy.values
        for attack in ATTACKS:
            assert theirs.auc[attack].values[:1] == ours.auc[attack].values


def test_students_are_trained_as_in_the_paper():
    training = Students().training(16000)
    assert (training.steps, training.batch_size) == (16000, 256)
    assert {training.schedule(step) for step in (0, 1, 500, 15999)} == {3e-4}
    assert training.augment is not None
    assert QUICK.training(2).augment is None


def test_progress_reaches_its_end(small, other_images):
    told = []
    membership(other_images, small, baselines=True, progress=lambda *at: told.append(at), **SMALL)
    stages, dones, totals = zip(*told, strict=True)
    assert list(dones) == sorted(dones) and dones[-1] == totals[0] > 3 * max(SMALL["steps"])
    assert len({*totals}) == 1 and {*stages} == {"training step"}


def test_a_stop_loses_one_network_at_most(small, other_images, tmp_path, monkeypatch):
    asked = {**SMALL, "networks": 2, "baselines": True}
    whole = membership(other_images, small, **asked)
    attacked = []

    def stop_at_the_fifth(*arguments, **options):
        if len(attacked) == 4:
            raise KeyboardInterrupt
        attacked.append(options["index"])
        return targets.attack(*arguments, **options)

    monkeypatch.setattr("potstill.audits.membership.attack", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        membership(other_images, small, **asked, cache=Cache(tmp_path))
    assert len([*tmp_path.iterdir()]) == 4
    monkeypatch.setattr("potstill.audits.membership.attack", targets.attack)
    (damaged, *_) = tmp_path.iterdir()
    damaged.write_text(json.dumps(json.loads(damaged.read_text()) | {"value": {"victims": [{}]}}))
    resumed = membership(other_images, small, **asked, cache=Cache(tmp_path))
    assert {**resumed.document(), "seconds": 0} == {**whole.document(), "seconds": 0}
    # Networks on all members and on random ones are there for other sets of the same data.
    monkeypatch.setattr("potstill.audits.membership.attack", stop_at_the_fifth)
    attacked.clear()
    other = set_of(small, small.train.images[:20].flip(-1), small.train.labels[:20])
    membership(other, small, **asked, cache=Cache(tmp_path))
    assert attacked == [0, 1]


def test_members_must_be_known(small, other_images, digits):
    with pytest.raises(DataError, match="its members are not known") as caught:
        membership(other_images, digits, **SMALL)
    assert "\n" not in str(caught.value)
    unsaid = set_of(small, other_images.images, other_images.hard_labels(), fingerprint="unknown")
    audit = membership(unsaid, small, **SMALL)
    assert "taken on trust" in audit.warnings[0]


def test_members_of_an_imported_set_are_taken_on_trust(small, other_images):
    header = {**other_images.header, "method": "imported"}
    imported = DistilledDataset(
        other_images.images,
        other_images.labels,
        other_images.class_names,
        other_images.preprocess,
        header,
    )
    (warning,) = membership(imported, small, **SMALL).warnings
    assert "members are taken on trust" in warning and "the 60 training images" in warning
    assert not membership(other_images, small, **SMALL).warnings


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"folds": 1}, RecipeError, "at least 1 network, 1 step and 2 folds"),
        ({"steps": []}, RecipeError, "at least 1 network"),
        ({"steps": [0, 2]}, RecipeError, "at least 1 network"),
        ({"networks": 0}, RecipeError, "at least 1 network"),
        ({"folds": 6}, DataError, "too few for 6 folds"),
    ],
)
def test_what_cannot_be_audited_is_refused(small, other_images, changes, error, words):
    with pytest.raises(error, match=words) as caught:
        membership(other_images, small, **{**SMALL, **changes})
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused(small, other_images):
    fewer = dataclasses.replace(small, class_names=small.class_names[:9])
    with pytest.raises(DataError, match="differ in classes or in the images' shape"):
        membership(other_images, fewer, **SMALL)
    few = set_of(small, other_images.images[:9], other_images.hard_labels()[:9])
    assert membership(few, small, **SMALL).images == 9
    with pytest.raises(DataError, match="leave out the baselines"):
        membership(few, small, baselines=True, **SMALL)
    few.header["evaluation"] = {}
    with pytest.raises(ArtefactError, match="does not say which network"):
        membership(few, small, **SMALL)
    assert membership(few, small, network=NETWORK, **SMALL).network.width == 24


def test_an_area_is_the_mean_over_folds(monkeypatch, small, other_images):
    seen = iter(range(100))
    monkeypatch.setattr(targets.attacks, "area", lambda *_: next(seen) / 100)
    audit = membership(other_images, small, steps=[1], networks=2, folds=2, students=QUICK)
    first, second = audit.distilled.last.auc["threshold"].values
    assert first == pytest.approx((0.00 + 0.05) / 2) and second == pytest.approx((0.10 + 0.15) / 2)


def test_audits_of_several_sets_are_one_of_all_their_networks(small, other_images, digits):
    other = source_of(part(digits.train, slice(60, 120)), small.test)
    moved = set_of(other, other_images.images, other_images.hard_labels())
    quick = {**SMALL, "networks": 2, "baselines": True}
    audits = [membership(*each, **quick) for each in ((other_images, small), (moved, other))]
    assert together(audits[:1]) is audits[0]
    both = together(audits)
    assert (both.sets, both.networks, both.members) == (2, 2, sum(one.members for one in audits))
    assert both.artefact_digest is None and not both.warnings
    for name in ("untrained", "distilled"):
        parts = [getattr(one, name) for one in (both, *audits)]
        areas = [(one.last if name == "distilled" else one).auc["knn"].values for one in parts]
        assert areas[0] == areas[1] + areas[2] and len(areas[0]) == 4
    whole, *halves = (one.baselines["random"] for one in (both, *audits))
    assert whole.last.accuracy.values == sum((one.last.accuracy.values for one in halves), ())
    assert whole.roc.tpr["rf"][9] == pytest.approx(
        np.mean([one.roc.tpr["rf"][9] for one in halves])
    )
    assert Membership.model_validate(json.loads(json.dumps(both.document()))) == both

    (warning,) = together([audits[0], audits[0]]).warnings
    assert "2 sets were distilled from the training images of 1" in warning
    shorter = audits[1].model_copy(update={"network": NetworkRecipe(depth=1, width=4)})
    with pytest.raises(RecipeError, match="differ in network are not one"):
        together([audits[0], shorter])
