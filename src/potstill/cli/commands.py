"""The commands; what needs PyTorch is imported when a command does."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potstill import config, papers, recipes
from potstill.cli.progress import reporting
from potstill.config import Recipe
from potstill.errors import RunError

if TYPE_CHECKING:
    from potstill.data.datasets import SourceDataset
    from potstill.data.distilled import DistilledDataset

QUICKSTART = "quickstart/digits-rcig"

app = typer.Typer(
    name="potstill",
    help="Distil an image dataset into a handful of images a network can be trained on.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Artefact = Annotated[Path, typer.Argument(metavar="ARTEFACT", help="A distilled .safetensors file")]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", envvar="POTSTILL_DATA_ROOT", help="Folder that holds the datasets"),
]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="Where to compute; auto prefers cuda")
]
Download = Annotated[bool, typer.Option("--download", help="Fetch a dataset that is absent")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, nothing else")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version")] = False,
) -> None:
    if version:
        from potstill import __version__

        print(__version__)
    elif context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="The run's folder")] = Path("runs/quickstart"),
) -> None:
    """Distil, score and show the embedded digits."""
    device = _device("auto")
    recipe = recipes.load(QUICKSTART)
    source = _source(recipe, None)
    artefact = _distil(recipe, source, out, resume=True, device=device)
    dataset = _load(artefact)
    recorded = [result for result in dataset.header["results"] if "baseline" in result]
    if recorded:
        result = recorded[-1]
    else:
        result = _evaluate(dataset, source, device=device, baseline=True)
        _keep_result(dataset, artefact, result)
    picture, page = out / "distilled.png", out / "report.html"
    _draw(dataset, picture)
    _report([out], page)
    print(_summary(result))
    for name, path in (
        ("distilled set", artefact),
        ("its images", picture),
        ("report", page),
        ("run", out),
    ):
        print(f"{name + ':':15}{path}")


@app.command("recipes")
def list_recipes() -> None:
    """List recipes and the paper rows they are."""
    width = max(map(len, recipes.names()))
    for name in recipes.names():
        recipe = recipes.load(name)
        stands_for = "; ".join(_paper_row(row) for row in recipe.paper)
        print(f"{name:{width}}  {stands_for or recipe.description}")


@app.command()
def distill(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or a name such as rcig/mnist-ipc1")
    ],
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key; may be repeated"),
    ] = None,
    data_root: DataRoot = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder  [default: runs/RECIPE-seedN]")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder")
    ] = False,
    seed: Annotated[int | None, typer.Option(min=0, help="Of everything that is drawn")] = None,
    device: Device = "auto",
    download: Download = False,
) -> None:
    """Distil a dataset as RECIPE says."""
    overrides = [*(assignments or ()), *([] if seed is None else [f"seed={seed}"])]
    resolved = recipes.load(recipe, overrides)
    where = _device(device)
    source = _source(resolved, data_root, download=download, require_test=False)
    folder = out or Path("runs") / f"{resolved.name}-seed{resolved.seed}"
    print(_distil(resolved, source, folder, resume=resume, device=where))


@app.command()
def evaluate(
    artefact: Artefact,
    protocol: Annotated[
        str | None, typer.Option(metavar="NAME", help="How networks are trained  [the artefact's]")
    ] = None,
    networks: Annotated[
        int | None, typer.Option(min=1, help="How many are trained  [the artefact's]")
    ] = None,
    data_root: DataRoot = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also score as many random real images")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of everything that is drawn")] = 0,
    device: Device = "auto",
    download: Download = False,
    no_save: Annotated[
        bool, typer.Option("--no-save", help="Do not add the result to ARTEFACT and its run")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train on ARTEFACT, test on real images."""
    where = _device(device)
    dataset = _load(artefact)
    made_by = config.parse(dataset.header["recipe"], source=str(artefact))
    result = _evaluate(
        dataset,
        _source(made_by, data_root, download=download),
        protocol=protocol,
        networks=networks,
        seed=seed,
        device=where,
        baseline=baseline,
    )
    for warning in result.get("warnings", ()):
        _warn(warning)
    if not no_save:
        _keep_result(dataset, artefact, result)
    print(json.dumps(result, indent=2) if as_json else _summary(result))


@app.command()
def info(artefact: Artefact, as_json: Json = False) -> None:
    """Say what ARTEFACT holds and scored."""
    dataset = _load(artefact)
    document = {
        "images": list(dataset.images.shape),
        "images_per_class": dataset.images_per_class,
        "class_names": list(dataset.class_names),
        "bytes": artefact.stat().st_size,
        "digest": dataset.digest,
        "header": dataset.header,
    }
    print(json.dumps(document, indent=2) if as_json else _description(dataset, document))


@app.command()
def show(
    artefact: Artefact,
    png: Annotated[Path, typer.Option(metavar="FILE", help="The picture to write")],
) -> None:
    """Draw the images in natural colours."""
    _draw(_load(artefact), png)
    print(png)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs")],
    out: Annotated[Path, typer.Option(metavar="FILE.html", help="The page to write")],
) -> None:
    """Write one HTML page about the runs."""
    _report(runs, out)
    print(out)


