"""What is kept and handed on: results, pages and sets that other code made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill import runs
from potstill.api.inputs import set_file
from potstill.data.distilled import DistilledDataset
from potstill.errors import RunError
from potstill.files import expanded
from potstill.results import Audit, Evaluation


def keep(place: str | Path, result: Evaluation | Audit) -> None:
    """Add a result to the set's file, or an audit to the record of its run.

    Args:
        place: the set's file, or the folder of its run.
        result: what a function of potstill's returned.

    Raises:
        RunError: an audit of a set that lies in no run's folder, or it cannot be written.
        ArtefactError: the file is no distilled set.
    """
    artefact = set_file(place)
    if not isinstance(result, Evaluation | Audit):
        raise RunError(
            f"an object of type {type(result).__name__} is no result; pass what an evaluation or "
            "an audit returned"
        )
    if isinstance(result, Evaluation):
        DistilledDataset.add_result(artefact, result.document())
        return
    if not runs.lies_in_run(artefact):
        raise RunError(
            f"an audit is kept in the record of a run, and {artefact} lies in no run's folder; "
            "pass the folder of a run"
        )
    runs.record_audit(artefact.parent, result.document())


def write_report(places: str | Path | Sequence[str | Path], out: str | Path) -> Path:
    """Write one HTML page about runs.

    Args:
        places: the folder of a run, or several.
        out: the page to make or replace.

    Returns:
        Where the page lies.

    Raises:
        RunError: a folder is no readable run, or the page cannot be written.
        ArtefactError: a run's distilled set is damaged.
    """
    from potstill import report

    several = [places] if isinstance(places, str | Path) else list(places)
    if not several:
        raise RunError("a page is about one run at least; pass the folder of one")
    page = expanded(out)
    report.write([expanded(place) for place in several], page)
    return page
