"""CPU seconds until a distilled set is worth so much: what a user of RCIG waits for.

    python benchmarks/time_to_accuracy.py --data-root DIR [--recipe rcig/mnist-ipc1-cpu]
        [--set KEY=VALUE ...] [--minutes 30] [--target 0.807] [--held-out] [--json]

The recipe is distilled on one thread; at marks that grow by a fourth the set as it stands is
scored, off the clock, by networks of the recipe's evaluation. Printed are the accuracy at each
mark, the first mark at which it was at least the target, and the last one's: the clock, not the
best mark, decides what ten or thirty minutes give. Without ``method.iterations`` in ``--set`` the
iterations are as many as fit into the minutes, so that rates that fall along a cosine end with
them.

Settings are chosen with ``--held-out``, on 10,000 training images that are kept out of the
distillation; the test images are for the figures that are published.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from potstill import hardware, recipes
from potstill.data import datasets
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset, Split
from potstill.evaluation.protocol import evaluate
from potstill.methods.product import product
from potstill.methods.rcig.distil import Distiller
from potstill.methods.recipe import Recipe

HELD_OUT = 10_000
FIRST_MARK, GROWTH = 5.0, 1.25
_TRIED = 5
"""Iterations whose time says how many fit."""


def held_out(source: SourceDataset) -> SourceDataset:
    """The last training images in place of the test images."""
    images, labels = source.train.images, source.train.labels
    return replace(
        source,
        train=Split(images[:-HELD_OUT], labels[:-HELD_OUT]),
        test=Split(images[-HELD_OUT:], labels[-HELD_OUT:]),
    )


def marks(limit: float) -> Iterator[float]:
    """CPU seconds at which the set is scored; the last is the limit."""
    mark = FIRST_MARK
    while mark < limit:
        yield mark
        mark *= GROWTH
    yield limit


def seconds_per_iteration(recipe: Recipe, source: SourceDataset) -> float:
    """CPU seconds, after the first iteration."""
    distiller = Distiller(recipe, source, fit(recipe.data, source.train.images), _CPU)
    distiller.step()
    start = time.process_time()
    for _ in range(_TRIED):
        distiller.step()
    return (time.process_time() - start) / _TRIED


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document that --json prints."""
    recipe = recipes.load(arguments.recipe, arguments.set)
    source = datasets.load(recipe.data, arguments.data_root)
    if arguments.held_out:
        source = held_out(source)
    limit = 60 * arguments.minutes
    if not any(word.startswith("method.iterations=") for word in arguments.set):
        fitting = max(1, int(limit / seconds_per_iteration(recipe, source)))
        recipe = recipes.load(arguments.recipe, [*arguments.set, f"method.iterations={fitting}"])
    points = list(_points(recipe, source, limit, arguments.networks))
    reached = [point["seconds"] for point in points if point["accuracy"] >= arguments.target]
    return {
        "recipe": recipe.name,
        "set": arguments.set,
        "iterations": recipe.method.iterations,
        "images": "held-out training images" if arguments.held_out else "test images",
        "threads": torch.get_num_threads(),
        "points": points,
        "target": arguments.target,
        "seconds_to_target": min(reached, default=math.inf),
    }


def _points(
    recipe: Recipe, source: SourceDataset, limit: float, networks: int
) -> Iterator[dict[str, float]]:
    """Where the set stands at each mark."""
    begun = time.process_time()
    preprocess = fit(recipe.data, source.train.images)
    distiller = Distiller(recipe, source, preprocess, _CPU)
    spent = time.process_time() - begun
    for mark in marks(limit):
        start = time.process_time()
        while (
            spent + time.process_time() - start < mark
            and distiller.iteration < recipe.method.iterations
        ):
            distiller.step()
        spent += time.process_time() - start
        images, labels = distiller.coreset.average()
        made = product(
            recipe,
            source,
            images,
            labels,
            preprocess,
            iterations=distiller.iteration,
            mirror_images=recipe.method.flip,
        )
        scored = evaluate(made, source, networks=networks)
        yield {
            "seconds": spent,
            "iterations": distiller.iteration,
            "accuracy": scored.accuracy.mean,
            "std": scored.accuracy.std,
        }
        if distiller.iteration >= recipe.method.iterations:
            return


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="rcig/mnist-ipc1-cpu")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--target", type=float, default=0.807)
    parser.add_argument("--networks", type=int, default=3)
    parser.add_argument("--held-out", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hardware.prepare()
    result = measure(arguments)
    if arguments.json:
        print(json.dumps(result, indent=1))
        return
    print(f"{result['recipe']} {' '.join(result['set'])}, one thread, {result['images']}")
    for point in result["points"]:
        print(
            f"{point['seconds']:>8.1f} s {point['iterations']:>6} iterations "
            f"{100 * point['accuracy']:.1f} ± {100 * point['std']:.1f} %"
        )
    print(f"{100 * arguments.target:.1f} % after {result['seconds_to_target']:.1f} CPU s")


_CPU = torch.device("cpu")

if __name__ == "__main__":
    main()
