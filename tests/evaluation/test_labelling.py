from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from potstill import rng
from potstill.config import DataRecipe
from potstill.data import preprocess
from potstill.data.views import (
    Mix,
    cutmix,
    fill_value,
    mixup,
    random_crop,
    random_flip,
    random_resized_crop,
)
from potstill.errors import ArtefactError
from potstill.evaluation.labelling import TeacherLabels, Views, ViewSettings
from potstill.train import EpochTraining, Optimisation
from tests.evaluation.problems import small_network, teacher_of

CPU = torch.device("cpu")
PADDED = ViewSettings("padded", 2, True, "mixup", 0.8, 16)
RESIZED = ViewSettings("resized", 0, False, "cutmix", 1.0, 16)


def shown(images):
    """What a teacher is shown: a mixture of which only the images matter to it."""
    return Mix(images, torch.arange(len(images)), 1.0)


@pytest.mark.parametrize("settings", [PADDED, RESIZED])
def test_a_view_is_cropped_flipped_and_mixed_by_the_stream_of_its_batch(real, settings):
    views = Views.of(real, settings, 5, student=2)
    images = real.images[:12]
    found = views.of_batch(images, 3, 1)
    generator = rng.stream(5, "evaluation/views/2/batch/3", 1)
    if settings is PADDED:
        black = fill_value(real.preprocess)
        expected = random_flip(random_crop(images, 2, black, generator), generator)
        expected = mixup(expected, generator, 0.8)
    else:
        expected = cutmix(random_resized_crop(images, generator), generator, 1.0)
    assert found.images.equal(expected.images) and found.partners.equal(expected.partners)
    assert found.share == expected.share
    others = [views.of_batch(images, *place) for place in ((3, 2), (4, 1))]
    others.append(dataclasses.replace(views, student=1).of_batch(images, 3, 1))
    others.append(dataclasses.replace(views, seed=6).of_batch(images, 3, 1))
    assert not any(found.images.equal(other.images) for other in others)


@pytest.mark.parametrize("rows", [50, 33, 16, 7])
def test_the_batches_are_those_that_a_student_trains_on(real, rows):
    views = Views.of(real, PADDED, 5)
    network, seen = torch.nn.Linear(1, 1), []

    def loss(network, rows, epoch, step):
        seen.append((epoch, step, rows))
        return network.weight.sum()

    optimisation = Optimisation("sgd", 0.1, 2, 16)
    training = EpochTraining(
        network, rows, optimisation, loss, seed=views.seed, purpose=views.purpose
    )
    training.run_epoch()
    training.run_epoch()
    expected = [
        (epoch, step, part)
        for epoch in range(2)
        for step, part in enumerate(views.batches(rows, epoch))
    ]
    assert len(seen) == len(expected)
    for one, other in zip(seen, expected, strict=True):
        assert one[:2] == other[:2] and one[2].equal(other[2])


def test_a_teacher_in_training_mode_normalises_by_the_batch_and_stays_as_it_was(real, teacher):
    before = copy.deepcopy(teacher.network.state_dict())
    images = real.images[:20]
    inference = TeacherLabels(teacher, real, "eval", CPU)(shown(images), torch.arange(20), 0)
    training = TeacherLabels(teacher, real, "train", CPU)
    outputs = training(shown(images), torch.arange(20), 0)
    with torch.no_grad():
        expected = copy.deepcopy(teacher.network).train()(images)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(inference, teacher.logits(images))
    assert (outputs - inference).abs().max() > 0.1
    # Its statistics drift, and it does not matter: no batch is normalised by them.
    assert training(shown(images), torch.arange(20), 1).equal(outputs)
    assert all(now.equal(before[name]) for name, now in teacher.network.state_dict().items())
    assert not teacher.network.training


def test_a_teacher_of_another_network_space_sees_the_views_in_its_own(digits, real):
    darker = preprocess.fit(DataRecipe(), digits.train.images // 2)
    teacher = teacher_of(small_network(), digits, darker)
    views = Views.of(real, PADDED, 0).of_batch(real.images, 0, 0)
    outputs = TeacherLabels(teacher, real, "eval", CPU)(views, torch.arange(50), 0)
    pixels = real.preprocess.invert(views.images)
    torch.testing.assert_close(outputs, teacher.logits(darker.apply(pixels)), atol=1e-5, rtol=1e-4)
    assert (outputs - teacher.logits(views.images)).abs().max() > 0.1


def test_settings_come_back_from_their_document():
    for settings in (PADDED, RESIZED):
        assert ViewSettings.from_document(settings.document()) == settings
    for change in ({"draws": 2}, {"rotation": 7}, {"draws": None}):
        with pytest.raises(ArtefactError, match="cannot draw"):
            ViewSettings.from_document({**PADDED.document(), **change})
