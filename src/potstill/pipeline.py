"""A recipe from data to distilled set, whichever method it names."""

from __future__ import annotations

from collections.abc import Callable

from potstill import execution
from potstill.config import DWARecipe, Recipe, method_of
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.dwa import distil as dwa
from potstill.errors import RecipeError
from potstill.evaluation.protocol import named
from potstill.evaluation.relabel import relabel
from potstill.rcig import distil as rcig
from potstill.runs import Run
from potstill.teacher import Teacher

Progress = Callable[[str, int, int, dict[str, float]], None]
"""Called with the stage (``iteration``; ``teacher epoch``, ``synthesis iteration``, ``relabelling
epoch``), how much of it is done, how much there is, and numbers of the newest step."""


def distil(
    recipe: Recipe,
    source: SourceDataset,
    run: Run | None = None,
    *,
    device: str = "cpu",
    teacher: Teacher | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Args:
        run: a folder to log to, checkpoint in and resume from; the distilled set is stored
            there too. Without one nothing is written.
        device: "cpu" or "cuda".
        teacher: dwa: the network to invert; trained as the recipe says if None.
        workers: dwa: groups inverted at a time, each in a process of its own if there are
            several (a script then needs ``if __name__ == "__main__"``); one, here, if None. The
            result is the same.
        progress: told of every stage.

    Raises:
        RecipeError: a teacher or workers for a method that has none.
        PotstillError: what the method's own ``distil`` raises.
    """
    if isinstance(recipe.method, DWARecipe):
        return _dwa(recipe, source, run, device, teacher, workers, progress)
    if teacher is not None or workers is not None:
        raise RecipeError(
            f"{recipe.name} is a recipe for {recipe.method.kind}, which has neither a teacher nor "
            "workers; leave them out"
        )
    named(recipe.evaluation.protocol)
    total = recipe.method.iterations

    def tell(iteration: int, values: dict[str, float]) -> None:
        if progress is not None:
            progress("iteration", iteration, total, values)

    return rcig.distil(recipe, source, run, device=device, progress=tell)


def _dwa(
    recipe: Recipe,
    source: SourceDataset,
    run: Run | None,
    device: str,
    teacher: Teacher | None,
    workers: int | None,
    progress: Progress | None,
) -> DistilledDataset:
    stages = {"teacher": "teacher epoch", "synthesis": "synthesis iteration"}

    def tell(stage: str, done: int, total: int, values: dict[str, float]) -> None:
        if progress is not None:
            progress(stages.get(stage, stage), done, total, values)

    def label(dataset: DistilledDataset, labeller: Teacher) -> DistilledDataset:
        return relabel(
            dataset,
            labeller,
            seed=recipe.seed,
            device=device,
            progress=lambda done, total: tell("relabelling epoch", done, total, {}),
        )

    stored = method_of(recipe, DWARecipe).store_soft_labels
    protocol = named(recipe.evaluation.protocol)
    if stored and not protocol.takes_teacher:
        raise RecipeError(
            f"protocol {protocol.name} has no soft labels to store; unset method.store_soft_labels "
            "or set evaluation.protocol to a dwa one"
        )
    return dwa.distil(
        recipe,
        source,
        run,
        teacher=teacher,
        device=device,
        progress=tell,
        executor=execution.in_processes(workers or 1),
        finish=label if stored else None,
    )
