"""What a caller may pass, made into what the packages below take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.utils.data import Dataset

from potstill import bars, hardware, runs
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import ArtefactError, DataError, NetworkError, PotstillError
from potstill.evaluation.cache import Cache
from potstill.files import expanded
from potstill.methods.recipe import Recipe
from potstill.networks.factory import Factory, given
from potstill.networks.parsing import OWN, parse_network
from potstill.progress import Progress, silent
from potstill.teacher import Teacher

RecipeLike: TypeAlias = Recipe | str | Path | Mapping[str, Any]
"""A recipe, the name of a shipped one, a YAML file, or what such a file holds."""

SetLike: TypeAlias = DistilledDataset | str | Path
"""A distilled set, its file, or the folder of its run."""

SourceLike: TypeAlias = SourceDataset | Dataset[Any] | tuple[Dataset[Any], Dataset[Any]]
"""Real data: potstill's, or a torch Dataset of training images, or that and one of test images."""

NetworkLike: TypeAlias = NetworkRecipe | str | Factory | nn.Module
"""A network by a name such as ``convnet:instance,width=64``, a class or function that makes one of
``channels``, ``resolution`` and ``classes``, or a module, whose copies are drawn anew."""

TeacherLike: TypeAlias = Teacher | str | Path
"""A teacher, or its file."""

CacheLike: TypeAlias = Cache | WhiteningCache | str | Path | None
"""A folder that keeps what took long for the next time, such as ``~/.cache/potstill``, where the
command line keeps it; nothing is kept if None."""

ProgressLike: TypeAlias = Progress | bool
"""True for a bar, or what is told of every step."""

DATA_ROOT = "POTSTILL_DATA_ROOT"


def shown(progress: ProgressLike) -> AbstractContextManager[Progress]:
    """What is to be told of every step, while inside."""
    if isinstance(progress, bool):
        return bars.progress_bar() if progress else nullcontext(silent)
    return nullcontext(progress)


def device_of(device: str | torch.device) -> str:
    """Where to compute, and the process made ready for it; ``auto`` prefers a card.

    Raises:
        PotstillError: there is no such device here.
    """
    hardware.prepare()
    name = str(device)
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise PotstillError(
            'no CUDA device is available here; use --device cpu, device="cpu" in Python'
        )
    return name


def set_file(given: str | Path) -> Path:
    """Where a set lies: in this file, or in the folder of its run."""
    if not isinstance(given, str | Path):
        raise ArtefactError(
            f"an object of type {type(given).__name__} is no place; pass a set's file, or the "
            "folder of its run"
        )
    path = expanded(given, ArtefactError)
    return path / runs.DISTILLED if path.is_dir() else path


def set_of(given: SetLike) -> DistilledDataset:
    """The set, read if it is named by where it lies.

    Raises:
        ArtefactError: it cannot be read, or is something else.
    """
    if isinstance(given, str | Path):
        return DistilledDataset.load(set_file(given))
    if not isinstance(given, DistilledDataset):
        raise ArtefactError(
            f"an object of type {type(given).__name__} is no distilled set; pass what distill "
            "returned, its file, or the folder of its run"
        )
    return given


def data_root(root: str | Path | None) -> str | Path | None:
    """Where data sets lie: here, else where the environment says."""
    return root or os.environ.get(DATA_ROOT) or None


def source_of(
    given: SourceLike | None,
    data: DataRecipe,
    *,
    root: str | Path | None,
    download: bool,
    require_test: bool,
    side: int | None = None,
    progress: Progress = silent,
) -> SourceDataset:
    """The real data: as given, or the recipe's.

    Args:
        given: None for what the recipe names.
        data: the recipe's ``data`` section.
        root: the data root; that of the environment if None.
        download: fetch a published data set that is absent.
        require_test: refuse an image folder without test images.
        side: of the images that are wanted of a torch Dataset; the recipe's if None.
        progress: told of every image of a folder or of a torch Dataset.

    Raises:
        DataError: it cannot be had, in one line.
    """
    if isinstance(given, SourceDataset):
        return given
    if given is None:
        return datasets.load(
            data,
            data_root(root),
            download=download,
            require_test=require_test,
            progress=progress,
        )
    if isinstance(given, str | Path):
        raise DataError(f"{str(given)!r} names data; pass load_source({str(given)!r})")
    train, test = given if isinstance(given, tuple) and len(given) == 2 else (given, None)
    if isinstance(train, SourceDataset):
        raise DataError("a SourceDataset has its test images with it; pass it alone")
    return SourceDataset.from_dataset(
        train,
        test,
        resolution=side or data.resolution,
        channels=data.channels,
        progress=progress,
    )


def source_of_set(
    given: SourceLike | None,
    dataset: DistilledDataset,
    *,
    root: str | Path | None,
    download: bool,
    require_test: bool = True,
    progress: Progress = silent,
) -> SourceDataset:
    """The real data that a set stands for; see :func:`source_of`."""
    return source_of(
        given,
        dataset.data_recipe,
        root=root,
        download=download,
        require_test=require_test,
        side=dataset.shape[-1],
        progress=progress,
    )


def network_of(network: NetworkLike | None, source: SourceDataset) -> NetworkRecipe | None:
    """The network for such images; None for the one that a set was made for.

    Raises:
        NetworkError: it is none, or cannot be made.
        RecipeError: a name that is unknown.
    """
    if network is None or isinstance(network, NetworkRecipe):
        return network
    if isinstance(network, str):
        return None if network == OWN else parse_network(network, resolution=source.resolution)
    if not callable(network):
        raise NetworkError(
            f"an object of type {type(network).__name__} is no network; pass a name, a "
            "torch.nn.Module, or a function that makes one of channels, resolution and classes"
        )
    return given(
        network,
        channels=source.channels,
        resolution=source.resolution,
        classes=source.classes,
    )


def cache_of(cache: CacheLike, kind: str) -> Cache | None:
    """The cache of numbers of this kind, below a folder."""
    if isinstance(cache, str | Path):
        return Cache(expanded(cache) / kind)
    return cache if isinstance(cache, Cache) else None


def whitenings_of(cache: CacheLike) -> WhiteningCache | None:
    """The cache of fitted ZCA, below a folder."""
    if isinstance(cache, str | Path):
        return WhiteningCache(expanded(cache) / "whitenings")
    return cache if isinstance(cache, WhiteningCache) else None
