"""Which sets stand beside each other: those that recipes are to make, and those that are given.

A method's sets at several images per class are one line of the picture. ``dm/mnist-ipc1-cpu`` at
10 images per class is ``dm/mnist-ipc10-cpu`` where there is such a recipe, since its settings may
differ, and else the same recipe with ``images_per_class`` set. A set that is given takes the place
of the one that a recipe would make, where it was made by the same recipe from the same seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from potstill import recipes, runs, storage
from potstill.comparing.wish import Asked
from potstill.comparison import RANDOM
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, DataError, RecipeError, RunError
from potstill.evaluation.protocol import network_made_for
from potstill.methods import named
from potstill.methods.describing import description_of, recipe_of
from potstill.methods.recipe import DESCRIPTIVE, Recipe

_PER_CLASS = re.compile(r"-ipc\d+")
_SET = re.compile(r"images_per_class=\d+(, )?")


@dataclass(frozen=True)
class Wanted:
    """A set of the comparison: where it lies or will lie, and what it is scored by if left to it.

    Attributes:
        name: the recipe's, without the images per class: what a method's sets have in common.
        method: what the method is called; see :func:`titled`.
        images_per_class: of the set.
        seed: of the set, and of its evaluations.
        path: the file of the set.
        recipe: what makes it; None where it was given.
        protocol: its own.
        network: its own.
        networks: its own number of networks.
        epochs: its own epochs; None if it leaves them to the protocol.
        data: the real data that it stands for.
        digest: of what decides the set: two of the same digest are the same.
    """

    name: str
    method: str
    images_per_class: int
    seed: int
    path: Path
    recipe: Recipe | None
    protocol: str
    network: NetworkRecipe
    networks: int
    epochs: int | None
    data: DataRecipe
    digest: str

    @property
    def words(self) -> str:
        """What the set is called in messages."""
        return f"{self.name} at {self.images_per_class} per class, seed {self.seed}"


@dataclass(frozen=True)
class Given:
    """A set that was named, and what made it."""

    path: Path
    dataset: DistilledDataset
    recipe: Recipe | None


def line_up(asked: Asked, out: Path) -> list[Wanted]:
    """Every set, method by method, by images per class and seed.

    Raises:
        RecipeError: an unknown or impossible recipe, or methods of several data sets.
        RunError: a folder without a finished run.
        ArtefactError: a set that is damaged, or does not say what it was made for.
        DataError: a set of other data or other classes than the rest.
    """
    wanted: list[Wanted] = []
    given: list[Given] = []
    for name in asked.methods:
        path = Path(name)
        if path.is_dir() or path.suffix == ".safetensors":
            given.append(_given(path))
        else:
            for one in _of_recipe(name, asked, out):
                wanted = _joined(one, wanted, name)
    for each in given:
        wanted = _with(each, wanted)
    _require_one_source(wanted, given)
    return titled(wanted)


def _of_recipe(name: str, asked: Asked, out: Path) -> Iterator[Wanted]:
    plain = recipes.load(name, asked.settings)
    for per_class in asked.images_per_class or (plain.images_per_class,):
        variant, settings = _at(name, plain, per_class, asked.settings)
        for seed in asked.seeds:
            recipe = recipes.load(variant, [*settings, f"seed={seed}"])
            key = _key(plain.based_on or plain.name)
            yield replace(wanted_of(recipe, out), name=key)


def _at(
    name: str, plain: Recipe, per_class: int, settings: Sequence[str]
) -> tuple[str, tuple[str, ...]]:
    """The recipe for so many images per class, and what is to be set in it."""
    if plain.images_per_class == per_class:
        return name, tuple(settings)
    sibling = _PER_CLASS.sub(f"-ipc{per_class}", name)
    known = sibling != name and (sibling in recipes.names() or Path(sibling).is_file())
    if known and recipes.load(sibling, settings).images_per_class == per_class:
        return sibling, tuple(settings)
    return name, (*settings, f"images_per_class={per_class}")


def wanted_of(recipe: Recipe, out: Path) -> Wanted:
    """The set that the recipe makes, below the folder of a comparison."""
    settings = recipe.model_dump(mode="json", exclude={*DESCRIPTIVE, "seed"})
    digest = hashlib.sha256(storage.canonical(settings).encode()).hexdigest()
    base = recipe.model_copy(update={"name": recipe.based_on or recipe.name})
    folder = out / "sets" / recipes.folder_name(base) / f"{digest[:8]}-seed{recipe.seed}"
    return Wanted(
        name=_key(recipe.name),
        method=named(recipe.method.kind).describe(recipe, {}).title,
        images_per_class=recipe.images_per_class,
        seed=recipe.seed,
        path=folder / runs.DISTILLED,
        recipe=recipe,
        protocol=recipe.evaluation.protocol,
        network=recipe.network,
        networks=recipe.evaluation.networks,
        epochs=recipe.evaluation.epochs,
        data=recipe.data,
        digest=f"{digest}/{recipe.seed}",
    )


def _given(path: Path) -> Given:
    """The set in a file, or in the folder of a run that is finished."""
    file = path
    if path.is_dir():
        file = path / runs.DISTILLED
        if not file.exists():
            started = (path / runs.RECIPE).exists()
            raise RunError(
                f"{path} is a run without a distilled set; finish it with potstill distill --resume"
                if started
                else f"{path} holds no distilled set; name a folder that `potstill distill` wrote"
            )
    dataset = DistilledDataset.load(file)
    if not dataset.images_per_class:
        raise ArtefactError(
            f"{file} has {len(dataset)} images of {len(dataset.class_names)} classes, not one of "
            "each; leave it out"
        )
    return Given(file, dataset, recipe_of(dataset.header))


def _with(given: Given, wanted: Sequence[Wanted]) -> list[Wanted]:
    """The sets with the given one, in the place of that which it is, or else at the end.

    Raises:
        ArtefactError: it does not say what it was made for.
        RunError: two that were given are the same set.
    """
    own = _as_wanted(given)
    for place, other in enumerate(wanted):
        if other.recipe is not None and given.recipe is not None and _same(other, given):
            taken = replace(own, name=other.name, method=other.method)
            return [*wanted[:place], taken, *wanted[place + 1 :]]
        if other.recipe is None and other.digest == own.digest:
            raise RunError(f"{given.path} and {other.path} are the same set; name it once")
    return _joined(own, wanted, str(given.path))


def _joined(one: Wanted, wanted: Sequence[Wanted], argument: str) -> list[Wanted]:
    """The sets and one more, whose name has the argument to it where another's is the same."""
    key = (one.name, one.images_per_class, one.seed)
    taken = [each for each in wanted if (each.name, each.images_per_class, each.seed) == key]
    if any(each.digest == one.digest for each in taken):
        return [*wanted]
    return [*wanted, replace(one, name=f"{one.name} ({argument})") if taken else one]


