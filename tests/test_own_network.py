"""A network of the user's, from distilling to the audits."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from potstill import cli, rng, runs
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, NetworkError, RecipeError
from potstill.methods.recipe import parse
from potstill.networks import zoo
from potstill.networks.convnet import Softplus
from potstill.networks.init import initialise, initialise_default
from potstill.networks.jacobian import Jacobian, require_linearisable
from potstill.teacher import Teacher
from potstill.train import Schedule, Training, train
from tests import test_cli, test_cli_dwa

CODE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, channels, classes, *ending, width=4, head=0.0):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.ending = nn.Sequential(*ending)
        self.fc = nn.Linear(4 * width, classes)
        nn.init.constant_(self.fc.bias, head)

    def forward(self, images):
        return self.ending(self.fc(self.pool(self.act(self.stem(images))).flatten(1)))

def plain(channels, resolution, classes):
    return Net(channels, classes, head=0.5)

def wider(channels, resolution, classes):
    return Net(channels, classes, width=5)

class Random(Net):
    def forward(self, images):
        return super().forward(nn.functional.dropout(images, 0.5, self.training))

def dropout(channels, resolution, classes):
    return Random(channels, classes)

def squashed(channels, resolution, classes):
    return Net(channels, classes, nn.Tanh())

class Overwriting(Net):
    def forward(self, images):
        activations = self.stem(images)
        scale = activations.sigmoid()
        activations = scale * scale
        scale.mul_(2)
        return self.fc(self.pool(activations).flatten(1))

def overwriting(channels, resolution, classes):
    return Overwriting(channels, classes)
"""
SHAPE = {"channels": 1, "resolution": 8, "classes": 10}


@pytest.fixture(scope="module", autouse=True)
def _importable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("code")
    (folder / "my_own.py").write_text(CODE)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))
    sys.modules.pop("my_own", None)


def build(factory: str, **more: float) -> nn.Module:
    return zoo.build(NetworkRecipe(name=f"my_own:{factory}"), **SHAPE, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, _importable: None) -> Path:
    """A run of RCIG with the user's network, on 200 digits."""
    out = tmp_path_factory.mktemp("own") / "run"
    changes = {"network__name": "my_own:plain", "data__train_images": 200, "checkpoint_every": 1}
    assert cli.run(test_cli.distil(out, **changes, method__iterations=2)) == 0
    return out


def test_a_set_is_distilled_scored_and_audited(
    finished: Path, tmp_path: Path, answer: Callable[..., str]
) -> None:
    artefact, own = finished / runs.DISTILLED, "my_own:plain"
    one = ["--networks", "1", "--device", "cpu", "--json"]
    names = ["--network", f"{own},my_own:wider", "--protocol", "hard-label", "--epochs", "2"]
    results = json.loads(answer("evaluate", artefact, *names, *one))["results"]
    assert [each["network"]["name"] for each in results] == [own, "my_own:wider"]
    audits = {
        "attack": ["--steps", "2", "--folds", "2"],
        "continual": ["--tasks", "2", "--protocol", "hard-label", "--epochs", "2"],
        "scores": ["--protocol", "hard-label", "--epochs", "2", "--real-steps", "2"],
    }
    for command, options in audits.items():
        options += ["--cache", tmp_path / "cache"]
        found = json.loads(answer(command, artefact, "--network", own, *options, *one))
        assert found["network"]["name"] == own
    assert not (tmp_path / "cache").exists()
    page = tmp_path / "page.html"
    answer("report", finished, "--out", page)
    assert "my_own:wider" in page.read_text(encoding="utf-8")


