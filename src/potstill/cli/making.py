"""Commands that make a distilled set or a teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill import methods, recipes
from potstill.cli.keeping import CacheFolder, warn_of, whitenings_of
from potstill.cli.options import (
    Assignments,
    DataRoot,
    Device,
    Download,
    Recipes,
    RecipeSeed,
    Resume,
    Threads,
    app,
    chosen_device,
    read_source,
    stop,
)
from potstill.cli.progress import reporting
from potstill.cli.teachers import read_teacher
from potstill.cli.terminal import print_lines, say
from potstill.cli.text import teacher_text
from potstill.config import DataRecipe
from potstill.methods.recipe import Recipe

if TYPE_CHECKING:
    from potstill.data.source import SourceDataset
    from potstill.data.whitening_cache import WhiteningCache


@app.command()
def distill(
    recipe: Recipes,
    assignments: Assignments = None,
    data_root: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder  [default: runs/RECIPE-seedN]")
    ] = None,
    resume: Resume = False,
    seed: RecipeSeed = None,
    device: Device = "auto",
    download: Download = False,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Teacher to take instead of training one"),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Groups of images made at a time  [cpu: one a core; cuda: 1]"),
    ] = None,
    threads: Threads = None,
    cache: CacheFolder = None,
) -> None:
    """Distil a dataset as RECIPE says; a sweep in it, run after run."""
    every = recipes.load_all(recipe, _overrides(assignments, seed))
    from potstill.methods.squeeze import TEACHER
    from potstill.runs import require_free

    first = next(iter(every.values()))
    base = out or Path("runs") / f"{recipes.folder_name(_plain(every))}-seed{first.seed}"
    where = chosen_device(device)
    if not resume:
        for name in every:
            require_free(base / name)
    whitenings = whitenings_of(cache)
    loaded: tuple[DataRecipe, SourceDataset] | None = None
    trained: dict[str, Path] = {}
    for number, (name, each) in enumerate(every.items(), start=1):
        if name:
            say(f"{number} of {len(every)}: {name}")
        if loaded is None or loaded[0] != each.data:
            loaded = None
            source = read_source(
                each.data, data_root, download=download, require_test=False, tell=True
            )
            loaded = each.data, source
        shared = _teacher_key(each)
        artefact = distil(
            each,
            loaded[1],
            base / name,
            resume=resume,
            device=where,
            teacher=teacher or trained.get(shared),
            workers=workers,
            threads=threads,
            whitenings=whitenings,
        )
        own = artefact.parent / TEACHER
        if own.exists():
            trained.setdefault(shared, own)
        print_lines(str(artefact))
    warn_of(whitenings)


def _plain(every: Mapping[str, Recipe]) -> Recipe:
    """The recipe that a folder is named after: the only one, or the one that is swept."""
    first = next(iter(every.values()))
    swept = "" not in every and first.based_on is not None
    return first.model_copy(update={"name": first.based_on}) if swept else first


def _teacher_key(recipe: Recipe) -> str:
    """Runs of a sweep with the same teacher share it: of the same recipe, data and seed."""
    method = methods.named(recipe.method.kind)
    wanted = None if method.teacher is None else method.teacher(recipe.method)
    asked = "" if wanted is None else wanted.model_dump_json()
    return f"{asked} {recipe.data.model_dump_json()} {recipe.seed}"


@app.command()
def teacher(
    recipe: Recipes,
    assignments: Assignments = None,
    data_root: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="The teacher's folder  [default: runs/RECIPE-teacher-seedN]")
    ] = None,
    seed: RecipeSeed = None,
    device: Device = "auto",
    threads: Threads = None,
    download: Download = False,
) -> None:
    """Train the teacher that RECIPE asks for, or go on with it."""
    from potstill.files import make_folder
    from potstill.methods.squeeze import TEACHER, settings_of, squeeze

    resolved = recipes.load(recipe, _overrides(assignments, seed))
    settings_of(resolved)
    where = chosen_device(device)
    source = read_source(resolved.data, data_root, download=download, require_test=False, tell=True)
    folder = out or Path("runs") / f"{recipes.folder_name(resolved)}-teacher-seed{resolved.seed}"
    make_folder(folder)
    try:
        with reporting("teacher epoch") as tell:
            trained = squeeze(
                resolved, source, folder=folder, device=where, threads=threads, progress=tell
            )
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on with the teacher in {folder}")
        raise typer.Exit(130) from None
    if trained.accuracy is not None:
        say(f"accuracy {100 * trained.accuracy:.2f} % on the test images")
    print_lines(str(folder / TEACHER))


def distil(
    recipe: Recipe,
    source: SourceDataset,
    out: Path,
    *,
    resume: bool,
    device: str,
    teacher: Path | None = None,
    workers: int | None = None,
    threads: int | None = None,
    whitenings: WhiteningCache | None = None,
) -> Path:
    """Distil into the folder ``out``; the path of the distilled set."""
    from potstill.methods.distilling import distill
    from potstill.methods.squeeze import settings_of
    from potstill.runs import Run

    given = None
    if teacher is not None:
        given = read_teacher(teacher, settings_of(recipe).module, device)
    with Run.create(out, recipe, resume, device=device) as run:
        if run.finished:
            run.begin(source, device=device, threads=threads)
            say(f"{out} holds this run, finished")
            return run.artefact
        try:
            with reporting("") as tell:
                made = distill(
                    recipe,
                    source,
                    run,
                    device=device,
                    teacher=given,
                    workers=_workers(recipe, workers, device),
                    threads=threads,
                    whitenings=whitenings,
                    progress=tell,
                )
        except KeyboardInterrupt:
            raise stop(f" at iteration {run.iteration}") from None
        if "teacher" in made.header:
            say(f"teacher: {teacher_text(made.header['teacher'])}")
        return run.artefact


def _workers(recipe: Recipe, asked: int | None, device: str) -> int | None:
    """One for each core, where there are independent units of work, on a processor."""
    from potstill import hardware

    if asked is None and methods.named(recipe.method.kind).parallel and device == "cpu":
        return hardware.cores()
    return asked


def _overrides(assignments: list[str] | None, seed: int | None) -> list[str]:
    return [*(assignments or ()), *([] if seed is None else [f"seed={seed}"])]
