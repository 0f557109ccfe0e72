"""One iteration of DC, DSA, DM, CAFE and DataDAM, beside the same one as research code writes it.

    python benchmarks/matching_step.py [--json] [--width 128] [--images-per-class 1] [--real 256]
                                       [--classes 10] [--iterations 3] [--methods DM DC]

An iteration is one step of the images under a fresh network: draws, loss, gradient, SGD. Trainings
of the network and CAFE's queries, of which the other methods have none, are left out: they are
plain passes. Both ways see the same number of images, 32 px and 3 channels. Research code keeps
instance norms in PyTorch's default layout, passes a whole real batch at once with a graph to the
weights, and steps the images by torch.optim; its augmentation is the siamese one of this library,
which is not the point here.

The floor are the convolutions that no way does without, and nothing else, at the rate at which
this machine multiplies matrices in the same minute: each real image forward (and for gradients of
weights backward), each synthetic one forward and back to the pixels, where the method needs it
twice.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import hardware, rng
from potstill.config import NetworkRecipe
from potstill.data import siamese
from potstill.data.siamese import ALL, Draw
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.draws import fresh_network
from potstill.methods.matching.parts import parts_of
from potstill.methods.matching.settings import (
    CAFESettings,
    DataDAMSettings,
    DCSettings,
    DMSettings,
    DSASettings,
    MatchingSettings,
)
from potstill.networks import zoo
from potstill.networks.convnet import ConvNet

SIDE, CHANNELS = 32, 3

Loss = Callable[[ConvNet, Tensor, Tensor, int], Tensor]
"""(network, real and synthetic images of a class after its draw, class) -> the loss."""


@dataclass(frozen=True)
class Case:
    """A method: its settings here, its loss as research code has it, and passes of an image.

    Of a forward pass, in units of itself: what each real and each synthetic image costs at least.
    """

    settings: MatchingSettings
    views: bool
    real: float
    synthetic: float


# Real images of DC pass forward and back to the weights of every layer, synthetic ones twice over:
# forward, back, and both again for the derivative of the second order.
CASES = {
    "DC": Case(DCSettings(updates=1), False, 3, 9),
    "DSA": Case(DSASettings(updates=1), True, 3, 9),
    "DM": Case(DMSettings(), True, 1, 2),
    "CAFE": Case(CAFESettings(), False, 1, 2),
    "DataDAM": Case(DataDAMSettings(), True, 1, 2),
}


class Problem:
    """Images, and a draw of each class, the same for every way."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.classes, self.arguments = arguments.classes, arguments
        torch.manual_seed(0)
        shape = (CHANNELS, SIDE, SIDE)
        self.real = list(torch.randn(arguments.classes, arguments.real, *shape))
        self.synthetic = torch.randn(arguments.classes * arguments.images_per_class, *shape)
        self.recipe = NetworkRecipe(width=arguments.width, growth=1, normalisation="instance")
        self.draws: list[Draw] = [
            siamese.draw(ALL, SIDE, rng.stream(0, "benchmark", c)) for c in range(self.classes)
        ]

    def build(self) -> nn.Module:
        """A network, not initialised."""
        return zoo.build(self.recipe, channels=CHANNELS, resolution=SIDE, classes=self.classes)


def ours(case: Case, problem: Problem) -> Callable[[], Tensor]:
    """One iteration as the library does it; the images after it."""
    parts = parts_of(case.settings, problem.arguments.images_per_class)
    draws = problem.draws if case.views else None

    def iteration() -> Tensor:
        network = fresh_network(problem.build, 0, 0)
        images, velocity = problem.synthetic.clone(), torch.zeros_like(problem.synthetic)
        matched = parts.loss(network, problem.real, images, draws)
        momentum_step(images, velocity, matched.gradient, 0.1, 0.5)
        return images

    return iteration


def research(name: str, case: Case, problem: Problem) -> Callable[[], Tensor]:
    """One iteration by a loop over the classes, one backward pass and torch.optim."""

    def iteration() -> Tensor:
        network = problem.build()
        network.load_state_dict(fresh_network(problem.build, 0, 0).state_dict())
        images = problem.synthetic.clone().requires_grad_()
        optimiser = torch.optim.SGD([images], lr=0.1, momentum=0.5)
        pairs = []
        for c, (real, own) in enumerate(
            zip(problem.real, images.chunk(problem.classes), strict=True)
        ):
            draw = problem.draws[c]
            seen = [siamese.apply(x, draw) if case.views else x for x in (real, own)]
            pairs.append((seen[0], seen[1]))
        optimiser.zero_grad()
        LOSSES[name](network, pairs).backward()
        optimiser.step()
        return images.detach()

    return iteration


Pairs = list[tuple[Tensor, Tensor]]


def gradient_loss(network: Any, pairs: Pairs) -> Tensor:
    """DC and DSA: all gradients of both sides, then a cosine for each row of each weight."""
    parameters = list(network.parameters())
    loss = torch.zeros(())
    for label, (real, own) in enumerate(pairs):
        sides = []
        for images in (real, own):
            target = torch.full((len(images),), label)
            value = F.cross_entropy(network(images), target)
            sides.append(torch.autograd.grad(value, parameters, create_graph=images is own))
        for a, b in zip(*sides, strict=True):
            if a.ndim > 1:
                a, b = a.detach().flatten(1), b.flatten(1)
                norms = a.norm(dim=1) * b.norm(dim=1)
                loss = loss + (1 - (a * b).sum(1) / (norms + 1e-6)).sum()
    return loss


