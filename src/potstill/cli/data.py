"""The command that looks at data before anything is made of it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli.options import AT_ONCE, Json, app
from potstill.cli.progress import reporting
from potstill.cli.terminal import print_json, print_lines
from potstill.progress import after
from potstill.text import count, duration

if TYPE_CHECKING:
    from potstill.data.survey import Survey

data = typer.Typer(help="Look at images of your own before they are distilled.")
app.add_typer(data, name="data")

# From here on a smaller block is worth its mention: megabytes in a file.
_LARGE = 50e6
_BLOCK = 32


@data.callback()
def _data() -> None:
    """Look at images of your own before they are distilled."""


@data.command()
def check(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER", help="A folder with train/ and perhaps test/, class folders in them"
        ),
    ],
    resolution: Annotated[
        int | None, typer.Option(min=4, help="Resize to a square of this side  [as they are]")
    ] = None,
    channels: Annotated[
        int | None, typer.Option(min=1, max=3, help="Convert to 1 or 3 channels  [as they are]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read a folder of images and say what was found, what is broken, and what ZCA would take."""
    from potstill.data import image_folder

    with reporting("reading images") as tell:
        survey = image_folder.check(
            folder, resolution=resolution, channels=channels, progress=after(AT_ONCE, tell)
        )
    if as_json:
        print_json(_document(survey))
    else:
        print_lines(*survey.lines(), *_whitening(survey))
    if survey.problem is not None:
        raise typer.Exit(2)


def _whitening(survey: Survey) -> list[str]:
    """What ZCA of such images takes and adds to a file, if they can be distilled from."""
    from potstill.data.survey import whitening_bytes, whitening_seconds

    if survey.shape is None:
        return []
    images = sum(train for train, _ in survey.classes.values())
    size, side = whitening_bytes(survey.shape), survey.shape[1]
    lasting = duration(whitening_seconds(images, survey.shape))
    told = [
        f"data.preprocess=zca: about {lasting} on this machine, once; adds {size / 1e6:,.1f} MB to "
        f"the set's file ({count(images, 'image')})"
    ]
    if size > _LARGE and side % _BLOCK == 0:
        less = whitening_bytes(survey.shape, _BLOCK)
        told.append(f"data.zca_block={_BLOCK}: adds {less / 1e6:,.1f} MB, and is quicker")
    told.append(
        f"data.zca_stored=false: adds {4 * math.prod(survey.shape) / 1e6:,.2f} MB; whoever tests "
        "networks on real images or shows the set's needs yours, to fit ZCA again"
    )
    return told


def _document(survey: Survey) -> dict[str, Any]:
    document = {each.name: getattr(survey, each.name) for each in dataclasses.fields(survey)}
    sizes = {f"{width}x{height}": number for (width, height), number in survey.sizes.items()}
    broken = [{"file": str(path), "reason": reason} for path, reason in survey.broken]
    return document | {"folder": str(survey.folder), "sizes": sizes, "broken": broken}
