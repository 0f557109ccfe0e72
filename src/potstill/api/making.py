"""Data, teachers and distilled sets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from potstill import recipes
from potstill.api import inputs
from potstill.api.inputs import (
    CacheLike,
    NetworkLike,
    ProgressLike,
    RecipeLike,
    SourceLike,
    TeacherLike,
    device_of,
    network_of,
    shown,
    source_of,
    whitenings_of,
)
from potstill.api.teachers import read_teacher
from potstill.config import DataRecipe
from potstill.data import datasets, image_folder
from potstill.data.distilled import DistilledDataset
from potstill.data.source import IN_MEMORY, SourceDataset
from potstill.data.survey import Survey
from potstill.errors import DataError, RecipeError
from potstill.files import expanded, make_folder
from potstill.methods import distilling, squeeze
from potstill.methods.recipe import Recipe
from potstill.runs import Run
from potstill.teacher import Teacher

_UNNAMED = "unnamed"


def load_source(
    data: DataRecipe | Recipe | DistilledDataset | str,
    data_root: str | Path | None = None,
    *,
    download: bool = False,
    require_test: bool = True,
) -> SourceDataset:
    """Read the real data that a recipe or a set is of, or a data set by its name.

    Args:
        data: a recipe, its ``data`` section, a distilled set, or a name such as ``"cifar10"``.
        data_root: the folder that holds the data sets; if None, what the environment variable
            POTSTILL_DATA_ROOT says. ``digits`` needs none, nor does a folder that is found
            without.
        download: fetch a published data set that is absent.
        require_test: refuse an image folder without test images; otherwise its test split is empty.

    Raises:
        DataError: one line that says what is missing, damaged or does not fit, and the remedy.
    """
    if isinstance(data, Recipe):
        data = data.data
    elif isinstance(data, DistilledDataset):
        data = data.data_recipe
    elif isinstance(data, str):
        data = DataRecipe(dataset=data)
    if not isinstance(data, DataRecipe):
        raise DataError(
            f"an object of type {type(data).__name__} names no data; pass a recipe, a distilled "
            'set, or a name such as "digits"'
        )
    root = inputs.data_root(data_root)
    return datasets.load(data, root, download=download, require_test=require_test)


def distill(
    recipe: RecipeLike,
    source: SourceLike | None = None,
    run: Run | str | Path | None = None,
    *,
    network: NetworkLike | None = None,
    resume: bool = False,
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    teacher: TeacherLike | None = None,
    workers: int | None = None,
    threads: int | None = None,
    cache: CacheLike = None,
    progress: ProgressLike = False,
) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Args:
        recipe: a recipe, the name of a shipped one, a YAML file, or a dictionary as one holds.
        source: the real data, or a torch Dataset of training images, or a pair of those with test
            images; what the recipe names if None.
        run: a folder to log to, checkpoint in and resume from; the distilled set is stored there
            too. Without one nothing is written.
        network: in place of the recipe's: a name, a class or function, or a module.
        resume: go on with the run in its folder; one that is finished is read.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        teacher: for a method that inverts one or labels with one; trained as the recipe says if
            None.
        workers: for a method with independent units of work: how many are worked on at a time,
            each in a process of its own if there are several (a script then needs
            ``if __name__ == "__main__"``); one, here, if None. The result is the same.
        threads: that PyTorch splits sums over while it distils, which decides the last bits of the
            result; if None, as many as it has, or as the run that goes on was begun with.
        cache: a folder that keeps fitted ZCA for the next time.
        progress: True for a bar, or what is told of every step.

    Returns:
        The set, whose header says in what surroundings it was made.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    wanted = recipes.load(recipe)
    with shown(progress) as tell:
        real = source_of(
            source,
            wanted.data,
            root=data_root,
            download=download,
            require_test=False,
            progress=tell,
        )
        wanted = _fitting(wanted, real, network)
        if isinstance(teacher, str | Path):
            module = squeeze.settings_of(wanted).module
            teacher = read_teacher(expanded(teacher), module, where)
        with _opened(run, wanted, resume, where) as folder:
            if folder is not None and folder.finished:
                folder.begin(real, device=where, threads=threads)
                return DistilledDataset.load(folder.artefact)
            return distilling.distill(
                wanted,
                real,
                folder,
                device=where,
                teacher=teacher,
                workers=workers,
                threads=threads,
                whitenings=whitenings_of(cache),
                progress=tell,
            )


def train_teacher(
    recipe: RecipeLike,
    source: SourceLike | None = None,
    folder: str | Path | None = None,
    *,
    data_root: str | Path | None = None,
    download: bool = False,
    device: str = "auto",
    threads: int | None = None,
    cache: CacheLike = None,
    progress: ProgressLike = False,
) -> Teacher:
    """The teacher that ``recipe`` asks for, its accuracy measured after the last epoch.

    Args:
        recipe: as in :func:`distill`, for a method with a teacher.
        source: as in :func:`distill`.
        folder: where the teacher and its checkpoints are written, and a training that was stopped
            goes on; nothing is written if None.
        data_root: the folder that holds the data sets; else the environment says it.
        download: fetch a published data set that is absent.
        device: "cpu", "cuda", or "auto", which prefers cuda.
        threads: as in :func:`distill`.
        cache: a folder that keeps fitted ZCA for the next time.
        progress: True for a bar, or what is told of every epoch.

    Raises:
        PotstillError: one line that says what is wrong, and what to do.
    """
    where = device_of(device)
    wanted = recipes.load(recipe)
    with shown(progress) as tell:
        real = source_of(
            source,
            wanted.data,
            root=data_root,
            download=download,
            require_test=False,
            progress=tell,
        )
        wanted = _fitting(wanted, real)
        squeeze.settings_of(wanted)
        place = None if folder is None else expanded(folder)
        if place is not None:
            make_folder(place)
        return squeeze.squeeze(
            wanted,
            real,
            folder=place,
            device=where,
            threads=threads,
            whitenings=whitenings_of(cache),
            progress=tell,
        )


@contextmanager
def _opened(
    run: Run | str | Path | None, recipe: Recipe, resume: bool, device: str
) -> Iterator[Run | None]:
    """The run's folder, which the caller frees if it opened it."""
    if run is None or isinstance(run, Run):
        yield run
        return
    with Run.create(expanded(run), recipe, resume, device=device) as opened:
        yield opened