def _device(name: str) -> str:
    """The torch device to use. Every command that computes calls this before any other work."""
    import torch

    from potstill import hardware

    hardware.prepare()
    if name == "cuda" and not torch.cuda.is_available():
        raise typer.BadParameter("no CUDA device is available here; use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def _source(
    recipe: Recipe, root: Path | None, *, download: bool = False, require_test: bool = True
) -> SourceDataset:
    from potstill.data import datasets

    root = None if root is None else root.expanduser()
    return datasets.load(recipe.data, root, download=download, require_test=require_test)


def _load(artefact: Path) -> DistilledDataset:
    from potstill.data.distilled import DistilledDataset

    return DistilledDataset.load(artefact)


def _distil(recipe: Recipe, source: SourceDataset, out: Path, *, resume: bool, device: str) -> Path:
    """Distil into the folder ``out``; the path of the distilled set."""
    from potstill.rcig.distil import distil
    from potstill.runs import Run

    with Run.create(out, recipe, resume, device=device) as run:
        if run.finished:
            _say(f"{out} holds this run, finished")
            return run.artefact
        try:
            with reporting("iteration") as tell:

                def progress(iteration: int, values: dict[str, float]) -> None:
                    tell(iteration, recipe.method.iterations, _note(values))

                distil(recipe, source, run, device=device, progress=progress)
        except KeyboardInterrupt:
            _say(f"stopped at iteration {run.iteration}; continue with --resume")
            raise typer.Exit(130) from None
        return run.artefact


def _note(values: dict[str, float]) -> str:
    known = (("loss", "loss"), ("batch_accuracy", "accuracy"))
    return "  ".join(f"{label} {values[name]:.4f}" for name, label in known if name in values)


def _evaluate(dataset: DistilledDataset, source: SourceDataset, **options: Any) -> dict[str, Any]:
    from potstill.evaluation.protocol import evaluate

    with reporting("evaluation step") as tell:
        return evaluate(
            dataset, source, progress=lambda done, total: tell(done, total, ""), **options
        )


def _keep_result(dataset: DistilledDataset, artefact: Path, result: dict[str, Any]) -> None:
    """Add ``result`` to the artefact and to the run it lies in; a warning if that fails."""
    from potstill import runs

    try:
        dataset.with_result(result).save(artefact)
        if artefact.name == runs.DISTILLED and (artefact.parent / runs.RECORD).exists():
            runs.record_result(artefact.parent, result)
    except RunError as error:
        _warn(f"the result is not kept: {error}")


def _draw(dataset: DistilledDataset, png: Path) -> None:
    from potstill.files import atomic_write
    from potstill.report import picture

    content = io.BytesIO()
    picture(dataset).save(content, format="PNG")
    atomic_write(png, content.getvalue())


def _report(runs: list[Path], out: Path) -> None:
    from potstill.report import write

    write(runs, out)


def _summary(result: dict[str, Any]) -> str:
    count = len(result["accuracy"]["values"])
    plural = "" if count == 1 else "s"
    lines = [
        f"accuracy {_percent(result['accuracy'])} ({count} network{plural}, protocol "
        f"{result['protocol']}, {result['steps']} steps)"
    ]
    if "baseline" in result:
        lines.append(f"{result['baseline']['kind']}: {_percent(result['baseline'])}")
    return "\n".join(lines)


def _percent(score: dict[str, Any]) -> str:
    return f"{100 * score['mean']:.2f} ± {100 * score['std']:.2f} %"


def _description(dataset: DistilledDataset, document: dict[str, Any]) -> str:
    header = dataset.header
    count, channels, height, width = document["images"]
    facts = {
        "images": f"{count} of {height}x{width}, {'grayscale' if channels == 1 else 'RGB'}, "
        f"{document['images_per_class']} per class",
        "classes": _shortened(document["class_names"]),
        "source": f"{header['source']['name']} ({header['source']['fingerprint'][:12]})",
        "recipe": header["recipe"].get("name", ""),
        "method": header["method"],
        "iterations": header["iterations"],
        "seed": header["seed"],
        "protocol": header["evaluation"]["protocol"],
        "versions": ", ".join(f"{name} {number}" for name, number in header["versions"].items()),
        "size": f"{document['bytes']} bytes",
        "digest": document["digest"],
    }
    lines = [f"{name + ':':12}{value}" for name, value in facts.items()]
    results = header["results"]
    if not results:
        lines.append("not evaluated yet; potstill evaluate does it")
    return "\n".join(lines + [_summary(result) for result in results])


def _shortened(class_names: list[str]) -> str:
    shown = ", ".join(class_names[:10])
    more = len(class_names) - 10
    return f"{len(class_names)} ({shown}{f' and {more} more' if more > 0 else ''})"


def _paper_row(row: config.PaperRow) -> str:
    value = papers.paper_value(row)
    if value is None:
        return f"Table {row.table}, {row.method}"
    mean, std = value
    return f"Table {row.table}, {row.method}: {mean}{'' if std is None else f' ± {std}'} %"


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _warn(message: str) -> None:
    _say(f"warning: {message}")
