"""Commands that say what a distilled set is worth."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potstill.cli.completion import complete_protocols
from potstill.cli.keeping import (
    NoSave,
    NoSaveAudit,
    deliver,
    first_of,
    keep_audit,
    keep_result,
    refitted,
    stoppable,
)
from potstill.cli.networks import Networks, networks_of, require_fitting
from potstill.cli.options import (
    Artefact,
    DataRoot,
    Device,
    Download,
    Json,
    Module,
    PerClass,
    Protocol,
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
    from collections.abc import Sequence

    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset
    from potstill.results import Diversity, Embedding, Evaluation


@app.command()
def evaluate(
    artefact: Artefact,
    protocol: Protocol = None,
    networks: Annotated[
        int | None, typer.Option(min=1, help="Number of networks to train  [the artefact's]")
    ] = None,
    network: Networks = None,
    per_class: PerClass = None,
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
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Steps, for a protocol that counts them: a quick look, which has another name  "
            "[the protocol's]",
        ),
    ] = None,
    best: Annotated[
        bool, typer.Option("--best", help="Also score the epoch that is best on the test set")
    ] = False,
    precision: Annotated[
        Literal["auto", "bfloat16", "float32"] | None,
        typer.Option(help="What students and labellers multiply in  [cpu: float32; cuda: auto]"),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: NoSave = False,
    as_json: Json = False,
) -> None:
    """Train on ARTEFACT, test on real images.

    With --per-class the results go into NAME-firstN.safetensors beside ARTEFACT.
    """
    from potstill.evaluation.protocol import network_made_for

    where = chosen_device(device)
    dataset = read_set(artefact)
    if per_class is not None:
        artefact, dataset = first_of(artefact, dataset, per_class, keep=not no_save)
    source = read_source(dataset.data_recipe, data_root, download=download)
    dataset = refitted(dataset, source, where)
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
        "steps": steps,
        "best": best,
        "precision": precision,
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
def protocols(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]", autocompletion=complete_protocols, help="A protocol  [all]"
        ),
    ] = None,
) -> None:
    """Say what each protocol is, by which networks are trained to score a set."""
    from potstill.evaluation.protocol import PROTOCOLS, named

    for each in PROTOCOLS.values() if name is None else (named(name),):
        print_lines(each.name, *(f"    {line}" for line in wrap(each.summary, 92)))


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
    artefacts: Annotated[
        list[Path],
        typer.Argument(
            metavar="ARTEFACT...",
            help="Distilled .safetensors files; several are measured one by one, as the first "
            "one's teacher sees them, and drawn on one map",
        ),
    ],
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
    from potstill.audits.diversity import common_map
    from potstill.audits.diversity import diversity as measure
    from potstill.report import write_map

    where = chosen_device(device)
    sets = [read_set(artefact) for artefact in artefacts]
    source = None
    if real:
        source = read_source(sets[0].data_recipe, data_root, download=download, require_test=False)
        sets = [refitted(each, source, where) for each in sets]
    seer = teacher_of(sets[0], artefacts[0], teacher, module, where)
    audits = [measure(each, seer, source, device=where, seed=seed) for each in sets]
    if png is not None:
        drawn: Diversity | Embedding | None = audits[0]
        if len(sets) > 1:
            named = dict(zip(_told_apart(sets, artefacts), sets, strict=True))
            drawn = common_map(named, seer, source, device=where, seed=seed)
        write_map(drawn, png)
    if len(sets) == 1:
        deliver(audits[0], artefacts[0], diversity_summary, as_json=as_json, no_save=no_save)
        return
    for artefact, audit in zip(artefacts, audits, strict=True):
        if not no_save:
            keep_audit(audit, artefact)
        if not as_json:
            print_lines(str(artefact), *(f"  {line}" for line in diversity_summary(audit)))
    if as_json:
        print_json({"audits": [audit.document() for audit in audits]})


def _told_apart(sets: Sequence[DistilledDataset], artefacts: Sequence[Path]) -> list[str]:
    """Names of sets on one map: their methods, or their files where methods are alike."""
    from potstill.methods.describing import description_of

    described = [description_of(each.header) for each in sets]
    candidates = [
        [each.title for each in described],
        [f"{each.title}, {each.detail}" for each in described],
    ]
    files = [str(path) for path in artefacts]
    return next((names for names in candidates if len({*names}) == len(names)), files)


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
