"""All commands, and the one that leads through the others.

What needs PyTorch is imported when a command does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill import methods, recipes
from potstill.cli import (
    comparing,
    continual,
    data,
    gallery,
    importing,
    making,
    privacy,
    recipe,
    robust,
    scoring,
    sharing,
    showing,
    tables,
)
from potstill.cli.keeping import keep_result
from potstill.cli.options import app, chosen_device, read_set, read_source
from potstill.cli.teachers import labeller_of
from potstill.cli.terminal import print_lines, say
from potstill.cli.text import summary

if TYPE_CHECKING:
    from potstill.methods.recipe import Recipe
    from potstill.results import Evaluation

__all__ = [
    "app",
    "comparing",
    "continual",
    "data",
    "gallery",
    "importing",
    "privacy",
    "recipe",
    "robust",
    "sharing",
    "tables",
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version")] = False,
) -> None:
    if version:
        from potstill import __version__

        print_lines(__version__)
    elif context.invoked_subcommand is None:
        print_lines(*context.get_help().split("\n"))


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder to keep the runs in")] = Path("runs/quickstart"),
) -> None:
    """Distil the embedded digits with every method, score the sets and show them."""
    device = chosen_device("auto")
    chosen = quickstart_recipes()
    folders = {method: out / method for method in chosen}
    for method, folder in folders.items():
        say(f"{chosen[method].name}:")
        first, *more = summary(_quickstart(chosen[method], folder, device))
        print_lines(f"{method}: {first}", *more)
    page = out / "report.html"
    showing.write_report([*folders.values()], page)
    for method, folder in folders.items():
        print_lines(f"{method + ' set':15}{folder / 'distilled.safetensors'}")
        print_lines(f"{'its images':15}{folder / 'distilled.png'}")
    print_lines(f"{'report':15}{page}")


def quickstart_recipes() -> dict[str, Recipe]:
    """The recipe of each method that has one on the digits, in the order of the registry."""
    shipped = recipes.names()
    loaded = [recipes.load(name) for name in shipped if name.startswith("quickstart/")]
    found = {recipe.method.kind: recipe for recipe in loaded}
    return {method: found[method] for method in methods.names() if method in found}


def _quickstart(recipe: Recipe, out: Path, device: str) -> Evaluation:
    """Distil, score and draw one recipe, as far as that was not done before.

    On one thread: to split images of 8 x 8 pixels among several takes longer than they do.
    """
    from potstill import hardware

    with hardware.threads(1):
        return _distilled_and_scored(recipe, out, device)


def _distilled_and_scored(recipe: Recipe, out: Path, device: str) -> Evaluation:
    source = read_source(recipe.data, None)
    artefact = making.distil(recipe, source, out, resume=True, device=device)
    dataset = read_set(artefact)
    compared = [result for result in dataset.results if result.baseline is not None]
    result = dataset.standing(compared)
    if result is None:
        teacher = labeller_of(dataset, artefact, device=device)
        result = scoring.score(dataset, source, device=device, baseline=True, teacher=teacher)
        keep_result(artefact, result)
    showing.draw(dataset, out / "distilled.png")
    return result
