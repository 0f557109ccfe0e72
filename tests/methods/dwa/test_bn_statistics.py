from __future__ import annotations

import copy
import shutil

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from potstill.config import NetworkRecipe
from potstill.errors import NetworkError
from potstill.methods.dwa.bn_statistics import MeasuredNetwork, Moments, distances, moments
from potstill.networks import zoo


def teacher(name: str = "convnet", normalisation: str = "batch") -> nn.Module:
    """In float64, with statistics and affine weights that are no defaults."""
    torch.manual_seed(0)
    recipe = NetworkRecipe(name=name, depth=2, width=4, normalisation=normalisation)
    network = zoo.build(recipe, channels=3, resolution=8, classes=5).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean):
                tensor.copy_(torch.randn_like(tensor))
            module.running_var.copy_(torch.rand_like(module.running_var) + 0.5)
    return network


def reference(network: nn.Module, images: Tensor) -> tuple[Tensor, list[Moments]]:
    """Outputs and moments by hooks, written out, automatic differentiation through all."""
    found: list[Moments] = []

    def hook(module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
        z = inputs[0]
        axes = [axis for axis in range(z.ndim) if axis != 1]
        mean = z.mean(axes)
        centred = z - z.mean(axes, keepdim=True)
        variance = (centred**2).mean(axes)
        found.append(Moments(mean, variance, module.running_mean, module.running_var))

    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.register_forward_hook(hook)
    return network(images), found


def images(n: int = 6) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(n, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
def test_outputs_and_moments_are_the_written_out_ones(name: str) -> None:
    network = teacher(name)
    outputs, found = MeasuredNetwork(network)(images())
    expected, written_out = reference(network, images())
    torch.testing.assert_close(outputs, expected)
    assert len(found) == len(written_out) > 1
    for ours, theirs in zip(found, written_out, strict=True):
        torch.testing.assert_close(ours.mean, theirs.mean)
        torch.testing.assert_close(ours.variance, theirs.variance)


@pytest.mark.parametrize("name", ["convnet", "resnet18"])
@pytest.mark.parametrize("weights", [(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1, 2, 3)])
def test_gradients_are_those_of_automatic_differentiation(
    name: str, weights: tuple[float, float, float]
) -> None:
    network = teacher(name)

    def gradient(measure: object) -> Tensor:
        leaf = images().requires_grad_()
        outputs, found = measure(leaf)  # type: ignore[operator]
        mean, variance = distances(found, 10.0)
        loss = weights[0] * outputs.square().sum() + weights[1] * mean + weights[2] * variance
        return torch.autograd.grad(loss, leaf)[0]

    ours = gradient(MeasuredNetwork(network))
    torch.testing.assert_close(ours, gradient(lambda x: reference(network, x)))
    assert ours.norm() > 1e-3


def test_gradient_agrees_with_finite_differences() -> None:
    measured = MeasuredNetwork(teacher())

    def loss(x: Tensor) -> Tensor:
        outputs, found = measured(x)
        return outputs.sum() + sum(distances(found, 10.0))

    assert torch.autograd.gradcheck(loss, (images(3).requires_grad_(),), fast_mode=True)


def test_distances_follow_the_formula() -> None:
    def layer(shift: float, stretch: float) -> Moments:
        zeros, ones = torch.zeros(4), torch.ones(4)
        return Moments(zeros + shift, ones + stretch, zeros, ones)

    mean, variance = distances([layer(1.0, 0.5), layer(2.0, 0.25), layer(0.0, 0.0)], 10.0)
    # |(1, 1, 1, 1)| = 2: ten times the first layer's, once the others'.
    assert mean.item() == pytest.approx(10 * 2 + 4 + 0)
    assert variance.item() == pytest.approx(10 * 1 + 0.5 + 0)


@given(
    n=st.integers(1, 5),
    channels=st.integers(1, 6),
    places=st.sampled_from([(), (7,), (3, 2), (2, 3, 2)]),
)
def test_moments_of_any_shape(n: int, channels: int, places: tuple[int, ...]) -> None:
    z = torch.randn(n, channels, *places, dtype=torch.float64)
    mean, variance = moments(z, torch.float64)
    rows = z.movedim(1, -1).reshape(-1, channels)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(variance, rows.var(0, correction=0))


def test_moments_of_bfloat16_are_summed_in_float32() -> None:
    torch.manual_seed(0)
    z = (torch.randn(64, 8, 16, 16) + 3).bfloat16()
    mean, variance = moments(z, torch.float32)
    assert mean.dtype == variance.dtype == torch.float32
    torch.testing.assert_close(mean.double(), z.double().mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        variance.double(), z.double().var((0, 2, 3), correction=0), rtol=1e-3, atol=1e-3
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_or_not_the_gradient_is_the_same() -> None:
    network = teacher().float()

    def gradient(compiled: bool) -> Tensor:
        leaf = images().float().requires_grad_()
        outputs, found = MeasuredNetwork(network, compiled=compiled)(leaf)
        loss = outputs.square().sum() + sum(distances(found, 10.0))
        return torch.autograd.grad(loss, leaf)[0]

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-4, atol=1e-5)


def test_without_a_compiler_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def without(_images: Tensor) -> Tensor:
        raise TorchDynamoException("backend raised:\nno g++ here\n\nand a page of hints")

    monkeypatch.setattr(torch, "compile", lambda _network, dynamic: without)
    measured = MeasuredNetwork(teacher(), compiled=True)
    with pytest.raises(NetworkError, match=r"no g\+\+ here.*method\.compiled to false") as caught:
        measured(images())
    assert "\n" not in str(caught.value) and "hints" not in str(caught.value)


def test_the_network_is_left_alone() -> None:
    network = teacher().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    weights = {name: value + 1 for name, value in network.named_parameters()}
    measured = MeasuredNetwork(network, weights)
    measured(images())
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in measured.module.named_parameters():
        assert torch.equal(value, weights[name]), name


def test_running_statistics_never_change() -> None:
    network = teacher()
    measured = MeasuredNetwork(network)
    first, _ = measured(images())
    again, found = measured(images())
    assert torch.equal(first, again)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    for layer, norm in zip(found, norms, strict=True):
        assert torch.equal(layer.running_mean, norm.running_mean)
        assert torch.equal(layer.running_variance, norm.running_var)


def test_batch_norms_without_affine_weights_and_of_vectors() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(12, 4), nn.BatchNorm1d(4, affine=False), nn.Linear(4, 2)
    ).double()
    x = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    outputs, found = MeasuredNetwork(network)(x)
    expected, written_out = reference(network, x)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(found[0].variance, written_out[0].variance)


def test_batch_norms_that_do_more_keep_doing_it() -> None:
    """timm's mobile networks have the activation inside the batch norm."""
    network = timm.create_model("mobilenetv2_050", num_classes=5).double().eval()
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    outputs, found = MeasuredNetwork(network)(x)
    expected, written_out = reference(network, x)
    torch.testing.assert_close(outputs, expected)
    assert len(found) == len(written_out)
    for ours, theirs in zip(found, written_out, strict=True):
        torch.testing.assert_close(ours.mean, theirs.mean)
        torch.testing.assert_close(ours.variance, theirs.variance)


def test_batch_norms_that_are_never_called_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
    network.unused = nn.BatchNorm2d(4)
    network.forward = network[0].forward  # type: ignore[method-assign]
    with pytest.raises(NetworkError, match="does not use its batch norms"):
        MeasuredNetwork(network.float())(torch.randn(2, 3, 8, 8))


def test_a_teacher_without_batch_norm_is_refused() -> None:
    with pytest.raises(NetworkError, match="no batch norm"):
        MeasuredNetwork(teacher(normalisation="none"))


def test_a_teacher_without_running_statistics_is_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    with pytest.raises(NetworkError, match="no running statistics"):
        MeasuredNetwork(network)
