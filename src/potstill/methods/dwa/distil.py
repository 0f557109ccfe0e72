"""DWA, and SRe2L below it, from recipe to distilled set: teacher, groups, one file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from potstill import checkpoints
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, centred_one_hot, members
from potstill.errors import DataError, RecipeError, RunError
from potstill.evaluation.protocol import named
from potstill.evaluation.relabel import relabel
from potstill.files import make_folder, remove_leftovers
from potstill.methods.coresets.choose import chosen_rows
from potstill.methods.dwa import groups
from potstill.methods.dwa.groups import Group, Inverted, Inverter, Task
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.recipe import Recipe, method_of
from potstill.methods.squeeze import TEACHER, squeeze_in
from potstill.networks.batch_norms import batch_norms
from potstill.progress import Progress
from potstill.teacher import Teacher

if TYPE_CHECKING:
    from potstill.runs import Run

GROUPS = "groups"


def distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    The run's folder gets the teacher (a copy of one that was given), every finished group and
    the log; what is there already is not made again.

    Raises:
        DataError: a class has too few images, or the teacher was made for other data.
        NetworkError: the teacher has no batch norm.
        NumericalError: a number left the finite ones; finished groups stand.
        RecipeError: soft labels are to be stored for a protocol without.
        RunError: the folder cannot be written, or holds groups of another teacher.
    """
    settings, run = method_of(recipe, DWASettings), session.run
    if settings.store_soft_labels:
        _require_soft_labels(recipe)
    members(source, recipe.images_per_class)  # complains before a teacher is trained
    plan = groups.plan(recipe.images_per_class, source.classes, settings.class_batch)
    ledger = _Ledger(recipe, plan, run, session.progress)
    teacher = session.teacher
    if teacher is None:
        try:
            teacher = squeeze_in(session, recipe, source)
        finally:
            # The time spent counts, also that of a training that was stopped.
            ledger.keep()
    _check(teacher, source)
    if run is not None:
        _keep(teacher, run.path / TEACHER)
    folder = run.path / GROUPS if session.units is None and run is not None else session.units
    if folder is not None:
        make_folder(folder)
        remove_leftovers(folder)
    origin = {"teacher": teacher.digest, "source": source.fingerprint}
    inverter = Inverter(recipe, teacher.network, teacher.preprocess, folder, origin, session.device)
    rows = _first(recipe, source, session, teacher)
    shape = tuple(source.train.images.shape[1:])
    for group in plan:
        kept = None if folder is None else groups.read(folder, group, origin, shape)
        if kept is not None and run is not None:
            run.contains(kept.surroundings)
            ledger.add(kept)
    sequential = settings.sequence_weight > 0
    pending = [group for group in plan if group.name not in ledger.finished]
    for together in _rounds(pending, sequential):
        tasks = [
            Task(
                group,
                source.train.images[rows[list(group.classes), group.index]],
                ledger.before(group) if sequential else (),
            )
            for group in together
        ]
        # Closed, so that processes end with the iteration, however it ends.
        with closing(session.executor.map(inverter, tasks, ledger.tell)) as finished:
            for inverted in finished:
                ledger.add(inverted)
    images, labels = assemble(ledger.finished.values(), source.classes)
    result = product(
        recipe,
        source,
        images,
        centred_one_hot(labels, source.classes),
        teacher.preprocess,
        iterations=settings.iterations,
        teacher=teacher,
    )
    if settings.store_soft_labels:
        result = _labelled(result, teacher, recipe, session)
    return result


def _first(recipe: Recipe, source: SourceDataset, session: Session, teacher: Teacher) -> Tensor:
    """Rows (classes, images_per_class) int64 of the training split: S_0, a column a group."""
    selection = method_of(recipe, DWASettings).selection
    if selection is None:
        return groups.real_rows(source, recipe.images_per_class, recipe.seed)
    where = replace(session, teacher=teacher)
    chosen, _ = chosen_rows(recipe, source, selection, teacher.preprocess, where)
    return chosen.unflatten(0, (source.classes, recipe.images_per_class))


def _rounds(pending: Sequence[groups.Group], sequential: bool) -> list[list[groups.Group]]:
    """Groups that know nothing of each other, a list of them after the other."""
    if not sequential:
        return [list(pending)]
    return [list(found) for _, found in groupby(pending, key=lambda group: group.index)]


