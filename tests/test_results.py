"""Results in JSON, whose keys scripts rely on, and in files of other versions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from potstill import cli, runs
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError
from potstill.results import (
    Accuracy,
    Baseline,
    Continual,
    Diversity,
    Evaluation,
    Membership,
    RobustScores,
)
from tests import test_cli_dwa
from tests.report import audit_records, synthetic

ACCURACY = ["mean", "std", "values"]
BEST = [*ACCURACY, "epochs"]
NETWORK = ["name", "depth", "width", "growth", "normalisation"]
TEACHER = ["digest", "accuracy", "network", "epochs", "settings", "surroundings"]
OF_SET = ["dataset", "images", "images_per_class"]
EVALUATION = [
    *("protocol", *OF_SET, "network", "steps", "epochs", "labels", "teacher", "accuracy"),
    *("best_on_test", "seed", "source_fingerprint", "artefact_digest", "baseline", "price"),
    "seconds",
]
PRICE = [
    *("images", "labels", "preprocessing", "labeller", "total", "bits_per_class", "storage_ratio"),
    *("operations", "random_images"),
]
SCORES = [
    *("kind", *OF_SET, "network", "networks", "protocol", "teacher", "seed", "weights", "hlr"),
    *("ior", "lrs", "ars", "source_fingerprint", "artefact_digest", "seconds"),
]
MEMBERSHIP = [
    *("kind", *OF_SET, "artefact_digest", "source_fingerprint", "network", "training", "attacks"),
    *("networks", "folds", "seed", "members", "others", "untrained", "distilled", "baselines"),
    "seconds",
]
CONTINUAL = [
    *("kind", *OF_SET, "artefact_digest", "source_fingerprint", "protocol", "network", "epochs"),
    *("labels", "networks", "order", "tasks", "average_accuracy", "seed", "teacher", "seconds"),
]
DIVERSITY = [
    *("kind", *OF_SET, "artefact_digest", "teacher", "distance", "seed", "real", "relative"),
    *("source_fingerprint", "embedding", "seconds"),
]
QUICK = ["--device", "cpu", "--json", "--no-save"]


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A distilled set beside its teacher."""
    out = tmp_path_factory.mktemp("dwa") / "run"
    assert cli.run(test_cli_dwa.distil(out)) == 0
    return out / runs.DISTILLED


@pytest.fixture
def found(taught: Path, answer: Callable[..., str]) -> Callable[..., dict[str, Any]]:
    return lambda command, *words: json.loads(answer(command, taught, *words, *QUICK))


def keys(document: dict[str, Any], *path: str | int) -> list[str]:
    """The keys of a part of a document, in order."""
    part: Any = document
    for step in path:
        part = part[step]
    return list(part)


def without(names: list[str], *absent: str) -> list[str]:
    return [name for name in names if name not in absent]


def test_the_keys_of_evaluate(found):
    whole = found("evaluate", "--best", "--baseline", "--networks", "1")
    assert keys(whole) == EVALUATION
    assert keys(whole, "network") == NETWORK
    assert keys(whole, "teacher") == TEACHER
    assert keys(whole, "accuracy") == ACCURACY
    assert keys(whole, "best_on_test") == BEST
    assert keys(whole, "baseline") == ["kind", *ACCURACY, "best_on_test"]
    assert keys(whole, "baseline", "best_on_test") == BEST
    hard = found("evaluate", "--protocol", "hard-label", "--networks", "1")
    assert keys(hard) == without(EVALUATION, "teacher", "best_on_test", "baseline")
    steps = found("evaluate", "--protocol", "rcig-paper", "--networks", "1", "--baseline")
    assert keys(steps) == without(EVALUATION, "epochs", "labels", "teacher", "best_on_test")
    assert keys(steps, "baseline") == ["kind", *ACCURACY]
    assert keys(steps, "price") == PRICE
    shown = found("evaluate", "--protocol", "sl:5", "--networks", "1", "--equal-bytes")
    own = without(EVALUATION, "epochs", "best_on_test", "baseline")
    assert sorted(keys(shown)) == sorted([*own, "presentations", "strategy", "beside"])
    assert keys(shown, "beside", 0) == ["kind", *ACCURACY, "images", "protocol"]
    several = found("evaluate", "--protocol", "hard-label", "--networks-arch", "convnet")
    assert keys(several) == ["results"] and keys(several, "results", 0) == keys(hard)


def test_the_keys_of_scores(found, tmp_path):
    whole = found("scores", "--networks", "1", "--real-steps", "1", "--cache", tmp_path)
    assert without(keys(whole), "warnings") == SCORES
    assert keys(whole, "weights") == ["lrs", "ars"]
    assert keys(whole, "hlr") == ["value", "real", "distilled"]
    how = [*ACCURACY, "protocol", "epochs", "steps"]
    assert keys(whole, "hlr", "real") == [*how, "budget_steps", "kept"]
    assert keys(whole, "hlr", "distilled") == how
    assert keys(whole, "ior") == ["value", "distilled", "random"]
    assert keys(whole, "ior", "distilled") == ACCURACY
    assert keys(whole, "ior", "random") == [*ACCURACY, "kept"]
    assert keys(whole, "lrs") == ["value", "improvement"]
    assert keys(whole, "ars") == ["value", "improvement", "augmented", "plain"]
    assert keys(whole, "ars", "plain") == ["protocol", "value", "distilled", "random"]
    words = ("--networks", "1", "--real-steps", "1", "--cache", tmp_path)
    hard = found("scores", "--protocol", "hard-label", *words)
    assert without(keys(hard), "warnings") == SCORES and hard["teacher"] is None


