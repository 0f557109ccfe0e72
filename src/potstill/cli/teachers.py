"""Which teacher a command takes: the one that was named, else that of the set's own run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.options import read_teacher
from potstill.errors import ArtefactError, RecipeError

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.teacher import Teacher

TeacherFile = Annotated[
    Path | None,
    typer.Option("--teacher", metavar="FILE", help="A teacher's .safetensors file  [the run's]"),
]
Labeller = Annotated[
    Path | None,
    typer.Option(
        "--teacher", metavar="FILE", help="Teacher that labels what networks see  [the run's]"
    ),
]


def teacher_of(
    dataset: DistilledDataset, artefact: Path, path: Path | None, module: str | None, device: str
) -> Teacher:
    """The teacher in ``path``, else that of the run ``artefact`` lies in.

    Raises:
        ArtefactError: it cannot be read, or the run's is not the one the set was made with.
        RecipeError: there is none.
    """
    if path is not None:
        return read_teacher(path, module, device)
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
    artefact: Path,
    *,
    device: str,
    protocol: str | None = None,
    path: Path | None = None,
    module: str | None = None,
    stored_suffice: bool = True,
) -> Teacher | None:
    """The teacher that was named; else the run's, where the protocol has one label.

    Where ``stored_suffice``, labels that the set has stored for the protocol make the run's
    teacher superfluous.
    """
    from potstill.evaluation.labelling import stored_for
    from potstill.evaluation.protocol import made_for, named

    if path is None:
        wanted = named(made_for(dataset, "protocol") if protocol is None else protocol)
        shown = wanted.views_to_label(dataset, None)
        stored = stored_suffice and shown is not None and stored_for(dataset, shown)
        if not wanted.takes_teacher or stored or not _beside(artefact).exists():
            return None
    return teacher_of(dataset, artefact, path, module, device)


def _beside(artefact: Path) -> Path:
    return artefact.parent / "teacher.safetensors"
