"""Networks as users name them.

==========================================  ========================================================
``convnet``                                 128 channels in every block, one block for every halving
                                            of the image down to 4 px and three at least, batch norm
``convnet:none,width=64,depth=4,growth=2``  the same with another normalisation, width (of the first
                                            block), depth and growth
``resnet18``, ``resnet18:instance``         another of potstill's, with its usual normalisation or
                                            with this one
``timm:NAME``, ``torchvision:NAME``         one of those libraries' networks, without weights
``package.name:factory``                    what a user's own function makes
``own``                                     the network that a distilled set was made for
==========================================  ========================================================

Several have commas between them; ``key=value`` belongs to the network before it. Apart from the
ConvNet's depth, which follows the images, a name is the same network for every data set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import ValidationError

from potstill.config import NetworkRecipe, Normalisation
from potstill.errors import RecipeError
from potstill.networks import zoo
from potstill.networks.libraries import require_known
from potstill.quoting import fault, quoted

OWN = "own"

_SETTINGS = ("width", "depth", "growth")


def parse_network(text: str, *, resolution: int) -> NetworkRecipe:
    """The network that ``text`` names.

    Args:
        text: one name of the module's table, but ``own``.
        resolution: side of the images in pixels.

    Raises:
        RecipeError: no name, several, one that is unknown, or a setting that the network has not.
        NetworkError: timm or torchvision has no network of that name.
    """
    texts = _split(text)
    if len(texts) > 1:
        raise RecipeError(f"{text!r} names several networks; name one")
    name, *settings = (part.strip() for part in text.split(","))
    return _with_settings(_named(name, resolution), settings)


def parse_networks(text: str, *, resolution: int) -> list[NetworkRecipe | None]:
    """The networks that ``text`` names, in its order.

    None stands for ``own``: what a set is scored with where no network is passed.

    Args:
        text: names of the module's table with commas between them.
        resolution: side of the images in pixels.

    Raises:
        RecipeError, NetworkError: as :func:`parse_network`, of any of them.
    """
    return [
        None if one.strip() == OWN else parse_network(one, resolution=resolution)
        for one in _split(text)
    ]


def _split(text: str) -> list[str]:
    """The texts of single networks, their settings with them."""
    networks: list[str] = []
    for part in text.split(","):
        if "=" in part and networks:
            networks[-1] += f",{part}"
        else:
            networks.append(part)
    return networks


def _named(text: str, resolution: int) -> NetworkRecipe:
    if text == OWN:
        raise RecipeError(
            f"{OWN!r} is the network that a distilled set was made for, and takes no settings; "
            "name a network"
        )
    as_written = _recipe({"name": text})
    if as_written.library:
        require_known(text)
        return as_written
    name, colon, normalisation = text.partition(":")
    known = get_args(Normalisation)
    if name not in zoo.names():
        if as_written.foreign and normalisation not in known:
            return as_written
        raise RecipeError(zoo.unknown(name))
    if colon and normalisation not in known:
        raise RecipeError(
            f"unknown normalisation {normalisation!r} of {name}; use one of {', '.join(known)}"
        )
    facts = {"name": name, "normalisation": normalisation or zoo.usual_normalisation(name)}
    if name == "convnet":
        depth = max(3, math.ceil(math.log2(resolution / 4)))
        return NetworkRecipe.model_validate({**facts, "width": 128, "depth": depth, "growth": 1})
    return NetworkRecipe.model_validate(facts)


def _with_settings(network: NetworkRecipe, parts: Sequence[str]) -> NetworkRecipe:
    settings: dict[str, int | str] = {}
    for part in parts:
        key, _, value = part.partition("=")
        if key not in _SETTINGS:
            raise RecipeError(
                f"{part!r} behind {network.name} is no setting; use width=N, depth=N or growth=1"
            )
        if network.name != "convnet":
            raise RecipeError(
                f"{part!r}: {key} is for convnet, and {network.name} has a shape of its own; "
                "leave it out"
            )
        settings[key] = int(value) if value.isdecimal() and len(value) < 20 else value
    return _recipe(network.model_dump() | settings)


def _recipe(document: Mapping[str, Any]) -> NetworkRecipe:
    try:
        return NetworkRecipe.model_validate(document)
    except ValidationError as error:
        raise RecipeError(f"network {quoted(document['name'])}: {fault(error)}") from None
