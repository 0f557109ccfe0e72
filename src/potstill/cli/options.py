"""What the commands share: the app, their options, and how they read and stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from potstill.cli.completion import complete_assignments, complete_protocols, complete_recipes
from potstill.cli.groups import Grouped
from potstill.cli.progress import reporting
from potstill.cli.terminal import say
from potstill.config import PROTOCOLS, DataRecipe
from potstill.errors import RunError
from potstill.progress import after

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset
    from potstill.data.survey import Survey

AT_ONCE = 0.5
"""Seconds in which a folder of images is read without a word."""

app = typer.Typer(
    name="potstill",
    cls=Grouped,
    help="Distil an image dataset into a handful of images a network can be trained on.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# In a run's folder; the modules that name them import PyTorch.
_SET, _TEACHER = "distilled.safetensors", "teacher.safetensors"


def set_in(path: Path) -> Path:
    """The file of a distilled set: ``path``, or the one in it if it is a run's folder."""
    if not path.is_dir():
        return path
    return _in_folder(path, _SET)


def set_or_teacher_in(path: Path) -> Path:
    """As :func:`set_in`; of a folder without a set, the file of its teacher."""
    return _in_folder(path, _SET, _TEACHER) if path.is_dir() else path


def _in_folder(folder: Path, *names: str) -> Path:
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        raise RunError(
            f"{folder} is a folder without a distilled set; name a run that is finished, or a "
            "set's file"
        )
    return found[0]


Artefact = Annotated[
    Path,
    typer.Argument(
        metavar="ARTEFACT",
        callback=set_in,
        help="A distilled set: its .safetensors file, or its run's folder",
    ),
]
PerClass = Annotated[
    int | None,
    typer.Option("--per-class", min=1, help="Only the first so many images of each class"),
]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        "--data-root", envvar="POTSTILL_DATA_ROOT", help="Folder that holds the data sets"
    ),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Device to compute on; auto prefers cuda")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a data set that is absent")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else")]
Module = Annotated[
    str | None,
    typer.Option(
        metavar="PACKAGE:FACTORY", help="Function that makes the network of a teacher of your own"
    ),
]
Recipes = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        autocompletion=complete_recipes,
        help="A recipe: a YAML file, or a name such as rcig/mnist-ipc1",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=4096,
        help="Threads to compute with; they decide the last bits  [those of a run that goes on, "
        "else OMP_NUM_THREADS, else one a core]",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in its folder")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of every random draw")]
RecipeSeed = Annotated[
    int | None, typer.Option(min=0, help="Seed of every random draw  [the recipe's]")
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        autocompletion=complete_assignments,
        help="Set a key of the recipe; may be repeated",
    ),
]
Protocol = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        metavar="NAME",
        autocompletion=complete_protocols,
        help=f"Protocol to train networks by: {', '.join(PROTOCOLS)}  [the artefact's]",
    ),
]


def chosen_device(name: str) -> str:
    """The torch device to use. Every command that computes calls this before any other work."""
    from potstill.api.inputs import device_of

    return device_of(name)


def read_source(
    data: DataRecipe,
    root: Path | None,
    *,
    download: bool = False,
    require_test: bool = True,
    tell: bool = False,
) -> SourceDataset:
    """The real data of a recipe or of a distilled set.

    ``tell``: say what was found in a folder of images.
    """
    from potstill.data import datasets

    with reporting("") as progress:
        return datasets.load(
            data,
            root,
            download=download,
            require_test=require_test,
            surveyed=_say_survey if tell else None,
            progress=after(AT_ONCE, progress),
        )


def _say_survey(survey: Survey) -> None:
    for line in survey.lines():
        say(line)


def read_set(artefact: Path) -> DistilledDataset:
    """The distilled set in a file."""
    from potstill.data.distilled import DistilledDataset

    return DistilledDataset.load(artefact)


def stop(note: str) -> typer.Exit:
    """What to raise after Ctrl-C."""
    say(f"stopped{note}; continue with --resume")
    return typer.Exit(130)
