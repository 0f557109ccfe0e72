"""Run folders made by hand, as `potstill distill` and `potstill evaluate` would leave them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from potstill.config import DataRecipe
from potstill.data import preprocess
from potstill.data.distilled import DistilledDataset
from potstill.methods.recipe import Recipe, dump, parse
from potstill.rng import stream

# Stands for the digest of the set that a run is written with.
OWN = "1" * 64
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def recipe(**changes: Any) -> Recipe:
    document: dict[str, Any] = {
        "name": "digits-1",
        "description": "One image per class of the embedded digits.",
        "data": {"dataset": "digits"},
        "network": {"depth": 2, "width": 16},
        "method": {"iterations": 200, "target_batch": 256},
        "log_every": 1,
    }
    return parse(document | changes, source="test")


def digits() -> tuple[Tensor, Tensor]:
    """(n, 1, 8, 8) uint8 and (n,) int64."""
    data = load_digits()
    pixels = (data.images * 255 / 16).round().astype(np.uint8)
    return torch.from_numpy(pixels)[:, None], torch.from_numpy(data.target).long()


def distilled(
    of: Recipe,
    images: Tensor,
    labels: Tensor,
    names: tuple[str, ...],
    results: list[dict[str, Any]] | None = None,
) -> DistilledDataset:
    """Real images with soft labels, class-major, as many per class as the recipe says."""
    fitted = preprocess.fit(DataRecipe(dataset="digits"), images)
    rows = torch.cat(
        [torch.nonzero(labels == c).flatten()[: of.images_per_class] for c in range(len(names))]
    )
    targets = torch.nn.functional.one_hot(labels[rows], len(names)).float() - 1 / len(names)
    noise = torch.from_numpy(stream(0, "test/labels").normal(size=targets.shape)).float()
    plain = DistilledDataset(
        images=fitted.apply(images[rows]),
        labels=targets * 0.8 + 0.04 * noise,
        class_names=names,
        preprocess=fitted,
        header={
            "format_version": 1,
            "method": of.method.kind,
            "recipe": of.model_dump(mode="json"),
            "evaluation": {
                "protocol": of.evaluation.protocol,
                "network": of.network.model_dump(mode="json"),
                "networks": of.evaluation.networks,
            },
            "source": {
                "name": of.data.dataset,
                "fingerprint": "0" * 64,
                "classes": len(names),
                "channels": images.shape[1],
                "resolution": images.shape[2],
            },
            "versions": {"potstill": "0.1.0"},
            "seed": of.seed,
            "iterations": of.method.iterations,
            "results": [],
        },
    )
    for scored in stamped(results or [], plain.digest):
        plain = plain.with_result(scored)
    return plain


def stamped(measured: list[dict[str, Any]], digest: str) -> list[dict[str, Any]]:
    """Results or audits, those of the run's own set with its digest."""
    own = {"artefact_digest": digest}
    return [one | own if one.get("artefact_digest") == OWN else one for one in measured]


def result(of: Recipe, values: list[float], baseline: list[float] | None = None) -> dict[str, Any]:
    def scores(of: list[float]) -> dict[str, Any]:
        std = float(np.std(of, ddof=1)) if len(of) > 1 else 0.0
        return {"mean": float(np.mean(of)), "std": std, "values": of}

    document = {
        "protocol": of.evaluation.protocol,
        "dataset": of.data.dataset,
        "images": 10 * of.images_per_class,
        "images_per_class": of.images_per_class,
        "network": of.network.model_dump(mode="json"),
        "steps": 1000,
        "accuracy": scores(values),
        "seconds": 12.5,
        "seed": 0,
        "source_fingerprint": "0" * 64,
        "artefact_digest": OWN,
    }
    if baseline is not None:
        document["baseline"] = {"kind": "random real images", **scores(baseline)}
    return document


def metrics(iterations: int) -> list[dict[str, float]]:
    noise = stream(0, "test/metrics").normal(size=(iterations, 9))
    lines = []
    for i, z in enumerate(noise, start=1):
        decay = math.exp(-i / 80)
        lines.append(
            {
                "iteration": i,
                "seconds": 0.3 * i,
                "loss": 0.4 + 1.9 * decay + 0.05 * z[0],
                "batch_accuracy": 0.85 - 0.7 * decay + 0.02 * z[1],
                "log_temperature": 2 * (1 - decay),
                "inner_steps": 4 + int(z[2] > 0),
                "inner_residual": 0.008 * math.exp(0.2 * z[3]),
                "inverse_steps": 4 + int(z[4] > 0.5),
                "inverse_residual": 0.009 * math.exp(0.2 * z[5]),
                "image_gradient_norm": 0.1 * math.exp(0.4 * z[6]),
                "label_gradient_norm": 0.3 * math.exp(0.4 * z[7]),
            }
        )
    return lines


