"""Students by name, as the command line takes them."""

from __future__ import annotations

import math
from typing import get_args

from potstill.config import NetworkRecipe, Normalisation
from potstill.errors import RecipeError
from potstill.networks import zoo


def parse_architectures(
    text: str, *, resolution: int, made_for: NetworkRecipe | None = None
) -> list[NetworkRecipe]:
    """Networks from names with commas between them, such as ``resnet18,convnet:instance``.

    ``package.name:factory`` is a network of the user's own.

    ``NAME:NORMALISATION`` says what normalises; without it, what usually does (batch norms).
    ``convnet`` is the one the set was made for, if it is one; else DWA's, of width 128 that
    does not grow, with one block for every halving down to 4 px and three at least.

    Args:
        text: the names.
        resolution: side of the images.
        made_for: the network that the set was made for.

    Raises:
        RecipeError: no name, or one that is unknown.
    """
    return [_parse(name.strip(), resolution, made_for) for name in text.split(",")]


def _parse(text: str, resolution: int, made_for: NetworkRecipe | None) -> NetworkRecipe:
    name, colon, normalisation = text.partition(":")
    known = get_args(Normalisation)
    if name not in zoo.names():
        if colon and normalisation not in known:
            return NetworkRecipe(name=text)
        raise RecipeError(
            f"unknown network {name!r}; use one of {', '.join(zoo.names())}, or "
            "package.name:factory for one of your own"
        )
    if colon and normalisation not in known:
        raise RecipeError(
            f"unknown normalisation {normalisation!r} of {name}; use one of {', '.join(known)}"
        )
    if name == "convnet" and made_for is not None and made_for.name == "convnet":
        base = made_for
    else:
        depth = max(3, math.ceil(math.log2(resolution / 4)))
        usual = zoo.usual_normalisation(name)
        base = NetworkRecipe(name=name, depth=depth, growth=1, normalisation=usual)
    return base.model_copy(update={"normalisation": normalisation}) if colon else base
