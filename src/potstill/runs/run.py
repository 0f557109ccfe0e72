"""A run's folder: what it was asked, how far it is, what it measured.

    recipe.yaml             the resolved recipe
    metrics.jsonl           one JSON object a line, {"iteration", "seconds", name: number, ...}
    tensorboard/            the same numbers
    checkpoint.safetensors  the newest state that can be resumed from
    distilled.safetensors   the result
    record.json             status, time, machine, versions, audits

Evaluations are kept in the distilled set alone; records from before that have some too. What else
depends on the machine or the clock stands here and never in the result.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from potstill import checkpoints, hardware
from potstill.data.distilled import DistilledDataset
from potstill.data.inventory import Inventory
from potstill.data.source import SourceDataset
from potstill.errors import RunError
from potstill.files import atomic_write, remove_leftovers
from potstill.methods import recipe as recipes
from potstill.methods.recipe import Recipe
from potstill.runs import documents
from potstill.runs.documents import RECORD_FORMAT
from potstill.runs.log import Log, cut_log, explained
from potstill.runs.origin import Origin, require_same_recipe
from potstill.surroundings import (
    Surroundings,
    going_on,
    machine,
    noted,
    present,
    require_threads,
    versions,
)

RECIPE = "recipe.yaml"
CHECKPOINT = "checkpoint.safetensors"
DISTILLED = "distilled.safetensors"
RECORD = "record.json"

_LOCK = ".lock"
# Of a record, what does not come from the run itself.
_MEASURED = ("results", "audits")

Status = Literal["running", "finished", "stopped"]


class _Reached(BaseModel):
    """The header of a checkpoint."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    iteration: int = Field(ge=0)
    seconds: float = Field(ge=0)
    parts: dict[str, float]
    origin: Origin | None = None


