"""The command that learns from a distilled set class by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

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
from potstill.text import accuracy_text, count, training_texts

if TYPE_CHECKING:
    from potstill.results import Continual


@app.command()
def continual(
    artefact: Artefact,
    tasks: Annotated[int, typer.Option(min=1, help="Number of parts to cut the classes into")] = 5,
    order: Annotated[
        Literal["random", "given"],
        typer.Option(help="Order of the classes; given: as the data has them"),
    ] = "random",
    protocol: Protocol = None,
    networks: Annotated[
        int | None,
        typer.Option(min=1, help="Number of networks to train for each task  [the artefact's]"),
    ] = None,
    network: Network = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs, for a protocol that counts them  [the artefact's]"),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also train on as many random real images")
    ] = False,
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
    """Train on more and more classes of ARTEFACT, test on the classes so far."""
    from potstill.audits.continual import continual as learn

    where = chosen_device(device)
    dataset = read_set(artefact)
    source = read_source(dataset.data_recipe, data_root, download=download)
    dataset = refitted(dataset, source, where, cache)
    labeller = labeller_of(
        dataset, artefact, protocol=protocol, path=teacher, module=module, device=where
    )
    store = cache_of(cache, "classes")
    with (
        reporting("training step") as tell,
        stoppable("the tasks finished so far are kept", goes_on=True),
    ):
        audit = learn(
            dataset,
            source,
            tasks=tasks,
            protocol=protocol,
            networks=networks,
            network=network_of(network, source),
            epochs=epochs,
            teacher=labeller,
            order=order,
            baseline=baseline,
            device=where,
            seed=seed,
            cache=store,
            progress=tell,
        )
    deliver(audit, artefact, summary, as_json=as_json, no_save=no_save, cache=store)


def summary(audit: Continual) -> list[str]:
    """A line for each task."""
    width = len(str(audit.tasks[-1].classes_so_far))
    lines = [f"for each task: {', '.join(training_texts(audit.training, audit.networks))}"]
    for task in audit.tasks:
        baseline = f"  random {accuracy_text(task.baseline, 2)} %" if task.baseline else ""
        classes = "class" if task.classes_so_far == 1 else "classes"
        lines.append(
            f"{task.classes_so_far:{width}} {classes}, {count(task.images, 'image')}: "
            f"{accuracy_text(task.accuracy, 2)} %{baseline}"
        )
    return [*lines, f"average {100 * audit.average_accuracy:.2f} %"]