def _as_wanted(given: Given) -> Wanted:
    header, evaluation = given.dataset.header, given.dataset.header["evaluation"]
    try:
        network = network_made_for(given.dataset)
        data = given.dataset.data_recipe
    except ArtefactError as error:
        raise ArtefactError(f"{given.path}: {error}") from None
    stated = header.get("recipe", {}).get("name")
    return Wanted(
        name=_key(str(stated or f"{header['method']}/{header['source']['name']}")),
        method=description_of(header).title,
        images_per_class=given.dataset.images_per_class,
        seed=int(header["seed"] or 0),
        path=given.path,
        recipe=None,
        protocol=str(evaluation["protocol"]),
        network=network,
        networks=int(evaluation.get("networks", 5)),
        epochs=evaluation.get("epochs"),
        data=data,
        digest=given.dataset.digest,
    )


def _same(wanted: Wanted, given: Given) -> bool:
    """Whether the given set is what the recipe makes from its seed."""
    recipe, own = wanted.recipe, given.recipe
    assert recipe is not None and own is not None
    if recipe.seed != own.seed or recipe.method.kind != own.method.kind:
        return False
    return not set(recipes.differing(recipe, own)) - {"data.folder"}


def _key(name: str) -> str:
    """A recipe's name without its images per class."""
    return _SET.sub("", _PER_CLASS.sub("", name)).replace(" ()", "").strip()


def titled(wanted: Sequence[Wanted]) -> list[Wanted]:
    """The sets with a name for each method that no other has, random real images included."""
    bearers: dict[str, set[str]] = {}
    for one in wanted:
        bearers.setdefault(one.method, set()).add(one.name)
    return [
        one
        if len(bearers[one.method]) == 1 and one.method.lower() != RANDOM
        else replace(one, method=f"{one.method}, {one.name}")
        for one in wanted
    ]


def _require_one_source(wanted: Sequence[Wanted], given: Sequence[Given]) -> None:
    """That all stand for the same images.

    Raises:
        RecipeError, DataError: they do not.
    """
    made = [one for one in wanted if one.recipe is not None]
    first = made[0] if made else None
    for one in made:
        if first and one.data.pixels != first.data.pixels:
            raise RecipeError(
                f"{first.name} is about {_data_text(first.data)} and {one.name} about "
                f"{_data_text(one.data)}; compare sets of one data set, or give all the same with "
                "--set data..."
            )
    facts = [(str(one.path), _facts(one.dataset)) for one in given]
    for path, stated in facts[1:]:
        for what, theirs in stated.items():
            if theirs != facts[0][1][what]:
                raise DataError(
                    f"{path} and {facts[0][0]} differ in their {what}; compare sets of one data set"
                )


def _facts(dataset: DistilledDataset) -> dict[str, Any]:
    source = dataset.header["source"]
    return {
        "classes": dataset.class_names,
        "shape of images": tuple(dataset.shape[1:]),
        "data set": source.get("name"),
        "data's fingerprint": source.get("fingerprint"),
    }


def _data_text(data: DataRecipe) -> str:
    said = data.pixels.model_dump(exclude_defaults=True)
    more = ", ".join(f"{key} {value}" for key, value in said.items() if key != "dataset")
    return f"{data.dataset} ({more})" if more else data.dataset
