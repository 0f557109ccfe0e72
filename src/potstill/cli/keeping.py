"""What a command leaves behind: results in the set's file, and in the record of its run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli.options import warn
from potstill.errors import RunError

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset

NoSave = Annotated[
    bool, typer.Option("--no-save", help="Do not add the result to ARTEFACT and its run")
]
NoSaveAudit = Annotated[
    bool, typer.Option("--no-save", help="Do not add the audit to ARTEFACT's run")
]


def keep_result(
    dataset: DistilledDataset, artefact: Path, result: dict[str, Any]
) -> DistilledDataset:
    """The set with ``result``, which its file and its run get too; a warning if that fails."""
    from potstill import runs

    scored = dataset.with_result(result)
    try:
        scored.save(artefact)
        if _in_run(artefact):
            runs.record_result(artefact.parent, result)
    except RunError as error:
        warn(f"the result is not kept: {error}")
    return scored


def deliver(
    audit: dict[str, Any],
    artefact: Path,
    text: Callable[[dict[str, Any]], str],
    *,
    as_json: bool,
    no_save: bool,
) -> None:
    """Print an audit, as ``text`` has it or as JSON, and add it to the record of the set's run."""
    from potstill import runs

    for warning in audit.get("warnings", ()):
        warn(warning)
    if not no_save and _in_run(artefact):
        try:
            runs.record_audit(artefact.parent, audit)
        except RunError as error:
            warn(f"the audit is not kept: {error}")
    print(json.dumps(audit, indent=2) if as_json else text(audit))


def _in_run(artefact: Path) -> bool:
    """Whether an artefact lies in the folder of its run."""
    from potstill import runs

    return artefact.name == runs.DISTILLED and (artefact.parent / runs.RECORD).exists()
