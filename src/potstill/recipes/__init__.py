"""The shipped recipes by name: those of every method, and the quickstart's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from potstill import methods
from potstill.config import EVERY_KEY, flat
from potstill.errors import RecipeError
from potstill.methods import plain_yaml
from potstill.methods.method import Method
from potstill.methods.recipe import (
    DESCRIPTIVE,
    LONGEST_DESCRIPTION,
    LONGEST_NAME,
    Recipe,
    assign,
    override,
    parse,
    read_yaml,
)
from potstill.quoting import quoted, shortened

ASIDE = (*DESCRIPTIVE, "seed", "checkpoint_every", "log_every")
"""What a recipe says about itself, which start it is, and what decides when files are written."""

SWEEP = "sweep"
"""The key of a recipe's file that is none of a recipe's: values for several runs."""

# Runs of one sweep: more are a slip.
_MOST_RUNS = 1000
# In the name of a file, what stands for a run of other characters; and its greatest length.
_PLACEHOLDER, _LONGEST = "-", 120


def _shipped() -> dict[str, Traversable]:
    return _found(tuple(methods.named(name) for name in methods.names()))


@cache
def _found(known: tuple[Method[Any], ...]) -> dict[str, Traversable]:
    """The recipes of these methods, and the quickstart's, by name."""
    found = dict(_walk(resources.files(__name__), ""))
    for method in known:
        if method.recipes is not None:
            found.update(_walk(method.recipes, f"{method.name}/"))
    return dict(sorted(found.items()))


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml"), entry


def names() -> tuple[str, ...]:
    """The names of all shipped recipes, such as ``rcig/mnist-ipc1``, sorted."""
    return tuple(_shipped())


def load(
    recipe: str | Path | Mapping[str, Any] | Recipe, assignments: Sequence[str] = ()
) -> Recipe:
    """A recipe with ``key=value`` assignments applied.

    A recipe without a ``name`` takes that of its file. One that assignments change says so in its
    name and its description.

    Args:
        recipe: the name of a shipped recipe, a YAML file, what such a file holds as a mapping, or
            a recipe itself.
        assignments: dotted keys with their values, as ``--set`` takes them.

    Raises:
        RecipeError: unknown name, unreadable file, or not a valid recipe.
    """
    if isinstance(recipe, Recipe):
        if not assignments:
            return recipe
        return _loaded(recipe.model_dump(mode="json"), recipe.name, assignments)
    document, source = _opened(recipe)
    if SWEEP in document:
        raise RecipeError(
            f"{source} holds a sweep, which stands for several recipes; `potstill distill` makes "
            "them in turn; remove sweep to have one"
        )
    return _loaded(document, source, assignments)


