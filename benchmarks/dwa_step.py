"""Seconds per DWA synthesis iteration, from the way research code writes it to ours.

    python benchmarks/dwa_step.py [--json] [--network resnet18] [--batch 100] [--iterations 3]

One step inverts a network (ResNet-18 at 32 px unless asked otherwise) for one batch of images.
The first way has weights that require gradients, float32, PyTorch's default layout, batch-norm
statistics from hooks, and runs eagerly; each following way switches on one thing more:

- frozen weights: no gradients of weights are computed;
- channels last: the layout that processors convolve fastest;
- one-pass batch norm: moments by batch norm's own kernel, one fused gradient;
- bfloat16: convolutions and products, where the processor has it;
- compiled: torch.compile, if --compile is given and a compiler is there.

The ways take turns within each round, so that a machine whose speed drifts is fair to all. It
also prints what the directed adjustment (K steps) adds to a group of 1000 iterations, and the
floor: the time that the convolutions alone take.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import hardware
from potstill.config import NetworkRecipe
from potstill.methods.dwa.adjust import directed_adjustment
from potstill.methods.dwa.bn_statistics import MeasuredNetwork
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.dwa.synthesise import Objective, Range, synthesise, view
from potstill.networks import zoo
from potstill.networks.init import initialise

GROUP = 1000
"""Iterations of a group, against which the adjustment is set."""
_FASTER = ("+ bfloat16", "+ compiled")


def teacher(name: str, resolution: int, classes: int) -> nn.Module:
    """A network with the statistics of a few random batches."""
    recipe = NetworkRecipe(name=name, normalisation="batch", growth=1)
    network = zoo.build(recipe, channels=3, resolution=resolution, classes=classes)
    initialise(network, 0, "benchmark")
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(32, 3, resolution, resolution))
    return network.eval()


class Hooked:
    """A network whose batch norms are measured by hooks, as research code does it."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.terms: list[tuple[Tensor, Tensor]] = []
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.register_forward_hook(self._hook)

    def _hook(self, module: nn.Module, inputs: tuple[Tensor], _output: Tensor) -> None:
        mean = inputs[0].mean((0, 2, 3))
        variance = inputs[0].var((0, 2, 3), unbiased=False)
        self.terms.append(
            (torch.norm(mean - module.running_mean), torch.norm(variance - module.running_var))
        )

    def step(self, images: Tensor, labels: Tensor, settings: DWASettings) -> Tensor:
        """The loss of eq. 16."""
        self.terms.clear()
        outputs = self.network(images)
        factors = [settings.first_layer_factor] + [1.0] * (len(self.terms) - 1)
        mean = sum(f * m for f, (m, _) in zip(factors, self.terms, strict=True))
        variance = sum(f * v for f, (_, v) in zip(factors, self.terms, strict=True))
        loss = F.cross_entropy(outputs, labels)
        return loss + settings.mean_weight * mean + settings.variance_weight * variance


def research_step(
    name: str, arguments: argparse.Namespace, *, frozen: bool, channels_last: bool
) -> Callable[[], None]:
    """One Adam step of images by hooks and plain automatic differentiation."""
    settings = DWASettings()
    network = teacher(name, arguments.resolution, arguments.classes).requires_grad_(not frozen)
    images, labels = data(arguments)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    images.requires_grad_()
    hooked = Hooked(network)
    optimiser = torch.optim.Adam([images], lr=settings.learning_rate, betas=settings.betas)
    generator = np.random.default_rng(0)

    def step() -> None:
        optimiser.zero_grad()
        network.zero_grad()
        hooked.step(view(images, settings, generator), labels, settings).backward()
        optimiser.step()
        images.data.clamp_(-2, 2)

    return step


def our_step(
    name: str, arguments: argparse.Namespace, *, precision: str, compiled: bool = False
) -> Callable[[], None]:
    """One iteration of :func:`potstill.methods.dwa.synthesise.synthesise`."""
    settings = DWASettings(iterations=1, precision=precision)
    network = teacher(name, arguments.resolution, arguments.classes)
    measured = MeasuredNetwork(network, compiled=compiled)
    images, labels = data(arguments)
    images = images.contiguous(memory_format=torch.channels_last)
    objective = Objective(settings, measured, None, labels)
    limit = torch.full((3, 1, 1), 2.0)

    def step() -> None:
        synthesise(
            images, objective, settings, Range(-limit, limit), lambda _: np.random.default_rng(0)
        )

    return step


