"""Gradient matching (DC, DSA) against its equation, in float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from potstill import rng
from potstill.data import siamese
from potstill.data.siamese import ALL
from potstill.methods.matching import gradients
from potstill.methods.matching.gradients import (
    DISTANCES,
    constant_gradient,
    cosine_of_rows,
    gradient_matching,
    matched_parameters,
)
from tests.methods.matching.problems import (
    CHANNELS,
    CLASSES,
    IPC,
    SIDE,
    drawn,
    listed,
    network,
    pictures,
    problem,
)
from tests.reference import gradient_matching as reference
from tests.reference.siamese import applied


class Linear(nn.Module):
    """Softmax regression on pixels: no body."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(CHANNELS * SIDE * SIDE, CLASSES, dtype=torch.float64)

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def exact(monkeypatch) -> None:
    """epsilon = 0."""
    monkeypatch.setitem(DISTANCES, "rows", lambda a, b: cosine_of_rows(a, b, 0.0))


@pytest.mark.parametrize("views", [False, True], ids=["dc", "dsa"])
@pytest.mark.parametrize("seed", range(3))
def test_one_update_is_that_of_the_equation(seed, views):
    real, synthetic = problem(seed)
    net, draws = network(seed), drawn(seed) if views else None
    leaves, blocks = listed(synthetic)
    loss = reference.loss(net, real, blocks, draws)
    slow = torch.stack(torch.autograd.grad(loss, leaves))
    terms, gradient = gradient_matching(net, real, synthetic, draws)
    assert terms.shape == (CLASSES,) and not terms.requires_grad
    torch.testing.assert_close(terms.sum(), loss.detach())
    torch.testing.assert_close(gradient, slow)
    assert gradient.abs().min(0).values.max() > 1e-6


def test_a_real_side_of_many_images_is_taken_in_parts():
    images = pictures(3 * gradients._CHUNK_CPU - 5, 0)
    net = network()
    parameters = matched_parameters(net, all_of_them=True)
    loss = F.cross_entropy(net(images), torch.full((len(images),), 1))
    wanted = dict(zip(map(id, parameters), torch.autograd.grad(loss, parameters), strict=True))
    found = constant_gradient(net, parameters, images, 1)
    for parameter, gradient in zip(parameters, found, strict=True):
        assert not gradient.requires_grad
        torch.testing.assert_close(gradient, wanted[id(parameter)])


def test_rows_of_weight_tensors_count_and_nothing_else():
    net = network()
    names = {id(p): name for name, p in net.named_parameters()}
    found = [names[id(p)] for p in matched_parameters(net)]
    assert found == ["blocks.0.conv.weight", "blocks.1.conv.weight", "head.weight"]
    assert sum(p.shape[0] for p in matched_parameters(net)) == 4 + 4 + CLASSES
    assert {names[id(p)] for p in matched_parameters(net, all_of_them=True)} == {*names.values()}


def test_softmax_regression_has_the_gradient_in_closed_form(monkeypatch):
    """D = C - <u, s/|s|>, u = sum_j sigma_j g^r_j/|g^r_j|; sigma_j is the sign of p_j - [j = c]."""
    exact(monkeypatch)
    net = Linear()
    real, synthetic = problem(ipc=1)
    terms, gradient = gradient_matching(net, real, synthetic)
    for label, (batch, s) in enumerate(zip(real, synthetic.flatten(1), strict=True)):
        (g,) = constant_gradient(net, [net.head.weight], batch, label)
        signs = torch.ones(CLASSES, 1, dtype=torch.float64)
        signs[label] = -1
        u = (signs * g / g.norm(dim=1, keepdim=True)).sum(0)
        length = s.norm()
        torch.testing.assert_close(terms[label], CLASSES - u @ s / length, atol=1e-14, rtol=0)
        expected = -(u - s * (s @ u) / length**2) / length
        torch.testing.assert_close(gradient[label].flatten(), expected, atol=1e-15, rtol=0)
        assert abs(gradient[label].flatten() @ s) < 1e-15


def test_the_last_layers_share_at_one_image_is_that_of_its_features(monkeypatch):
    net = network()
    real, synthetic = problem(ipc=1)
    for label, (batch, s) in enumerate(zip(real, synthetic, strict=True)):
        parameters = matched_parameters(net)
        g = constant_gradient(net, parameters, batch, label)[-1]
        own = constant_gradient(net, parameters, s[None], label)[-1]
        h = net.features(s[None])[0].detach()
        signs = torch.ones(CLASSES, dtype=torch.float64)
        signs[label] = -1
        cosines = g @ h / (g.norm(dim=1) * h.norm())
        torch.testing.assert_close(cosine_of_rows([g], [own], 0.0), CLASSES - signs @ cosines)


