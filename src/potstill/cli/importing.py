"""The command that takes images made elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potstill.cli.keeping import CacheFolder, warn_of, whitenings_of
from potstill.cli.networks import ScoringNetwork
from potstill.cli.options import DataRoot, Download, Json, app
from potstill.cli.terminal import print_json, print_lines, warn
from potstill.errors import DataError

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset

_SUFFIX = ".safetensors"


@app.command("import")
def import_images(
    path: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="Class folders of images, or a .pt, .npz or .npy file"),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="The folder to make, which keeps results and audits and can be reported; or "
            f"FILE{_SUFFIX}, the set alone",
        ),
    ],
    space: Annotated[
        Literal["pixels", "standardised", "zca"] | None,
        typer.Option(
            help="What the numbers are: 0..255 or 0..1, or preprocessed  [what potstill exported "
            "says it itself]"
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="The real data that the images stand for")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(metavar="DIR", help="The folder, for --dataset image_folder")
    ] = None,
    train_images: Annotated[
        int | None,
        typer.Option(min=1, help="Number of training images that the set was made from  [all]"),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="Names of the classes, if the data is not at hand"),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The labels, if they are not in PATH")
    ] = None,
    label_kind: Annotated[
        Literal["hard", "probabilities", "logits", "centred"] | None,
        typer.Option(
            help="What labels with a column for each class hold  [recognised if probabilities]"
        ),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="X,...", help="Mean of each channel, pixels in 0..1")
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(metavar="X,...", help="Standard deviation of each channel, pixels in 0..1"),
    ] = None,
    fit_on: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Data whose training images give mean, std and whitening  [--dataset, without "
            "--mean]",
        ),
    ] = None,
    zca_regularisation: Annotated[
        float | None,
        typer.Option(help="Regularisation of ZCA over the mean eigenvalue; 0.1 is usual"),
    ] = None,
    zca_block: Annotated[
        int | None, typer.Option(min=4, help="Side of the blocks that ZCA whitens  [the image]")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=4, help="Resize class folders and the real data to this side")
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            min=1, max=3, help="Convert class folders and the real data to 1 or 3 channels"
        ),
    ] = None,
    mirror_images: Annotated[
        bool,
        typer.Option(
            "--mirror-images",
            help="The set was made to be trained on with its mirror images, same labels",
        ),
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Protocol to score it by  [hard-label; soft labels: rcig-paper]"
        ),
    ] = None,
    network: ScoringNetwork = "convnet:instance",
    networks: Annotated[int, typer.Option(min=1, help="Number of networks to score with")] = 5,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs, for a protocol that counts them  [the protocol's]"),
    ] = None,
    data_root: DataRoot = None,
    download: Download = False,
    cache: CacheFolder = None,
    as_json: Json = False,
) -> None:
    """Make a distilled set of images from elsewhere, and check what is said of them."""
    if space is None:
        of_data = (dataset, folder, train_images, class_names, labels, label_kind)
        of_space = (mean, std, fit_on, zca_regularisation, zca_block, resolution, channels)
        more = any(one is not None for one in (*of_data, *of_space, protocol, epochs))
        _restore(path, out, alone=not (more or mirror_images), as_json=as_json)
        return
    from potstill.api.importing import import_set
    from potstill.runs import require_free

    if out.suffix != _SUFFIX:
        require_free(out, resumable=False)
    whitenings = whitenings_of(cache)
    imported = import_set(
        path,
        labels,
        space=space,
        dataset=dataset,
        folder=folder,
        train_images=train_images,
        class_names=None if class_names is None else _words(class_names),
        label_kind=label_kind,
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        fit_on=fit_on,
        zca_regularisation=zca_regularisation,
        zca_block=zca_block,
        resolution=resolution,
        channels=channels,
        mirror_images=mirror_images,
        protocol=protocol,
        network=network,
        networks=networks,
        epochs=epochs,
        data_root=data_root,
        download=download,
        cache=whitenings,
    )
    warn_of(whitenings)
    artefact = _written(imported, out)
    if as_json:
        print_json(_document(imported, artefact))
    else:
        print_lines(*_text(imported, artefact))


def _restore(path: Path, out: Path, *, alone: bool, as_json: bool) -> None:
    """Take in what was exported here, which says itself what it is."""
    from potstill.data import exchange
    from potstill.runs import require_free

    if not path.exists():
        raise DataError(f"cannot import {path}: it is not there; check the path")
    if not exchange.is_export(path):
        raise DataError(
            f"{path} does not say what its numbers are; pass --space pixels, standardised or zca"
        )
    if not alone:
        raise DataError(
            f"{path} was exported by potstill and says all of its images; leave out the other "
            "options, or pass --space to state it anew"
        )
    if out.suffix != _SUFFIX:
        require_free(out, resumable=False)
    imported = exchange.restored(path)
    for check in imported.header.get("import", {}).get("checks", ()):
        if check["verdict"] == "warning":
            warn(f"{check['check']}: {check['value']}")
    artefact = _written(imported, out)
    if as_json:
        print_json({"artefact": str(artefact), "digest": imported.digest})
    else:
        print_lines(str(artefact))


def _numbers(option: str, text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        numbers = [float(word) for word in _words(text)]
        if all(map(math.isfinite, numbers)):
            return numbers
        raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r} is no list such as 0.49,0.48,0.45") from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _written(imported: DistilledDataset, out: Path) -> Path:
    """Where the set lies now: in a file of this name, else in a run's folder."""
    from potstill import runs

    if out.suffix != _SUFFIX:
        return runs.adopt(out, imported)
    imported.save(out)
    return out


def _document(imported: DistilledDataset, out: Path) -> dict[str, Any]:
    return {
        "artefact": str(out),
        "digest": imported.digest,
        "images": list(imported.images.shape),
        "images_per_class": imported.images_per_class,
        "class_names": list(imported.class_names),
        "evaluation": imported.header["evaluation"],
        "source": imported.header["source"],
        **imported.header["import"],
    }


def _text(imported: DistilledDataset, out: Path) -> list[str]:
    checks = imported.header["import"]["checks"]
    width = max(len(check["check"]) for check in checks)
    lines = [f"{check['verdict']:8}{check['check']:{width}}  {check['value']}" for check in checks]
    return [*lines, str(out)]
