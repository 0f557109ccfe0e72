"""Which networks a command trains: those that were named, else the one the set was made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import ValidationError

from potstill.config import NetworkRecipe

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset

_FORM = "NAME[:NORMALISATION] or PACKAGE:FACTORY"
Network = Annotated[
    str | None, typer.Option(metavar=_FORM, help="Which is trained  [the artefact's]")
]
Networks = Annotated[
    str | None,
    typer.Option(
        metavar=f"{_FORM},...",
        help="Which are trained, such as resnet18,convnet:instance  [the artefact's]",
    ),
]


def network_of(
    name: str | None, dataset: DistilledDataset, source: SourceDataset
) -> NetworkRecipe | None:
    """The one network that was named, for such images; None if none was."""
    if name is not None and "," in name:
        raise typer.BadParameter(f"--network {name!r}: one network at a time")
    (network,) = networks_of(name, dataset, source)
    return network


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


def networks_of(
    names: str | None, dataset: DistilledDataset, source: SourceDataset
) -> list[NetworkRecipe | None]:
    """The networks that were named, for such images; [None] if none was."""
    from potstill.evaluation import parse_architectures

    if names is None:
        return [None]
    try:
        own = NetworkRecipe.model_validate(dataset.header["evaluation"].get("network"))
    except ValidationError:  # none, or one of another version, which no name stands for
        own = None
    return [*parse_architectures(names, resolution=source.resolution, made_for=own)]
