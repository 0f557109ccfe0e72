"""What ZCA costs: fitted, found in the cache, applied; against float64 image by image.

    python benchmarks/zca.py [--data-root DIR --folder cifar10-jpeg] [--side 64] [--json]

Images are those of an image folder, enlarged to ``--side`` with a little noise, or smooth noise
where no folder is given. Every line is a process of its own, so that its peak memory is its own:

- moments in float64: the covariance from centred float64 rows;
- moments, exact: as the library does it, from products of integers in float32;
- fit: moments and eigenvectors, stored in an empty cache;
- fit, cached: the same again, as at a later start or a resume;
- batch in float64, image by image: on a few images, scaled to ``--targets``;
- batch: ``--targets`` images as the outer problem draws them;
- step: the rest of an RCIG iteration on such a batch, 1 image per class of 10, no flips.

Eigenvectors take some ten minutes of one core at 64 px; ``--no-fit`` leaves them out, and a matrix
of noise is applied instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill import hardware, rng
from potstill.config import DataRecipe
from potstill.data import datasets, statistics
from potstill.data.blocks import Blocks
from potstill.data.pixels import resize
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, Split, fingerprint
from potstill.data.transforms import ZCA
from potstill.data.whitening_cache import WhiteningCache
from potstill.methods.rcig import source as target
from potstill.methods.rcig.distil import Distiller, Stopwatch
from potstill.methods.recipe import parse

_FEW = 16  # images of the slow path
_DEPTH = {32: 3, 64: 4, 128: 5}


def made_images(arguments: argparse.Namespace) -> Tensor:
    """(n, 3, side, side) uint8."""
    generator = rng.stream(0, "benchmark/images")
    side, count = arguments.side, arguments.images
    if arguments.folder:
        recipe = DataRecipe(dataset="image_folder", folder=arguments.folder, resolution=32)
        images = datasets.load(recipe, arguments.data_root).train.images
        images = images[torch.from_numpy(generator.permutation(len(images))[:count])]
    else:
        smooth = rng.normal((count, 3, 32, 32), generator).cumsum(2).cumsum(3)
        images = (128 + 60 * smooth / smooth.std()).clamp(0, 255).byte()
    noise = torch.from_numpy(generator.integers(-2, 3, (len(images), 3, side, side)))
    return (resize(images, side).short() + noise).clamp(0, 255).to(torch.uint8)


class Bench:
    """The stages, each of which measures itself."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments, self.images = arguments, torch.load(folder / "images.pt")
        self.cache = WhiteningCache(folder)
        self.recipe = DataRecipe(preprocess="zca", zca_block=arguments.block)
        self.blocks = Blocks(arguments.block)
        self.device = torch.device(arguments.device)

    def moments_in_float64(self) -> None:
        """As rows are centred and multiplied in float64."""
        mean, std = statistics.channel_statistics(self.images)
        with measured():
            pixel_mean = statistics.mean_image(self.images, mean, std)
            mean, std = mean.view(-1, 1, 1), std.view(-1, 1, 1)
            total = torch.zeros(self._size, self._size, dtype=torch.float64)
            for rows in statistics.chunks(self.images):
                centred = (self.images[rows].double() / 255 - mean) / std - pixel_mean
                flat = self.blocks.cut(centred).numpy()
                total += torch.from_numpy(flat.T @ flat)

    def moments_exact(self) -> None:
        """As the library computes them."""
        _, std = statistics.channel_statistics(self.images)
        with measured():
            statistics.covariance(self.images, std, self.blocks, self.device)

    def fit(self) -> None:
        """The whole, with or without what is in the cache."""
        with measured():
            fit(self.recipe, self.images, device=self.device, cache=self.cache)

    def batch_in_float64(self) -> None:
        """Image by image, float64."""
        fitted, few = self._fitted(), self.images[:_FEW]
        whitening = fitted.whitening.double()
        mean, std = (x.view(-1, 1, 1) for x in (fitted.mean, fitted.std))
        with measured(scale=self.arguments.targets / _FEW):
            for image in few.split(1):
                standardised = (image.double() / 255 - mean) / std - fitted.pixel_mean
                self.blocks.join(self.blocks.cut(standardised) @ whitening, image.shape)

    def batch(self) -> None:
        """As the library does it."""
        fitted, rows = self._fitted(), self.images[: self.arguments.targets]
        fitted.apply(rows[:1].to(self.device))
        with measured():
            fitted.apply(rows.to(self.device))

    def step(self) -> None:
        """An iteration without its first part, the batch, which it counts apart."""
        target.CACHE_BYTES = 0  # no batch is ready before it is asked for
        settings = {
            "data": {"dataset": "digits"},
            "images_per_class": 1,
            "network": {
                "depth": _DEPTH.get(self.arguments.side, 3),
                "width": self.arguments.width,
            },
            "method": {"target_batch": self.arguments.targets, "flip": False},
        }
        seconds: dict[str, float] = {}

        @contextmanager
        def part(name: str) -> Iterator[None]:
            start = time.process_time()
            yield
            seconds[name] = seconds.get(name, 0.0) + time.process_time() - start

        split = Split(self.images, torch.arange(len(self.images)) % 10)
        names = tuple("0123456789")
        source = SourceDataset("benchmark", names, split, split, fingerprint(split, split))
        recipe = parse(settings, source="benchmark")
        distiller = Distiller(recipe, source, self._fitted(), self.device, Stopwatch(part))
        distiller.step()
        seconds.clear()
        with measured() as result:
            distiller.step()
            data = seconds.pop("data")
        result["data_cpu_seconds"], result["cpu_seconds"] = data, sum(seconds.values())

    @property
    def _size(self) -> int:
        return self.blocks.size(self.images.shape[1:])

    def _fitted(self) -> ZCA:
        if not self.arguments.no_fit:
            fitted = fit(self.recipe, self.images, device=self.device, cache=self.cache)
            assert isinstance(fitted, ZCA)
            return fitted
        mean, std = statistics.channel_statistics(self.images)
        noise = torch.randn(self._size, self._size, generator=torch.Generator().manual_seed(0))
        zeros = torch.zeros(self.images.shape[1:])
        return ZCA(mean, std, zeros, noise / self._size**0.5, 0.1, self.blocks)


