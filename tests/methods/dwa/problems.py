"""A small teacher of the digits, and recipes that invert it in a second."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import nn

from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets
from potstill.data.preprocess import fit
from potstill.data.source import SourceDataset
from potstill.methods.recipe import Recipe, parse
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.teacher import Teacher

NETWORK = NetworkRecipe(depth=2, width=4, growth=1, normalisation="batch")


@cache
def source() -> SourceDataset:
    return datasets.load(DataRecipe(dataset="digits"), None)


def recipe(**method: Any) -> Recipe:
    """2 images per class, 3 iterations, float32."""
    settings = {
        "kind": "dwa",
        "iterations": 3,
        "precision": "float32",
        "jitter": 1,
        "teacher": {"network": NETWORK.model_dump(), "epochs": 1, "crop_padding": 1, "flip": False},
        **method,
    }
    document = {"images_per_class": 2, "log_every": 2, "method": settings}
    return parse({**document, "data": {"dataset": "digits"}}, source="test")


def network() -> nn.Module:
    """Barely trained: its statistics are those of one batch of digits."""
    built = zoo.build(NETWORK, channels=1, resolution=8, classes=10)
    initialise(built, 0, "test")
    images = preprocess().apply(source().train.images[:200])
    built.train()
    with torch.no_grad():
        for _ in range(20):
            built(images)
    return built.eval()


@cache
def preprocess() -> Any:
    return fit(DataRecipe(dataset="digits"), source().train.images)


def teacher() -> Teacher:
    header = {
        "network": NETWORK.model_dump(mode="json"),
        "teacher": {},
        "source": {
            "name": "digits",
            "fingerprint": "00",
            "channels": 1,
            "resolution": 8,
            "classes": 10,
        },
        "epochs": 1,
        "seed": 0,
        "versions": {},
        "results": [{"accuracy": 0.5}],
    }
    return Teacher(network(), preprocess(), source().class_names, header)
