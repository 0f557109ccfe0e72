"""What the commands say of results, to the word."""

from __future__ import annotations

from typing import Any

from potstill.cli import continual, privacy, robust, text
from potstill.results import Accuracy, Continual, Evaluation, Membership, RobustScores
from tests.report import audit_records

OF_SET = audit_records.OF_SET
NETWORK = {"name": "resnet18", "normalisation": "batch"}


def score(*values: float) -> dict[str, Any]:
    return {"mean": sum(values) / len(values), "std": 0.01, "values": list(values)}


def accuracy(*values: float) -> Accuracy:
    return Accuracy.model_validate(score(*values))


def result(*values: float, **more: Any) -> Evaluation:
    document = {**OF_SET, "protocol": "dwa-paper", "network": NETWORK, "steps": 40}
    return Evaluation.model_validate({**document, "accuracy": score(*values), **more})


def test_the_epochs_are_said_where_there_are_any():
    assert text.table([result(0.5, 0.7, epochs=40)]) == [
        "protocol dwa-paper, 40 epochs, 2 networks",
        "resnet18, batch norm  60.00 ± 1.00 %",
    ]
    assert text.table([result(0.5, 0.7)])[0] == "protocol dwa-paper, 2 networks"
    assert text.summary(result(0.5, 0.7, epochs=1, steps=4000)) == [
        "accuracy 60.00 ± 1.00 % "
        "(resnet18, batch norm, protocol dwa-paper, 1 epoch, 2 networks), 4,000 steps"
    ]


def test_an_evaluation_of_one_network_for_one_step():
    said = text.summary(result(0.5, steps=1, baseline={"kind": "random", **score(0.4)}))
    assert said == [
        "accuracy 50.00 % (resnet18, batch norm, protocol dwa-paper, 1 network), 1 step",
        "random: 40.00 %",
    ]


def scores(networks: int, **real: int) -> list[str]:
    over = {"value": 0.1, "distilled": score(0.5), "random": score(0.4)}
    how = {"protocol": "hard-label", "epochs": 1, "steps": 1}
    hlr = {
        "value": 0.3,
        "real": {**score(0.8), **how, **real},
        "distilled": {**score(0.5), **how},
    }
    parts = {
        "hlr": hlr,
        "ior": over,
        "ars": {"value": 0.2, "improvement": 0.1, "augmented": over, "plain": over},
        "lrs": {"value": 0.3, "improvement": 0.1},
    }
    document = audit_records.scores(networks=networks, protocol="dwa-paper", **parts)
    return robust._text(RobustScores.model_validate(document))


def test_what_a_budget_came_to_is_said_without_contradiction():
    said = scores(1, epochs=1, steps=12, budget_steps=1)
    start, network = said[-1].split(" each: ")
    assert start == "real: 1 epoch, 12 steps, a budget of 1 being less; 1 network"
    assert network.startswith("ConvNet, depth ")
    assert "±" not in "".join(said)
    said = scores(2, epochs=3, steps=36, budget_steps=40)
    assert said[-1].startswith("real: 3 epochs, 36 steps of at most 40; 2 networks each: ")


def areas(*values: float) -> dict[str, Any]:
    return {"auc": {"threshold": score(*values)}}


def attack(*values: float, steps: int) -> list[str]:
    curve = [{"steps": steps, "accuracy": score(*values), **areas(*values)}]
    targets = {"images": 1, "curve": curve, "roc": {"fpr": [], "tpr": {}}}
    document = audit_records.membership(
        baselines=False,
        members=10,
        others=1,
        attacks=["threshold"],
        distilled=targets,
        untrained=areas(*values),
    )
    return privacy.summary(Membership.model_validate(document))


def test_an_attack_on_one_network_has_no_spread():
    first, distilled, untrained = attack(0.5, steps=1)
    start = "10 members, 1 other; area under the curve"
    attacked = "of 5 networks (ConvNet, depth 2, width 16 to 32, no norm)"
    assert first == f"{start} {attacked} after 1 step on (0.5 is a guess):"
    assert distilled.endswith("threshold 0.500  accuracy 50.00 %")
    assert untrained.endswith("threshold 0.500")
    first, distilled, _ = attack(0.5, 0.7, steps=2)
    assert first == f"{start} {attacked} after 2 steps on (0.5 is a guess):"
    assert distilled.endswith("threshold 0.600 ± 0.010  accuracy 60.00 ± 1.00 %")


def test_continual_learning_with_one_network_and_one_class():
    tasks = [
        {"classes_so_far": 1, "images": 1, "accuracy": score(1.0)},
        {"classes_so_far": 2, "images": 2, "accuracy": score(0.5, 0.7)},
    ]
    for index, task in enumerate(tasks):
        task |= {"classes": [index], "tested": 1, "steps": 1}
    facts = {"networks": 1, "protocol": "dwa-paper", "average_accuracy": 0.8, "tasks": tasks}
    document = audit_records.continual() | facts
    assert continual.summary(Continual.model_validate(document)) == [
        "for each task: ConvNet, depth 2, width 16 to 32, no norm, protocol dwa-paper, 1 network",
        "1 class, 1 image: 100.00 %",
        "2 classes, 2 images: 60.00 ± 1.00 %",
        "average 80.00 %",
    ]
