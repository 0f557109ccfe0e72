"""Recipes: everything that decides the result of a run, in one validated document.

A recipe is YAML on disk and a :class:`Recipe` in memory. Unknown keys and wrong
types are refused. What depends on the machine (data root, device, output folder)
is no part of a recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from potstill import methods
from potstill.config import (
    BATCH,
    EVERY_KEY,
    STEPS,
    DataRecipe,
    EvaluationRecipe,
    Name,
    NetworkRecipe,
    PaperRow,
    Strict,
    flat,
)
from potstill.errors import RecipeError
from potstill.files import open_regular
from potstill.methods import plain_yaml
from potstill.methods.keys import Key, keys, meant
from potstill.methods.method import MethodSettings
from potstill.quoting import quoted, shortened

DESCRIPTIVE = ("name", "description", "based_on", "paper", "departures")
"""What a recipe says about itself and not about the result."""

LONGEST_NAME, LONGEST_DESCRIPTION = 1000, 10_000
"""Characters."""

# Sections within sections that an assignment can name; recipes have 3.
_SECTIONS = 16

_M = TypeVar("_M", bound=MethodSettings)


class Recipe(Strict):
    """One run, from data to evaluation."""

    name: Name = Field(
        "unnamed", description="what runs and pages call it; its file's name if absent"
    )
    description: str = Field(
        "", max_length=LONGEST_DESCRIPTION, description="what it is for, in a sentence or a few"
    )
    based_on: Name | None = Field(
        None, description="the recipe that this one is, but for the settings that its name lists"
    )
    paper: tuple[PaperRow, ...] = Field(
        (), max_length=1000, description="the rows of papers' tables that the recipe stands for"
    )
    departures: dict[str, Any] = Field(
        {},
        max_length=100,
        description="what the recipe does otherwise than its paper: dotted keys, and the paper's "
        "values; what the paper's authors ran otherwise than they wrote is the paper's",
    )
    seed: int = Field(0, ge=0, lt=1 << 63, description="decides every random draw of the run")
    data: DataRecipe = Field(
        DataRecipe(), description="which images, at which size, and how they become network inputs"
    )
    images_per_class: int = Field(
        1, ge=1, le=BATCH, description="images to distil, of each class; how large the set becomes"
    )
    network: NetworkRecipe = Field(
        NetworkRecipe(), description="the network that the set is made for and scored with"
    )
    method: SerializeAsAny[MethodSettings] = Field(
        description="how images are made; kind decides which other keys there are"
    )
    evaluation: EvaluationRecipe = Field(
        EvaluationRecipe(), description="how networks are trained on the set to score it"
    )
    checkpoint_every: int = Field(200, ge=1, le=STEPS, description="iterations between checkpoints")
    log_every: int = Field(10, ge=1, le=STEPS, description="iterations between lines of the log")

    @model_validator(mode="before")
    @classmethod
    def _of_its_method(cls, document: Any) -> Any:
        """Settings become those of the method they name, and silence that method's defaults."""
        if not isinstance(document, Mapping):
            return document
        given = document.get("method", {})
        if not isinstance(given, Mapping):
            return document
        settings = _settings(given)
        sections = settings.defaults(given)
        merged = {key: _over(section, document.get(key)) for key, section in sections.items()}
        return {**document, "method": settings.model_validate(given), **merged}

    @model_validator(mode="after")
    def _departs_in_settings(self) -> Recipe:
        known = flat(self.model_dump(mode="json", exclude={*DESCRIPTIVE}, context=EVERY_KEY))
        for key in self.departures:
            if key not in known:
                raise ValueError(
                    f"departures: no setting {quoted(key)}; name one by its dotted key"
                )
        try:
            self.as_in_paper()
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise ValueError(f"departures: the paper's values are impossible: {reason}") from None
        return self

    def as_in_paper(self) -> Recipe:
        """The recipe with the paper's value of every setting in which it departs from it.

        Raises:
            ValidationError: the values are impossible.
        """
        if not self.departures:
            return self
        document = self.model_dump(mode="json", exclude={"departures"})
        for key, value in self.departures.items():
            assign(document, key, value)
        return Recipe.model_validate(document)


def _settings(given: Mapping[str, Any]) -> type[MethodSettings]:
    """The model of a ``method`` section, by its kind."""
    settings: type[MethodSettings] = methods.named(
        str(given.get("kind", methods.default()))
    ).settings
    return settings


def _over(defaults: Any, given: Any) -> Any:
    """``given``, and of ``defaults`` what it leaves out."""
    if given is None:
        return defaults
    both = isinstance(defaults, Mapping) and isinstance(given, Mapping)
    return {**defaults, **given} if both else given


