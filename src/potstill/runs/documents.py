"""The record that a run leaves behind, as it is read."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from potstill.results import Document, Evaluation


class Timing(Document):
    """Wall-clock seconds of a run, in total and by named part."""

    total: float = 0.0
    parts: dict[str, float] = Field(default_factory=dict)


class Record(Document):
    """What ``record.json`` holds."""

    status: Literal["running", "finished", "stopped"]
    iteration: int = Field(ge=0)
    seconds: Timing = Timing()
    peak_memory: int = Field(0, ge=0)
    """Bytes (:class:`potstill.hardware.PeakMemory`); 0 where it was not recorded."""
    machine: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, Any] = Field(default_factory=dict)
    results: tuple[Evaluation, ...] = ()
    audits: tuple[dict[str, Any], ...] = ()
