"""The hand-written ConvNet products against autograd's, and both against a dense Jacobian."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.networks.convnet import ConvNet
from potstill.networks.convnet_jacobian import _Convolution, _Patches
from potstill.networks.functional import Functional, Layout, flatten
from potstill.networks.init import initialise
from potstill.networks.jacobian import Jacobian
from tests.reference.dense import dense_jacobian


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def convnet(channels=1, side=8, classes=3, depth=2, width=3, norm="none", beta=5.0, growth=2):
    network = ConvNet(channels, side, classes, depth, width, norm, beta, growth).double()
    initialise(network, 0, "test")
    return network


@settings(max_examples=25, deadline=None)
@given(
    channels=st.sampled_from([1, 3]),
    side=st.sampled_from([7, 8, 10, 28]),
    depth=st.integers(1, 3),
    width=st.integers(1, 4),
    images=st.integers(1, 3),
    beta=st.sampled_from([None, 5.0, 60.0]),
    growth=st.sampled_from([1, 2]),
)
def test_by_hand_equals_autograd(channels, side, depth, width, images, beta, growth) -> None:
    if side >> depth < 1:
        return
    network = convnet(channels, side, 3, depth, width, beta=beta, growth=growth)
    theta, x = flatten(network), draw(images, channels, side, side)
    v, u = draw(2, len(theta), seed=1), draw(2, images, 3, seed=2)
    hand, auto = Jacobian(network), Jacobian(network, general=True)
    a, b = hand.at(theta, x), auto.at(theta, x)
    assert type(a) is not type(b)
    h = draw(*a.features.shape, seed=3)
    for one, other in (
        (a.outputs, b.outputs),
        (a.features, b.features),
        (a.jvp(v[0]), b.jvp(v[0])),
        (a.vjp(u[0]), b.vjp(u[0])),
        (hand.image_gradient(theta, x, v, u, h), auto.image_gradient(theta, x, v, u, h)),
        (hand.image_gradient(theta, x, v, u), auto.image_gradient(theta, x, v, u)),
        (hand.image_gradient(theta, x, v[:0], u[:0], h),
         auto.image_gradient(theta, x, v[:0], u[:0], h)),
    ):  # fmt: skip
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group", "layer"])
def test_products_equal_the_dense_jacobian_and_are_adjoint(norm: str) -> None:
    network = convnet(norm=norm)
    jacobian, theta, x = Jacobian(network), flatten(network), draw(4, 1, 8, 8)
    dense = dense_jacobian(Functional(network), theta, x).detach()
    j, v, u = jacobian.at(theta, x), draw(len(theta), seed=1), draw(4, 3, seed=2)
    assert torch.allclose(j.jvp(v).flatten(), dense @ v)
    assert torch.allclose(j.vjp(u), dense.T @ u.flatten())
    assert float((j.jvp(v) * u).sum()) == pytest.approx(float(j.vjp(u) @ v))


@pytest.mark.parametrize(("channels", "padding"), [(1, 3), (3, 1)])
def test_patches_of_the_first_block_equal_the_librarys_convolution(channels, padding) -> None:
    a, w, b = draw(2, channels, 6, 6), draw(4, channels, 3, 3, seed=1), draw(4, seed=2)
    one, other = (kind(a, w, padding, first=True) for kind in (_Patches, _Convolution))
    z = one.forward(w, b)
    assert torch.allclose(z, other.forward(w, b))
    dz = draw(*z.shape, seed=3)
    for ours, theirs in zip(one.backward(dz), other.backward(dz), strict=True):
        assert torch.allclose(ours, theirs)


@pytest.mark.parametrize("norm", ["none", "group"])
def test_chunks_change_nothing(norm: str) -> None:
    network = convnet(norm=norm)
    jacobian, theta, x = Jacobian(network), flatten(network), draw(7, 1, 8, 8)
    whole, parts = jacobian.at(theta, x), jacobian.in_chunks(theta, x, 3)
    v, u = draw(len(theta), seed=1), draw(7, 3, seed=2)
    u[2:5] = 0
    assert torch.allclose(whole.outputs, parts.outputs)
    assert torch.allclose(whole.features, parts.features)
    assert torch.allclose(whole.jvp(v), parts.jvp(v))
    assert torch.allclose(whole.vjp(u), parts.vjp(u))


@pytest.mark.parametrize("beta", [5.0, 60.0, None])
def test_single_precision_and_bfloat16_stay_close(beta: float | None) -> None:
    network = convnet(side=28, depth=3, width=8, classes=10, beta=beta)
    theta, x = flatten(network), draw(5, 1, 28, 28)
    jacobian, v, u = Jacobian(network), draw(len(theta), seed=1), draw(5, 10, seed=2)
    exact = jacobian.at(theta, x)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2 if beta else 6e-2)):
        low = jacobian.at(theta.float(), x.float(), dtype=dtype)
        assert (low.jvp(v.float()) - exact.jvp(v)).norm() < tolerance * exact.jvp(v).norm()
        assert (low.vjp(u.float()) - exact.vjp(u)).norm() < tolerance * exact.vjp(u).norm()


def test_a_product_leaves_the_saved_activations_alone() -> None:
    network = convnet()
    theta, x = flatten(network), draw(4, 1, 8, 8)
    j, v, u = Jacobian(network).at(theta, x), draw(len(theta), seed=1), draw(4, 3, seed=2)
    first = j.jvp(v), j.vjp(u)
    assert torch.equal(j.jvp(v), first[0]) and torch.equal(j.vjp(u), first[1])


def test_the_layout_names_body_and_head() -> None:
    network = convnet(channels=3)
    layout, flat = Layout(network), flatten(network)
    named = layout.split(flat)
    assert all(torch.equal(named[name], p) for name, p in network.named_parameters())
    assert torch.equal(flat[layout.head].view(layout.head_shape), network.head.weight)
    body = layout.body(flat)
    assert not body[layout.head].any()
    assert body.count_nonzero() == flat.count_nonzero() - network.head.weight.count_nonzero()
