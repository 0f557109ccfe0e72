"""The command that sets methods and sets side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from potstill.cli.keeping import CacheFolder, cache_folder
from potstill.cli.networks import ScoringNetworkOfAll
from potstill.cli.options import (
    Assignments,
    DataRoot,
    Device,
    Download,
    Json,
    Module,
    Threads,
    app,
    chosen_device,
)
from potstill.cli.progress import reporting
from potstill.cli.terminal import print_json, print_lines, say
from potstill.cli.text import aligned
from potstill.errors import DataError
from potstill.files import expanded

if TYPE_CHECKING:
    from potstill.comparing import Expected
    from potstill.comparison import Comparison, Missing, Row


@app.command()
def compare(
    methods: Annotated[
        list[str],
        typer.Argument(
            metavar="METHOD...",
            help="Recipes, run folders, distilled sets; or one YAML file that lists them",
        ),
    ],
    images_per_class: Annotated[
        str | None,
        typer.Option(metavar="N,...", help="Images per class of recipes' sets  [each recipe's]"),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="N,...", help="Seeds of recipes' sets  [0]")
    ] = None,
    protocols: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME,...",
            help="Protocols to score all sets under; own: each set's own  [own]",
        ),
    ] = None,
    network: ScoringNetworkOfAll = None,
    networks: Annotated[
        int | None,
        typer.Option(
            min=1, help="Networks to train on each set  [own: the set's; else the first method's]"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs, for common protocols that count them  [the protocol's]"),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|RECIPE",
            help="Teacher that labels under common protocols: its file, or a recipe to train it",
        ),
    ] = None,
    module: Module = None,
    assignments: Assignments = None,
    out: Annotated[Path, typer.Option(help="Folder of the comparison, to begin or to go on")] = (
        Path("runs/comparison")
    ),
    budget: Annotated[
        float | None,
        typer.Option(min=0, help="Minutes for this call; what would take longer is not begun"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do nothing; say what would be done, and its cost")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Sets worked on at a time")] = 1,
    data_root: DataRoot = None,
    device: Device = "auto",
    threads: Threads = None,
    download: Download = False,
    cache: CacheFolder = None,
    as_json: Json = False,
) -> None:
    """Set methods and sets side by side; run what is missing."""
    from potstill import comparing, hardware

    where: dict[str, Any] = {
        "device": chosen_device(device),
        "data_root": None if data_root is None else expanded(data_root, DataError),
        "cache": cache_folder(cache),
        "download": download and not dry_run,
        "module": module,
    }
    wish: dict[str, Any] = {
        "images_per_class": _numbers(images_per_class, "--images-per-class"),
        "seeds": _numbers(seeds, "--seeds"),
        "protocols": _names(protocols),
        "network": network,
        "networks": networks,
        "epochs": epochs,
        "teacher": teacher,
        "settings": tuple(assignments or ()),
    }
    if dry_run:
        with hardware.threads(threads):
            asked = comparing.asked({"methods": methods, **wish})
            expected = comparing.estimate(asked, comparing.Place(out, **where))
        if as_json:
            print_json({"left": [vars(one) for one in expected]})
        else:
            print_lines(*_expected(expected))
        return
    try:
        with hardware.threads(threads), reporting("", tenths=False) as bar:
            found = comparing.compare(
                methods,
                out=out,
                budget=None if budget is None else 60 * budget,
                workers=workers,
                say=say,
                progress=bar,
                **wish,
                **where,
            )
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on with what is in {out}")
        raise typer.Exit(130) from None
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        print_lines(*_table(found), *_files(found, out))
    if any(one.failed for one in found.missing):
        raise typer.Exit(2)


def _table(found: Comparison) -> Iterator[str]:
    """The rows, those that may be held against each other together."""
    from potstill.comparison import ordered

    for group in ordered(found.rows):
        yield from _group(found, group)
        yield ""
    if found.missing:
        yield f"{len(found.missing)} missing:"
        yield from aligned([_missing(one) for one in found.missing])
        yield ""
    yield from (f"note: {note}" for note in found.notes)


def _group(found: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    from potstill.text import count, network_text

    first = rows[0]
    title = f"{found.title}, {count(first.images_per_class, 'image')} per class, "
    if first.asked == "own":
        yield f"{title}each method's own protocol"
    else:
        lasting = "" if first.epochs is None else f", {count(first.epochs, 'epoch')}"
        yield (
            f"{title}protocol {first.protocol}{lasting}, {network_text(first.network)}, "
            f"{count(first.networks, 'network')} a set, {first.shown:,} images shown"
        )
    yield from aligned([_HEAD, *(_cells(found, row) for row in rows)])


_HEAD = ("method", "accuracy", "over random", "seeds", "bytes", "made in", "scored")


def _cells(found: Comparison, row: Row) -> tuple[str, ...]:
    from potstill.text import accuracy_text, duration, network_text, points

    beside = found.beside(row)
    method = row.method
    if row.random and len(row.beside) < len({r.method for r in found.rows if not r.random}):
        method += f" (as {', '.join(row.beside)})"
    how = "" if row.scoring_seconds is None else f"in {duration(row.scoring_seconds)}"
    if row.asked == "own":
        how = f"{row.protocol}, {network_text(row.network)}" + (f", {how}" if how else "")
    return (
        method,
        f"{accuracy_text(row.accuracy)} %",
        "" if beside is None else points(row.accuracy.mean - beside.accuracy.mean),
        str(len(row.seeds)),
        "" if row.bytes is None else f"{row.bytes:,}",
        "" if row.seconds is None else duration(row.seconds),
        how,
    )


def _missing(one: Missing) -> tuple[str, ...]:
    return f"{one.name} at {one.images_per_class}, seed {one.seed}", one.asked, one.why


def _files(found: Comparison, out: Path) -> Iterator[str]:
    names = ("comparison.json", "comparison.csv", "comparison.png") if found.rows else ()
    yield from (str(out / name) for name in names)


def _expected(expected: Sequence[Expected]) -> Iterator[str]:
    from potstill.text import duration

    if not expected:
        yield "nothing is left to do"
        return
    yield from aligned([(one.what, duration(one.seconds)) for one in expected])
    yield f"in all about {duration(sum(one.seconds for one in expected))} of one process, estimated"


def _numbers(text: str | None, option: str) -> tuple[int, ...]:
    """``0,1,2``, or ``0-2`` for the same."""
    found: list[int] = []
    for part in _names(text):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 18:
            raise typer.BadParameter(f"{option} takes numbers such as 0,1,2 or 0-2, not {part!r}")
        if dash and int(last) - int(first) >= 1000:
            raise typer.BadParameter(f"{option} {part} are more than 1,000 numbers; name fewer")
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