def test_the_keys_of_attack(found, tmp_path):
    words = ("--steps", "1", "--networks", "1", "--folds", "2", "--cache", tmp_path)
    whole = found("attack", *words, "--baselines")
    assert keys(whole) == MEMBERSHIP
    training = ["optimiser", "learning_rate", "batch_size", "augmented", "steps"]
    assert keys(whole, "training") == training
    assert keys(whole, "baselines") == ["members", "random"]
    for targets in (whole["distilled"], whole["baselines"]["random"]):
        assert keys(targets) == ["images", "curve", "roc"]
        assert keys(targets, "curve", 0) == ["steps", "accuracy", "member_accuracy", "auc"]
        assert keys(targets, "curve", 0, "auc") == ["threshold", "lr", "mlp", "rf", "knn"]
        assert keys(targets, "curve", 0, "auc", "rf") == ACCURACY
        assert keys(targets, "roc") == ["fpr", "tpr"]
    assert keys(whole, "untrained") == ["auc"]
    assert keys(found("attack", *words)) == without(MEMBERSHIP, "baselines")


def test_the_keys_of_continual(found, tmp_path):
    words = ("--tasks", "2", "--networks", "1", "--cache", tmp_path)
    whole = found("continual", *words, "--baseline")
    assert keys(whole) == CONTINUAL
    task = ["classes", "classes_so_far", "images", "tested", "steps", "accuracy"]
    assert keys(whole, "tasks", 0) == [*task, "baseline"]
    assert keys(whole, "tasks", 0, "baseline") == ["kind", *ACCURACY]
    steps = found("continual", *words, "--protocol", "rcig-paper")
    assert keys(steps) == without(CONTINUAL, "epochs", "labels", "teacher")
    assert keys(steps, "tasks", 0) == task


def test_the_keys_of_diversity(found):
    whole = found("diversity")
    assert keys(whole) == DIVERSITY
    assert keys(whole, "teacher") == ["digest", "layer"]
    assert keys(whole, "distance") == keys(whole, "real") == ["mean", "classes", "sums"]
    points = ["class_names", "x", "y", "classes", "real", "perplexity"]
    assert keys(whole, "embedding") == points
    alone = found("diversity", "--no-real")
    assert keys(alone) == without(DIVERSITY, "real", "relative", "source_fingerprint")


@pytest.mark.parametrize(
    ("model", "document"),
    [
        (Evaluation, synthetic.result(synthetic.recipe(), [0.5, 0.6], [0.1])),
        (RobustScores, audit_records.scores()),
        (Membership, audit_records.membership()),
        (Continual, audit_records.continual()),
        (Diversity, synthetic.diversity()),
    ],
)
def test_what_is_read_is_written_again_and_later_keys_are_passed_over(model, document):
    read = model.model_validate(document | {"of a later version": [1]})
    again = json.loads(json.dumps(read.document()))
    assert again.keys() == document.keys()
    assert model.model_validate(again) == read
    assert again.pop("network", None) == document.get("network")
    for key in ("accuracy", "distilled", "tasks", "ior", "embedding"):
        assert again.get(key) == document.get(key)


def test_a_network_is_written_with_all_of_its_settings():
    document = synthetic.result(synthetic.recipe(), [0.5]) | {"network": {"name": "vgg11"}}
    written = Evaluation.model_validate(document).document()["network"]
    assert written == NetworkRecipe(name="vgg11").model_dump(mode="json")


def test_what_was_not_given_is_absent_and_null_stays():
    accuracy = Accuracy.of([0.25, 0.75])
    baseline = Baseline(kind="noise", **accuracy.given())
    assert list(baseline.document()) == ["kind", *ACCURACY]
    assert baseline.document() == {"kind": "noise", **accuracy.document()}
    found = synthetic.result(synthetic.recipe(), [0.5]) | {"teacher": None, "labels": "stored"}
    written = Evaluation.model_validate(found).document()
    assert written["teacher"] is None and "baseline" not in written


def test_a_set_gives_its_results_and_says_what_it_cannot_read(taught):
    dataset = DistilledDataset.load(taught)
    mine = synthetic.result(synthetic.recipe(), [0.5, 0.7]) | {"artefact_digest": None}
    (result,) = dataset.with_result(mine).results
    assert result.accuracy.values == (0.5, 0.7)
    with pytest.raises(ArtefactError, match=r"header field results\.0\.dataset") as caught:
        dataset.with_result({"protocol": "x"})
    assert "\n" not in str(caught.value)


def test_results_from_before_the_labels_were_stored_stand_apart(taught):
    plain = DistilledDataset.load(taught)
    before = synthetic.result(synthetic.recipe(), [0.5]) | {"artefact_digest": None}
    scored = plain.with_result(before)
    labelled = scored.with_soft_labels(plain.labels[None], {"seed": 0})
    after = before | {"artefact_digest": labelled.digest, "seed": 1}
    labelled = labelled.with_result(after)
    assert [result.seed for result in labelled.results] == [1]
    (earlier,) = labelled.earlier_results
    assert earlier.seed == 0 and earlier.artefact_digest == plain.digest
    assert len(scored.results) == 1 and scored.earlier_results == ()