@given(operation=st.sampled_from(ALL), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_the_real_batch_in_place_of_the_set_leaves_what_epsilon_leaves(operation, seed):
    real, _ = problem(seed)
    net = network(seed)
    draws = [siamese.draw((operation,), SIDE, rng.stream(seed, "a", c)) for c in range(CLASSES)]
    terms, _ = gradient_matching(net, real, torch.cat(real), draws)
    for label, (batch, draw) in enumerate(zip(real, draws, strict=True)):
        rows = [
            row
            for g in constant_gradient(
                net, matched_parameters(net), siamese.apply(batch, draw), label
            )
            for row in g.flatten(1)
        ]
        left = sum(1e-6 / (row @ row + 1e-6) for row in rows)
        torch.testing.assert_close(terms[label], left, atol=1e-12, rtol=1e-7)


def test_without_epsilon_the_real_batch_leaves_nothing_and_another_draw_does(monkeypatch):
    exact(monkeypatch)
    real, _ = problem()
    net = network(softplus_beta=5.0)  # no row is zero
    terms, gradient = gradient_matching(net, real, torch.cat(real), drawn(1))
    assert terms.abs().max() < 1e-12 and gradient.abs().max() < 1e-12
    views = [siamese.apply(batch, draw) for batch, draw in zip(real, drawn(2), strict=True)]
    assert gradient_matching(net, real, torch.cat(views)).terms.min() > 1e-3


def test_the_gradient_is_that_of_finite_differences():
    real, synthetic = problem()
    net, draws = network(softplus_beta=5.0), drawn(3)
    found = gradient_matching(net, real, synthetic, draws).gradient
    for seed in range(3):
        direction = pictures(CLASSES * IPC, 20 + seed)
        step = 1e-5 * direction
        ahead, behind = (
            gradient_matching(net, real, x, draws).terms.sum()
            for x in (synthetic + step, synthetic - step)
        )
        torch.testing.assert_close(
            (found * direction).sum(), (ahead - behind) / 2e-5, rtol=1e-6, atol=1e-8
        )


def test_a_view_maps_the_gradient_back_by_its_transpose():
    """grad with respect to S = L^T grad with respect to the views."""
    real, synthetic = problem()
    net, draws = network(), drawn(4)
    found = gradient_matching(net, real, synthetic, draws).gradient
    seen = [siamese.apply(batch, draw) for batch, draw in zip(real, draws, strict=True)]
    leaves, blocks = listed(synthetic)
    views = torch.stack(
        [
            applied(x, draw.operation, draw.parameters[0].tolist())
            for block, draw in zip(blocks, draws, strict=True)
            for x in block
        ]
    )
    of_views = gradient_matching(net, seen, views.detach()).gradient
    back = torch.autograd.grad(views, leaves, of_views, allow_unused=True)
    whole = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, back, strict=True)]
    torch.testing.assert_close(found, torch.stack(whole))


def test_class_by_class_is_all_classes_at_once():
    """One vmap over the classes gives the same terms."""
    real, synthetic = problem()
    net = network()
    names = [name for name, p in net.named_parameters() if p.ndim > 1]
    fixed = {name: p.detach() for name, p in net.named_parameters()}
    weights = {name: fixed[name] for name in names}

    def loss(weights, images, label):
        outputs = functional_call(net, {**fixed, **weights}, (images,))
        return F.cross_entropy(outputs, label.expand(len(images)))

    labels = torch.arange(CLASSES)
    sides = [
        vmap(grad(loss), in_dims=(None, 0, 0))(weights, torch.stack(blocks), labels)
        for blocks in (real, list(synthetic.split(IPC)))
    ]
    expected = torch.stack(
        [cosine_of_rows(*([side[n][c] for n in names] for side in sides)) for c in range(CLASSES)]
    )
    found = gradient_matching(net, real, synthetic).terms
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def test_a_row_of_zeros_costs_one_and_has_no_gradient():
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    b = torch.zeros(2, 2, requires_grad=True)
    value = cosine_of_rows([a], [b])
    assert value.item() == 2.0
    assert torch.autograd.grad(value, b)[0].isfinite().all()


@pytest.mark.parametrize("name", ["squared", "cosine"])
def test_other_distances_are_of_all_parameters_as_one_vector(name):
    real, synthetic = problem()
    net = network()
    parameters = list(net.parameters())
    leaves, blocks = listed(synthetic)
    total = torch.zeros((), dtype=torch.float64)
    for label, (batch, block) in enumerate(zip(real, blocks, strict=True)):
        a, b = (
            torch.cat(
                [
                    g.flatten()
                    for g in torch.autograd.grad(
                        F.cross_entropy(net(images), torch.full((len(images),), label)),
                        parameters,
                        create_graph=True,
                    )
                ]
            )
            for images in (batch, torch.stack(block))
        )
        if name == "squared":
            total = total + (a.detach() - b).square().sum()
        else:
            total = total + 1 - F.cosine_similarity(a.detach(), b, dim=0, eps=0)
    wanted = torch.stack(torch.autograd.grad(total, leaves))
    terms, found = gradient_matching(net, real, synthetic, distance=name)
    torch.testing.assert_close(terms.sum(), total.detach(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)


def test_classes_in_another_order_give_the_same_blocks():
    """The last layer's rows turned with the classes."""
    real, synthetic = problem()
    net, draws, order = network(), drawn(1), [2, 0, 1]
    found = gradient_matching(net, real, synthetic, draws).gradient.unflatten(0, (CLASSES, IPC))
    with torch.no_grad():
        net.head.weight.copy_(net.head.weight[order].clone())
        net.head.bias.copy_(net.head.bias[order].clone())
    blocks = synthetic.unflatten(0, (CLASSES, IPC))[order].flatten(0, 1)
    turned = gradient_matching(net, [real[c] for c in order], blocks, [draws[c] for c in order])
    torch.testing.assert_close(turned.gradient.view_as(found), found[order])
