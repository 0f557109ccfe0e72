"""What a command leaves behind: results in the set's file, and in the record of its run."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli.options import say, warn
from potstill.errors import RunError

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.evaluation.kept import Kept

NoSave = Annotated[
    bool, typer.Option("--no-save", help="Do not add the result to ARTEFACT and its run")
]
NoSaveAudit = Annotated[
    bool, typer.Option("--no-save", help="Do not add the audit to ARTEFACT's run")
]

Cache = Annotated[
    Path | None,
    typer.Option(
        envvar="POTSTILL_CACHE",
        help="Folder that keeps what networks reached, for the next time  [~/.cache/potstill]",
    ),
]


def kept_in(cache: Path | None, kind: str) -> Kept:
    """What was kept of this kind, and a place for more."""
    from potstill.evaluation.kept import Kept

    return Kept((cache or _default_cache()).expanduser() / kind)


@contextmanager
def stoppable(what: str, *, goes_on: bool = False) -> Iterator[None]:
    """Ctrl-C inside says ``what`` is kept, and whether the same command goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {what}" + (", and the same command goes on from there" if goes_on else ""))
        raise typer.Exit(130) from None


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
    store: Kept | None = None,
) -> None:
    """Print an audit, as ``text`` has it or as JSON, and add it to the record of the set's run.

    ``store`` is where parts of it were kept for the next time.
    """
    for warning in audit.get("warnings", ()):
        warn(warning)
    if store is not None and store.problem is not None:
        warn(f"what was trained is not kept for the next time: {store.problem}")
    if not no_save:
        _record(audit, artefact)
    print(json.dumps(audit, indent=2) if as_json else text(audit))


def _record(audit: dict[str, Any], artefact: Path) -> None:
    from potstill import runs

    if not _in_run(artefact):
        say("the audit is printed and not kept, since the set lies in no run's folder")
        return
    try:
        runs.record_audit(artefact.parent, audit)
    except RunError as error:
        warn(f"the audit is not kept: {error}")


def _in_run(artefact: Path) -> bool:
    """Whether an artefact lies in the folder of its run."""
    from potstill import runs

    return artefact.name == runs.DISTILLED and (artefact.parent / runs.RECORD).exists()


def _default_cache() -> Path:
    """Where the XDG base directory specification puts it."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(named) if Path(named).is_absolute() else Path("~/.cache")) / "potstill"
