"""Folders of runs: written while a set is distilled (``run``), read when it is there (``records``).

:mod:`potstill.runs.records` is imported by those who read runs, and not from here.
"""

from potstill.runs.documents import RECORD_FORMAT
from potstill.runs.log import METRICS, TENSORBOARD
from potstill.runs.run import (
    CHECKPOINT,
    DISTILLED,
    RECIPE,
    RECORD,
    Run,
    Status,
    adopt,
    lies_in_run,
    read_record,
    record_audit,
    require_free,
)

__all__ = [
    "CHECKPOINT",
    "DISTILLED",
    "METRICS",
    "RECIPE",
    "RECORD",
    "RECORD_FORMAT",
    "TENSORBOARD",
    "Run",
    "Status",
    "adopt",
    "lies_in_run",
    "read_record",
    "record_audit",
    "require_free",
]
