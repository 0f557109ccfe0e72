"""The command that takes images made elsewhere."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from potstill.cli.keeping import CacheFolder, warn_of, whitenings_of
from potstill.cli.networks import ScoringNetwork
from potstill.cli.options import DataRoot, Download, Json, app, read_source
from potstill.cli.terminal import print_json, print_lines, warn
from potstill.config import DataRecipe, NetworkRecipe
from potstill.errors import DataError
from potstill.methods.recipe import parse

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset

_HARD, _SOFT = "hard-label", "rcig-paper"
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
            metavar="NAME", help=f"Protocol to score it by  [{_HARD}; soft labels: {_SOFT}]"
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
        said: list[object] = [dataset, folder, train_images, class_names, labels, label_kind]
        said += [mean, std, fit_on, zca_regularisation, zca_block, resolution, channels]
        said += [protocol, epochs, mirror_images or None]
        alone = all(one is None for one in said)
        _restore(path, out, alone=alone, as_json=as_json)
        return
    from potstill import surroundings
    from potstill.data import foreign, importing, plausible
    from potstill.networks.parsing import parse_network
    from potstill.runs import require_free

    if train_images is not None and dataset is None:
        raise DataError("--train-images are of the data that --dataset names; pass it too")
    if space == "zca" and zca_regularisation is None:
        raise DataError(
            "zca images need the regularisation that they were whitened with; pass "
            "--zca-regularisation, such as 0.1"
        )
    zca = zca_regularisation is not None
    if out.suffix != _SUFFIX:
        require_free(out, resumable=False)
    given = foreign.read(path, labels, resolution=resolution, channels=channels)
    usual = _HARD if plausible.is_one_hot(given.labels) or label_kind == "hard" else _SOFT
    data = {
        "dataset": dataset or "image_folder",
        "folder": folder,
        "train_images": train_images,
        "resolution": resolution,
        "channels": channels,
        "preprocess": "zca" if zca else "standardise",
        "zca_block": zca_block,
        **_statistics(mean, std),
        **({"zca_regularisation": zca_regularisation} if zca else {}),
    }
    stated = parse(
        {
            "data": data,
            "network": parse_network(network, resolution=given.images.shape[-1]).model_dump(),
            "evaluation": _evaluation(protocol or usual, networks, epochs),
        },
        source="potstill import",
    )
    source, whitenings = _at_hand(stated.data, data_root, download), whitenings_of(cache)
    imported = importing.import_set(
        given,
        importing.Statement(space, label_kind, mirror_images),
        stated.data,
        stated.network,
        stated.evaluation,
        class_names=None if class_names is None else _words(class_names),
        source=source,
        fitted_on=_fitted_on(stated.data, fit_on, source, data_root, download),
        whitenings=whitenings,
        versions=surroundings.versions(),
    )
    warn_of(whitenings)
    _require_fit(stated.network, imported)
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


def _statistics(mean: str | None, std: str | None) -> dict[str, list[float] | None]:
    """Mean and standard deviation of each channel, or neither."""
    means, deviations = _numbers("--mean", mean), _numbers("--std", std)
    if (means is None) != (deviations is None):
        raise DataError("--mean and --std belong together; pass both or neither")
    if means is not None and deviations is not None:
        if len(means) != len(deviations):
            raise DataError(
                f"--mean lists {len(means)} and --std {len(deviations)} numbers; pass one for each "
                "channel to both"
            )
        if min(deviations) <= 0:
            raise DataError(f"--std {std}: a standard deviation is above 0; correct it")
    return {"mean": means, "std": deviations}


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


def _evaluation(protocol: str, networks: int, epochs: int | None) -> dict[str, Any]:
    from potstill.evaluation.protocol import named

    chosen = named(protocol)
    if epochs is not None and not chosen.counts_epochs:
        raise DataError(
            f"protocol {chosen.name} counts steps, not epochs; leave out --epochs, or pass "
            f"--protocol {_HARD}"
        )
    return {"protocol": chosen.name, "networks": networks, "epochs": epochs}


def _require_fit(network: NetworkRecipe, imported: DistilledDataset) -> None:
    """Make the network once: one that such images do not fit could never score the set."""
    from potstill.networks import zoo

    _, channels, resolution, _ = imported.images.shape
    classes = len(imported.class_names)
    zoo.build(network, channels=channels, resolution=resolution, classes=classes)


def _at_hand(data: DataRecipe, root: Path | None, download: bool) -> SourceDataset | None:
    """The real data, where somebody says which and where it is.

    Raises:
        DataError: there is no such data set, or it cannot be read.
    """
    from potstill.data import datasets

    elsewhere = data.dataset in datasets.names() and data.dataset != "digits"
    if elsewhere and data.folder is None and (root is None or data.dataset == "image_folder"):
        return None
    return read_source(data, root, download=download, require_test=False)


def _fitted_on(
    data: DataRecipe,
    name: str | None,
    source: SourceDataset | None,
    root: Path | None,
    download: bool,
) -> SourceDataset | None:
    """The data that the preprocessing is fitted on; None if mean and std are stated."""
    if data.mean is not None:
        if name is not None:
            raise DataError("--mean and --fit-on both say how to standardise; leave out one")
        return None
    if name is None or (source is not None and name == data.dataset):
        return source
    folder = data.folder if name == "image_folder" else None
    update = {"dataset": name, "folder": folder, "train_images": None}
    other = data.model_copy(update=update)
    return read_source(other, root, download=download, require_test=False)


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
