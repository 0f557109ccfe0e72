"""How to start a recorded run again, and what it changed against the shipped recipe."""

from __future__ import annotations

import json
import shlex
from typing import Any

import yaml

from potstill import config, recipes
from potstill.config import Recipe

# What a recipe says about itself, and what decides when files are written.
ASIDE = ("name", "description", "paper", "seed", "checkpoint_every", "log_every")


def changes(recipe: Recipe) -> dict[str, Any] | None:
    """Dotted keys in which ``recipe`` differs from the shipped one of its name; None if none is."""
    if recipe.name not in recipes.names():
        return None
    shipped, own = (
        config.flat(r.model_dump(mode="json")) for r in (recipes.load(recipe.name), recipe)
    )
    return {
        key: own.get(key)
        for key in sorted({*shipped, *own})
        if own.get(key) != shipped.get(key) and key not in ASIDE
    }


def command(recipe: Recipe) -> str:
    """The command line that starts ``recipe`` again, for a shell."""
    changed = changes(recipe)
    words = ["potstill", "distill", "recipe.yaml" if changed is None else recipe.name]
    words += ["--seed", str(recipe.seed)]
    for key, value in (changed or {}).items():
        plain = isinstance(value, str) and yaml.safe_load(value) == value
        words += ["--set", f"{key}={value if plain else json.dumps(value)}"]
    return shlex.join(words)
