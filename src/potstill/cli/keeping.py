"""What a command leaves behind: results in the set's file, audits in the record of its run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from potstill.cli.terminal import print_json, print_lines, say, warn
from potstill.errors import ArtefactError, RunError
from potstill.files import expanded

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset
    from potstill.data.whitening_cache import WhiteningCache
    from potstill.evaluation.cache import Cache
    from potstill.results import Audit, Evaluation

_A = TypeVar("_A", bound="Audit")

NoSave = Annotated[bool, typer.Option("--no-save", help="Do not add the result to ARTEFACT")]
NoSaveAudit = Annotated[
    bool, typer.Option("--no-save", help="Do not add the audit to ARTEFACT's run")
]

CacheFolder = Annotated[
    Path | None,
    typer.Option(
        envvar="POTSTILL_CACHE",
        help="Folder that keeps what took long, for the next time  [~/.cache/potstill]",
    ),
]


def cache_folder(folder: Path | None) -> Path:
    """``folder``, or where users' caches are."""
    return expanded(folder or os.environ.get("POTSTILL_CACHE") or _default_cache())


def cache_of(folder: Path | None, kind: str) -> Cache:
    """The cache of numbers of this kind, below ``folder`` or where users' caches are."""
    from potstill.evaluation.cache import Cache

    return Cache(cache_folder(folder) / kind)


def whitenings_of(folder: Path | None) -> WhiteningCache:
    """The cache of fitted ZCA, below ``folder`` or where users' caches are."""
    from potstill.data.whitening_cache import WhiteningCache

    return WhiteningCache(cache_folder(folder) / "whitenings")


def refitted(
    dataset: DistilledDataset, source: SourceDataset, device: str, cache: Path | None = None
) -> DistilledDataset:
    """The set with its ZCA at hand: fitted again, or from the cache, where its file has none."""
    whitenings = whitenings_of(cache)
    whole = dataset.refitted(source, device=device, cache=whitenings)
    warn_of(whitenings)
    return whole


def warn_of(whitenings: WhiteningCache) -> None:
    """A warning if something could not be stored there."""
    if whitenings.problem is not None:
        warn(f"the fitted ZCA is not kept for the next time: {whitenings.problem}")


@contextmanager
def stoppable(what: str, *, goes_on: bool = False) -> Iterator[None]:
    """Ctrl-C inside says ``what`` is kept, and whether the same command goes on from there."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"stopped; {what}" + (", and the same command goes on from there" if goes_on else ""))
        raise typer.Exit(130) from None


def keep_result(artefact: Path, result: Evaluation) -> None:
    """Add ``result`` to the set's file; a warning if that fails."""
    from potstill.data.distilled import DistilledDataset

    try:
        DistilledDataset.add_result(artefact, result.document())
    except (ArtefactError, RunError) as error:
        warn(f"the result is not kept: {error}")


def first_of(
    artefact: Path, dataset: DistilledDataset, per_class: int, *, keep: bool
) -> tuple[Path, DistilledDataset]:
    """The first images of each class of a set, and the file beside it that has them.

    ``keep``: the file is made if it is not there, since results belong to the part alone.

    Raises:
        ArtefactError: a class has fewer images, or the file that is there cannot be read.
        RunError: that file has another set, or cannot be written.
    """
    part = dataset.first(per_class)
    path = artefact.with_name(f"{artefact.stem}-first{per_class}{artefact.suffix}")
    if path.exists():
        if type(part).load(path).digest != part.digest:
            raise RunError(f"{path} has other images than {artefact}; delete it, or rename it")
    elif keep:
        part.save(path)
    return path, part


def deliver(
    audit: _A,
    artefact: Path,
    text: Callable[[_A], Sequence[str]],
    *,
    as_json: bool,
    no_save: bool,
    cache: Cache | None = None,
) -> None:
    """Print an audit, as JSON or in the lines of ``text``, and add it to the record of its run.

    ``cache`` is where parts of it were stored for the next time.
    """
    if not no_save:
        keep_audit(audit, artefact)
    announce(audit, text, as_json=as_json, cache=cache)


def announce(
    audit: _A, text: Callable[[_A], Sequence[str]], *, as_json: bool, cache: Cache | None = None
) -> None:
    """Print an audit, as ``text`` has it or as JSON, after its warnings."""
    for warning in audit.warnings:
        warn(warning)
    if cache is not None and cache.problem is not None:
        warn(f"what was trained is not kept for the next time: {cache.problem}")
    if as_json:
        print_json(audit.document())
    else:
        print_lines(*text(audit))


def keep_audit(audit: Audit, artefact: Path) -> None:
    """Add an audit to the record of its set's run; a note or a warning if that cannot be."""
    from potstill import runs

    if not runs.lies_in_run(artefact):
        say("the audit is printed and not kept, since the set lies in no run's folder")
        return
    try:
        runs.record_audit(artefact.parent, audit.document())
    except RunError as error:
        warn(f"the audit is not kept: {error}")


def _default_cache() -> Path:
    """Where the XDG base directory specification puts it."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    return (Path(named) if Path(named).is_absolute() else Path("~/.cache")) / "potstill"
