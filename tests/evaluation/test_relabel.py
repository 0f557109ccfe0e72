from __future__ import annotations

import dataclasses

import pytest
import torch

from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, DataError, RecipeError
from potstill.evaluation import StudentProtocol, evaluate, labelled_views, relabel
from potstill.evaluation.labelling import Views
from potstill.evaluation.students import as_run, by_size
from tests.data.test_distilled import result
from tests.evaluation.problems import set_of, small_network, teacher_of


def batches_of_16(channels, resolution, mode="eval"):
    training = by_size(channels, resolution)
    return dataclasses.replace(
        training,
        views=dataclasses.replace(training.views, batch_size=16),
        optimisation=dataclasses.replace(
            training.optimisation, batch_size=16, epochs=5, learning_rate=1e-2
        ),
        temperature=4,
        teacher_mode=mode,
    )


QUICK = StudentProtocol("quick", "soft", batches_of_16)
QUICK_TRAIN = StudentProtocol("quick-train", "soft", lambda *size: batches_of_16(*size, "train"))


@pytest.fixture(scope="module")
def stored(real, teacher):
    return relabel(real, teacher, protocol=QUICK, epochs=5, seed=3, precision="float32")


def test_every_image_has_the_teachers_outputs_on_its_view_of_every_epoch(real, teacher, stored):
    labels = stored.soft_labels
    assert labels.shape == (5, 50, 10) and labels.dtype == torch.float32
    views = Views.of(real, batches_of_16(1, 8).views, 3)
    for epoch in range(5):
        for step, rows in enumerate(views.batches(50, epoch)):
            mix = views.of_batch(real.images[rows], epoch, step)
            for row, image in zip(rows.tolist(), mix.images, strict=True):
                expected = teacher.logits(image[None])[0]
                torch.testing.assert_close(labels[epoch, row], expected, atol=1e-4, rtol=1e-4)


def test_the_header_says_whose_labels_of_which_views(real, teacher, stored):
    assert stored.header["relabelling"] == {
        "protocol": "quick",
        "seed": 3,
        "teacher": teacher.summary(),
        "teacher_mode": "eval",
        "views": {
            "crop": "padded",
            "padding": 1,
            "flip": False,
            "mix": "mixup",
            "alpha": 0.8,
            "batch_size": 16,
            "draws": 1,
        },
    }
    assert stored.header["format_version"] == 2 and stored.digest != real.digest
    assert stored.space == "pixels" and stored.images.equal(real.images)


def test_a_student_learns_the_same_from_stored_labels_as_with_the_teacher(
    digits, real, teacher, stored
):
    def run(dataset, **options):
        return evaluate(dataset, digits, protocol=QUICK, seed=3, epochs=5, best=True, **options)

    beside, without = run(real, teacher=teacher), run(stored)
    for part in ("accuracy", "best_on_test", "steps", "epochs", "teacher"):
        assert getattr(beside, part) == getattr(without, part)
    assert (beside.labels, without.labels) == ("on the fly", "stored")
    assert run(stored, teacher=teacher).labels == "on the fly"
    both = run(stored, networks=2).accuracy.values
    assert both[0] == without.accuracy.values[0] != both[1]


def test_stored_labels_come_with_their_own_views_whatever_the_seed(
    digits, teacher, stored, monkeypatch
):
    seen = set()
    of_batch = Views.of_batch

    def spy(views, *arguments):
        seen.add((views.seed, views.student))
        return of_batch(views, *arguments)

    monkeypatch.setattr(Views, "of_batch", spy)
    values = [
        evaluate(stored, digits, protocol=QUICK, seed=seed).accuracy.values for seed in (3, 4)
    ]
    assert values[0] != values[1]
    assert seen == {(3, 0)}
    seen.clear()
    evaluate(stored, digits, protocol=QUICK, teacher=teacher, networks=2, epochs=1, seed=9)
    assert seen == {(9, 0), (9, 1)}


def test_float16_keeps_three_digits_in_half_the_room(real, teacher, stored):
    half = relabel(real, teacher, protocol=QUICK, epochs=5, seed=3)
    assert half.soft_labels.dtype == torch.float16
    torch.testing.assert_close(half.soft_labels.float(), stored.soft_labels, rtol=1e-3, atol=1e-6)
    softened = [(x.soft_labels.float() / 20).softmax(-1) for x in (half, stored)]
    torch.testing.assert_close(*softened, rtol=1e-3, atol=0)