def method_of(recipe: Recipe, settings: type[_M]) -> _M:
    """The recipe's settings, which must be of this type.

    Raises:
        RecipeError: it is a recipe for another method.
    """
    if not isinstance(recipe.method, settings):
        wanted = settings.model_fields["kind"].default
        raise RecipeError(
            f"{recipe.name} is a recipe for {recipe.method.kind}, not {wanted}; "
            f"take one with method.kind {wanted}"
        )
    return recipe.method


def recipe_keys(method: str) -> tuple[Key, ...]:
    """Every key that a recipe of this method can have.

    Raises:
        RecipeError: there is no such method.
    """
    settings: type[MethodSettings] = methods.named(method).settings
    return _keys(settings)


@cache
def _keys(settings: type[MethodSettings]) -> tuple[Key, ...]:
    return tuple(keys(Recipe, sections={"method": settings}))


def parse(document: Mapping[str, Any], *, source: str) -> Recipe:
    """Validate ``document``; ``source`` names it in errors.

    Raises:
        RecipeError: an unknown key, a wrong type, or an impossible combination.
    """
    try:
        given = document.get("method", {})
        if not isinstance(given, Mapping):
            raise RecipeError(f"method: must be a section of settings (got {quoted(given)})")
        settings = _settings(given)
        _check(settings, given, "method.", settings)
        return _check(Recipe, document, "", settings)
    except RecipeError as error:
        raise RecipeError(f"{source}: {error}") from None


def _check(
    model: type[Any], document: Mapping[str, Any], prefix: str, settings: type[MethodSettings]
) -> Any:
    """``document`` as ``model`` has it; what is wrong first is said in a line.

    ``settings``: those of the recipe's method, among whose keys one is looked for that is meant.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = prefix + ".".join(str(part) for part in first["loc"])
        where = where.removesuffix(".") or "recipe"
        if first["type"] == "extra_forbidden":
            wanted = meant(where, [key.path for key in _keys(settings)])
            hint = f"did you mean {wanted}? " if wanted else ""
            message = f"unknown key {quoted(where)}; {hint}remove it or correct its spelling"
        elif first["type"] == "value_error":
            message = f"{where}: {first['ctx']['error']}"
        else:
            message = f"{where}: {first['msg']} (got {quoted(first['input'])})"
        raise RecipeError(shortened(message, 500)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RecipeError: no such file, not YAML (of :mod:`~potstill.methods.plain_yaml`), or not a
            mapping.
    """
    named = shortened(str(path), 500)
    try:
        with open_regular(path) as file:
            document = plain_yaml.load(file.read(plain_yaml.LARGEST + 1))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RecipeError(f"cannot read recipe {named}: {reason}; check the path") from None
    except RecipeError as error:
        raise RecipeError(f"{named}: {error}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{named} holds no recipe: expected keys and values at the top level")
    return document


def override(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """``document`` with ``dotted.key=YAML value`` assignments applied, in order.

    Raises:
        RecipeError: an assignment without ``=``, with a value that is not YAML (of
            :mod:`~potstill.methods.plain_yaml`), or with more sections than a recipe has.
    """
    result = _deep_copy(document)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {quoted(assignment)}: expected key=value, such as seed=1")
        try:
            value = plain_yaml.load(text)
        except RecipeError as error:
            raise RecipeError(f"--set {quoted(assignment)}: {error}") from None
        if value == text.strip():  # not in quotes
            value = _number(value)
        assign(result, key, value)
    return result


def assign(document: dict[str, Any], key: str, value: Any) -> None:
    """Set what a dotted key names."""
    node = document
    *parents, leaf = key.split(".")
    if len(parents) > _SECTIONS:
        raise RecipeError(f"--set {quoted(f'{key}={value}')}: no recipe has such sections")
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise RecipeError(
                f"--set {quoted(f'{key}={value}')}: {quoted(parent)} is a value, not a section"
            )
        node = child
    node[leaf] = value


def dump(recipe: Recipe, *, leave_out: Collection[str] = ()) -> str:
    """The resolved recipe as YAML: every key but those left out, in the order of the model."""
    document = recipe.model_dump(mode="json", exclude=set(leave_out))
    return yaml.safe_dump(document, sort_keys=False)


def _number(text: str) -> str | float:
    """YAML 1.1 reads 1e-3 as text; a user means the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _deep_copy(node: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _deep_copy(v) if isinstance(v, Mapping) else v for k, v in node.items()}
