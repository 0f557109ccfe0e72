"""Commands that say what a distilled set is worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potstill.cli.keeping import NoSave, NoSaveAudit, deliver, keep_result, stoppable
from potstill.cli.networks import Networks, networks_of, require_fitting
from potstill.cli.options import (
    Artefact,
    DataRoot,
    Device,
    Download,
    Json,
    Module,
    Seed,
    app,
    chosen_device,
    read_set,
    read_source,
)
from potstill.cli.progress import reporting
from potstill.cli.teachers import Labeller, TeacherFile, labeller_of, teacher_of
from potstill.cli.terminal import print_json, print_lines, say, warn
from potstill.cli.text import diversity_summary, earlier, summary, table
from potstill.progress import staged
from potstill.text import count, network_text

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset
    from potstill.results import Evaluation


@app.command()
def evaluate(
    artefact: Artefact,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Protocol to train networks by  [the artefact's]"),
    ] = None,
    networks: Annotated[
        int | None, typer.Option(min=1, help="Number of networks to train  [the artefact's]")
    ] = None,
    network: Networks = None,
    data_root: DataRoot = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also score as many random real images")
    ] = False,
    equal_bytes: Annotated[
        bool,
        typer.Option(
            "--equal-bytes",
            help="Under hl, sl or sl-kd: also score as many random real images, with soft labels, "
            "as take the set's bytes",
        ),
    ] = False,
    full_data: Annotated[
        bool,
        typer.Option(
            "--full-data",
            help="Under hl, sl or sl-kd: also score all real images, shown as often as the set's",
        ),
    ] = False,
    teacher: Labeller = None,
    module: Module = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs, for a protocol that counts them  [the artefact's]"),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Also score the epoch that is best on the test set")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: NoSave = False,
    as_json: Json = False,
) -> None:
    """Train on ARTEFACT, test on real images."""
    from potstill.evaluation.protocol import network_made_for

    where = chosen_device(device)
    dataset = read_set(artefact)
    source = read_source(dataset.data_recipe, data_root, download=download)
    others = {"equal-bytes": equal_bytes, "full-data": full_data}
    beside = [kind for kind, asked in others.items() if asked]
    options = {
        "protocol": protocol,
        "networks": networks,
        "seed": seed,
        "device": where,
        "baseline": baseline,
        "beside": beside,
        "epochs": epochs,
        "best": best,
        "teacher": labeller_of(
            dataset,
            artefact,
            # Whatever the set's own regime, images that its bytes buy have soft labels.
            protocol="sl" if equal_bytes else protocol,
            path=teacher,
            module=module,
            device=where,
            stored_suffice=not baseline and not beside,
        ),
    }
    results = []
    chosen = networks_of(network, source)
    require_fitting(chosen, source)
    for each in chosen:
        stage = "evaluation step"
        if len(chosen) > 1:
            stage = f"{network_text(each or network_made_for(dataset))}: {stage}"
        with stoppable("nothing of the network at hand is kept"):
            result = score(dataset, source, stage=stage, network=each, **options)
        for warning in result.warnings:
            warn(warning)
        results.append(result)
        if not no_save:
            keep_result(artefact, result)
    if as_json:
        documents = [result.document() for result in results]
        print_json(documents[0] if network is None else {"results": documents})
    else:
        said = summary(results[0]) if network is None else table(results)
        before = () if dataset.soft_labels is None else dataset.earlier_results
        print_lines(*said, *earlier(before))


@app.command()
def relabel(
    artefact: Artefact,
    teacher: TeacherFile = None,
    module: Module = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Protocol whose views are labelled  [the artefact's]"),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of views to label  [the artefact's, else the protocol's]"),
    ] = None,
    precision: Annotated[
        Literal["float16", "float32"], typer.Option(help="Number format of the stored labels")
    ] = "float16",
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The set to write  [default: ARTEFACT]")
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Store a teacher's soft labels in ARTEFACT, so that students need no teacher."""
    from potstill import evaluation

    where = chosen_device(device)
    dataset = read_set(artefact)
    labeller = teacher_of(dataset, artefact, teacher, module, where)
    with reporting("relabelling epoch") as tell:
        labelled = evaluation.relabel(
            dataset,
            labeller,
            protocol=protocol,
            epochs=epochs,
            seed=seed,
            precision=precision,
            device=where,
            progress=tell,
        )
    target = out or artefact
    labelled.save(target)
    before = len(labelled.earlier_results)
    if before:
        say(
            f"{count(before, 'result')} measured before these labels were stored "
            f"{'stays' if before == 1 else 'stay'} in the set, listed apart from those to come"
        )
    print_lines(str(target))


@app.command()
def diversity(
    artefact: Artefact,
    teacher: TeacherFile = None,
    module: Module = None,
    data_root: DataRoot = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw a map of the images (t-SNE)")
    ] = None,
    real: Annotated[
        bool, typer.Option(help="Compare with as many random real images; needs the data")
    ] = True,
    seed: Seed = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: NoSaveAudit = False,
    as_json: Json = False,
) -> None:
    """Measure how far apart the images of a class are, as a teacher sees them."""
    from potstill.audits.diversity import diversity as measure
    from potstill.report import write_map

    where = chosen_device(device)
    dataset = read_set(artefact)
    source = None
    if real:
        source = read_source(dataset.data_recipe, data_root, download=download, require_test=False)
    seer = teacher_of(dataset, artefact, teacher, module, where)
    audit = measure(dataset, seer, source, device=where, seed=seed)
    if png is not None:
        write_map(audit, png)
    deliver(audit, artefact, diversity_summary, as_json=as_json, no_save=no_save)


def score(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    stage: str = "evaluation step",
    **options: Any,
) -> Evaluation:
    """The result of an evaluation, behind a progress display with this title."""
    from potstill.evaluation import evaluate

    with reporting(stage) as tell:
        return evaluate(dataset, source, progress=staged(tell, stage), **options)
