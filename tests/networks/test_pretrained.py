from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from torch import nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.factory import from_factory
from potstill.networks.init import initialise
from potstill.networks.pretrained import load_weights, pretrained


def refusal(function, *args) -> str:
    with pytest.raises(NetworkError) as caught:
        function(*args)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- pretrained


def test_torchvision_weights_at_hand_are_taken(tmp_path, monkeypatch):
    network = torchvision.models.shufflenet_v2_x0_5()
    weights = torchvision.models.ShuffleNet_V2_X0_5_Weights.DEFAULT
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    torch.save(network.state_dict(), cache / Path(weights.url).name)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    loaded = pretrained("torchvision:shufflenet_v2_x0_5", 3, 32, 1000)
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name])


def test_weights_out_of_reach(tmp_path, monkeypatch):
    def unreachable(*_args, **_kwargs):
        raise URLError("no route\nto host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    message = refusal(pretrained, "torchvision:resnet18", 3, 32, 1000)
    assert "torchvision:resnet18" in message and "no route to host" in message
    monkeypatch.setattr(timm, "create_model", unreachable)
    assert "connection" in refusal(pretrained, "timm:resnet18", 3, 32, 1000)


def test_without_weights_nothing_is_fetched(monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_a, **_k: pytest.fail("asked"))
    theirs = torchvision.models.shufflenet_v2_x0_5()
    ours = pretrained("torchvision:shufflenet_v2_x0_5", 3, 32, 1000, weights=False)
    shapes = [{n: t.shape for n, t in m.state_dict().items()} for m in (ours, theirs)]
    assert shapes[0] == shapes[1]
    assert pretrained("timm:resnet18", 3, 32, 1000, weights=False).num_classes == 1000


def test_timm_makes_the_network_it_is_asked_for(monkeypatch):
    asked = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 1000))
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: asked.append((a, k)) or network)
    assert pretrained("timm:resnet18.a1_in1k", 3, 4, 1000) is network
    assert asked == [(("resnet18.a1_in1k",), {"pretrained": True})]


@pytest.mark.parametrize(
    ("name", "classes", "words"),
    [
        ("resnet18", 1000, ["torchvision:NAME", "timm:NAME"]),
        ("torchvision:", 1000, ["torchvision:NAME"]),
        ("torchvision:resnet19", 1000, ["resnet19", "list_models"]),
        ("torchvision:fasterrcnn_resnet50_fpn", 91, ["no classifier"]),
        ("torchvision:googlenet", 1000, ["torchvision:googlenet", "take another"]),
        ("torchvision:inception_v3", 1000, ["torchvision:inception_v3", "take another"]),
        ("timm:resnet19", 1000, ["resnet19", "list_models"]),
        ("timm:resnet18.no_such_tag", 1000, ["no_such_tag"]),
        ("torchvision:resnet18", 10, ["1000 classes", "the data have 10"]),
        ("timm:resnet18", 10, ["1000 classes", "the data have 10"]),
    ],
)
def test_what_cannot_be_had_is_refused_before_any_download(name, classes, words, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_a, **_k: pytest.fail("asked"))
    message = refusal(pretrained, name, 3, 32, classes)
    assert all(word in message for word in words)


@pytest.mark.parametrize(
    ("name", "channels", "resolution"),
    [("torchvision:shufflenet_v2_x0_5", 1, 32), ("torchvision:vit_b_32", 3, 32)],
)
def test_a_pretrained_network_must_take_the_images(name, channels, resolution, monkeypatch):
    build = torchvision.models.get_model
    monkeypatch.setattr(
        torchvision.models, "get_model", lambda name, weights, progress: build(name, weights=None)
    )
    message = refusal(pretrained, name, channels, resolution, 1000)
    assert name in message and f"(n, {channels}, {resolution}, {resolution})" in message
    assert "data.channels" in message


# --- from_factory

