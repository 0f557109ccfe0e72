"""How to start a recorded run again, and what it changed against the shipped recipe."""

from __future__ import annotations

import json
import shlex
from typing import Any

from potstill import recipes
from potstill.errors import RecipeError
from potstill.methods import plain_yaml
from potstill.methods.recipe import Recipe


def changes(recipe: Recipe) -> dict[str, Any] | None:
    """Dotted keys in which ``recipe`` differs from the shipped one of its name; None if none is."""
    name = recipe.based_on or recipe.name
    return recipes.differing(recipe, recipes.load(name)) if name in recipes.names() else None


def command(recipe: Recipe, threads: int | None = None) -> str:
    """The command line that starts ``recipe`` again, for a shell.

    Args:
        recipe: the run's.
        threads: that it had, which the same bytes take; None if that is not known.
    """
    changed = changes(recipe)
    named = recipe.based_on or recipe.name
    words = ["potstill", "distill", "recipe.yaml" if changed is None else named]
    words += ["--seed", str(recipe.seed)]
    words += [] if threads is None else ["--threads", str(threads)]
    for key, value in (changed or {}).items():
        words += ["--set", f"{key}={value if _plain(value) else json.dumps(value)}"]
    return shlex.join(words)


def _plain(value: Any) -> bool:
    """Whether it is text that stands for itself."""
    try:
        return isinstance(value, str) and bool(plain_yaml.load(value) == value)
    except RecipeError:
        return False
