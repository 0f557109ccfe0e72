from __future__ import annotations

import pytest
import torch
from torch import nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.data.siamese import ALL
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.networks import zoo
from potstill.networks.init import initialise_default

MEMBERS = {
    "cat": torch.arange(0, 40, 2),
    "dog": torch.arange(1, 40, 2),
    "newt": torch.tensor([100, 103, 101]),
}


def rows(members=MEMBERS, batch=5, seed=0, network=1, update=0):
    found = real_rows(members, batch, seed, network, update)
    return dict(zip(members, (part.tolist() for part in found), strict=True))


def test_a_batch_has_different_images_of_its_class():
    for network in range(50):
        for name, found in rows(network=network).items():
            assert len(found) == len(set(found)) == min(5, len(MEMBERS[name]))
            assert set(found) <= set(MEMBERS[name].tolist())


def test_a_class_of_few_images_is_taken_whole():
    assert sorted(rows(batch=256)["newt"]) == [100, 101, 103]
    assert sorted(rows(batch=256)["cat"]) == MEMBERS["cat"].tolist()


def test_every_image_is_drawn_equally_often():
    n = 2000
    counts = torch.zeros(40)
    for network in range(n):
        counts[torch.tensor(rows(network=network)["cat"])] += 1
    assert (counts[::2] / n - 5 / 20).abs().max() < 0.05


def test_draws_depend_on_seed_network_update_and_name_and_on_nothing_else():
    first = rows()
    assert rows() == first
    for other in ({"seed": 1}, {"network": 2}, {"update": 1}):
        assert rows(**other)["cat"] != first["cat"]
    turned = {name: MEMBERS[name] for name in ("newt", "dog", "cat")}
    assert rows(turned) == first
    alike = rows({"cat": MEMBERS["cat"], "dog": MEMBERS["cat"]})
    assert alike["cat"] != alike["dog"]

    def drawn(names=("cat", "dog"), seed=0, network=1, update=0):
        found = siamese_draws(names, ALL, 8, seed, network, update)
        return {n: (d.operation, d.parameters.tolist()) for n, d in zip(names, found, strict=True)}

    many = [drawn(network=k) for k in range(30)]
    assert many == [drawn(("dog", "cat"), network=k) for k in range(30)]
    assert many != [drawn(seed=1, network=k) for k in range(30)]
    assert many != [drawn(update=1, network=k) for k in range(30)]
    assert {draws["cat"][0] for draws in many} == set(ALL)
    assert sum(draws["cat"] == draws["dog"] for draws in many) < 5
    assert all(len(draws["cat"][1]) == 1 for draws in many)


def test_a_fresh_network_has_the_default_weights_in_a_quicker_form():
    recipe = NetworkRecipe(depth=2, width=4, growth=1, normalisation="instance")

    def build():
        return zoo.build(recipe, channels=1, resolution=8, classes=3)

    images = rng.normal((5, 1, 8, 8), rng.stream(0, "test/images"))
    seen = []
    for index in (0, 1):
        plain = build()
        initialise_default(plain, 7, "matching/network", index)
        quick = fresh_network(build, 7, index)
        assert not any(isinstance(module, nn.InstanceNorm2d) for module in quick.modules())
        torch.testing.assert_close(quick.features(images), plain.features(images))
        seen.append(quick.features(images))
    assert not torch.allclose(*seen)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_a_step_is_that_of_sgd_to_the_bit(momentum):
    generator = rng.stream(0, "test/steps")
    images = rng.normal((4, 1, 8, 8), generator)
    velocity, start = torch.zeros_like(images), images.clone()
    other = nn.Parameter(images.clone())
    optimiser = torch.optim.SGD([other], lr=0.3, momentum=momentum)
    for _ in range(4):
        gradient = rng.normal((4, 1, 8, 8), generator)
        momentum_step(images, velocity, gradient, 0.3, momentum)
        other.grad = gradient.clone()
        optimiser.step()
        assert images.equal(other.detach())
    assert not images.equal(start)