def test_the_file_brings_labels_and_views_back(tmp_path, digits, stored):
    stored.save(tmp_path / "a.safetensors")
    again = DistilledDataset.load(tmp_path / "a.safetensors")
    assert again.soft_labels.equal(stored.soft_labels) and again.header == stored.header
    assert again.digest == stored.digest
    first, second = (
        evaluate(dataset, digits, protocol=QUICK).accuracy for dataset in (stored, again)
    )
    assert first == second


def test_same_seed_same_labels(real, teacher, stored):
    def digest(seed):
        dataset = relabel(real, teacher, protocol=QUICK, epochs=5, seed=seed, precision="float32")
        return dataset.digest

    assert digest(3) == stored.digest != digest(4)


def test_relabelling_replaces_labels_and_keeps_results_apart(real, teacher, stored):
    scored = stored.with_result(result())
    seen = []
    again = relabel(scored, teacher, epochs=2, progress=lambda *told: seen.append(told))
    assert again.soft_labels.shape == (2, 50, 10)
    assert again.header["relabelling"]["protocol"] == "dwa-paper"
    assert again.header["results"] == [result(artefact_digest=stored.digest)]
    assert len(scored.header["results"]) == 1
    assert seen == [("relabelling epoch", 1, 2), ("relabelling epoch", 2, 2)]
    assert relabel(real, teacher).soft_labels.shape == (3, 50, 10)


def test_a_loop_of_ones_own_gets_every_image_once_with_its_label(teacher, stored):
    for epoch in (0, 4):
        parts = list(labelled_views(stored, epoch))
        assert [len(images) for images, _ in parts] == [16, 16, 16, 2]
        for images, labels in parts:
            torch.testing.assert_close(labels, teacher.logits(images), atol=1e-4, rtol=1e-4)
        rows = torch.cat([labels for _, labels in parts])
        assert rows.sort(0).values.equal(stored.soft_labels[epoch].sort(0).values)


def test_stored_labels_of_other_views_are_refused(digits, teacher, real, stored):
    short = relabel(real, teacher, epochs=2)
    trained = relabel(real, teacher, protocol=QUICK_TRAIN, epochs=2)
    for dataset, options, words in (
        (stored, {"protocol": "dwa-paper"}, ["protocol quick;", "relabel"]),
        (trained, {"protocol": QUICK, "epochs": 2}, ["protocol quick-train;", "relabel"]),
        (short, {}, ["2 epochs, not 3", "--epochs 2"]),
    ):
        with pytest.raises(ArtefactError) as caught:
            evaluate(dataset, digits, **options)
        assert all(word in str(caught.value) for word in words)
        assert "\n" not in str(caught.value)
    assert evaluate(short, digits, epochs=1).epochs == 1
    with pytest.raises(DataError, match="leave out the baseline"):
        evaluate(short, digits, epochs=2, baseline=True)


def test_what_cannot_be_labelled_or_read_is_refused(digits, real, teacher, stored):
    for protocol in ("hard-label", "rcig-paper"):
        with pytest.raises(RecipeError, match="no soft labels to store"):
            relabel(real, teacher, protocol=protocol)
    with pytest.raises(RecipeError, match="0 epochs"):
        relabel(real, teacher, epochs=0)
    with pytest.raises(RecipeError, match=r"1000000000000 epochs .* GiB, more than this machine"):
        relabel(real, teacher, epochs=10**12)
    with pytest.raises(ArtefactError, match="run potstill relabel"):
        next(labelled_views(real, 0))
    with pytest.raises(ArtefactError, match="5 epochs, not 6"):
        next(labelled_views(stored, 5))
    loud = small_network()
    loud.head.bias.data += 1e5
    loud = teacher_of(loud, digits, real.preprocess)
    with pytest.raises(ArtefactError, match="precision float32"):
        relabel(real, loud, epochs=1)
    assert relabel(real, loud, epochs=1, precision="float32").soft_labels.max() > 9e4


def test_labels_as_run_are_those_of_a_teacher_in_training_mode(digits, real, teacher):
    labels = [
        relabel(real, teacher, protocol=name, epochs=1).soft_labels
        for name in ("dwa-paper", "dwa-as-run")
    ]
    assert not torch.allclose(labels[0], labels[1], atol=0.1)
    assert as_run(1, 8).teacher_mode == "train"


def test_a_set_in_network_space_is_labelled_like_its_pixels(digits, real, teacher):
    floats = set_of(digits, real.preprocess, real.images, real.labels, epochs=1)
    first, second = (relabel(dataset, teacher, epochs=1).soft_labels for dataset in (real, floats))
    assert first.equal(second)
