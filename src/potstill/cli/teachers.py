"""How a command is told its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from potstill.api.teachers import labeller_of, read_teacher, teacher_of

__all__ = ["Labeller", "TeacherFile", "labeller_of", "read_teacher", "teacher_of"]

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