def mean_loss(network: Any, pairs: Pairs) -> Tensor:
    """DM: the distance of mean features, class by class."""
    loss = torch.zeros(())
    for real, own in pairs:
        means = network.features(real).detach().mean(0), network.features(own).mean(0)
        loss = loss + (means[0] - means[1]).square().sum()
    return loss


def alignment_loss(network: Any, pairs: Pairs) -> Tensor:
    """CAFE: three maps and the features, and the cross-entropy against the centres."""
    loss, centres, features = torch.zeros(()), [], []
    for real, own in pairs:
        (maps_r, h_r), (maps_s, h_s) = network.activations(real), network.activations(own)
        layers = zip((0.1, 0.1, 1.0, 2.0), [*maps_r, h_r], [*maps_s, h_s], strict=True)
        for weight, a, b in layers:
            loss = loss + weight * (a.detach().mean(0) - b.mean(0)).square().sum()
        centres.append(h_s.mean(0))
        features.append(h_r.detach())
    logits = torch.cat(features) @ torch.stack(centres).T
    labels = torch.arange(len(pairs)).repeat_interleave(len(features[0]))
    return loss + 0.01 * F.cross_entropy(logits, labels, reduction="sum")


def attention_loss(network: Any, pairs: Pairs) -> Tensor:
    """DataDAM: attention of all blocks but the last by a general power, and the features."""
    loss = torch.zeros(())
    for real, own in pairs:
        (maps_r, h_r), (maps_s, h_s) = network.activations(real), network.activations(own)
        for a, b in zip(maps_r[:-1], maps_s[:-1], strict=True):
            z = [F.normalize(x.abs().pow(4.0).sum(1).flatten(1)) for x in (a.detach(), b)]
            loss = loss + 100 * (z[0].mean(0) - z[1].mean(0)).square().sum()
        loss = loss + (h_r.detach().mean(0) - h_s.mean(0)).square().sum()
    return loss


LOSSES = {
    "DC": gradient_loss,
    "DSA": gradient_loss,
    "DM": mean_loss,
    "CAFE": alignment_loss,
    "DataDAM": attention_loss,
}


def forward_flops(problem: Problem) -> float:
    """Of the convolutions of one image, a multiplication and an addition counted apart."""
    width = problem.arguments.width
    first = SIDE**2 * CHANNELS * width
    others = ((SIDE // 2) ** 2 + (SIDE // 4) ** 2) * width**2
    return 2.0 * 9 * (first + others)


def floor(case: Case, problem: Problem) -> float:
    """Operations that no way does without."""
    real = sum(len(batch) for batch in problem.real)
    images = real * case.real + len(problem.synthetic) * case.synthetic
    return images * forward_flops(problem)


def peak() -> float:
    """Operations a second of a large product of matrices, now."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    return 2 * 1024**3 / min(seconds(lambda: a @ b) for _ in range(10))


def seconds(function: Callable[[], Any]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document that --json prints."""
    problem = Problem(arguments)
    found = {}
    for name in arguments.methods:
        case = CASES[name]
        ways = {"research": research(name, case, problem), "ours": ours(case, problem)}
        apart = (ways["research"]() - ways["ours"]()).abs().max().item()  # and warms up
        times: dict[str, list[float]] = {way: [] for way in ways}
        rates = []
        for _ in range(arguments.iterations):
            rates.append(peak())
            for way, iteration in ways.items():
                times[way].append(seconds(iteration))
        least = {way: min(values) for way, values in times.items()}
        found[name] = {
            **{f"{way}_seconds": statistics.median(values) for way, values in times.items()},
            **{f"{way}_least_seconds": value for way, value in least.items()},
            "times_as_fast": statistics.median(times["research"])
            / statistics.median(times["ours"]),
            "floor_seconds": floor(case, problem) / max(rates),
            "images_differ_by": apart,
        }
    shown = ("width", "images_per_class", "real", "classes")
    return {
        **{key: getattr(arguments, key) for key in shown},
        "threads": torch.get_num_threads(),
        "methods": found,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--images-per-class", type=int, default=1)
    parser.add_argument("--real", type=int, default=256)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    hardware.prepare()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"width {arguments.width}, {arguments.images_per_class} synthetic and {arguments.real} "
        f"real images of {arguments.classes} classes, {result['threads']} threads"
    )
    print(f"{'ms':<10}{'research':>10}{'ours':>10}{'times':>8}{'floor':>10}{'of ours':>10}")
    for name, one in result["methods"].items():
        research_ms, ours_ms, floor_ms = (
            1e3 * one[f"{way}_seconds"] for way in ("research", "ours", "floor")
        )
        print(
            f"{name:<10}{research_ms:>10.0f}{ours_ms:>10.0f}{one['times_as_fast']:>8.2f}"
            f"{floor_ms:>10.0f}{100 * floor_ms / ours_ms:>8.0f} %"
        )


if __name__ == "__main__":
    main()
