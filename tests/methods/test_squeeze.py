from __future__ import annotations

import signal
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from torch import nn

from potstill import rng
from potstill.config import DataRecipe, NetworkRecipe, TeacherRecipe
from potstill.data import datasets, views
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, Split
from potstill.errors import DataError, NetworkError, RecipeError, RunError
from potstill.methods import squeeze as module
from potstill.methods.recipe import Recipe, parse
from potstill.methods.squeeze import CHECKPOINT, TEACHER, squeeze, training_loss
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.teacher import Teacher

NETWORK = {"depth": 2, "width": 8, "growth": 1, "normalisation": "batch"}


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(DataRecipe(), None)


def recipe(seed: int = 0, **teacher: Any) -> Recipe:
    settings = {
        "network": NETWORK,
        "epochs": 3,
        "batch_size": 32,
        "crop_padding": 1,
        "flip": False,
        "precision": "float32",
    }
    method = {"kind": "dwa", "teacher": settings | teacher}
    return parse({"name": "t", "seed": seed, "method": method}, source="test")


def test_the_teacher_learns_and_says_what_it_is(digits: SourceDataset, tmp_path: Path) -> None:
    seen: list[tuple[int, int, dict[str, float]]] = []
    made = squeeze(
        recipe(epochs=4),
        digits,
        folder=tmp_path,
        progress=lambda _, *told, **values: seen.append((*told, values)),
    )
    assert [(done, epochs) for done, epochs, _ in seen] == [(i, 4) for i in range(1, 5)]
    assert seen[-1][2]["loss"] < 0.5 * seen[0][2]["loss"]
    assert made.accuracy is not None and made.accuracy > 0.85
    assert made.accuracy == made.score(digits.test)
    assert made.header["results"] == [{"accuracy": made.accuracy, "dataset": "digits", "epochs": 4}]
    assert made.header["network"] == zoo_recipe().model_dump(mode="json")
    assert made.header["teacher"]["epochs"] == made.header["epochs"] == 4
    assert made.header["source"]["fingerprint"] == digits.fingerprint
    assert sorted(path.name for path in tmp_path.iterdir()) == [TEACHER]
    images = made.preprocess.apply(digits.test.images)
    again = Teacher.load(tmp_path / TEACHER)
    assert torch.equal(again.logits(images), made.logits(images))


def zoo_recipe() -> NetworkRecipe:
    return NetworkRecipe.model_validate(NETWORK)