def _opened(recipe: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What a recipe holds, with a name if it is a file's, and what errors call it."""
    if isinstance(recipe, Mapping):
        return dict(recipe), "the recipe"
    if isinstance(recipe, str | Path):
        return {"name": _default_name(recipe), **_document(recipe)}, str(recipe)
    raise RecipeError(
        f"an object of type {type(recipe).__name__} is no recipe; pass a name, a file, a "
        "dictionary or what load_recipe returned"
    )


def load_all(
    recipe: str | Path | Mapping[str, Any], assignments: Sequence[str] = ()
) -> dict[str, Recipe]:
    """Every recipe that a file stands for, by the name of a folder for its run.

    A file with ``sweep`` stands for one recipe of each combination of the values that it lists,
    the last key's values varying fastest, under names such as ``images_per_class=10``. Any other
    stands for itself alone, under the name ``""``.

    Raises:
        RecipeError: as :func:`load`, of any of them; or a sweep that lists no values, one twice,
            too many, or a key that is assigned as well.
    """
    document, source = _opened(recipe)
    if SWEEP not in document:
        return {"": _loaded(document, source, assignments)}
    swept = _swept(document.pop(SWEEP), source)
    taken = {one.partition("=")[0] for one in assignments} & swept.keys()
    if taken:
        raise RecipeError(
            f"{source}: --set {min(taken)} is one of the keys it sweeps; leave it out"
        )
    found: dict[str, Recipe] = {}
    for values in product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        added = [f"{key}={json.dumps(value)}" for key, value in chosen.items()]
        each = _loaded(document, source, [*assignments, *added])
        named = (f"{_short(key, swept)}={_text(value)}" for key, value in chosen.items())
        folder = _safe("-".join(named))
        if folder in found:
            raise RecipeError(f"{source}: two runs of the sweep would both be {folder}; list one")
        found[folder] = each
    return found


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _swept(given: Any, source: str) -> dict[str, list[Any]]:
    """The values of each dotted key."""
    sweep = flat(given) if isinstance(given, Mapping) else {}
    for key, values in sweep.items():
        if not isinstance(values, list) or not values:
            raise RecipeError(
                f"{source}: sweep.{key} must list values, such as [1, 10] (got {quoted(values)})"
            )
    runs = prod(map(len, sweep.values()))
    if not sweep or runs > _MOST_RUNS:
        raise RecipeError(
            f"{source}: sweep must list values of keys, such as images_per_class: [1, 10], for at "
            f"most {_MOST_RUNS:,} runs (got {quoted(given) if not sweep else f'{runs:,}'})"
        )
    return sweep


def _loaded(given: Mapping[str, Any], source: str, assignments: Sequence[str]) -> Recipe:
    plain = parse(given, source=source)
    if not assignments:
        return plain
    return _renamed(parse(override(given, assignments), source=source), plain)


def changed(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """``recipe`` with other values of these dotted keys, which its name and description tell.

    Raises:
        RecipeError: an unknown key, a wrong type, or an impossible combination.
    """
    document = recipe.model_dump(mode="json")
    for key, value in values.items():
        assign(document, key, value)
    return _renamed(parse(document, source=recipe.name), recipe)


def _renamed(recipe: Recipe, plain: Recipe) -> Recipe:
    """``recipe`` under a name that says in what it differs from ``plain``."""
    other = differing(recipe, plain)
    if not other or recipe.name != plain.name:
        return recipe
    listed = ", ".join(f"{_short(key, other)}={value}" for key, value in other.items())
    said = f"{plain.description} Changed: {listed}.".strip()
    update = {
        "name": shortened(f"{plain.name} ({listed})", LONGEST_NAME),
        "description": shortened(said, LONGEST_DESCRIPTION),
        "based_on": plain.name,
    }
    return recipe.model_copy(update=update)


def differing(recipe: Recipe, other: Recipe) -> dict[str, Any]:
    """The settings that decide a result and are not as in ``other``, by dotted key."""
    ours, theirs = (
        flat(one.model_dump(mode="json", exclude={*ASIDE}, context=EVERY_KEY))
        for one in (recipe, other)
    )
    return {
        key: ours.get(key) for key in sorted({*ours, *theirs}) if ours.get(key) != theirs.get(key)
    }


def _short(key: str, changed: Mapping[str, Any]) -> str:
    """The last part of a dotted key, where that tells it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(other.rpartition(".")[2] == last for other in changed) == 1 else key


def folder_name(recipe: Recipe) -> str:
    """A relative path for the recipe's runs, made of its name and whatever stands in it.

    Letters, digits and ``._=+-`` stay, and strokes between parts of a name; a part is never a
    step upwards, nor hidden, nor too long for a file system.
    """
    parts = [_safe(part) for part in recipe.name.split("/")]
    return "/".join(part for part in parts if part) or "unnamed"


def _safe(part: str) -> str:
    cleaned = re.sub(r"[^\w.=+-]+", _PLACEHOLDER, part, flags=re.ASCII)
    return cleaned[:_LONGEST].strip(f".{_PLACEHOLDER}")


def _default_name(recipe: str | Path) -> str:
    return str(recipe) if str(recipe) in _shipped() else Path(recipe).stem


def _document(recipe: str | Path) -> dict[str, Any]:
    shipped = _shipped().get(str(recipe))
    if shipped is not None:
        document: dict[str, Any] = plain_yaml.load(shipped.read_bytes())
        return document
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") or _exists(path):
        return read_yaml(path)
    close = get_close_matches(str(recipe)[:_LONGEST], names(), n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    raise RecipeError(
        f"no recipe {quoted(str(recipe))}: neither a file nor a shipped recipe; {hint}"
        "'potstill recipes' lists those shipped"
    )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long for a file, say
        return False
