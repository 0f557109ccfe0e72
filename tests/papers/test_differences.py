"""Two settings compared, in words."""

from __future__ import annotations

import pytest

from potstill import recipes
from potstill.config import flat
from potstill.papers.differences import differences


def of(name: str, *assignments: str) -> dict[str, object]:
    return recipes.load(name, assignments).model_dump(mode="json", exclude={*recipes.ASIDE})


@pytest.mark.parametrize(
    ("assignment", "phrase"),
    [
        ("method.iterations=60", "iterations 60 (the paper's 15,000)"),
        ("network.width=32", "network width 32 (the paper's 128)"),
        ("data.dataset=digits", "data set digits (the paper's mnist)"),
        ("data.train_images=500", "train images 500 (the paper's unset)"),
        ("method.softplus_beta=null", "softplus beta unset (the paper's 60)"),
        ("method.pool.steps_per_visit=[1, 1]", "pool steps per visit 1, 1 (the paper's 1, 15)"),
        ("method.flip=true", "flip yes (the paper's no)"),
        ("method.pool.learning_rate=1e-6", "pool learning rate 1e-06 (the paper's 5e-05)"),
        ("method.solver.name=adam", "solver adam (the paper's pcg)"),
        ("evaluation.protocol=hard-label", "evaluation: protocol hard-label (the paper's rcig-p"),
    ],
)
def test_one_setting_is_one_phrase(assignment: str, phrase: str) -> None:
    (found,) = differences(of("rcig/mnist-ipc1", assignment), of("rcig/mnist-ipc1"))
    assert found.startswith(phrase)


def test_every_setting_that_differs_is_named() -> None:
    """Held against a comparison of flat documents, key by key."""
    ours, theirs = of("rcig/cifar10-ipc1-cpu"), of("rcig/cifar100-ipc10")
    flat_ours, flat_theirs = flat(ours), flat(theirs)
    changed = [key for key in flat_theirs if flat_ours[key] != flat_theirs[key]]
    found = differences(ours, theirs)
    assert len(found) == len(changed) > 5
    for key, phrase in zip(changed, found, strict=True):
        last = {"data.dataset": "data set"}.get(key, key.rpartition(".")[2].replace("_", " "))
        assert f"{last} " in phrase


def test_a_teacher_is_named_before_its_settings() -> None:
    name = "dwa/cifar10-ipc10-resnet18"
    network = "method.teacher.network={name: resnet18, normalisation: group}"
    ours = of(name, "method.teacher.epochs=4", network)
    assert differences(ours, of(name)) == (
        "teacher: network normalisation group (the paper's batch)",
        "teacher: epochs 4 (the paper's 200)",
    )


def test_what_has_another_name_is_another_and_no_more_is_said() -> None:
    ours, theirs = of("dwa/cifar10-ipc10-resnet18"), of("rcig/cifar10-ipc10")
    found = differences(ours, theirs)
    assert "network resnet18 (the paper's convnet)" in found
    assert "method dwa (the paper's rcig)" in found
    assert not any(phrase.startswith(("network width", "iterations")) for phrase in found)
    pretrained = of("dwa/cifar10-ipc10-resnet18", "method.teacher.pretrained=timm:resnet18")
    assert differences(pretrained, ours) == (
        "teacher: pretrained timm:resnet18 (the paper's unset)",
    )


def test_a_convnets_shape_is_no_setting_of_other_networks() -> None:
    ours = of("dwa/cifar10-ipc10-resnet18", "network.width=3", "network.depth=9")
    assert differences(ours, of("dwa/cifar10-ipc10-resnet18")) == ()


def test_equal_settings_do_not_differ() -> None:
    for name in recipes.names()[::10]:
        assert differences(of(name), of(name)) == ()


def test_keys_that_one_lacks_are_not_compared() -> None:
    assert differences({"a": 1, "b": {"c": 2}}, {"b": {"c": 3, "d": 4}}) == (
        "b c 2 (the paper's 3)",
    )
