"""The shipped recipes: one YAML for each row of the papers' tables, and the quickstart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from potstill import config
from potstill.config import Recipe
from potstill.errors import RecipeError


@cache
def _shipped() -> dict[str, Traversable]:
    return dict(sorted(_walk(resources.files(__name__), "")))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml"), entry


def names() -> tuple[str, ...]:
    """The names of all shipped recipes, such as ``rcig/mnist-ipc1``, sorted."""
    return tuple(_shipped())


def load(recipe: str | Path, assignments: Sequence[str] = ()) -> Recipe:
    """The recipe of a shipped name or a YAML file, with ``key=value`` assignments applied.

    A recipe without a ``name`` takes that of its file.

    Raises:
        RecipeError: unknown name, unreadable file, or not a valid recipe.
    """
    document = {"name": _default_name(recipe), **_document(recipe)}
    return config.parse(config.override(document, assignments), source=str(recipe))


def _default_name(recipe: str | Path) -> str:
    return str(recipe) if str(recipe) in _shipped() else Path(recipe).stem


def _document(recipe: str | Path) -> dict[str, Any]:
    shipped = _shipped().get(str(recipe))
    if shipped is not None:
        document: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
        return document
    path = Path(recipe)
    if path.exists() or path.suffix in (".yaml", ".yml"):
        return config.read_yaml(path)
    close = get_close_matches(str(recipe), names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise RecipeError(
        f"no recipe {str(recipe)!r}: neither a file nor a shipped recipe; {hint}"
        "'potstill recipes' lists those shipped"
    )
