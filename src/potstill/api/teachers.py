"""Which teacher is meant: the one that was named, else that of the set's own run.

PyTorch is imported when a teacher is read, since the command line lists its options from here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from potstill.errors import ArtefactError, RecipeError

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.evaluation.plan import EvaluationProtocol
    from potstill.teacher import Teacher


def read_teacher(path: Path, factory: str | None, device: str) -> Teacher:
    """The teacher in a file, its network on ``device``."""
    from potstill.teacher import Teacher

    teacher = Teacher.load(path, factory)
    teacher.network.to(device)
    return teacher


def teacher_of(
    dataset: DistilledDataset,
    artefact: Path | None,
    given: Teacher | Path | None,
    module: str | None,
    device: str,
) -> Teacher:
    """The teacher that is given, else that of the run ``artefact`` lies in.

    Raises:
        ArtefactError: it cannot be read, or the run's is not the one the set was made with.
        RecipeError: there is none.
    """
    if isinstance(given, Path):
        return read_teacher(given, module, device)
    if given is not None:
        given.network.to(device)
        return given
    if artefact is None:
        raise RecipeError("a teacher is needed and none is given; pass teacher")
    own = _beside(artefact)
    if not own.exists():
        raise RecipeError(f"there is no {own}; name a teacher with --teacher")
    teacher = read_teacher(own, module, device)
    made_with = dataset.header.get("teacher", {}).get("digest", teacher.digest)
    if teacher.digest != made_with:
        raise ArtefactError(
            f"{own} is not the teacher this set was made with; name the one to use with --teacher"
        )
    return teacher


def labeller_of(
    dataset: DistilledDataset,
    artefact: Path | None,
    *,
    device: str,
    protocol: str | EvaluationProtocol | None = None,
    path: Teacher | Path | None = None,
    module: str | None = None,
    stored_suffice: bool = True,
) -> Teacher | None:
    """The teacher that was given; else the run's, where the protocol has one label.

    Where ``stored_suffice``, labels that the set has stored for the protocol make the run's
    teacher superfluous.
    """
    from potstill.evaluation.labelling import stored_for
    from potstill.evaluation.protocol import made_for, named

    if path is None:
        wanted = named(made_for(dataset, "protocol") if protocol is None else protocol)
        shown = wanted.views_to_label(dataset, None)
        stored = stored_suffice and shown is not None and stored_for(dataset, shown)
        absent = artefact is None or not _beside(artefact).exists()
        if not wanted.takes_teacher or stored or absent:
            return None
    return teacher_of(dataset, artefact, path, module, device)


def _beside(artefact: Path) -> Path:
    return artefact.parent / "teacher.safetensors"
