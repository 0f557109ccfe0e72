"""Peak memory and seconds of an RCIG iteration over the number of learned images.

    python benchmarks/rcig_memory.py [--json] [--images 100 500 1000 2000 5000] [--subset 200]

For each number n of images a fresh process makes a run's state on random 28 px images, runs one
iteration that is not counted, and then takes the highest resident memory of another (Linux only).
Conjugate gradient takes a fixed number of steps, so that times compare, and each iteration one
step of a pool's model. Printed are, in megabytes, that peak above what the process held before the
state was made, and what of it grows with n by its nature: S and its moments, nine times images and
labels (themselves, gradient, mean, square, moving average, and what an update holds besides), the
features that the last layer is solved from, and the duals of every model of the pool. The rest
should not grow, nor should the time for an image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

_CLASSES, _SIDE = 10, 28
_COPIES = 9


def main() -> None:
    """Print the table, or the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--images", type=int, nargs="+", default=[100, 500, 1000, 2000, 5000])
    parser.add_argument("--subset", type=int, default=200)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--target-batch", type=int, default=256)
    parser.add_argument("--steps", type=int, default=2, help="of conjugate gradient, each solve")
    parser.add_argument("--alone", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone is not None:
        print(json.dumps(measure(arguments, arguments.alone)))
        return
    rows = []
    for n in arguments.images:
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", str(n)]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        rows.append(json.loads(found.stdout))
    if arguments.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'n':>6} {'peak MB':>8} {'S and moments':>13} {'features':>8} {'duals':>6} {'rest':>6} "
          f"{'seconds':>8} {'ms an image':>11}")  # fmt: skip
    for row in rows:
        print(
            f"{row['images']:>6} {row['peak']:>8.0f} {row['set']:>13.1f} {row['features']:>8.1f} "
            f"{row['duals']:>6.1f} {row['rest']:>6.0f} {row['seconds']:>8.2f} "
            f"{1e3 * row['seconds'] / row['images']:>11.2f}"
        )


def measure(arguments: argparse.Namespace, n: int) -> dict[str, float]:
    """Megabytes and processor seconds of an iteration with n images, in this process."""
    import torch

    from potstill import hardware
    from potstill.data.preprocess import fit
    from potstill.data.source import SourceDataset, Split
    from potstill.methods.rcig.distil import Distiller
    from potstill.methods.recipe import parse

    hardware.prepare()
    generator = torch.Generator().manual_seed(0)
    total = max(*arguments.images, arguments.target_batch)
    pixels = torch.randint(256, (total, 1, _SIDE, _SIDE), generator=generator).byte()
    split = Split(pixels, torch.arange(total) % _CLASSES)
    names = tuple(map(str, range(_CLASSES)))
    source = SourceDataset("random", names, split, split, "random")
    solver = {"tolerance": 1e-30, "max_steps": arguments.steps}
    recipe = parse(
        {
            "data": {"dataset": "mnist"},
            "images_per_class": n // _CLASSES,
            "network": {"width": arguments.width},
            "method": {
                "subset": arguments.subset,
                "target_batch": arguments.target_batch,
                "solver": solver,
                "pool": {"steps_per_visit": [1, 1]},
            },
        },
        source="benchmark",
    )
    preprocess = fit(recipe.data, source.train.images)
    before = _megabytes("VmRSS")
    distiller = Distiller(recipe, source, preprocess, torch.device("cpu"))
    distiller.step()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    start = time.process_time()
    distiller.step()
    seconds = time.process_time() - start
    peak = _megabytes("VmHWM") - before
    width = distiller.problem(0).jacobian.layout.head_shape[1]
    sizes = {
        "set": _COPIES * 4 * n * (_SIDE**2 + _CLASSES) / 1e6,
        "features": 4 * n * width / 1e6,
        "duals": 4 * n * _CLASSES * recipe.method.pool.size / 1e6,  # type: ignore[attr-defined]
    }
    return {
        "images": n,
        "peak": peak,
        **sizes,
        "rest": peak - sum(sizes.values()),
        "seconds": seconds,
    }


def _megabytes(what: str) -> float:
    """A process's resident memory now, VmRSS, or at most since it was last reset, VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("this system does not tell how much memory a process has")


if __name__ == "__main__":
    main()
