"""Distil as a recipe says, by whichever method it names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from potstill import execution, hardware, methods
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import RecipeError
from potstill.evaluation.protocol import named
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe
from potstill.progress import Progress, silent
from potstill.surroundings import present
from potstill.teacher import Teacher

if TYPE_CHECKING:
    from potstill.runs import Run


def distill(
    recipe: Recipe,
    source: SourceDataset,
    run: Run | None = None,
    *,
    device: str = "cpu",
    teacher: Teacher | None = None,
    workers: int | None = None,
    threads: int | None = None,
    whitenings: WhiteningCache | None = None,
    units: Path | None = None,
    progress: Progress = silent,
) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Args:
        run: a folder to log to, checkpoint in and resume from; the distilled set is stored
            there too. Without one nothing is written.
        device: "cpu" or "cuda".
        teacher: for a method that inverts one or labels with one; trained as the recipe says if
            None.
        workers: for a method with independent units of work: how many are worked on at a time,
            each in a process of its own if there are several (a script then needs
            ``if __name__ == "__main__"``); one, here, if None. The result is the same.
        threads: that PyTorch splits sums over while it distils, which decides the last bits of the
            result; if None, as many as it has, or as the run that goes on was begun with.
        whitenings: where the preprocessing is looked for before it is fitted, and stored; ZCA is
            fitted anew if None.
        units: see :class:`~potstill.methods.method.Session`.
        progress: told of every step of every stage.

    Returns:
        The set, whose header says in what surroundings it was made.

    Raises:
        RunError: the run was begun with other data or another number of threads.
        RecipeError: a teacher or workers for a method that has none, or an unknown protocol.
        PotstillError: what the method itself raises.
    """
    method = methods.named(recipe.method.kind)
    taught = method.teacher is not None and method.teacher(recipe.method) is not None
    for given, taken, what in (
        (teacher, taught, "a teacher"),
        (workers, method.parallel, "workers"),
    ):
        if given is not None and not taken:
            raise RecipeError(
                f"{recipe.name} is a recipe for {method.name}, which does not take {what}; "
                "leave that out"
            )
    named(recipe.evaluation.protocol)
    session = Session(
        run=run,
        device=device,
        progress=progress,
        executor=execution.in_processes(workers or 1),
        teacher=teacher,
        whitenings=whitenings,
        units=units,
    )
    if run is not None:
        run.begin(source, device=device, threads=threads)
        threads = run.surroundings.threads
    with hardware.threads(threads):
        made = method.distil(recipe, source, session)
        result = made.made_in(present(device) if run is None else run.surroundings)
    if run is not None:
        result.save(run.artefact)
        run.finish()
    return result
