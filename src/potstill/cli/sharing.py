"""The command that hands a set on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from potstill.cli.options import Artefact, app, read_set
from potstill.cli.terminal import print_lines, say

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset


@app.command()
def export(
    artefact: Artefact,
    to: Annotated[
        Literal["png", "npz", "pt", "datasets", "hub"],
        typer.Option(
            help="Form: class folders of PNG; .npz or .pt with everything; a folder for Hugging "
            "Face's load_dataset; or a dataset repository on its hub"
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="PATH", help="The file or folder to write, or USER/NAME on the hub"),
    ],
    licence: Annotated[
        str,
        typer.Option(metavar="NAME", help="Licence of the images, on the card of datasets or hub"),
    ] = "unknown",
    private: Annotated[
        bool, typer.Option("--private", help="Make the repository on the hub a private one")
    ] = False,
) -> None:
    """Write ARTEFACT for other code, or put it on the Hugging Face hub."""
    dataset = read_set(artefact)
    if to == "hub":
        address = dataset.push_to_hub(str(out), licence=licence, private=private)
        print_lines(address)
        return
    dataset.export(out, to, licence=licence)
    if to in ("png", "datasets"):
        _say_loss(dataset, to)
    print_lines(str(out))


def _say_loss(dataset: DistilledDataset, to: str) -> None:
    """What 8-bit pictures do not hold, where that is something."""
    from potstill.data.exchange import loss

    lost = loss(dataset)
    if lost is None:
        return
    beside = "distilled.safetensors in it, npz and pt" if to == "datasets" else "npz and pt"
    say(
        f"pictures have 8 bits a channel: {100 * lost.cut:.1f} % of the numbers lie beyond black "
        f"or white and are cut, and networks see an error of {100 * lost.error:.1f} %; {beside} "
        "hold all"
    )
