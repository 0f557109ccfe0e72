"""The record that a run leaves behind, as it is read.

It is checked strictly and once, so that whoever reads a run may trust every type. Keys and audits
that this version does not know are another version's and are passed over.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationError

from potstill import storage
from potstill.config import Name
from potstill.errors import RunError
from potstill.quoting import fault
from potstill.results import (
    Continual,
    Count,
    Diversity,
    Document,
    Evaluation,
    Membership,
    RobustScores,
)

RECORD_FORMAT = 1

Seconds = Annotated[float, Field(ge=0)]


class Timing(Document):
    """Wall-clock seconds of a run, in total and by named part."""

    total: Seconds = 0.0
    parts: dict[Name, Seconds] = Field(default_factory=dict)


class Other(Document):
    """An audit of a kind that this version does not know."""


_KINDS = ("scores", "membership", "continual", "diversity")


def _kind(audit: Any) -> str:
    kind = audit.get("kind") if isinstance(audit, dict) else getattr(audit, "kind", None)
    return kind if kind in _KINDS else "other"


Recorded = Annotated[
    Annotated[RobustScores, Tag("scores")]
    | Annotated[Membership, Tag("membership")]
    | Annotated[Continual, Tag("continual")]
    | Annotated[Diversity, Tag("diversity")]
    | Annotated[Other, Tag("other")],
    Discriminator(_kind),
]


class Record(Document):
    """What ``record.json`` holds."""

    status: Literal["running", "finished", "stopped"]
    iteration: Count
    seconds: Timing = Timing()
    peak_memory: Count = 0
    """Bytes (:class:`potstill.hardware.PeakMemory`); 0 where it was not recorded."""
    machine: dict[Name, str | int | float | None] = Field(default_factory=dict)
    versions: dict[Name, str] = Field(default_factory=dict)
    results: tuple[Evaluation, ...] = ()
    audits: tuple[Recorded, ...] = ()


def checked_record(path: Path) -> tuple[Record, dict[str, Any]]:
    """What the file says, and all that it says as JSON has it.

    Raises:
        RunError: there is none, or it is damaged or of a newer format.
    """
    try:
        document = storage.read_json(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot read {path}: {reason}; is {path.parent} a run's folder?") from None
    except ValueError as error:
        raise RunError(
            f"{path} is damaged: it is no JSON of ours ({error}); restore a copy or delete it"
        ) from None
    if not isinstance(document, dict) or document.get("format") != RECORD_FORMAT:
        raise RunError(
            f"{path} is not a record of format {RECORD_FORMAT}; "
            "use the version of potstill that wrote it"
        )
    try:
        record = Record.model_validate_json(storage.canonical(document), strict=True)
    except ValidationError as error:
        raise RunError(f"{path} is damaged ({fault(error)}); restore a copy or delete it") from None
    return record, document
