"""The record and the log that a run leaves behind, as they are read.

Both are checked strictly and once, so that whoever reads a run may trust every type. Keys and
audits that this version does not know are another version's and are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from potstill import hardware, storage
from potstill.config import Name
from potstill.errors import RunError
from potstill.files import open_regular
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

_LONGEST_LINE = 1 << 20
# What is made of a log takes so many times its bytes.
_COPIES = 8

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


class Entry(BaseModel):
    """A line of the log; of further keys each is a quantity, null where it was not finite."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)

    __pydantic_extra__: dict[str, float | None]
    iteration: Count
    seconds: float = 0.0

    @property
    def values(self) -> dict[str, float | None]:
        """The quantities by name."""
        return self.__pydantic_extra__


def read_log(path: Path) -> Iterator[tuple[bytes, Entry]]:
    """Every line of the log, without its end, and what it says; none if there is no log.

    The last line, which a killed run may have left torn, is passed over if it says nothing.

    Raises:
        RunError: another line is none, or the file cannot be read or is too large for the memory.
    """
    try:
        with open_regular(path) as file:
            shortage = hardware.shortage(os.fstat(file.fileno()).st_size, _COPIES)
            if shortage is not None:
                raise RunError(f"{path} has {shortage}; use a machine with more")
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if not line.strip():
                    continue
                try:
                    entry = Entry.model_validate_json(line)
                except ValidationError:
                    if len(line) < _LONGEST_LINE and not line.endswith(b"\n"):
                        return  # the last one, torn
                    raise RunError(
                        f"{path}, line {number}: not a JSON object of numbers with an iteration; "
                        "remove the line"
                    ) from None
                yield line.rstrip(b"\n"), entry
    except FileNotFoundError:
        return
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot read {path}: {reason}; check its permissions") from None