def test_a_file_does_not_choose_what_code_runs(
    finished: Path, fails: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    artefact = finished / runs.DISTILLED
    monkeypatch.setattr(zoo, "from_factory", None)
    for command in ("evaluate", "attack", "scores", "continual"):
        message = fails(command, artefact, "--device", "cpu")
        assert "'my_own:plain', which is not part of potstill" in message
        assert "name it with --network" in message
    with pytest.raises(ArtefactError, match="no network 'my_own:plain'"):
        Teacher.load(teacher_that_claims(finished.parent / "teacher.safetensors"))


def teacher_that_claims(path: Path) -> Path:
    """A teacher's file whose network is named like a factory."""
    out = path.parent / "dwa"
    assert cli.run(test_cli_dwa.distil(out)) == 0
    made = Teacher.load(out / "teacher.safetensors")
    network = {**made.header["network"], "name": "my_own:plain"}
    Teacher(
        made.network, made.preprocess, made.class_names, {**made.header, "network": network}
    ).save(path)
    return path


def test_a_teachers_network_has_its_own_place() -> None:
    document = {
        "name": "mine",
        "method": {"kind": "dwa", "teacher": {"network": {"name": "my_own:plain"}}},
    }
    with pytest.raises(RecipeError, match=r"goes into module, not network\.name"):
        parse(document, source="test")


def test_what_it_draws_is_part_of_the_seed(finished: Path) -> None:
    dataset = DistilledDataset.load(finished / runs.DISTILLED)
    histories = []
    for before in (1, 2):
        torch.manual_seed(before)
        networks = [build("dropout") for _ in range(2)]
        for network in networks:
            initialise(network, 0, "test/network")
        # Asked for or not, they are not trained in one computation.
        asked = Training(3, Schedule(3, 1e-3, warmup=0))
        losses = train(networks, dataset.images, dataset.labels, asked, seed=0, batched=True)
        histories.append(losses)
    assert torch.equal(*histories)
    assert not torch.equal(*histories[0].T)


def test_an_edited_network_does_not_resume(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Callable[..., str]
) -> None:
    import my_own

    out = tmp_path / "run"
    changes = {"network__name": "my_own:plain", "checkpoint_every": 1}
    words = test_cli.distil(out, **changes, method__iterations=2)
    assert cli.run(words) == 0
    (out / runs.DISTILLED).unlink()
    record = json.loads((out / "record.json").read_text())
    (out / "record.json").write_text(json.dumps({**record, "status": "running"}))
    monkeypatch.setattr(my_own, "plain", my_own.wider)
    assert "is of another network, or of other code" in fails(*words, "--resume")


@pytest.mark.parametrize(
    ("factory", "words"),
    [
        ("dropout", "drawn at random; turn its dropout off"),
        ("squashed", "does not end in its last linear layer, network.fc"),
        ("overwriting", "cannot be linearised (one of the variables needed"),
        ("nothing", "my_own has no function 'nothing'"),
    ],
)
def test_what_rcig_cannot_take_is_refused_in_one_line(
    factory: str, words: str, tmp_path: Path, fails: Callable[..., str]
) -> None:
    distil = test_cli.distil(tmp_path / "run", network__name=f"my_own:{factory}")
    assert words in fails(*distil)


def test_every_network_of_the_zoo_could_be_the_users() -> None:
    images = rng.normal((2, 3, 32, 32), rng.stream(0, "test/images"))
    for name in ("convnet", "resnet18"):
        recipe = NetworkRecipe(name=name, width=8, normalisation="batch")
        network = zoo.build(recipe, channels=3, resolution=32, classes=10, softplus_beta=10)
        require_linearisable(network, images)
    with pytest.raises(NetworkError, match="no linear layer"):
        require_linearisable(nn.Sequential(nn.Conv2d(3, 10, 32), nn.Flatten()), images)


def test_activations_are_exchanged_and_weights_drawn_by_their_own_code() -> None:
    smooth = build("plain", softplus_beta=10)
    assert isinstance(smooth.network.act, Softplus)
    assert not build("plain").network.act.inplace
    network = build("plain")
    first = network.network.stem.weight.clone()
    initialise_default(network, 0, "test/network")
    again = build("plain")
    initialise_default(again, 0, "test/network")
    assert torch.equal(network.network.stem.weight, again.network.stem.weight)
    assert not torch.equal(network.network.stem.weight, first)
    assert network.network.fc.bias.tolist() == [0.5] * 10


def test_its_jacobian_is_the_networks() -> None:
    network = build("plain", softplus_beta=10).double()
    jacobian = Jacobian(network)
    theta = torch.cat([p.detach().reshape(-1) for p in network.parameters()])
    images = rng.normal((3, 1, 8, 8), rng.stream(0, "test/images"), dtype=torch.float64)
    at = jacobian.at(theta, images)
    tangent = rng.normal(tuple(theta.shape), rng.stream(0, "test/v"), dtype=torch.float64)
    up, down = (jacobian.at(theta + e * tangent, images).outputs for e in (1e-6, -1e-6))
    torch.testing.assert_close(at.jvp(tangent), (up - down) / 2e-6, rtol=1e-6, atol=1e-7)


def test_the_set_says_what_it_was_made_for(finished: Path) -> None:
    dataset = DistilledDataset.load(finished / runs.DISTILLED)
    assert dataset.header["evaluation"]["network"]["name"] == "my_own:plain"
