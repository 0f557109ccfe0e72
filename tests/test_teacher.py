from __future__ import annotations

import dataclasses
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from potstill import storage
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, Split
from potstill.errors import ArtefactError, NetworkError
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.teacher import Teacher

RECIPE = NetworkRecipe(depth=2, width=6, growth=1, normalisation="batch")


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(DataRecipe(), None)


def network() -> nn.Module:
    made = zoo.build(RECIPE, channels=1, resolution=8, classes=10)
    initialise(made, 0, "test/teacher")
    made.blocks[0].norm.running_mean.copy_(torch.linspace(-1, 1, 6))
    return made


def teacher(data: SourceDataset, preprocess: str = "standardise", /, **header: Any) -> Teacher:
    fitted = fit(DataRecipe(preprocess=preprocess), data.train.images)
    facts = {
        "network": RECIPE.model_dump(mode="json"),
        "teacher": {"epochs": 2},
        "source": {
            "name": data.name,
            "fingerprint": data.fingerprint,
            "classes": 10,
            "channels": 1,
            "resolution": 8,
        },
        "epochs": 2,
        "seed": 0,
        "versions": {},
        "results": [{"accuracy": 0.5}],
    }
    return Teacher(network(), fitted, data.class_names, facts | header)


@pytest.mark.parametrize("preprocess", ["standardise", "zca"])
def test_a_file_holds_the_whole_teacher(
    tmp_path: Path, digits: SourceDataset, preprocess: str
) -> None:
    made = teacher(digits, preprocess)
    made.save(tmp_path / "a.safetensors")
    again = Teacher.load(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert again.header == made.header and again.class_names == digits.class_names
    assert again.digest == made.digest
    assert (again.channels, again.resolution, again.classes) == (1, 8, 10)
    images = made.preprocess.apply(digits.test.images)
    assert torch.equal(again.preprocess.apply(digits.test.images), images)
    assert torch.equal(again.logits(images), made.logits(images))


def test_a_teacher_of_phases_has_a_format_of_its_own(tmp_path: Path, digits: SourceDataset) -> None:
    path = tmp_path / "teacher.safetensors"
    for block, version in ((None, 1), (4, 2)):
        fitted = fit(DataRecipe(preprocess="zca", zca_block=block), digits.train.images)
        dataclasses.replace(teacher(digits), preprocess=fitted).save(path)
        document, tensors = storage.decode(path, storage.TEACHER)
        assert document["format_version"] == version
        assert Teacher.load(path).preprocess.describe() == fitted.describe()
        wrong = {**document, "format_version": 3 - version}
        storage.save(path, wrong, tensors, storage.TEACHER)
        with pytest.raises(ArtefactError, match="does not go with what it holds"):
            Teacher.load(path)


def test_a_teacher_is_frozen(digits: SourceDataset) -> None:
    made = teacher(digits)
    before = made.digest
    assert not any(module.training for module in made.network.modules())
    images = made.preprocess.apply(digits.test.images[:7]).requires_grad_()
    assert not made.logits(images).requires_grad
    made.network(images).sum().backward()
    assert images.grad is not None and images.grad.any()
    assert all(p.grad is None and not p.requires_grad for p in made.network.parameters())
    assert made.digest == before


def test_logits_do_not_depend_on_the_batch(digits: SourceDataset) -> None:
    made = teacher(digits)
    images = made.preprocess.apply(digits.test.images[:230])
    outputs = made.logits(images)
    assert outputs.shape == (230, 10) and outputs.dtype == torch.float32
    torch.testing.assert_close(made.logits(images, batch=7), outputs)
    one_by_one = torch.cat([made.network(image[None]) for image in images[:5]])
    torch.testing.assert_close(outputs[:5], one_by_one)


def test_score_is_the_fraction_of_right_answers(digits: SourceDataset) -> None:
    made = teacher(digits)
    train = digits.train
    answers = made.logits(made.preprocess.apply(train.images)).argmax(1)
    hits = sum(int(a == b) for a, b in zip(answers, train.labels, strict=True))
    assert len(train) > 1000 and made.score(train) == hits / len(train)
    assert made.score(Split(train.images[:50], answers[:50])) == 1.0


def test_the_digest_is_that_of_the_weights(digits: SourceDataset) -> None:
    made = teacher(digits)
    other = teacher(digits, results=[], seed=3)
    assert other.digest == made.digest
    other.network.to(memory_format=torch.channels_last)
    assert other.digest == made.digest
    other.network.blocks[1].norm.running_var[2] += 1e-6
    assert other.digest != made.digest


def test_summary_says_which_teacher_it_is(digits: SourceDataset) -> None:
    made = teacher(digits)
    assert made.summary() == {
        "digest": made.digest,
        "accuracy": 0.5,
        "network": RECIPE.model_dump(mode="json"),
        "epochs": 2,
        "settings": {"epochs": 2},
    }
    assert teacher(digits, results=[]).accuracy is None


def test_damaged_files_are_refused(tmp_path: Path, digits: SourceDataset) -> None:
    path = tmp_path / "teacher.safetensors"
    teacher(digits).save(path)
    whole = path.read_bytes()
    for damage, words in (
        (whole[: len(whole) // 2], "truncated"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "altered"),
        (whole.replace(b'\\"accuracy\\":0.5', b'\\"accuracy\\":0.9'), "altered"),
        (b"no safetensors at all", "no safetensors file"),
    ):
        assert damage != whole
        path.write_bytes(damage)
        with pytest.raises(ArtefactError, match=words) as caught:
            Teacher.load(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArtefactError, match="cannot read"):
        Teacher.load(tmp_path / "absent.safetensors")


def test_teachers_and_distilled_sets_are_told_apart(tmp_path: Path, digits: SourceDataset) -> None:
    made = teacher(digits)
    made.save(tmp_path / "teacher.safetensors")
    with pytest.raises(ArtefactError, match="is a teacher"):
        DistilledDataset.load(tmp_path / "teacher.safetensors")
    header = {
        "method": "dwa",
        "recipe": {},
        "evaluation": {"protocol": "dwa-paper"},
        "source": made.header["source"],
        "versions": {},
        "seed": 0,
        "iterations": 1,
    }
    labels = torch.eye(10)
    dataset = DistilledDataset(
        digits.train.images[:10], labels, digits.class_names, made.preprocess, header
    )
    dataset.save(tmp_path / "set.safetensors")
    with pytest.raises(ArtefactError, match="is a distilled set"):
        Teacher.load(tmp_path / "set.safetensors")
    safetensors.torch.save_file({"x": labels}, tmp_path / "other.safetensors")
    with pytest.raises(ArtefactError, match="no teacher"):
        Teacher.load(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": RECIPE.model_copy(update={"width": 7}).model_dump()}, "size mismatch"),
        (
            {"network": RECIPE.model_copy(update={"depth": 1}).model_dump()},
            "size mismatch for head.weight",
        ),
        ({"network": {"name": "convnet", "wings": 2}}, "wings"),
        (
            {"source": {"name": "digits", "fingerprint": "00", "channels": 3, "resolution": 8}},
            "mismatch",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_one_line(
    tmp_path: Path, digits: SourceDataset, change: dict[str, Any], words: str
) -> None:
    path = tmp_path / "teacher.safetensors"
    teacher(digits, **change).save(path)
    with pytest.raises(ArtefactError, match=words) as caught:
        Teacher.load(path)
    assert "\n" not in str(caught.value) and "teacher.safetensors" in str(caught.value)


def test_a_header_without_a_field_is_refused(digits: SourceDataset) -> None:
    with pytest.raises(ArtefactError, match="header field seed: Input should be a valid integer"):
        teacher(digits, seed=None)


class _Own(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(4, classes)
        self.tied = self.out

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.out(self.norm(self.conv(images)).mean((2, 3)))
        return outputs


def test_a_file_does_not_choose_what_code_runs(
    tmp_path: Path, digits: SourceDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("own_networks_of_a_user")
    calls = []

    def factory(channels: int, resolution: int, classes: int) -> nn.Module:
        calls.append((channels, resolution, classes))
        return _Own(channels, classes)

    module.factory = module.other = factory  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    name = f"{module.__name__}:factory"
    plain = teacher(digits, network={"module": name})
    made = Teacher(_Own(1, 10), plain.preprocess, plain.class_names, plain.header)
    path = tmp_path / "teacher.safetensors"
    made.save(path)

    for passed in (None, f"{module.__name__}:other"):
        with pytest.raises(
            ArtefactError,
            match=f"{name}.*pass --module PACKAGE:FACTORY, or set method.teacher.module",
        ) as caught:
            Teacher.load(path, factory=passed)
        assert "\n" not in str(caught.value)
    assert calls == []
    again = Teacher.load(path, factory=name)
    assert calls == [(1, 8, 10)]
    assert again.digest == made.digest
    images = made.preprocess.apply(digits.test.images[:5])
    assert torch.equal(again.logits(images), made.logits(images))
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(NetworkError):
        Teacher.load(path, factory=name)


def test_a_pretrained_network_is_rebuilt_without_fetching_its_weights(
    tmp_path: Path, digits: SourceDataset
) -> None:
    import torchvision

    source = {"name": "own", "fingerprint": "00", "channels": 3, "resolution": 32}
    network = {"pretrained": "torchvision:squeezenet1_1"}
    plain = teacher(digits, network=network, source=source)
    names = tuple(f"class {i}" for i in range(1000))
    squeezenet = torchvision.models.squeezenet1_1(weights=None)
    made = Teacher(squeezenet, plain.preprocess, names, plain.header)
    made.save(tmp_path / "teacher.safetensors")
    again = Teacher.load(tmp_path / "teacher.safetensors")
    assert again.digest == made.digest and again.classes == 1000


def test_a_network_of_another_library_is_no_foreign_code(
    tmp_path: Path, digits: SourceDataset
) -> None:
    recipe = NetworkRecipe(name="timm:test_resnet")
    plain = teacher(digits, network=recipe.model_dump(mode="json"))
    network = zoo.build(recipe, channels=1, resolution=8, classes=10)
    made = Teacher(network, plain.preprocess, plain.class_names, plain.header)
    made.save(tmp_path / "teacher.safetensors")
    again = Teacher.load(tmp_path / "teacher.safetensors")
    assert again.digest == made.digest
    images = made.preprocess.apply(digits.test.images[:5])
    assert torch.equal(again.logits(images), made.logits(images))
