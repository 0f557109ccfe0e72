"""Commands that show what is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill import recipes
from potstill.cli.options import Artefact, Json, app, read_set
from potstill.cli.terminal import print_json, print_lines, say
from potstill.cli.text import description, paper_row

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset


@app.command("recipes")
def list_recipes() -> None:
    """List recipes and the paper rows they are."""
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        recipe = recipes.load(name)
        stands_for = "; ".join(paper_row(row) for row in recipe.paper)
        print_lines(f"{name:{width}}  {stands_for or recipe.description}")


@app.command()
def info(artefact: Artefact, as_json: Json = False) -> None:
    """Say what ARTEFACT holds, and the accuracies measured on it."""
    dataset = read_set(artefact)
    document = {
        "images": list(dataset.images.shape),
        "images_per_class": dataset.images_per_class,
        "class_names": list(dataset.class_names),
        "bytes": artefact.stat().st_size,
        "digest": dataset.digest,
        "header": dataset.header,
    }
    if as_json:
        print_json(document)
    else:
        print_lines(*description(dataset, document))


@app.command()
def show(
    artefact: Artefact,
    png: Annotated[Path, typer.Option(metavar="FILE", help="The picture to write")],
) -> None:
    """Draw the images in natural colours."""
    from potstill.pictures import legend

    dataset = read_set(artefact)
    draw(dataset, png)
    print_lines(str(png))
    for label, name in legend(dataset.class_names).items():
        say(f"class {label} in the picture, as no font here has its characters: {name}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write")],
) -> None:
    """Write one HTML page about the runs."""
    write_report(runs, out)
    print_lines(str(out))


def draw(dataset: DistilledDataset, png: Path) -> None:
    """The set's images as a picture."""
    from potstill.files import atomic_write
    from potstill.report import picture

    content = io.BytesIO()
    picture(dataset).save(content, format="PNG")
    atomic_write(png, content.getvalue())


def write_report(runs: list[Path], out: Path) -> None:
    """The page about ``runs``."""
    from potstill.report import write

    write(runs, out)
