"""The methods: a registry of plain records, one for each; :mod:`potstill.methods.method`.

Those of other packages are found by their entry points in the group ``potstill.methods``, each of
which names a :class:`~potstill.methods.method.Method` as those here do.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module, metadata
from typing import Any

from potstill.errors import RecipeError
from potstill.methods.method import Method
from potstill.quoting import quoted

METHODS = (
    "potstill.methods.rcig.method:RCIG",
    "potstill.methods.dwa.method:DWA",
    "potstill.methods.coresets.method:CORESET",
    "potstill.methods.matching.method:DC",
    "potstill.methods.matching.method:DSA",
    "potstill.methods.matching.method:DM",
    "potstill.methods.matching.method:CAFE",
    "potstill.methods.matching.method:DATADAM",
)
"""Where each record stands. The first is the one of a recipe that names no method."""

BUILT_IN = tuple(place.rpartition(":")[2].lower() for place in METHODS)
"""Their names, known without importing them or a package that adds methods."""

ENTRY_POINTS = "potstill.methods"

_registered: dict[str, Method[Any]] = {}


def register(method: Method[Any]) -> None:
    """Make a method known for the rest of this process, in place of one registered before.

    Raises:
        RecipeError: a method of potstill's, or of an installed package, has its name.
    """
    known = {**_built_in(), **_installed()}
    if known.get(method.name, method) is not method:
        raise RecipeError(f"there is a method {method.name!r} already; give this one another name")
    _registered[method.name] = method


def names() -> tuple[str, ...]:
    """Every method that a recipe can name, in the order of the registry."""
    return tuple(_known())


def named(name: str) -> Method[Any]:
    """The method of this name.

    Raises:
        RecipeError: there is none.
    """
    known = _known()
    if name not in known:
        raise RecipeError(
            f"unknown method {quoted(name)}; set method.kind to one of {', '.join(known)}"
        )
    return known[name]


def default() -> str:
    """The method of a recipe that names none."""
    return next(iter(_built_in()))


def _known() -> dict[str, Method[Any]]:
    return {**_built_in(), **_installed(), **_registered}


@cache
def _built_in() -> dict[str, Method[Any]]:
    found = {}
    for place in METHODS:
        module, _, attribute = place.partition(":")
        method: Method[Any] = getattr(import_module(module), attribute)
        found[method.name] = method
    return found


@cache
def _installed() -> dict[str, Method[Any]]:
    """The methods of other packages; an error names one that cannot be loaded or used."""
    found: dict[str, Method[Any]] = {}
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            method = entry.load()
        except Exception as error:  # the code of others may fail by anything
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RecipeError(
                f"the method {entry.name!r} of {entry.value} cannot be loaded ({reason}); mend or "
                "uninstall that package"
            ) from error
        if not isinstance(method, Method) or method.name in {*_built_in(), *found}:
            raise RecipeError(
                f"the entry point {entry.name!r} ({entry.value}) is no method with a name of its "
                "own; mend or uninstall that package"
            )
        found[method.name] = method
    return found