def data(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """A batch of images and labels."""
    torch.manual_seed(0)
    images = torch.randn(arguments.batch, 3, arguments.resolution, arguments.resolution)
    return images, torch.arange(arguments.batch) % arguments.classes


def ways(arguments: argparse.Namespace) -> dict[str, Callable[[], None]]:
    """Every way of taking a step, in the order in which things are switched on."""
    name = arguments.network
    result = {
        "research code": research_step(name, arguments, frozen=False, channels_last=False),
        "+ frozen weights": research_step(name, arguments, frozen=True, channels_last=False),
        "+ channels last": research_step(name, arguments, frozen=True, channels_last=True),
        "+ one-pass batch norm": our_step(name, arguments, precision="float32"),
    }
    if hardware.native_bfloat16(torch.get_default_device()):
        result["+ bfloat16"] = our_step(name, arguments, precision="bfloat16")
    if arguments.compile:
        last = "bfloat16" if "+ bfloat16" in result else "float32"
        result["+ compiled"] = our_step(name, arguments, precision=last, compiled=True)
    return result


def adjustment(arguments: argparse.Namespace) -> Callable[[], None]:
    """All K steps of the directed adjustment."""
    settings = DWASettings()
    network = teacher(arguments.network, arguments.resolution, arguments.classes)
    network.to(memory_format=torch.channels_last)
    images, labels = data(arguments)
    images = images.contiguous(memory_format=torch.channels_last)

    def climb() -> None:
        directed_adjustment(
            network,
            images,
            labels,
            steps=settings.adjustment_steps,
            size=settings.adjustment_size,
            precision=settings.precision,
        )

    return climb


def convolutions(arguments: argparse.Namespace, dtype: torch.dtype) -> Callable[[], None]:
    """The floor: every convolution's forward and the gradient of its input, nothing else."""
    network = teacher(arguments.network, arguments.resolution, arguments.classes)
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, _o: shapes.append((m, i[0].shape)))
    images, _ = data(arguments)
    with torch.no_grad():
        network(images)
    network.to(dtype).requires_grad_(False).to(memory_format=torch.channels_last)
    inputs = [
        torch.randn(shape, dtype=dtype).to(memory_format=torch.channels_last).requires_grad_()
        for _, shape in shapes
    ]

    def step() -> None:
        for (module, _), x in zip(shapes, inputs, strict=True):
            y = module._conv_forward(x, module.weight, module.bias)
            torch.autograd.grad(y, x, torch.ones_like(y))

    return step


def seconds(function: Callable[[], None]) -> float:
    """Of one call."""
    start = time.perf_counter()
    function()
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document that --json prints."""
    steps = ways(arguments)
    native = hardware.native_bfloat16(torch.get_default_device())
    steps["floor: convolutions alone"] = convolutions(
        arguments, torch.bfloat16 if native else torch.float32
    )
    climb = adjustment(arguments)
    times: dict[str, list[float]] = {name: [] for name in (*steps, "adjustment")}
    for name, step in steps.items():
        times[name].append(seconds(step))  # warms up, and is dropped
    times["adjustment"].append(seconds(climb))
    for _ in range(arguments.iterations):
        for name, step in steps.items():
            times[name].append(seconds(step))
        times["adjustment"].append(seconds(climb))
    median = {name: statistics.median(values[1:]) for name, values in times.items()}
    ours = [name for name in steps if name in ("+ one-pass batch norm", *_FASTER)]
    climbed = median["adjustment"]
    return {
        "network": arguments.network,
        "batch": arguments.batch,
        "resolution": arguments.resolution,
        "device": arguments.device,
        "threads": torch.get_num_threads(),
        "seconds": {name: median[name] for name in steps},
        "times_as_fast": {name: median["research code"] / median[name] for name in steps},
        "adjustment_seconds": climbed,
        "group_with_adjustment_over_without": {
            name: 1 + climbed / (GROUP * median[name]) for name in ours[-2:]
        },
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    hardware.prepare()
    torch.set_default_device(arguments.device)
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return
    print(
        f"{result['network']}, {result['batch']} images of {result['resolution']} px, "
        f"{result['threads']} threads"
    )
    for name, time_taken in result["seconds"].items():
        ratio = result["times_as_fast"][name]
        print(f"{name:<28} {time_taken * 1e3:>9.0f} ms  {ratio:>6.2f} times as fast")
    print(f"adjustment: {result['adjustment_seconds']:.2f} s; a group of {GROUP} iterations takes")
    for name, share in result["group_with_adjustment_over_without"].items():
        print(f"{name:<28} {100 * share:>8.2f} % of the time without it")


if __name__ == "__main__":
    main()