class Run:
    """One run's folder, held by one process at a time.

    Make one with :meth:`create` and use it in a ``with`` block: leaving the block marks a run
    that was not finished as stopped, and frees the folder.
    """

    def __init__(self, path: Path, *, device: str, lock: int) -> None:
        """Take over a folder that is locked by ``lock``; use :meth:`create`."""
        self.path = path
        self.iteration = 0
        self._lock: int | None = lock
        self._surroundings: dict[str, Any] = {"machine": machine(device), "versions": versions()}
        self._recipe: dict[str, Any] = {}
        self._origin: Origin | None = None
        self._resumed = False
        self._status: Status = "running"
        self._measured: dict[str, Any] = {"audits": []}
        self._parts: dict[str, float] = {}
        self._seconds_before = 0.0
        self._memory, self._memory_before = hardware.PeakMemory(device), 0
        self._started = time.perf_counter()
        self._pending: tuple[int, Any] | None = None
        self._log = Log(path)

    @classmethod
    def create(
        cls, out: Path | str, recipe: Recipe | None, resume: bool = False, *, device: str = "cpu"
    ) -> Run:
        """Start a run in the folder ``out``, or with ``resume`` go on with the one it holds.

        Resuming a folder that holds no run starts one. Lines of the log that are newer than
        the checkpoint are dropped: they will be measured again. A set that no recipe made has
        None.

        Raises:
            RunError: the folder is taken, locked, not writable, of another recipe, or damaged.
        """
        path = Path(out)
        lock = _lock(path)
        try:
            remove_leftovers(path)
            run = cls(path, device=device, lock=lock)
            if recipe is not None:
                run._recipe = recipe.model_dump(mode="json")
            if _holds_run(path):
                if not resume:
                    require_free(path)
                run._restore(recipe)
            elif recipe is not None:
                atomic_write(path / RECIPE, recipes.dump(recipe).encode())
            if run._status != "finished":
                run._write_record()
        except BaseException:
            os.close(lock)
            raise
        return run

    @property
    def artefact(self) -> Path:
        """Path of the distilled set, written or not."""
        return self.path / DISTILLED

    @property
    def finished(self) -> bool:
        """Whether the run reached its end and its result is there."""
        return self._status == "finished" and self.artefact.exists()

    @property
    def seconds(self) -> float:
        """Time spent in this run so far, over all its processes."""
        return self._seconds_before + time.perf_counter() - self._started

    def begin(
        self, source: SourceDataset, *, device: str = "cpu", threads: int | None = None
    ) -> None:
        """Say what the run is about to be made of, or is: checkpoints keep it.

        Args:
            source: the data.
            device: where it is worked on.
            threads: that sums are split over; if None, those of the run that goes on, and of a new
                one those that PyTorch has.

        Raises:
            RunError: the run was begun with other data, another number of threads, or by a version
                that kept neither.
        """
        here, before = Inventory.of(source), self._origin
        if before is not None:
            before.source.require_same(here, self.path)
            where = going_on(self.path, before.surroundings, device, threads)
        elif self._resumed:
            raise RunError(
                f"the checkpoint in {self.path} was written by an earlier potstill, which did not "
                "keep what data it is of; finish the run with the version that wrote it, or use "
                "another --out"
            )
        else:
            where = present(device, self._threads_of_result(here, threads) or threads)
        self._origin = Origin(recipe=self._recipe, source=here, surroundings=where)
        if not self.finished:
            self._surroundings["machine"]["threads"] = where.threads
            self._write_record()

    def _threads_of_result(self, source: Inventory, threads: int | None) -> int | None:
        """How many a finished run had, if it says; it must be of this data and of ``threads``."""
        if not self.finished:
            return None
        made = DistilledDataset.load(self.artefact)
        Inventory.stated(made.header["source"], made.class_names).require_same(source, self.path)
        had: int | None = made.header.get("surroundings", {}).get("threads")
        require_threads(self.path, had, threads)
        return had

    @property
    def surroundings(self) -> Surroundings:
        """What to work in, and what else a part of the run was made in; once it has begun."""
        assert self._origin is not None, "begin the run first"
        return self._origin.surroundings

    def contains(self, surroundings: Surroundings) -> None:
        """Note that a part of the run was made in these; apart from the number of its threads."""
        if self._origin is None:
            return
        where = self._origin.surroundings
        differing = surroundings.differences(where)
        if not {*differing} <= {*where.mixed}:
            where = where.mixed_with(noted(self.path, differing))
            self._origin = self._origin.model_copy(update={"surroundings": where})

    # Checkpoints

    def load_checkpoint(self) -> tuple[int, Any] | None:
        """The (iteration, state) to go on from; None if there is none, or it was handed out."""
        pending, self._pending = self._pending, None
        return pending

    def save_checkpoint(self, step: int, state: Any) -> None:
        """Keep ``state`` as what stands after ``step`` iterations; see :mod:`checkpoints`.

        Raises:
            TypeError: the state holds something a checkpoint cannot.
            RunError: it cannot be written; the previous checkpoint is untouched.
        """
        self._log.sync()
        self.iteration = step
        header = {"iteration": step, "seconds": self.seconds, "parts": self._parts}
        if self._origin is not None:
            header["origin"] = self._origin.model_dump(mode="json")
        checkpoints.write(self.path / CHECKPOINT, state, header)
        self._write_record()

    # Measurements

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line to metrics.jsonl and to TensorBoard; not finite numbers become null.

        Raises:
            RunError: the disk is full or gone.
        """
        self.iteration = step
        self._log.append(step, self.seconds, values)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time spent in the block towards the part ``name`` of the record."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.count(name, time.perf_counter() - start)

    def count(self, name: str, seconds: float) -> None:
        """Count ``seconds`` spent elsewhere, in a worker say, towards the part ``name``."""
        self._parts[name] = self._parts.get(name, 0.0) + seconds

    # The end

    def finish(self, status: Status = "finished") -> None:
        """Write the record a last time with ``status``; may be called again."""
        self._status = status
        self._write_record()

    def close(self) -> None:
        """Free the folder; a run that is still running is marked as stopped."""
        if self._lock is None:
            return
        try:
            if self._status == "running":
                self.finish("stopped")
        finally:
            self._log.close()
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        # The first failure is the one to report, not that a full disk refuses the record too.
        with suppress(RunError):
            self.close()

    def _restore(self, recipe: Recipe | None) -> None:
        if recipe is not None:
            require_same_recipe(self.path, _stored_recipe(self.path), recipe)
        record = None
        if (self.path / RECORD).exists():
            record, document = documents.checked_record(self.path / RECORD)
            self._measured |= {key: document[key] for key in _MEASURED if key in document}
            self._memory_before = record.peak_memory
        if record is not None and record.status == "finished" and self.artefact.exists():
            # What it went on from is of no use any more, and may be of an earlier version.
            self._status, self.iteration = "finished", record.iteration
            self._seconds_before = record.seconds.total
            self._parts = dict(record.seconds.parts)
        elif (self.path / CHECKPOINT).exists():
            state, document = checkpoints.read(self.path / CHECKPOINT)
            with checkpoints.restoring(self.path):
                header = _Reached.model_validate(document)
            self._origin, self._resumed = header.origin, True
            if recipe is not None and self._origin is not None:
                made_with = recipes.parse(self._origin.recipe, source=str(self.path / CHECKPOINT))
                require_same_recipe(self.path / CHECKPOINT, made_with, recipe)
            self.iteration = header.iteration
            self._seconds_before = header.seconds
            self._parts = dict(header.parts)
            self._pending = (self.iteration, state)
        cut_log(self.path, self.iteration)

    def _write_record(self) -> None:
        record = {
            "format": RECORD_FORMAT,
            "status": self._status,
            "iteration": self.iteration,
            "seconds": {
                "total": round(self.seconds, 3),
                "parts": {name: round(seconds, 3) for name, seconds in self._parts.items()},
            },
            "peak_memory": max(self._memory.bytes, self._memory_before),
            **self._surroundings,
            **self._measured,
        }
        _write_json(self.path / RECORD, record)


def require_free(out: Path | str, *, resumable: bool = True) -> None:
    """Refuse a folder that a new run cannot be in, before any work is done for it.

    ``resumable``: whether whoever asks could go on with the run.

    Raises:
        RunError: it holds a run already.
    """
    if _holds_run(Path(out)):
        resume = "--resume to go on with it, or " if resumable else ""
        raise RunError(f"{out} already holds a run; use {resume}another --out")


def adopt(out: Path | str, dataset: DistilledDataset) -> Path:
    """Put a set that nobody distilled here into a folder of its own, as a finished run's result.

    There is no ``recipe.yaml``: no recipe made it.

    Returns:
        Where the set lies.

    Raises:
        RunError: the folder is taken, locked or not writable.
    """
    path = Path(out)
    require_free(path, resumable=False)
    with Run.create(path, None) as run:
        dataset.save(run.artefact)
        run.finish()
    return run.artefact


def read_record(folder: Path) -> dict[str, Any]:
    """The record of the run in ``folder``.

    Raises:
        RunError: there is none, or it is damaged or of a newer format.
    """
    return documents.checked_record(folder / RECORD)[1]


def record_audit(folder: Path, audit: Mapping[str, Any]) -> None:
    """Append an audit, which says its ``kind``, to the record of the run in ``folder``.

    Raises:
        RunError: no record, a process is at work in the folder, a number is not finite, or it
            cannot be written.
    """
    lock = _lock(folder)
    try:
        remove_leftovers(folder)
        record = read_record(folder)
        record["audits"] = [*record.get("audits", ()), dict(audit)]
        _write_json(folder / RECORD, record)
    finally:
        os.close(lock)


def lies_in_run(artefact: Path) -> bool:
    """Whether a set lies in the folder of its run."""
    return artefact.name == DISTILLED and (artefact.parent / RECORD).exists()


def _holds_run(path: Path) -> bool:
    return any((path / name).exists() for name in (RECIPE, CHECKPOINT, DISTILLED, RECORD))


def _lock(path: Path) -> int:
    """Make the folder ``path`` and lock it; the lock goes with the returned descriptor."""
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file; give --out a folder")
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise RunError(
                f"another process is at work in {path}; wait for it, or use another --out"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def at_work(folder: Path) -> bool:
    """Whether a process has the run in ``folder``, or none has left a trace by which to tell."""
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _stored_recipe(path: Path) -> Recipe:
    if not (path / RECIPE).exists():
        raise RunError(f"{path} has no {RECIPE}, so it cannot be resumed; use another --out")
    return recipes.parse(recipes.read_yaml(path / RECIPE), source=str(path / RECIPE))


def _write_json(path: Path, document: Any) -> None:
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except ValueError:
        raise RunError(f"{path} cannot hold numbers that are not finite; measure again") from None
    atomic_write(path, f"{text}\n".encode())
