"""The command for scores that labels and augmentation cannot lift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from potstill.cli.keeping import (
    CacheFolder,
    NoSaveAudit,
    cache_of,
    deliver,
    refitted,
    stoppable,
)
from potstill.cli.networks import Network, network_of
from potstill.cli.options import (
    Artefact,
    DataRoot,
    Device,
    Download,
    Json,
    Module,
    Protocol,
    Seed,
    app,
    chosen_device,
    read_set,
    read_source,
)
from potstill.cli.progress import reporting
from potstill.cli.teachers import Labeller, labeller_of
from potstill.text import accuracy_text, count, network_text

if TYPE_CHECKING:
    from potstill.results import OnReal, RobustScores


@app.command()
def scores(
    artefact: Artefact,
    protocol: Protocol = None,
    networks: Annotated[
        int | None, typer.Option(min=1, help="Number of networks to train  [the artefact's]")
    ] = None,
    network: Network = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs, for a protocol that counts them  [the artefact's]"),
    ] = None,
    real_steps: Annotated[
        int, typer.Option(min=1, help="Training steps of a network on all real images")
    ] = 5000,
    teacher: Labeller = None,
    module: Module = None,
    data_root: DataRoot = None,
    cache: CacheFolder = None,
    seed: Seed = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: NoSaveAudit = False,
    as_json: Json = False,
) -> None:
    """Score ARTEFACT beyond its labels and its augmentation: HLR, IOR, LRS, ARS."""
    from potstill.evaluation.robust import scores as measure

    where = chosen_device(device)
    dataset = read_set(artefact)
    source = read_source(dataset.data_recipe, data_root, download=download)
    dataset = refitted(dataset, source, where, cache)
    labeller = labeller_of(
        dataset,
        artefact,
        device=where,
        protocol=protocol,
        path=teacher,
        module=module,
        # Random images need it, whatever labels the set has stored.
        stored_suffice=False,
    )
    store = cache_of(cache, "baselines")
    with (
        reporting("") as tell,
        stoppable("the baselines trained so far are kept", goes_on=True),
    ):
        audit = measure(
            dataset,
            source,
            protocol=protocol,
            networks=networks,
            network=network_of(network, source),
            seed=seed,
            device=where,
            teacher=labeller,
            epochs=epochs,
            real_steps=real_steps,
            cache=store,
            progress=tell,
        )
    deliver(audit, artefact, _text, as_json=as_json, no_save=no_save)


def _text(audit: RobustScores) -> list[str]:
    hlr, ior, ars = audit.hlr, audit.ior, audit.ars
    return [
        f"HLR {_points(hlr.value)}  real {accuracy_text(hlr.real, 2)} %, distilled "
        f"{accuracy_text(hlr.distilled, 2)} %, hard labels (less is better)",
        f"IOR {_points(ior.value)}  distilled {accuracy_text(ior.distilled, 2)} %, random "
        f"{accuracy_text(ior.random, 2)} %, protocol {audit.protocol}",
        f"LRS {audit.lrs.value:7.3f}",
        f"ARS {ars.value:7.3f}  over random {_points(ars.augmented.value).strip()} with "
        f"augmentation, {_points(ars.plain.value).strip()} without",
        f"real: {_lasting(hlr.real)}; {count(audit.networks, 'network')} each: "
        f"{network_text(audit.network)}",
    ]


def _lasting(real: OnReal) -> str:
    """For how long networks were trained on all real images, and how that met the budget."""
    steps, budget = real.steps, real.budget_steps
    held = f" of at most {budget}" if steps <= budget else f", a budget of {budget} being less"
    return f"{count(real.epochs, 'epoch')}, {count(steps, 'step')}{held}"


def _points(value: float) -> str:
    return f"{100 * value:+7.2f} %"