FACTORIES = """
import torch
from torch import nn

number = 3

def good(channels, resolution, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * resolution**2, classes))

def raises(channels, resolution, classes):
    raise ValueError("no\\nluck")

def exits(channels, resolution, classes):
    raise SystemExit(3)

class Leaving(nn.Module):
    def forward(self, images):
        raise SystemExit

def leaving(channels, resolution, classes):
    return Leaving()

def positional(width):
    return nn.Flatten()

def text(channels, resolution, classes):
    return "network"

def narrow(channels, resolution, classes):
    return good(channels, resolution, classes - 1)

def other_size(channels, resolution, classes):
    return good(channels, resolution + 1, classes)
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "my_factories.py").write_text(FACTORIES)
    (tmp_path / "my_broken.py").write_text("import no_such_module_at_all\n")
    (tmp_path / "my_crash.py").write_text("1 / 0\n")
    (tmp_path / "my_script.py").write_text("import sys\nsys.exit(2)\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_factory_is_called_with_what_the_network_must_fit(factories):
    network = from_factory("my_factories:good", 3, 4, 5)
    assert network.training and network(torch.zeros(2, 3, 4, 4)).shape == (2, 5)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my_factories", ["package.name:factory"]),
        ("no_such_package.networks:good", ["'no_such_package'", "PYTHONPATH"]),
        ("my_broken:good", ["'no_such_module_at_all'"]),
        ("my_crash:good", ["my_crash", "division by zero"]),
        ("my_script:good", ["my_script", "exit with 2"]),
        ("my_factories:exits", ["my_factories:exits", "exit with 3"]),
        ("my_factories:leaving", ["my_factories:leaving", "SystemExit"]),
        ("my_factories:better", ["'better'"]),
        ("my_factories:number", ["no function 'number'"]),
        ("my_factories:raises", ["my_factories:raises", "no luck"]),
        ("my_factories:positional", ["channels, resolution and classes by name"]),
        ("my_factories:text", ["returned str", "torch.nn.Module"]),
        ("my_factories:narrow", ["(2, 4)", "outputs (n, 5)"]),
        ("my_factories:other_size", ["(n, 3, 4, 4)"]),
    ],
)
def test_a_factory_that_cannot_be_used(spec, words, factories):
    message = refusal(from_factory, spec, 3, 4, 5)
    assert all(word in message for word in words)


# --- load_weights


def small(name: str = "convnet", seed: int = 0, resolution: int = 8) -> nn.Module:
    recipe = NetworkRecipe(name=name, depth=1, width=4, normalisation="batch")
    network = zoo.build(recipe, channels=1, resolution=resolution, classes=3)
    initialise(network, seed, "test/weights")
    return network


def save(state, path: Path) -> Path:
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_state_dict_comes_back(suffix, prefix, tmp_path):
    source, target = small(), small(seed=1)
    source.blocks[0].norm.running_mean.fill_(3.0)
    state = {prefix + name: tensor for name, tensor in source.state_dict().items()}
    load_weights(target, save(state, tmp_path / f"w{suffix}"))
    for name, tensor in source.state_dict().items():
        assert torch.equal(tensor, target.state_dict()[name])


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_checkpoint_of_a_training_script(key, tmp_path):
    source, target = small(), small(seed=1)
    document = {key: source.state_dict(), "epoch": 200, "acc": 78.2}
    load_weights(target, save(document, tmp_path / "ckpt.pth"))
    assert torch.equal(source.head.weight, target.head.weight)


def test_the_fields_resnet18_for_small_images_fits_by_its_own_names(tmp_path):
    theirs = torchvision.models.resnet18(num_classes=3)
    theirs.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
    theirs.maxpool = nn.Identity()
    state = {f"module.{name}": tensor for name, tensor in theirs.state_dict().items()}
    ours = small("resnet18")
    load_weights(ours, save({"state_dict": state}, tmp_path / "ckpt.pth"))
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenet_v2", "mobilenet_v2"),
        ("shufflenet_v2", "shufflenet_v2_x1_0"),
        ("efficientnet_b0", "efficientnet_b0"),
    ],
)
def test_above_64_px_networks_are_torchvisions(name, theirs, tmp_path):
    original = torchvision.models.get_model(theirs, num_classes=3).eval()
    recipe = NetworkRecipe(name=name, normalisation="batch")
    network = zoo.build(recipe, channels=3, resolution=96, classes=3).eval()
    load_weights(network, save(original.state_dict(), tmp_path / "w.safetensors"))
    images = torch.randn(1, 3, 96, 96)
    torch.testing.assert_close(network(images), original(images))


def test_old_batch_norms_that_counted_nothing_are_taken(tmp_path):
    state = {n: t for n, t in small().state_dict().items() if "num_batches" not in n}
    load_weights(small(seed=1), save(state, tmp_path / "w.pt"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("head.bias") is None, ["lacks 'head.bias' of ConvNet"]),
        (lambda s: s.update(extra=torch.zeros(1), more=torch.zeros(1)), ["'extra' and 1 more"]),
        (lambda s: s.update({"head.bias": torch.zeros(7)}), ["head.bias", "(7,)", "(3,)"]),
    ],
)
def test_weights_of_another_network_change_nothing(change, words, tmp_path):
    network, state = small(), dict(small(seed=1).state_dict())
    change(state)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    message = refusal(load_weights, network, save(state, tmp_path / "w.safetensors"))
    assert all(word in message for word in words)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


class Unsafe:
    def __reduce__(self):
        return (pytest.fail, ("code of the file ran",))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.pt", None, ["cannot read", "absent.pt"]),
        ("absent.safetensors", None, ["cannot read", "absent.safetensors"]),
        ("w.onnx", b"", [".safetensors, .pt or .pth"]),
        ("w.safetensors", b"noise", ["read safely"]),
        ("w.pt", b"noise", ["read safely"]),
        ("w.pth", b"", ["read safely"]),
        ("unsafe.pt", Unsafe(), ["read safely", "state_dict()"]),
        ("empty.pt", {}, ["no state dict"]),
        ("tensor.pt", torch.zeros(2), ["no state dict"]),
        ("numbers.pt", {"epoch": 3}, ["no state dict"]),
    ],
)
def test_files_that_hold_no_weights(name, content, words, tmp_path):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    message = refusal(load_weights, small(), path)
    assert all(word in message for word in words)
