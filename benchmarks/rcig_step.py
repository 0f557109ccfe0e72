"""Seconds per RCIG meta-iteration by part, for both solvers on the same problems in one run.

    python benchmarks/rcig_step.py [--json] [--data-root DIR] [--widths 32 128] [--ipc 1 10]

For each width and number of images per class four ways of solving meet the same models,
the same S and the same target batches:

- pcg: to the recipes' tolerance (1e-2 at 1 image per class, 1e-3 at more);
- pcg in 5 + 5: a fourth of the paper's steps, whatever residual that leaves;
- adam: the paper's 20 + 20 steps, rates found by its search;
- adam at pcg's work: as many steps as pcg took.

adam's search starts at the paper's rates for the first number of images per class of a
width, and at half of what that found for the others, where a search from there would
take an hour. Besides the seconds it prints the steps of both solves and the inner loss that each
reached, L_inner at theta_B, as a ratio to the minimum (pcg at tolerance 1e-7). MNIST
where a data root is given, else the embedded digits.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from potstill import hardware
from potstill.data import datasets
from potstill.data.preprocess import fit
from potstill.methods.rcig import dual, primal
from potstill.methods.rcig.distil import Distiller, Stopwatch
from potstill.methods.rcig.problem import Problem
from potstill.methods.recipe import Recipe, parse

PARTS = ("data", "target batch", "inner solve", "inverse solve", "gradient", "update", "pool")


class Timer:
    """Seconds by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time towards ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def recipe_for(arguments: argparse.Namespace, width: int, ipc: int, solver: dict) -> Recipe:
    """RCIG on MNIST or the digits, the paper's network but for its width."""
    data = {"dataset": "mnist"} if arguments.data_root else {"dataset": "digits"}
    document = {
        "data": data,
        "images_per_class": ipc,
        "network": {"depth": 3, "width": width},
        "method": {"target_batch": arguments.target_batch, "solver": solver},
    }
    return parse(document, source="benchmark")


def inner_loss(problem: Problem, **solver: Any) -> float:
    """L_inner at pcg's theta_B, by the formula that adam minimises."""
    settings = problem.settings
    tight = settings.model_copy(update={"solver": settings.solver.model_copy(update=solver)})
    _, alpha = dual.meta_gradient(replace(problem, settings=tight))
    quadratic = primal.Quadratic.of(problem)
    return quadratic.loss_and_gradient(quadratic.vjp(alpha))[0]


def measure(
    arguments: argparse.Namespace, source: Any, width: int, ipc: int, rates: dict[str, float]
) -> list[dict]:
    """The four ways at one width and one number of images per class.

    ``rates`` are where adam's search starts; they are replaced by half of what it found.
    """
    tolerance = 1e-2 if ipc == 1 else 1e-3
    preprocess = fit(parse({}, source="benchmark").data, source.train.images)
    device = torch.device(arguments.device)
    ways: dict[str, dict] = {
        "pcg": {"name": "pcg", "tolerance": tolerance},
        "pcg in 5 + 5": {"name": "pcg", "tolerance": 1e-7, "max_steps": 5},
        "adam": {"name": "adam", **rates},
    }
    rows = []
    for way in ("pcg", "pcg in 5 + 5", "adam", "adam at pcg's work"):
        timer = Timer()
        recipe = recipe_for(arguments, width, ipc, ways[way])
        distiller = Distiller(recipe, source, preprocess, device, Stopwatch(timer.part, device))
        start = time.perf_counter()
        distiller.step()  # adam's search, and everything's first call
        first = time.perf_counter() - start
        timer.seconds.clear()
        metrics = [distiller.step() for _ in range(arguments.iterations)]
        problem = distiller.problem(0)
        least = inner_loss(problem, tolerance=1e-7, max_steps=300)
        if ways[way]["name"] == "pcg":
            reached = inner_loss(problem)
        else:
            reached = primal.meta_gradient(problem, distiller.rates).metrics["inner_loss"]
        if way == "pcg":
            steps = {
                name: round(sum(m[name] for m in metrics) / len(metrics))
                for name in ("inner_steps", "inverse_steps")
            }
            ways["adam at pcg's work"] = {"name": "adam", **steps, **rates}
        if way == "adam":
            found = {
                "inner_learning_rate": distiller.rates.inner.value / 2,
                "inverse_learning_rate": distiller.rates.inverse.value / 2,
            }
        seconds = {p: timer.seconds[p] / arguments.iterations for p in PARTS}
        rows.append(
            {
                "width": width,
                "images_per_class": ipc,
                "way": way,
                "inner_steps": sum(m["inner_steps"] for m in metrics) / len(metrics),
                "inverse_steps": sum(m["inverse_steps"] for m in metrics) / len(metrics),
                "inner_loss_over_minimum": reached / least,
                "first_iteration_seconds": first,
                "seconds": seconds,
                "seconds_total": sum(seconds.values()),
            }
        )
    rates.update(found)
    return rows


def main() -> None:
    """Print the table, or the same as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--ipc", type=int, nargs="+", default=[1, 10])
    parser.add_argument("--target-batch", type=int, default=256)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    hardware.prepare()
    data = recipe_for(arguments, 32, 1, {}).data
    source = datasets.load(data, arguments.data_root)
    rows = []
    for width in arguments.widths:
        rates: dict[str, float] = {}
        for ipc in arguments.ipc:
            rows += measure(arguments, source, width, ipc, rates)
    if arguments.json:
        threads = torch.get_num_threads()
        print(json.dumps({"dataset": source.name, "threads": threads, "rows": rows}, indent=2))
        return
    head = f"{'width':>5} {'ipc':>3} {'way':<20} {'steps':>9} {'loss/min':>9} {'total':>7}  "
    print(f"{source.name}, {torch.get_num_threads()} threads; milliseconds per iteration")
    print(head + " ".join(f"{part:>13}" for part in PARTS))
    for row in rows:
        steps = f"{row['inner_steps']:.0f}+{row['inverse_steps']:.0f}"
        print(
            f"{row['width']:>5} {row['images_per_class']:>3} {row['way']:<20} {steps:>9} "
            f"{row['inner_loss_over_minimum']:>9.4f} {row['seconds_total'] * 1e3:>7.0f}  "
            + " ".join(f"{row['seconds'][part] * 1e3:>13.1f}" for part in PARTS)
        )


if __name__ == "__main__":
    main()
