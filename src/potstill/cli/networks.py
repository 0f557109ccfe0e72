"""Which networks a command trains: those that were named, else the one the set was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.config import NetworkRecipe

if TYPE_CHECKING:
    from potstill.data.source import SourceDataset

_FORMS = (
    "convnet, resnet18, ... (with :NORMALISATION; convnet also ,width=N,depth=N,growth=1|2), "
    "timm:NAME, torchvision:NAME, PACKAGE:FACTORY"
)
_WHICH = f"Network to train: {_FORMS}, or own, the artefact's"
Network = Annotated[str | None, typer.Option(metavar="NETWORK", help=f"{_WHICH}  [own]")]
Networks = Annotated[
    str | None,
    typer.Option(
        "--network",
        "--networks-arch",
        metavar="NETWORK,...",
        help=f"{_WHICH}. Several make a table  [own]",
    ),
]
ScoringNetworkOfAll = Annotated[
    str | None,
    typer.Option(
        "--network",
        metavar="NETWORK",
        help=f"Network that common protocols train: {_FORMS}  [the first method's]",
    ),
]
ScoringNetwork = Annotated[
    str,
    typer.Option("--network", metavar="NETWORK", help=f"Network to score the set with: {_FORMS}"),
]


def network_of(name: str | None, source: SourceDataset) -> NetworkRecipe | None:
    """The one network that was named, for such images; None for the artefact's."""
    from potstill.networks.parsing import OWN, parse_network

    return None if name in (None, OWN) else parse_network(name, resolution=source.resolution)


def networks_of(names: str | None, source: SourceDataset) -> list[NetworkRecipe | None]:
    """The networks that were named, for such images; None for the artefact's."""
    from potstill.networks.parsing import parse_networks

    return [None] if names is None else parse_networks(names, resolution=source.resolution)


def require_fitting(networks: Sequence[NetworkRecipe | None], source: SourceDataset) -> None:
    """Refuse a network that does not fit the images before others are trained for long."""
    from potstill.networks import zoo

    for network in networks:
        if network is not None:
            zoo.build(
                network,
                channels=source.channels,
                resolution=source.resolution,
                classes=source.classes,
            )
