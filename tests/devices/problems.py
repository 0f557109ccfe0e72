"""Every method at its smallest, in the settings that take different paths on a card."""

from __future__ import annotations

from typing import Any

from potstill.methods.recipe import Recipe, parse
from tests.evaluation.problems import NETWORK

TEACHER = {"network": NETWORK.model_dump(mode="json"), "epochs": 1}
MATCHING = {"iterations": 2, "real_batch": 8}
POOL = {"size": 2, "max_steps": 2, "steps_per_visit": (1, 1)}
SMALL: dict[str, dict[str, Any]] = {
    "rcig": {"iterations": 2, "target_batch": 8, "pool": POOL, "solver": {"max_steps": 2}},
    "dm": MATCHING,
    "dc": {**MATCHING, "updates": 2, "epochs": 1},
    "dsa": {**MATCHING, "updates": 2, "epochs": 1},
    "cafe": {**MATCHING, "schedule": "fixed", "updates": 2, "epochs": 1},
    "datadam": MATCHING,
    "coreset": {"teacher": TEACHER},
    "dwa": {"iterations": 2, "compiled": False, "teacher": TEACHER},
}
ADAM = {"name": "adam", "tune": False, "inner_steps": 2, "inverse_steps": 2}
SETTINGS = [
    *({"kind": kind} for kind in SMALL),
    *({"variant": variant, "solver": ADAM} for variant in ("vig", "rig", "cig", "rcig")),
    {"variant": "frepo", "outer_loss": "mse"},
    {"flip": True, "subset": 5},
    {"kind": "dwa", "variant": "sre2l"},
    {"kind": "dwa", "adjustment": "random", "statistics": "unadjusted"},
    {"kind": "dwa", "sequence_weight": 0.5},
    {"kind": "dm", "start": "noise"},
]


def recipe_for(method: dict[str, Any]) -> Recipe:
    """Two images of each class."""
    kind = method.get("kind", "rcig")
    normalisation = "batch" if kind == "dwa" else "none"
    return parse(
        {
            "name": "test",
            "images_per_class": 2,
            "network": {"depth": 2, "width": 4, "normalisation": normalisation},
            "method": {**SMALL[kind], **method},
        },
        source="test",
    )
