"""Several networks at once against one after the other: seconds per step, and their ratio.

    python benchmarks/evaluate.py [--json] [--threads N]

Five ConvNets are trained on random images as an evaluation trains them. The two ways take
turns and the fastest of several rounds counts, so that a busy machine spoils the
seconds less and the ratio hardly. ``potstill.train.batching_pays`` follows these numbers.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from potstill.config import NetworkRecipe
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.train import Schedule, Training, batching_pays, train

NETWORKS = 5
ROUNDS = 5


@dataclass(frozen=True)
class Setting:
    """A ConvNet of depth 3 on ``images`` one-channel images."""

    width: int
    resolution: int
    images: int
    steps: int
    """Per round."""


SETTINGS = (
    Setting(width=8, resolution=8, images=10, steps=40),
    Setting(width=32, resolution=8, images=10, steps=20),
    Setting(width=8, resolution=28, images=10, steps=20),
    Setting(width=32, resolution=28, images=10, steps=8),
    Setting(width=128, resolution=28, images=10, steps=2),
    Setting(width=8, resolution=8, images=100, steps=20),
    Setting(width=32, resolution=28, images=100, steps=2),
)


def seconds_per_step(setting: Setting, device: torch.device, batched: bool) -> float:
    """Of one training step of all networks."""
    networks = []
    for index in range(NETWORKS):
        network = zoo.build(
            NetworkRecipe(width=setting.width),
            channels=1,
            resolution=setting.resolution,
            classes=10,
        )
        initialise(network, 0, "benchmark/network", index)
        networks.append(network.to(device))
    images = torch.randn(setting.images, 1, setting.resolution, setting.resolution)
    labels = torch.randn(setting.images, 10)
    times = []
    for steps in (1, setting.steps):  # the first call warms up
        training = Training(steps, Schedule(1000))
        _wait(device)
        start = time.perf_counter()
        train(networks, images, labels, training, seed=0, batched=batched)
        _wait(device)
        times.append((time.perf_counter() - start) / steps)
    return times[-1]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(setting: Setting, device: torch.device) -> dict[str, Any]:
    """Both ways in turn, ``ROUNDS`` times; the fastest of each."""
    turn, batched = (
        min(times)
        for times in zip(
            *(
                [seconds_per_step(setting, device, batched) for batched in (False, True)]
                for _ in range(ROUNDS)
            ),
            strict=True,
        )
    )
    network = zoo.build(
        NetworkRecipe(width=setting.width), channels=1, resolution=setting.resolution, classes=10
    )
    pixels = setting.images * setting.resolution**2
    return {
        **asdict(setting),
        "device": device.type,
        "networks": NETWORKS,
        "in_turn_seconds": turn,
        "batched_seconds": batched,
        "speedup": turn / batched,
        "default": "batched" if batching_pays(network, pixels, device) else "in turn",
    }


def main() -> None:
    """Measure on the CPU, and on CUDA where there is a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.append(torch.device("cuda"))
    rows = [measure(setting, device) for device in devices for setting in SETTINGS]
    if arguments.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1))
        return
    print(
        f"{'device':6} {'width':>5} {'px':>3} {'images':>6} {'in turn':>9} {'batched':>9} speed-up"
    )
    for row in rows:
        print(
            f"{row['device']:6} {row['width']:5} {row['resolution']:3} {row['images']:6} "
            f"{1e3 * row['in_turn_seconds']:6.1f} ms {1e3 * row['batched_seconds']:6.1f} ms "
            f"{row['speedup']:8.2f}  default: {row['default']}"
        )


if __name__ == "__main__":
    main()
