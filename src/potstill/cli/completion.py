"""What a shell offers when a word is begun: names that the commands take.

Nothing here imports PyTorch: a shell asks at every press of a key.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from potstill import methods, recipes
from potstill.config import PROTOCOLS
from potstill.methods.recipe import recipe_keys


def complete_recipes(incomplete: str) -> Iterator[str]:
    """Names of shipped recipes, and recipes in files."""
    files = _files(incomplete, (".yaml", ".yml"))
    return chain((name for name in recipes.names() if name.startswith(incomplete)), files)


def complete_methods(incomplete: str) -> Iterator[str]:
    """Names of methods."""
    return (name for name in methods.names() if name.startswith(incomplete))


def complete_protocols(incomplete: str) -> Iterator[str]:
    """Names of protocols."""
    return (name for name in PROTOCOLS if name.startswith(incomplete))


def complete_keys(incomplete: str) -> Iterator[str]:
    """Keys of recipes, with dots."""
    found = dict.fromkeys(key.path for name in methods.names() for key in recipe_keys(name))
    return (key for key in found if key.startswith(incomplete))


def complete_assignments(incomplete: str) -> Iterator[str]:
    """Keys of recipes with the sign that a value follows."""
    return (f"{key}=" for key in complete_keys(incomplete))


def _files(incomplete: str, suffixes: tuple[str, ...]) -> Iterator[str]:
    """Files of these kinds and folders whose path begins so."""
    folder, stroke, begun = incomplete.rpartition("/")
    try:
        entries = sorted(Path(folder + stroke or ".").iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith(begun) and (entry.is_dir() or entry.suffix in suffixes):
            yield f"{folder}{stroke}{entry.name}" + "/" * entry.is_dir()
