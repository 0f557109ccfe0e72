from __future__ import annotations

import copy
import dataclasses
import json
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from potstill import hardware, rng
from potstill.data.source import centred_one_hot
from potstill.data.transforms import Standardise
from potstill.data.views import Mix
from potstill.errors import DataError, RecipeError
from potstill.evaluation import PROTOCOLS, StudentProtocol, evaluate, students
from potstill.evaluation import plan as plan_module
from potstill.evaluation.labelling import TeacherLabels, ViewSettings
from potstill.evaluation.relabel import relabel
from potstill.evaluation.students import StudentTraining, by_size, hard_loss, soft_loss
from potstill.results import Accuracy, Evaluation
from potstill.train import Optimisation
from tests.evaluation.problems import NETWORK, numbers, set_of, small_network, teacher_of

RESIZED = ViewSettings("resized", 0, False, "cutmix", 1.0, 16)


def fast(channels, resolution):
    """By SGD, as Tiny-ImageNet, in small batches."""
    sgd = Optimisation("sgd", 0.1, 3, 16, warmup_epochs=1)
    return StudentTraining(sgd, RESIZED, 4, squared_temperature=True)


def quick(channels, resolution):
    """As CIFAR, in small batches at a high rate."""
    padded = dataclasses.replace(by_size(channels, resolution).views, batch_size=16)
    adamw = Optimisation("adamw", 1e-2, 20, 16, weight_decay=0.01)
    return StudentTraining(adamw, padded, 4)


QUICK = StudentProtocol("quick", "soft", quick)
QUICK_HARD = StudentProtocol("quick-hard", "hard", quick)


@pytest.mark.parametrize(
    ("shape", "optimiser", "rate", "epochs", "decay", "warmup", "temperature", "squared"),
    [
        ((3, 32), "adamw", 1e-3, 400, 0.01, 0, 30, False),
        ((1, 28), "adamw", 1e-3, 400, 0.01, 0, 30, False),
        ((3, 64), "sgd", 0.2, 200, 1e-4, 5, 20, True),
        ((3, 224), "adamw", 1e-3, 300, 0.01, 0, 20, False),
    ],
)
def test_settings_follow_the_size_of_the_images(
    shape, optimiser, rate, epochs, decay, warmup, temperature, squared
):
    training = by_size(*shape)
    optimisation = training.optimisation
    assert (optimisation.optimiser, optimisation.learning_rate) == (optimiser, rate)
    assert (optimisation.epochs, optimisation.batch_size) == (epochs, 128)
    assert (optimisation.weight_decay, optimisation.warmup_epochs) == (decay, warmup)
    assert (training.temperature, training.squared_temperature) == (temperature, squared)
    assert training.views.batch_size == 128
    assert optimisation.decay_vectors == (shape[1] < 224)


def test_views_follow_the_size_of_the_images():
    assert by_size(3, 32).views == ViewSettings("padded", 4, True, "mixup", 0.8, 128)
    assert by_size(1, 28).views == ViewSettings("padded", 3, False, "mixup", 0.8, 128)
    assert by_size(1, 8).views.padding == 1
    assert by_size(3, 64).views == ViewSettings("resized", 0, True, "cutmix", 1.0, 128)
    assert by_size(1, 64).views.flip is False


def test_views_are_of_the_batches_that_are_trained_on():
    training = by_size(3, 32)
    with pytest.raises(ValueError, match="batch_size"):
        dataclasses.replace(training, views=dataclasses.replace(training.views, batch_size=64))


def test_the_cifar_teacher_labels_in_training_mode_only_as_run():
    for side, mode in ((32, "train"), (64, "eval"), (224, "eval")):
        assert PROTOCOLS["dwa-as-run"].settings(3, side).teacher_mode == mode
        for name in ("dwa-paper", "hard-label"):
            assert PROTOCOLS[name].settings(3, side) == by_size(3, side)
            assert by_size(3, side).teacher_mode == "eval"