STAGES: dict[str, tuple[str, Callable[[Bench], None]]] = {
    "moments-float64": ("moments in float64", Bench.moments_in_float64),
    "moments": ("moments, exact", Bench.moments_exact),
    "fit": ("fit", Bench.fit),
    "cached": ("fit, cached", Bench.fit),
    "batch-float64": ("batch in float64, image by image", Bench.batch_in_float64),
    "batch": ("batch", Bench.batch),
    "step": ("step without its batch", Bench.step),
}


results: list[dict[str, float]] = []
"""What the stage measured."""


@contextmanager
def measured(scale: float = 1.0) -> Iterator[dict[str, float]]:
    """Print CPU and wall seconds, times ``scale``, and peak memory above that at the start."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before, cpu, wall = _resident("VmRSS"), time.process_time(), time.perf_counter()
    result: dict[str, float] = {}
    yield result
    took = {
        "cpu_seconds": scale * (time.process_time() - cpu),
        "wall_seconds": scale * (time.perf_counter() - wall),
        "peak_mib": (_resident("VmHWM") - before) / 1024,
    }
    result.update({**took, **result})
    results.append(result)


def _line(row: dict[str, Any]) -> str:
    text = (
        f"{row['stage']:34} {row['cpu_seconds']:9.2f} CPU s {row['wall_seconds']:9.2f} s "
        f"{row['peak_mib']:9.0f} MiB"
    )
    data = row.get("data_cpu_seconds")
    return text if data is None else f"{text}  (its batch {data:.2f} CPU s)"


def _resident(field: str) -> int:
    """KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    return 0


def main() -> None:
    """Run the stages one after the other, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--folder")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--block", type=int)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--targets", type=int, default=1024)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-fit", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    hardware.prepare()
    if arguments.stage:
        STAGES[arguments.stage][1](Bench(arguments, arguments.work))
        print(json.dumps(results[-1]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        torch.save(made_images(arguments), Path(folder) / "images.pt")
        for stage, (title, _) in STAGES.items():
            if arguments.no_fit and stage in ("fit", "cached"):
                continue
            command = [sys.executable, *sys.argv, "--stage", stage, "--work", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ)
            rows.append({"stage": title, **json.loads(done.stdout)})
            if not arguments.json:
                print(_line(rows[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"side": arguments.side, "images": arguments.images, "rows": rows}))


if __name__ == "__main__":
    main()