def assemble(inverted: Iterable[Inverted], classes: int) -> tuple[Tensor, Tensor]:
    """Images (n, c, h, w) uint8 and classes (n,) int64, class by class, each in order of index."""
    ordered = sorted(inverted, key=lambda one: (one.group.index, one.group.batch))
    images = torch.cat([one.images for one in ordered])
    labels = torch.tensor([label for one in ordered for label in one.group.classes])
    order = torch.argsort(labels, stable=True)
    return images[order], labels[order]


def _require_soft_labels(recipe: Recipe) -> None:
    protocol = named(recipe.evaluation.protocol)
    if not protocol.takes_teacher:
        raise RecipeError(
            f"protocol {protocol.name} has no soft labels to store; unset method.store_soft_labels "
            "or set evaluation.protocol to a dwa one"
        )


def _labelled(
    dataset: DistilledDataset, teacher: Teacher, recipe: Recipe, session: Session
) -> DistilledDataset:
    """The set with the teacher's labels of the views that its protocol shows."""
    return relabel(
        dataset,
        teacher,
        seed=recipe.seed,
        device=session.device,
        progress=session.progress,
    )


class _Ledger:
    """Finished groups, and what log, record and progress are told of them.

    The log follows the plan's order, whatever the order in which groups are finished: its
    ``iteration`` counts through all groups, one after the other.
    """

    def __init__(
        self,
        recipe: Recipe,
        plan: Sequence[groups.Group],
        run: Run | None,
        progress: Progress,
    ) -> None:
        self.finished: dict[str, Inverted] = {}
        self._length = method_of(recipe, DWASettings).iterations
        self._plan, self._run, self._progress = plan, run, progress
        self._steps = 0
        self._losses: dict[str, float] = {}
        checkpoint = run.load_checkpoint() if run else None
        self._logged = 0
        if run and checkpoint:
            with checkpoints.restoring(run.path):
                checkpoints.require_like(checkpoint[1], {"logged": 0})
            self._logged = checkpoint[1]["logged"]
        else:
            self.keep()  # what the run is of, before the teacher and groups are made of it

    def tell(self, steps: int) -> None:
        """Count ``steps`` more iterations, wherever they were done."""
        self._steps += steps
        self._show()

    def add(self, inverted: Inverted) -> None:
        """Take in a finished group."""
        self.finished[inverted.group.name] = inverted
        self._steps = max(self._steps, len(self.finished) * self._length)
        self._losses = {k: v for k, v in inverted.history[-1].items() if k != "iteration"}
        self._log()
        self._show()

    def before(self, group: groups.Group) -> tuple[Tensor, ...]:
        """The images of the groups of the same classes before this one, which are finished."""
        earlier = (Group(index, group.batch, group.classes) for index in range(group.index))
        return tuple(self.finished[one.name].images for one in earlier)

    def _log(self) -> None:
        if self._run is None:
            return
        logged = self._logged
        while logged < len(self._plan) and self._plan[logged].name in self.finished:
            inverted = self.finished[self._plan[logged].name]
            for name, seconds in inverted.seconds.items():
                self._run.count(name, seconds)
            for line in inverted.history:
                values = {name: value for name, value in line.items() if name != "iteration"}
                self._run.log(logged * self._length + int(line["iteration"]), values)
            logged += 1
        if logged > self._logged:
            self._logged = logged
            self.keep()

    def keep(self) -> None:
        """Write how far the log is, and the time that was spent."""
        if self._run is not None:
            self._run.save_checkpoint(self._logged * self._length, {"logged": self._logged})

    def _show(self) -> None:
        total = len(self._plan) * self._length
        self._progress("synthesis iteration", min(self._steps, total), total, **self._losses)


def _check(teacher: Teacher, source: SourceDataset) -> None:
    """That the teacher is one for this data, and one that can be inverted."""
    teacher.require_for(source)
    kind = teacher.preprocess.describe()["kind"]
    if kind != "standardise":
        raise DataError(
            f"DWA keeps its images in the range of valid pixels, which {kind} does not have; take "
            "a teacher of standardised images"
        )
    batch_norms(teacher.network)


def _keep(teacher: Teacher, path: Path) -> None:
    """A copy in the run's folder, where no other teacher may be overwritten."""
    if not path.exists():
        teacher.save(path)
    elif Teacher.load(path, teacher.header["network"].get("module")).digest != teacher.digest:
        raise RunError(f"{path} is another teacher; leave out --teacher, or use another --out")