@given(st.floats(0.5, 40), st.integers(0, 99))
def test_the_soft_loss_is_the_divergence_from_teacher_to_student(temperature, seed):
    generator = rng.stream(seed, "test/logits")
    ours, its = (3 * rng.normal((4, 5), generator, dtype=torch.float64) for _ in range(2))
    ours.requires_grad_()
    loss = soft_loss(ours, its, temperature)
    expected, slopes = 0.0, torch.zeros(4, 5, dtype=torch.float64)
    for row in range(4):
        q = [math.exp(x / temperature) for x in ours[row].tolist()]
        p = [math.exp(x / temperature) for x in its[row].tolist()]
        for k in range(5):
            own, taught = q[k] / sum(q), p[k] / sum(p)
            expected += taught * math.log(taught / own) / 4
            slopes[row, k] = (own - taught) / temperature / 4
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, ours)
    torch.testing.assert_close(gradient, slopes)
    assert soft_loss(its, its + 7, temperature).item() == pytest.approx(0, abs=1e-12)


def test_the_hard_loss_is_the_cross_entropy_with_the_mixed_classes():
    outputs = rng.normal((3, 4), rng.stream(0, "test/outputs"), dtype=torch.float64)
    classes, partners = torch.tensor([2, 0, 3]), torch.tensor([1, 2, 0])
    mix = Mix(torch.zeros(3, 1, 2, 2), partners, 0.7)
    mixed = 0.7 * F.one_hot(classes, 4) + 0.3 * F.one_hot(classes[partners], 4)
    expected = -(mixed * outputs.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(hard_loss(outputs, mix, classes), expected)


def test_the_result_says_who_labelled_and_for_how_long(digits, real, teacher):
    result = evaluate(real, digits, teacher=teacher, networks=2, seed=3)
    assert Evaluation.model_validate_json(json.dumps(result.document())) == result
    assert result.protocol == "dwa-paper"
    assert (result.epochs, result.steps) == (3, 3)
    assert result.labels == "on the fly"
    assert result.teacher == {
        "digest": teacher.digest,
        "accuracy": 0.9,
        "network": NETWORK.model_dump(mode="json"),
        "epochs": teacher.header["epochs"],
        "settings": teacher.header["teacher"],
    }
    assert result.accuracy == Accuracy.of(result.accuracy.values)
    assert not {"best_on_test", "baseline"} & result.document().keys()
    assert numbers(evaluate(real, digits, teacher=teacher, networks=2, seed=3)) == numbers(result)
    hard = evaluate(real, digits, protocol="hard-label")
    assert hard.labels == "hard" and hard.epochs == 3 and "teacher" not in hard.document()


def test_epochs_are_the_callers_else_the_sets_else_the_protocols(digits, real):
    assert PROTOCOLS["dwa-paper"].training(real, 7).optimisation.epochs == 7
    assert PROTOCOLS["dwa-paper"].training(real).optimisation.epochs == 3
    silent = set_of(digits, real.preprocess, real.images, real.labels)
    assert PROTOCOLS["dwa-paper"].training(silent).optimisation.epochs == 400
    many = by_size(3, 64).lasting(100).optimisation
    few = by_size(3, 64).lasting(20).optimisation
    assert (many.warmup_epochs, few.warmup_epochs, few.epochs) == (5, 2, 20)


@pytest.fixture(scope="module")
def taught(digits, real, teacher):
    return evaluate(
        real, digits, protocol=QUICK, teacher=teacher, epochs=40, networks=2, baseline=True
    )


def test_students_learn_and_each_is_the_same_whoever_is_trained_beside_it(
    digits, real, teacher, taught
):
    assert taught.accuracy.mean > 0.6
    assert taught.baseline.mean > 0.6
    assert taught.baseline.values != taught.accuracy.values
    alone = evaluate(real, digits, protocol=QUICK, teacher=teacher, epochs=40)
    assert alone.accuracy.values == taught.accuracy.values[:1]
    assert len(set(taught.accuracy.values)) == 2


def test_students_may_multiply_in_bfloat16_and_on_a_processor_do_not(digits, real, teacher):
    def found(precision=None):
        options = {"networks": 1, "teacher": teacher, "network": NETWORK, "epochs": 30}
        return evaluate(real, digits, protocol="dwa-paper", precision=precision, **options)

    plain, half = found(), found("bfloat16")
    assert "precision" not in plain.document() and half.precision == "bfloat16"
    assert found("float32").accuracy == plain.accuracy
    assert half.accuracy.mean == pytest.approx(plain.accuracy.mean, abs=0.1)
    labels = [
        TeacherLabels(teacher, real, "eval", torch.device("cpu"), precision)(
            Mix(real.images, torch.arange(len(real)), 1.0), torch.arange(len(real)), 0
        )
        for precision in (None, "float32", "bfloat16")
    ]
    assert torch.equal(labels[0], labels[1]) and labels[2].dtype == torch.float32
    assert 0 < (labels[2] - labels[0]).norm() < 0.02 * labels[0].norm()
    for device, default in (("cpu", "float32"), ("cuda", "auto")):
        assert hardware.precision_of_training(None, torch.device(device)) == default
    with pytest.raises(RecipeError, match="rcig-paper trains in float32"):
        evaluate(real, digits, protocol="rcig-paper", network=NETWORK, precision="bfloat16")


def test_eight_bit_images_are_standardised_a_batch_at_a_time(digits, real, teacher, monkeypatch):
    pixels = (real.pixels() * 255).round().to(torch.uint8)
    small = set_of(digits, real.preprocess, pixels, real.labels)
    whole = set_of(digits, real.preprocess, real.preprocess.apply(pixels), real.labels)
    sizes = []
    apply = Standardise.apply
    monkeypatch.setattr(Standardise, "apply", lambda s, x: sizes.append(len(x)) or apply(s, x))
    options = {"teacher": teacher, "epochs": 3, "networks": 2}
    found = evaluate(small, digits, protocol=QUICK, **options)
    assert max(sizes) <= 100 < len(digits.test)  # the batches of tests
    assert "images" not in small.__dict__
    labelled = relabel(small, teacher, protocol="dwa-paper", epochs=2)
    assert "images" not in small.__dict__ and small.images.equal(whole.images)
    assert found.accuracy == evaluate(whole, digits, protocol=QUICK, **options).accuracy
    again = relabel(whole, teacher, protocol="dwa-paper", epochs=2)
    assert torch.equal(labelled.soft_labels, again.soft_labels)


def test_hard_labels_are_the_sets_own(digits, real):
    right = evaluate(real, digits, protocol=QUICK_HARD, epochs=40).accuracy.mean
    turned = set_of(digits, real.preprocess, real.images, real.labels.roll(1, 1))
    wrong = evaluate(turned, digits, protocol=QUICK_HARD, epochs=40).accuracy.mean
    assert right > 0.6 and wrong < 0.15


def test_the_labels_are_the_teachers_and_not_the_sets(digits, real, teacher):
    """A teacher whose classes are turned by one teaches exactly that."""
    network = small_network()
    network.load_state_dict(teacher.network.state_dict())
    for parameter in network.head.parameters():
        parameter.data = parameter.data.roll(1, 0)
    wrong = teacher_of(network, digits, real.preprocess)
    result = evaluate(real, digits, protocol=QUICK, teacher=wrong, epochs=40)
    assert result.accuracy.mean < 0.15
    assert "accuracy" in result.teacher and result.teacher["accuracy"] is None


def test_sgd_cutmix_and_resized_crops_train_too(digits, real, teacher):
    protocol = StudentProtocol("fast", "soft", fast)
    result = evaluate(real, digits, protocol=protocol, teacher=teacher, epochs=30)
    assert result.accuracy.mean > 0.3
    assert result.steps == 30 * 4


def test_the_squared_temperature_is_a_factor_of_sgds_rate(digits, real, teacher):
    """4^2 is a power of two, so that not even rounding differs."""

    def unscaled(channels, resolution):
        training = fast(channels, resolution)
        optimisation = dataclasses.replace(training.optimisation, learning_rate=0.1 * 16)
        return dataclasses.replace(training, optimisation=optimisation, squared_temperature=False)

    values = [
        evaluate(
            real,
            digits,
            protocol=StudentProtocol("fast", "soft", settings),
            teacher=teacher,
            epochs=10,
            best=True,
        ).best_on_test
        for settings in (fast, unscaled)
    ]
    assert values[0] == values[1]


def test_the_best_epoch_stands_beside_the_last_and_never_in_its_place(digits, real, teacher):
    def run(epochs, **options):
        return evaluate(
            real, digits, protocol=QUICK, teacher=teacher, epochs=epochs, networks=2, **options
        )

    result = run(6, best=True, baseline=True)
    assert run(6).accuracy == result.accuracy
    best = result.best_on_test
    assert Accuracy(**dict(best)) == Accuracy.of(best.values) and min(best.epochs) >= 1
    for chosen, last in zip(best.values, result.accuracy.values, strict=True):
        assert chosen >= last
    assert set(result.baseline.document()) == {"kind", "mean", "std", "values", "best_on_test"}
    once = run(1, best=True)
    assert once.best_on_test.document() == {**once.accuracy.document(), "epochs": [1, 1]}


def test_the_best_is_looked_for_where_the_authors_looked(digits, real, teacher, monkeypatch):
    """In epochs 1, 11, 21, ... and the last for CIFAR and ImageNet-1K; in all for Tiny-ImageNet."""
    looked = [by_size(3, side).lasting(22).looked_at() for side in (32, 64, 224)]
    assert looked == [(1, 11, 21, 22), tuple(range(1, 23)), (1, 11, 21, 22)]
    assert by_size(3, 32).lasting(21).looked_at() == (1, 11, 21)
    rising = iter([0.5, 0.9, 0.7])
    monkeypatch.setattr(students, "accuracies", lambda *_: [next(rising)])
    found = evaluate(
        real,
        digits,
        protocol="dwa-paper",
        teacher=teacher,
        epochs=12,
        networks=1,
        network=NETWORK,
        best=True,
    )
    assert next(rising, None) is None
    assert found.accuracy.values == (0.7,)
    assert (found.best_on_test.values, found.best_on_test.epochs) == ((0.9,), (11,))


def test_progress_counts_every_step_of_set_and_baseline(digits, real, teacher):
    seen = []
    evaluate(
        real,
        digits,
        protocol=QUICK,
        teacher=teacher,
        epochs=2,
        networks=2,
        baseline=True,
        progress=lambda *told: seen.append(told),
    )
    assert seen == [("evaluation step", step, 2 * 2 * 2 * 4) for step in range(1, 33)]


class Forgetful(nn.Module):
    """Drops half of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Dropout())
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(self.body(images))


def test_dropout_draws_from_a_stream_of_its_own(digits, real, teacher, monkeypatch):
    network = Forgetful()
    monkeypatch.setattr(plan_module.zoo, "build", lambda recipe, **shape: copy.deepcopy(network))
    values = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        result = evaluate(real, digits, protocol=QUICK, teacher=teacher, epochs=4)
        assert torch.random.get_rng_state().equal(before)
        values.append(result.accuracy.values)
    assert values[0] == values[1]


def unlike(digits, **changes):
    return dataclasses.replace(digits, **changes)


def test_what_does_not_go_together_is_refused_in_one_line(digits, real, teacher):
    names = tuple(f"class {number}" for number in range(10))
    nine = teacher_of(small_network(9), unlike(digits, class_names=names[:9]), real.preprocess)
    other = teacher_of(small_network(), unlike(digits, class_names=names), real.preprocess)
    wide = teacher_of(small_network(), digits, real.preprocess)
    wide.header["source"]["resolution"] = 16
    for options, error, words in (
        ({}, DataError, ["dwa-paper", "--teacher FILE", "potstill relabel"]),
        ({"protocol": "hard-label", "teacher": teacher}, RecipeError, ["no teacher"]),
        ({"protocol": "rcig-paper", "teacher": teacher}, RecipeError, ["no teacher"]),
        ({"protocol": "rcig-paper", "epochs": 4}, RecipeError, ["steps, not epochs"]),
        ({"protocol": "rcig-paper", "best": True}, RecipeError, ["no epochs"]),
        ({"teacher": teacher, "epochs": 0}, RecipeError, ["0 epochs"]),
        ({"teacher": nine}, DataError, ["9 classes", "10 classes"]),
        ({"teacher": other}, DataError, ["class 0", "same data"]),
        ({"teacher": wide}, DataError, ["(1, 16, 16)", "(1, 8, 8)"]),
    ):
        with pytest.raises(error) as caught:
            evaluate(real, digits, **options)
        assert all(word in str(caught.value) for word in words)
        assert "\n" not in str(caught.value)


def test_rcigs_protocols_do_not_take_a_flip_of_another_method_for_theirs(digits, real):
    """DWA's recipe has a flip too, of its synthesis; the set is not doubled for it."""
    labels = centred_one_hot(real.hard_labels(), 10)
    plain = set_of(digits, real.preprocess, real.images, labels)
    plain.header["recipe"] = {}
    quick = dataclasses.replace(PROTOCOLS["rcig-paper"], steps=(9, 9))
    first, second = (
        evaluate(dataset, digits, protocol=quick, networks=1).accuracy for dataset in (real, plain)
    )
    assert first == second
