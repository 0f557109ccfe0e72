"""A distilled set of images that other code made, from what its owner says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from potstill import surroundings
from potstill.api import inputs
from potstill.api.inputs import CacheLike
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets, foreign, importing, plausible
from potstill.data.distilled import DistilledDataset
from potstill.data.foreign import Foreign
from potstill.data.plausible import LabelKind
from potstill.data.source import IN_MEMORY, SourceDataset
from potstill.errors import DataError
from potstill.evaluation.protocol import named
from potstill.files import expanded
from potstill.methods.recipe import parse
from potstill.networks import zoo
from potstill.networks.parsing import parse_network

HARD, SOFT = "hard-label", "rcig-paper"
"""The protocols that imported sets are scored by where nobody says otherwise, by their labels."""


def import_set(
    images: str | Path | Tensor,
    labels: str | Path | Tensor | None = None,
    *,
    space: Literal["pixels", "standardised", "zca"],
    source: SourceDataset | None = None,
    dataset: str | None = None,
    folder: str | None = None,
    train_images: int | None = None,
    class_names: Sequence[str] | None = None,
    label_kind: LabelKind | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    fit_on: str | None = None,
    zca_regularisation: float | None = None,
    zca_block: int | None = None,
    resolution: int | None = None,
    channels: int | None = None,
    mirror_images: bool = False,
    protocol: str | None = None,
    network: str | NetworkRecipe = "convnet:instance",
    networks: int = 5,
    epochs: int | None = None,
    data_root: str | Path | None = None,
    download: bool = False,
    cache: CacheLike = None,
) -> DistilledDataset:
    """Make a distilled set of images from elsewhere, and check what is said of them.

    Args:
        images: class folders of images, a ``.pt``, ``.npz`` or ``.npy`` file, or a tensor
            (n, c, h, w).
        labels: (n,) integers or (n, C) numbers, or their file, if ``images`` has none with it.
        space: what the numbers are: pixels of 0..255 or 0..1, or preprocessed.
        source: the real data that the images stand for, if it is in memory.
        dataset: else its name.
        folder: of ``dataset="image_folder"``.
        train_images: number of training images that the set was made from; all if None.
        class_names: names of the classes, if the real data is not at hand.
        label_kind: what labels with a column for each class hold: "hard", "probabilities",
            "logits" or "centred"; told from the numbers if they are probabilities.
        mean: of each channel, pixels in 0..1.
        std: of each channel.
        fit_on: name of the data whose training images give mean, std and whitening; the real data,
            without ``mean``.
        zca_regularisation: over the mean eigenvalue; 0.1 is usual. ZCA images need it.
        zca_block: side of the blocks that ZCA whitens; the image if None.
        resolution: resize class folders and the real data to this side.
        channels: convert class folders and the real data to 1 or 3 channels.
        mirror_images: the set was made to be trained on with its mirror images, same labels.
        protocol: to score it by; "hard-label" if None, of soft labels "rcig-paper".
        network: to score it with.
        networks: number of networks to score with.
        epochs: epochs, for a protocol that counts them.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        cache: a folder that keeps fitted ZCA for the next time.

    Returns:
        A set whose header has ``import``: what was said of the images, and the checks. ``save``
        writes it; :func:`potstill.runs.adopt` gives it a folder of its own.

    Raises:
        PotstillError: one line: what cannot be true, or cannot be had, and what to do.
    """
    if space == "zca" and zca_regularisation is None:
        raise DataError(
            "zca images need the regularisation that they were whitened with; pass "
            "--zca-regularisation, such as 0.1"
        )
    if train_images is not None and dataset is None:
        raise DataError("--train-images are of the data that --dataset names; pass it too")
    if source is not None and dataset is not None:
        raise DataError("source and dataset both say what the images stand for; leave out one")
    given = _foreign(images, labels, resolution, channels)
    usual = HARD if plausible.is_one_hot(given.labels) or label_kind == "hard" else SOFT
    zca = zca_regularisation is not None
    data = {
        "dataset": IN_MEMORY if source is not None else dataset or "image_folder",
        "folder": folder,
        "train_images": train_images,
        "resolution": resolution,
        "channels": channels,
        "preprocess": "zca" if zca else "standardise",
        "zca_block": zca_block,
        **_statistics(mean, std),
        **({"zca_regularisation": zca_regularisation} if zca else {}),
    }
    if isinstance(network, str):
        network = parse_network(network, resolution=given.images.shape[-1])
    stated = parse(
        {
            "data": data,
            "network": network.model_dump(),
            "evaluation": _evaluation(protocol or usual, networks, epochs),
        },
        source="potstill import",
    )
    root = inputs.data_root(data_root)
    real = source or _at_hand(stated.data, root, download)
    imported = importing.import_set(
        given,
        importing.Statement(space, label_kind, mirror_images),
        stated.data,
        stated.network,
        stated.evaluation,
        class_names=class_names,
        source=real,
        fitted_on=_fitted_on(stated.data, fit_on, real, root, download),
        whitenings=inputs.whitenings_of(cache),
        versions=surroundings.versions(),
    )
    _require_fit(stated.network, imported)
    return imported


def _foreign(
    images: str | Path | Tensor,
    labels: str | Path | Tensor | None,
    resolution: int | None,
    channels: int | None,
) -> Foreign:
    """What is to be imported, as it is."""
    if isinstance(images, str | Path):
        if isinstance(labels, Tensor):
            raise DataError("images in a file and labels in memory do not go together; read both")
        beside = None if labels is None else expanded(labels, DataError)
        path = expanded(images, DataError)
        return foreign.read(path, beside, resolution=resolution, channels=channels)
    if not isinstance(images, Tensor) or not isinstance(labels, Tensor):
        raise DataError("images in memory are a tensor and need a tensor of labels; pass both")
    return foreign.of_tensors(images, labels)


def _statistics(
    mean: Sequence[float] | None, std: Sequence[float] | None
) -> dict[str, list[float] | None]:
    """Mean and standard deviation of each channel, or neither."""
    if mean is None and std is None:
        return {"mean": None, "std": None}
    if mean is None or std is None:
        raise DataError("--mean and --std belong together; pass both or neither")
    if len(mean) != len(std):
        raise DataError(
            f"--mean lists {len(mean)} and --std {len(std)} numbers; pass one for each channel to "
            "both"
        )
    if min(std) <= 0:
        raise DataError(f"--std {min(std):g}: a standard deviation is above 0; correct it")
    return {"mean": list(mean), "std": list(std)}


def _evaluation(protocol: str, networks: int, epochs: int | None) -> dict[str, Any]:
    chosen = named(protocol)
    if epochs is not None and not chosen.counts_epochs:
        raise DataError(
            f"protocol {chosen.name} counts steps, not epochs; leave out --epochs, or pass "
            f"--protocol {HARD}"
        )
    return {"protocol": chosen.name, "networks": networks, "epochs": epochs}


def _require_fit(network: NetworkRecipe, imported: DistilledDataset) -> None:
    """Make the network once: one that such images do not fit could never score the set."""
    _, channels, resolution, _ = imported.images.shape
    classes = len(imported.class_names)
    zoo.build(network, channels=channels, resolution=resolution, classes=classes)


def _at_hand(data: DataRecipe, root: str | Path | None, download: bool) -> SourceDataset | None:
    """The real data, where somebody says which and where it is.

    Raises:
        DataError: there is no such data set, or it cannot be read.
    """
    elsewhere = data.dataset in datasets.names() and data.dataset != "digits"
    if elsewhere and data.folder is None and (root is None or data.dataset == "image_folder"):
        return None
    return datasets.load(data, root, download=download, require_test=False)


def _fitted_on(
    data: DataRecipe,
    name: str | None,
    source: SourceDataset | None,
    root: str | Path | None,
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
    return datasets.load(other, root, download=download, require_test=False)