def test_a_seed_decides_the_bytes(digits: SourceDataset, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        folder.mkdir()
        torch.rand(1)  # the state of the global generator does not matter
        squeeze(recipe(seed, epochs=1), digits, folder=folder)
    first, second, other = ((folder / TEACHER).read_bytes() for folder in folders)
    assert first == second != other


def test_ctrl_c_keeps_what_is_done_and_the_rest_gives_the_same_bytes(
    digits: SourceDataset, tmp_path: Path
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    squeeze(recipe(), digits, folder=whole)

    def interrupt(stage: str, done: int, epochs: int, **_: float) -> None:
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        squeeze(recipe(), digits, folder=parts, progress=interrupt)
    assert sorted(path.name for path in parts.iterdir()) == [CHECKPOINT]
    with pytest.raises(RunError, match=r"method\.teacher\.epochs \(3 there, 5 here\)") as caught:
        squeeze(recipe(epochs=5), digits, folder=parts)
    assert "\n" not in str(caught.value)
    told: list[int] = []
    squeeze(
        recipe(), digits, folder=parts, progress=lambda _, done, *_total, **_loss: told.append(done)
    )
    assert told == [2, 3]
    assert sorted(path.name for path in parts.iterdir()) == [TEACHER]
    assert (parts / TEACHER).read_bytes() == (whole / TEACHER).read_bytes()


def test_ctrl_c_in_the_last_report_is_not_lost(digits: SourceDataset, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, epochs: int, **_: float) -> None:
        if done == epochs:
            signal.raise_signal(signal.SIGINT)

    asked, folder = recipe(epochs=1), tmp_path / "run"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        squeeze(asked, digits, folder=folder, progress=interrupt)
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT]
    told: list[int] = []
    again = squeeze(
        asked, digits, folder=folder, progress=lambda _, done, *_total, **_loss: told.append(done)
    )
    assert told == [] and again.digest == squeeze(asked, digits).digest


def test_a_crash_loses_no_more_than_the_time_between_checkpoints(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = squeeze(recipe(), digits)
    monkeypatch.setattr(module, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)

    def crash(stage: str, done: int, epochs: int, **_: float) -> None:
        if done == 2:
            raise MemoryError

    with pytest.raises(MemoryError):
        squeeze(recipe(), digits, folder=tmp_path, progress=crash)
    told: list[int] = []
    again = squeeze(
        recipe(),
        digits,
        folder=tmp_path,
        progress=lambda _, done, *_total, **_loss: told.append(done),
    )
    assert told == [2, 3]  # the second epoch had all its steps, and was not yet counted
    assert again.digest == expected.digest


def test_a_finished_teacher_is_returned_at_once_if_it_fits(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = squeeze(recipe(epochs=1), digits, folder=tmp_path)
    monkeypatch.setattr(module, "EpochTraining", None)  # nothing is trained any more
    again = squeeze(recipe(epochs=1), digits, folder=tmp_path)
    assert again.digest == made.digest and again.header == made.header
    fewer = Split(digits.train.images[:1000], digits.train.labels[:1000])
    other = replace(digits, train=fewer, fingerprint=datasets.fingerprint(fewer, digits.test))
    for wrong, source, words in (
        (recipe(1, epochs=1), digits, r"seed \(0 there, 1 here\)"),
        (recipe(epochs=1, weight_decay=0.0), digits, "method.teacher.weight_decay"),
        (recipe(epochs=1), other, "other data: images were altered, added or removed"),
    ):
        with pytest.raises(RunError, match=words) as caught:
            squeeze(wrong, source, folder=tmp_path)
        assert "\n" not in str(caught.value) and str(tmp_path / TEACHER) in str(caught.value)


def test_weights_of_the_users_are_taken_as_they_are(digits: SourceDataset, tmp_path: Path) -> None:
    network = zoo.build(zoo_recipe(), channels=1, resolution=8, classes=10)
    initialise_default(network, 7, "test/own")
    weights = tmp_path / "own.safetensors"
    safetensors.torch.save_file(network.state_dict(), weights)
    asked = recipe(checkpoint=str(weights))
    made = squeeze(asked, digits, folder=tmp_path)
    for name, tensor in made.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name])
    assert made.header["epochs"] == 0 and made.header["results"][0]["accuracy"] < 0.5
    assert str(tmp_path) not in str(made.header)
    assert squeeze(asked, digits, folder=tmp_path).digest == made.digest
    network.head.bias.data += 1
    safetensors.torch.save_file(network.state_dict(), weights)
    with pytest.raises(RunError, match="weights"):
        squeeze(asked, digits, folder=tmp_path)


def with_data(of: Recipe, **changes: Any) -> Recipe:
    return of.model_copy(update={"data": DataRecipe.model_validate(changes)})


class _Own(nn.Module):
    def __init__(self, channels: int, resolution: int, classes: int, *more: nn.Module) -> None:
        super().__init__()
        parts = (nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), *more)
        self.layers = nn.Sequential(*parts)
        self.out = nn.Linear(4 * (resolution - 2) ** 2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.out(self.layers(images).flatten(1))
        return outputs


def test_a_network_of_the_users_is_trained(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = types.ModuleType("networks_of_a_user")
    package.own = _Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    asked = recipe(module="networks_of_a_user:own")
    made = squeeze(asked, digits, folder=tmp_path)
    assert isinstance(made.network, _Own)
    assert made.accuracy is not None and made.accuracy > 0.8
    assert made.header["network"] == {"module": "networks_of_a_user:own"}
    torch.rand(3)
    assert squeeze(asked, digits).digest == made.digest
    assert squeeze(asked, digits, folder=tmp_path).digest == made.digest


def users(monkeypatch: pytest.MonkeyPatch, *more: nn.Module) -> Recipe:
    """One that is trained for two epochs on a network of the user's."""
    package = types.ModuleType("networks_of_a_user")

    def own(channels: int, resolution: int, classes: int) -> nn.Module:
        return _Own(channels, resolution, classes, *more)

    package.own = own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return recipe(module="networks_of_a_user:own", epochs=2)


def stopped_after_one(asked: Recipe, digits: SourceDataset, folder: Path) -> None:
    def interrupt(stage: str, done: int, epochs: int, **_: float) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        squeeze(asked, digits, folder=folder, progress=interrupt)


def test_dropout_is_part_of_the_seed(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = users(monkeypatch, nn.Dropout(0.3))
    torch.manual_seed(1)
    whole = squeeze(asked, digits)
    torch.manual_seed(2)
    assert squeeze(asked, digits).digest == whole.digest
    stopped_after_one(asked, digits, tmp_path)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert squeeze(asked, digits, folder=tmp_path).digest == whole.digest
    assert torch.equal(torch.get_rng_state(), before)


def test_every_step_drops_others(digits: SourceDataset) -> None:
    fitted, rows = fit(DataRecipe(), digits.train.images), torch.arange(20)
    settings = teacher_settings(crop_padding=0, flip=False)
    loss = training_loss(settings, digits, fitted, 0, torch.device("cpu"))
    network = nn.Sequential(nn.Dropout(0.5), linear())
    first = loss(network, rows, 0, 0)
    assert first == loss(network, rows, 0, 0)
    assert loss(network, rows, 0, 1) != first != loss(network, rows, 1, 0)


@pytest.mark.parametrize(
    "more", [(nn.Linear(6, 6),), (nn.BatchNorm2d(4), nn.ReLU())], ids=["layer", "norm"]
)
def test_a_factory_that_was_edited_meanwhile_is_refused_in_one_line(
    more: tuple[nn.Module, ...],
    digits: SourceDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stopped_after_one(users(monkeypatch), digits, tmp_path)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    with pytest.raises(RunError, match="is of another network, or of other code") as caught:
        squeeze(users(monkeypatch, *more), digits, folder=tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path / CHECKPOINT) in str(caught.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_what_cannot_be_inverted_is_refused_before_anything_is_done(
    digits: SourceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "fit", None)
    with pytest.raises(DataError, match=r"zca does not have; set data\.preprocess to standardise"):
        squeeze(with_data(recipe(), preprocess="zca"), digits)
    with pytest.raises(RecipeError, match=r"data\.mean and data\.std .*0\.485.*0\.229") as caught:
        squeeze(recipe(pretrained="torchvision:resnet18"), digits)
    assert "torchvision:resnet18" in str(caught.value) and "\n" not in str(caught.value)


def test_pretrained_networks_are_taken_as_they_are(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = _Own(1, 8, 10)
    shapes = []
    monkeypatch.setattr(module, "pretrained", lambda name, **asked: shapes.append(asked) or own)
    asked = with_data(recipe(pretrained="timm:own"), mean=(0.5,), std=(0.25,))
    made = squeeze(asked, digits)
    assert made.network is own
    assert shapes == [{"channels": 1, "resolution": 8, "classes": 10, "weights": True}]
    assert made.header["network"] == {"pretrained": "timm:own"} and made.header["epochs"] == 0


def test_a_network_without_batch_norm_is_refused_before_it_is_trained(
    digits: SourceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EpochTraining", None)
    with pytest.raises(NetworkError, match="no batch norm"):
        squeeze(recipe(network=NETWORK | {"normalisation": "instance"}), digits)


def test_without_test_images_no_accuracy_is_claimed(digits: SourceDataset) -> None:
    alone = replace(digits, test=Split(digits.test.images[:0], digits.test.labels[:0]))
    assert squeeze(recipe(epochs=1), alone).accuracy is None


def teacher_settings(**changes: Any) -> TeacherRecipe:
    return TeacherRecipe.model_validate({"precision": "float32"} | changes)


def linear() -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    generator = rng.stream(0, "test/linear")
    network[1].weight.data = rng.normal((10, 64), generator)
    return network


def test_the_loss_is_the_cross_entropy_on_views_of_the_rows(digits: SourceDataset) -> None:
    fitted = fit(DataRecipe(), digits.train.images)
    rows, network, cpu = torch.tensor([5, 900, 3]), linear(), torch.device("cpu")
    images, labels = fitted.apply(digits.train.images[rows]), digits.train.labels[rows]

    plain = training_loss(teacher_settings(crop_padding=0, flip=False), digits, fitted, 0, cpu)
    torch.testing.assert_close(plain(network, rows, 0, 0), F.cross_entropy(network(images), labels))

    augmented = training_loss(teacher_settings(crop_padding=2), digits, fitted, 0, cpu)
    generator = rng.stream(0, "teacher/views/4", 9)
    black = fitted.apply(torch.zeros(1, 1, 1, 1, dtype=torch.uint8)).flatten()
    seen = views.random_flip(views.random_crop(images, 2, black, generator), generator)
    found = augmented(network, rows, 4, 9)
    torch.testing.assert_close(found, F.cross_entropy(network(seen), labels))
    assert augmented(network, rows, 4, 8) != found != augmented(network, rows, 3, 9)


def test_bfloat16_is_nearly_the_same(digits: SourceDataset) -> None:
    fitted = fit(DataRecipe(), digits.train.images)
    rows, network, cpu = torch.arange(20), linear(), torch.device("cpu")
    exact, rounded = (
        training_loss(teacher_settings(precision=precision), digits, fitted, 0, cpu)(
            network, rows, 0, 0
        )
        for precision in ("float32", "bfloat16")
    )
    assert rounded.dtype == torch.float32 and rounded != exact
    torch.testing.assert_close(rounded, exact, rtol=0.02, atol=0)


def test_a_mixed_batch_has_the_labels_of_both_in_their_shares(digits: SourceDataset) -> None:
    """As a transformer's teacher is trained, against soft targets written out."""
    fitted = fit(DataRecipe(), digits.train.images)
    rows, network, cpu = torch.tensor([5, 900, 3, 77]), linear(), torch.device("cpu")
    images, labels = fitted.apply(digits.train.images[rows]), digits.train.labels[rows]
    seen = set()
    for step in range(8):
        settings = teacher_settings(crop="resized", mix="either", label_smoothing=0.1)
        found = training_loss(settings, digits, fitted, 0, cpu)(network, rows, 4, step)
        generator = rng.stream(0, "teacher/views/4", step)
        batch = views.random_flip(views.random_resized_crop(images, generator), generator)
        mixup = generator.random() < 0.5
        mix = views.mixup(batch, generator, 0.8) if mixup else views.cutmix(batch, generator, 1.0)
        targets = torch.full((4, 10), 0.1 / 10)
        targets[torch.arange(4), labels] += 0.9 * mix.share
        targets[torch.arange(4), labels[mix.partners]] += 0.9 * (1 - mix.share)
        expected = -(targets * network(mix.images).log_softmax(1)).sum(1).mean()
        torch.testing.assert_close(found, expected)
        seen.add(mixup)
    assert seen == {True, False}


def test_a_teacher_may_be_trained_at_another_contrast(digits: SourceDataset) -> None:
    """As the authors' was on CIFAR-10: 0.247 for the teacher, 0.20 for all that came after."""
    fitted, plain = fit(DataRecipe(), digits.train.images), {"crop_padding": 0, "flip": False}
    rows, network, cpu = torch.tensor([5, 900, 3]), linear(), torch.device("cpu")
    images, labels = digits.train.images[rows] / 255, digits.train.labels[rows]
    other = training_loss(teacher_settings(std=(0.5,), **plain), digits, fitted, 0, cpu)
    expected = F.cross_entropy(network((images - fitted.mean.float()) / 0.5), labels)
    torch.testing.assert_close(other(network, rows, 0, 0), expected)
    made = squeeze(recipe(std=[0.5], epochs=1), digits)
    assert torch.equal(made.preprocess.std, fitted.std)
    with pytest.raises(DataError, match=r"method\.teacher\.std has length 3"):
        squeeze(recipe(std=[0.5, 0.5, 0.5]), digits)


def test_a_teacher_learns_by_adamw_with_a_warm_up(digits: SourceDataset) -> None:
    settings = {"optimiser": "adamw", "learning_rate": 0.01, "weight_decay": 0.05}
    made = squeeze(recipe(**settings, warmup_epochs=1, decay_vectors=False), digits)
    assert made.accuracy is not None and made.accuracy > 0.85
    with pytest.raises(RecipeError, match="a warm-up of 3 epochs leaves none of 3"):
        recipe(warmup_epochs=3)


def test_a_teacher_from_before_a_setting_existed_is_taken(
    digits: SourceDataset, tmp_path: Path
) -> None:
    made = squeeze(recipe(epochs=1), digits, folder=tmp_path)
    header = made.header | {"teacher": {**made.header["teacher"]}}
    for name in ("optimiser", "warmup_epochs", "decay_vectors", "crop", "mix", "std"):
        del header["teacher"][name]
    replace(made, header=header).save(tmp_path / TEACHER)
    assert squeeze(recipe(epochs=1), digits, folder=tmp_path).digest == made.digest
    with pytest.raises(RunError, match=r"method\.teacher\.mix \(none there, mixup here\)"):
        squeeze(recipe(epochs=1, mix="mixup"), digits, folder=tmp_path)
