"""The command that asks whether a distilled set betrays the images it was distilled from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.keeping import (
    CacheFolder,
    NoSaveAudit,
    announce,
    cache_of,
    keep_audit,
    refitted,
    stoppable,
)
from potstill.cli.networks import Network, network_of
from potstill.cli.options import (
    DataRoot,
    Device,
    Download,
    Json,
    Seed,
    app,
    chosen_device,
    read_set,
    read_source,
    set_in,
)
from potstill.cli.progress import reporting
from potstill.progress import part
from potstill.text import accuracy_text, count, network_text, spread

if TYPE_CHECKING:
    from potstill.results import Accuracy, Membership

_CASES = {
    "distilled": "the distilled set",
    "members": "the members themselves",
    "random": "random members",
}
_UNTRAINED = "nothing yet"


@app.command()
def attack(
    artefacts: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTEFACT...",
            callback=lambda paths: [set_in(path) for path in paths],
            help="Distilled sets, by files or by folders of runs; of several, each is attacked "
            "and one result printed",
        ),
    ],
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="N,...",
            help="Training steps after which networks are attacked  [100,200,500,1000,...,16000]",
        ),
    ] = None,
    networks: Annotated[
        int, typer.Option(min=1, help="Number of networks to train and attack")
    ] = 5,
    folds: Annotated[
        int,
        typer.Option(
            min=2,
            help="Number of parts of the images guessed at: scored on one, fitted on the others",
        ),
    ] = 5,
    baselines: Annotated[
        bool,
        typer.Option(
            "--baselines",
            help="Also attack networks trained on real images: all, and as many as the set",
        ),
    ] = False,
    network: Network = None,
    augment: Annotated[
        bool, typer.Option(help="Train on augmented images, as in the paper; without, more leaks")
    ] = True,
    data_root: DataRoot = None,
    cache: CacheFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: NoSaveAudit = False,
    as_json: Json = False,
) -> None:
    """Guess from networks trained on ARTEFACT which images it was distilled from."""
    from potstill.audits import membership
    from potstill.audits.several import together
    from potstill.audits.students import Students

    moments = membership.STEPS if steps is None else _steps(steps)
    where = chosen_device(device)
    store = cache_of(cache, "attacks")
    audits = []
    for done, artefact in enumerate(artefacts):
        dataset = read_set(artefact)
        source = read_source(dataset.data_recipe, data_root, download=download)
        dataset = refitted(dataset, source, where, cache)
        with (
            reporting("training step") as tell,
            stoppable("the networks attacked so far are kept", goes_on=True),
        ):
            audit = membership.membership(
                dataset,
                source,
                steps=moments,
                networks=networks,
                folds=folds,
                baselines=baselines,
                network=network_of(network, source),
                students=Students(augmented=augment),
                device=where,
                seed=seed,
                cache=store,
                progress=part(tell, done, len(artefacts)),
            )
        audits.append(audit)
        if not no_save:
            keep_audit(audit, artefact)
    announce(together(audits), summary, as_json=as_json, cache=store)


def summary(audit: Membership) -> list[str]:
    """A line for each set that networks were trained on, at the last step."""
    cases = {"distilled": audit.distilled, **audit.baselines}
    width = max(map(len, (_UNTRAINED, *(_CASES[name] for name in cases))))
    last = audit.distilled.last
    several = f" on each of {count(audit.sets, 'set')}" if audit.sets > 1 else ""
    lines = [
        f"{count(audit.members, 'member')}, {count(audit.others, 'other')}; area under the "
        f"curve of {count(audit.networks, 'network')}{several} ({network_text(audit.network)}) "
        f"after {count(last.steps, 'step')} on (0.5 is a guess):"
    ]
    for name, case in cases.items():
        accuracy = f"accuracy {accuracy_text(case.last.accuracy, 2)} %"
        lines.append(f"{_CASES[name]:{width}}  {_areas(case.last.auc)}  {accuracy}")
    if audit.untrained is not None:
        lines.append(f"{_UNTRAINED:{width}}  {_areas(audit.untrained.auc)}")
    return lines


def _areas(areas: Mapping[str, Accuracy]) -> str:
    return "  ".join(f"{attack} {spread(area, 3)}" for attack, area in areas.items())


def _steps(text: str) -> list[int]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(f"--steps {text!r}: expected numbers such as 100,1000")
    return [int(part) for part in parts]