def write_run(
    folder: Path,
    of: Recipe,
    *,
    lines: list[dict[str, float]] | None = None,
    record: dict[str, Any] | None = None,
    dataset: DistilledDataset | None = None,
) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump(of), encoding="utf-8")
    if lines is not None:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    if record is not None and dataset is not None:
        measured = {name: record.get(name, []) for name in ("results", "audits")}
        record = record | {name: stamped(of, dataset.digest) for name, of in measured.items()}
    if record is not None:
        (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    if dataset is not None:
        dataset.save(folder / "distilled.safetensors")
    return folder


def record(
    status: str, iteration: int, results: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    return {
        "format": 1,
        "status": status,
        "iteration": iteration,
        "seconds": {
            "total": 0.35 * iteration,
            "parts": {
                "target_batch": 0.16 * iteration,
                "inner_solve": 0.05 * iteration,
                "pool": 0.1 * iteration,
            },
        },
        "machine": {"processor": "a processor", "cores": 2, "device": "cpu"},
        "versions": {"python": "3.11.2", "torch": "2.11.0", "potstill": "0.1.0"},
        "results": results or [],
    }


def finished_run(folder: Path, **changes: Any) -> Path:
    """A whole run on the digits: five networks and a baseline."""
    of = recipe(**changes)
    scored = result(of, [0.81, 0.83, 0.82, 0.80, 0.84], [0.55, 0.61, 0.5, 0.58, 0.6])
    images, labels = digits()
    return write_run(
        folder,
        of,
        lines=metrics(of.method.iterations),
        record=record("finished", of.method.iterations, [scored]),
        dataset=distilled(of, images, labels, DIGITS, [scored]),
    )


def dwa_recipe(**changes: Any) -> Recipe:
    document: dict[str, Any] = {
        "name": "digits-dwa",
        "data": {"dataset": "digits"},
        "images_per_class": 2,
        "network": {"depth": 2, "width": 8, "growth": 1, "normalisation": "batch"},
        "method": {
            "kind": "dwa",
            "teacher": {
                "network": {"depth": 2, "width": 8, "growth": 1, "normalisation": "batch"},
                "epochs": 3,
            },
            "iterations": 40,
            "class_batch": 5,
        },
        "evaluation": {"protocol": "dwa-paper"},
        "log_every": 10,
    }
    return parse(document | changes, source="test")


def dwa_metrics(groups: int, iterations: int, every: int) -> list[dict[str, float]]:
    """The log of groups one after the other: iterations 1, ``every``, 2 ``every``, ... of each."""
    places = [1, *range(every, iterations + 1, every)]
    return [
        {
            "iteration": group * iterations + place,
            "seconds": 1.0,
            "loss": 3 / place + group,
            "cross_entropy": 2 / place,
            "mean_term": 10 / place,
            "variance_term": 20 / place,
        }
        for group in range(groups)
        for place in places
    ]


def diversity(distilled: float = 3.0, real: float = 4.0) -> dict[str, Any]:
    draws = stream(0, "test/points").normal(size=(60, 2)).round(3)
    return {
        "kind": "diversity",
        "dataset": "digits",
        "images": 15,
        "images_per_class": 5,
        "distance": {"mean": distilled, "classes": [distilled - 1, distilled + 1, None]},
        "real": {"mean": real, "classes": [real, real, real]},
        "relative": distilled / real,
        "embedding": {
            "class_names": list(DIGITS[:3]),
            "x": draws[:, 0].tolist(),
            "y": draws[:, 1].tolist(),
            "classes": [index % 3 for index in range(60)],
            "real": [index >= 15 for index in range(60)],
        },
    }


def dwa_run(folder: Path, **changes: Any) -> Path:
    """A whole DWA run on the digits: two students, and an audit."""
    of = dwa_recipe(**changes)
    scored = result(of, [0.9, 0.92], [0.8, 0.82])
    scored |= {"epochs": 400, "labels": "on the fly"}
    scored["best_on_test"] = {"mean": 0.925, "std": 0.01, "values": [0.92, 0.93]}
    other = result(of, [0.7]) | {"network": {"name": "resnet18", "normalisation": "batch"}}
    other |= {"epochs": 400, "labels": "on the fly"}
    images, labels = digits()
    plain = distilled(of, images, labels, DIGITS)
    pixels = (plain.pixels() * 255).round().to(torch.uint8)
    header = {**plain.header, "teacher": {"digest": "2" * 64, "accuracy": 0.985, "network": {}}}
    del header["format_version"]
    dataset = DistilledDataset(pixels, plain.labels, DIGITS, plain.preprocess, header)
    document = record("finished", 4 * of.method.iterations, [scored, other])
    document["seconds"] = {
        "total": 30.0,
        "parts": {"teacher": 10.0, "adjustment": 0.5, "synthesis": 19.5},
    }
    document["audits"] = [diversity(), {"kind": "another"}]
    lines = dwa_metrics(4, of.method.iterations, of.log_every)
    return write_run(folder, of, lines=lines, record=document, dataset=dataset)
