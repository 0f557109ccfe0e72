"""A teacher of digits, and sets for its students."""

from __future__ import annotations

from potstill.config import DataRecipe, NetworkRecipe, TeacherRecipe
from potstill.data.distilled import DistilledDataset
from potstill.networks import zoo
from potstill.networks.init import initialise_default
from potstill.teacher import Teacher

RECIPE = DataRecipe(dataset="digits")
NETWORK = NetworkRecipe(depth=2, width=8, growth=1, normalisation="batch")


def small_network(classes=10, seed=0):
    network = zoo.build(NETWORK, channels=1, resolution=8, classes=classes)
    initialise_default(network, seed, "test/network")
    return network


def teacher_of(network, source, pre, results=()) -> Teacher:
    header = {
        "network": NETWORK.model_dump(mode="json"),
        "teacher": TeacherRecipe().model_dump(mode="json"),
        "source": {
            "name": source.name,
            "fingerprint": source.fingerprint,
            "classes": source.classes,
            "channels": source.channels,
            "resolution": source.resolution,
        },
        "epochs": 1,
        "seed": 0,
        "versions": {},
        "results": list(results),
    }
    return Teacher(network, pre, source.class_names, header)


def set_of(source, pre, images, labels, **evaluation) -> DistilledDataset:
    header = {
        "method": "test",
        "recipe": {"method": {"kind": "dwa", "flip": True}},
        "evaluation": {
            "protocol": "dwa-paper",
            "network": NETWORK.model_dump(mode="json"),
            "networks": 1,
            **evaluation,
        },
        "source": {"name": source.name, "fingerprint": source.fingerprint},
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    return DistilledDataset(images, labels, source.class_names, pre, header)


def numbers(result):
    """All that JSON has of a result but the time it took."""
    return {key: value for key, value in result.document().items() if key != "seconds"}
