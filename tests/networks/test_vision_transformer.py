from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.networks import zoo
from potstill.networks.vision_transformer import NORMALISATIONS, TokenBatchNorm

NAMES = list(NORMALISATIONS)


def build(name: str, resolution: int = 32, channels: int = 3, classes: int = 10) -> nn.Module:
    recipe = NetworkRecipe(name=name, normalisation=NORMALISATIONS[name])
    return zoo.build(recipe, channels=channels, resolution=resolution, classes=classes)


def test_token_batch_norm_takes_each_channel_over_batch_and_tokens():
    tokens = torch.randn(3, 5, 4, dtype=torch.float64) * 3 + 1
    layer = TokenBatchNorm(4).double()
    with torch.no_grad():
        layer.norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    outputs = layer(tokens)
    for channel in range(4):
        values = [float(tokens[i, t, channel]) for i in range(3) for t in range(5)]
        mean = sum(values) / 15
        variance = sum((v - mean) ** 2 for v in values) / 15
        expected = (tokens[..., channel] - mean) / (variance + 1e-5) ** 0.5 * (channel + 1)
        torch.testing.assert_close(outputs[..., channel], expected)
    assert layer.norm.running_mean[0] == pytest.approx(0.1 * float(tokens[..., 0].mean()))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients(name):
    network, images = build(name), torch.randn(2, 3, 32, 32)
    network(images).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    network.eval()
    outputs = network(images)
    assert outputs.shape == (2, 10)
    torch.testing.assert_close(network.head(network.features(images)), outputs)


def test_with_batch_norms_no_layer_norm_is_left_and_feed_forward_blocks_have_one_more():
    body = build("deit_tiny_bn").body
    assert not any(isinstance(module, nn.LayerNorm) for module in body.modules())
    assert sum(isinstance(module, nn.BatchNorm1d) for module in body.modules()) == 12 * 3 + 1
    seen = []
    for name in ("fc1", "norm", "fc2"):
        layer = getattr(body.blocks[3].mlp, name)
        layer.register_forward_hook(lambda _m, _i, out, name=name: seen.append((name, out.shape)))
    body(torch.zeros(2, 3, 32, 32))
    assert seen == [("fc1", (2, 65, 768)), ("norm", (2, 65, 768)), ("fc2", (2, 65, 192))]


@pytest.mark.parametrize(
    ("resolution", "channels", "tokens"), [(28, 1, 49), (32, 3, 64), (64, 3, 64), (224, 3, 196)]
)
def test_patches_shrink_with_the_images(resolution, channels, tokens):
    with torch.device("meta"):
        body = build("deit_tiny", resolution, channels).body
    assert body.patch_embed.num_patches == tokens
    assert body.patch_embed.proj.in_channels == channels


def test_at_224_px_it_is_timms():
    torch.manual_seed(0)
    timms = timm.create_model("deit_tiny_patch16_224").eval()
    network = build("deit_tiny", 224, classes=1000).eval()
    state = {f"body.{k}".replace("body.head", "head"): v for k, v in timms.state_dict().items()}
    network.load_state_dict(state)
    images = torch.randn(1, 3, 224, 224)
    torch.testing.assert_close(network(images), timms(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_agrees_with_finite_differences(name):
    network = build(name, 8).double().eval()
    images, tangent = torch.randn(2, 2, 3, 8, 8, dtype=torch.float64)
    product = torch.func.jvp(network, (images,), (tangent,))[1]
    step = 1e-6
    with torch.no_grad():
        difference = network(images + step * tangent) - network(images - step * tangent)
    torch.testing.assert_close(product, difference / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "kind", "resolution", "words"),
    [
        ("deit_tiny", "batch", 32, ["deit_tiny", "layer", "batch"]),
        ("deit_tiny_bn", "none", 32, ["deit_tiny_bn", "set network.normalisation to batch"]),
        ("deit_tiny", "layer", 30, ["30 px", "4 px", "data.resolution"]),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(name, kind, resolution, words):
    recipe = NetworkRecipe(name=name, normalisation=kind)
    with pytest.raises(NetworkError) as caught:
        zoo.build(recipe, channels=3, resolution=resolution, classes=10)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in words)
