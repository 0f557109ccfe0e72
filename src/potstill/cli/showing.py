"""Commands that show what is there."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.keeping import refitted
from potstill.cli.options import (
    Artefact,
    DataRoot,
    Json,
    PerClass,
    app,
    read_set,
    read_source,
    set_or_teacher_in,
)
from potstill.cli.terminal import print_json, print_lines, say
from potstill.cli.text import description, teacher_description

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset


@app.command()
def info(
    artefact: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            callback=set_or_teacher_in,
            help="A distilled set or a teacher: its .safetensors file, or its run's folder",
        ),
    ],
    per_class: PerClass = None,
    as_json: Json = False,
) -> None:
    """Say what a distilled set or a teacher is, and the accuracies measured on it."""
    from potstill import storage

    if storage.is_of(artefact, storage.TEACHER):
        document, _ = storage.decode(artefact, storage.TEACHER)
        size = artefact.stat().st_size
        if as_json:
            print_json({"bytes": size, "header": document})
        else:
            print_lines(*teacher_description(document, size))
        return
    dataset = read_set(artefact)
    if per_class is not None:
        dataset = dataset.first(per_class)
    document = {
        "images": list(dataset.shape),
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
    data_root: DataRoot = None,
) -> None:
    """Draw the images in natural colours.

    The real data is read only where the file holds no ZCA matrix.
    """
    from potstill.pictures import legend

    dataset = read_set(artefact)
    if not dataset.has_pictures:
        source = read_source(dataset.data_recipe, data_root, require_test=False)
        dataset = refitted(dataset, source, "cpu")
    draw(dataset, png)
    print_lines(str(png))
    for label, name in legend(dataset.class_names).items():
        say(f"class {label} in the picture, as no font here has its characters: {name}")


@app.command()
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of runs or comparisons, or files of distilled sets"
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write")],
) -> None:
    """Write one HTML page about runs and comparisons."""
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