def _fitting(recipe: Recipe, source: SourceDataset, network: NetworkLike | None = None) -> Recipe:
    """The recipe with another network, if one is given, and of data in memory, if it is.

    Its name says so, if it has one.

    Raises:
        RecipeError: it asks for other images than those in memory.
        NetworkError: the network does not fit the images, or is none.
    """
    chosen = network_of(network, source)
    values = {} if chosen is None else {f"network.{key}": value for key, value in chosen}
    if source.in_memory:
        _require_alike(recipe, source)
        plain = DataRecipe(dataset=IN_MEMORY)
        elsewhere = ("dataset", "folder", "train_chunk", "train_squashed", "test_resize")
        values |= {f"data.{key}": getattr(plain, key) for key in elsewhere}
    changed = recipes.changed(recipe, values)
    if recipe.name != _UNNAMED:
        return changed
    said = ("name", "description", "based_on")
    return changed.model_copy(update={key: getattr(recipe, key) for key in said})


def _require_alike(recipe: Recipe, source: SourceDataset) -> None:
    data = recipe.data
    for key, asked, found in (
        ("resolution", data.resolution, source.resolution),
        ("channels", data.channels, source.channels),
        ("train_images", data.train_images, len(source.train)),
    ):
        if asked not in (None, found):
            raise RecipeError(
                f"{recipe.name} asks for data.{key}={asked} and the data that was passed has "
                f"{found}; pass data of that, or a recipe that says nothing of it"
            )


def check_folder(
    folder: str | Path,
    *,
    resolution: int | None = None,
    channels: int | None = None,
    progress: ProgressLike = False,
) -> Survey:
    """What is in a folder of images, before anything is made of it; ``print`` shows it.

    Args:
        folder: holds ``train`` and perhaps ``test`` (or ``val``), each with one folder per class.
        resolution: side of the square that images are resized to; if None, they stay as they are.
        channels: 1 converts to gray, 3 asks for RGB.
        progress: True for a bar, or what is told of every image.

    Raises:
        DataError: the folder does not exist; whatever else is wrong, the survey says.
    """
    with shown(progress) as tell:
        return image_folder.check(
            expanded(folder, DataError), resolution=resolution, channels=channels, progress=tell
        )
