"""What the header of a distilled set says, checked once: when a set is made, and when it is read.

The models are of what this version writes and reads; keys they do not know are another version's
and stay. ``docs/artefact.md`` says what each field means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from potstill import storage
from potstill.config import EPOCHS, SIDE, Name, NetworkRecipe
from potstill.description import Description
from potstill.errors import ArtefactError
from potstill.quoting import fault, is_text, quoted
from potstill.results import Count, Evaluation
from potstill.surroundings import MOST_THREADS

# Characters of a class's name: a folder's name has 255 at most.
_LONGEST_CLASS = 255

Seed = Annotated[int, Field(ge=0, lt=1 << 64)]
Side = Annotated[int, Field(ge=1, le=SIDE)]


class Section(BaseModel):
    """A part of a document. It is checked and not read, so a default says: may be absent."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)


class Source(Section):
    """The real data that a set was distilled from, or that a teacher was trained on."""

    name: Name
    fingerprint: Name
    classes: Count = 0
    channels: Side = 1
    resolution: Side = 1


class _MadeFor(Section):
    protocol: Name
    network: NetworkRecipe = NetworkRecipe()
    networks: int = Field(1, ge=1, le=10_000)
    epochs: int = Field(1, ge=1, le=EPOCHS)


class _Teacher(Section):
    digest: Name = ""
    accuracy: float | None = None
    network: dict[str, Any] = {}
    epochs: Count = 0
    settings: dict[str, Any] = {}


class _Relabelling(Section):
    protocol: Name = ""
    seed: Seed = 0
    teacher: _Teacher = _Teacher()
    teacher_mode: Name = ""
    views: dict[str, Any] = {}


class _PartOf(Section):
    digest: Name
    images_per_class: Count


class _Checked(Section):
    check: Name
    value: Name
    verdict: Name


class _Import(Section):
    space: Name = ""
    label_kind: Name = ""
    checks: tuple[_Checked, ...] = ()


class _Recipe(Section):
    name: Name = ""
    data: dict[str, Any] = {}
    method: dict[str, Any] = {}


class MadeIn(Section):
    """The surroundings of a set or of a teacher (:mod:`potstill.surroundings`)."""

    device: Name
    processor: Name
    threads: int = Field(ge=1, le=MOST_THREADS)
    mixed: tuple[Name, ...]


UNRECORDED = MadeIn(device="", processor="", threads=1, mixed=())


class _Header(Section):
    method: Name
    evaluation: _MadeFor
    source: Source
    versions: dict[Name, Name]
    seed: Seed
    iterations: Count
    results: tuple[Evaluation, ...]
    surroundings: MadeIn = UNRECORDED
    recipe: _Recipe = _Recipe()
    description: Description = Description(title="")
    data: dict[str, Any] = {}
    mirror_images: bool = False
    teacher: _Teacher = _Teacher()
    statement: _Import = Field(_Import(), alias="import")
    relabelling: _Relabelling = _Relabelling()
    part_of: _PartOf = _PartOf(digest="", images_per_class=0)

    @model_validator(mode="after")
    def _whole(self) -> _Header:
        """A set describes itself and says which data it is of; one from before has a recipe."""
        described = "description" in self.model_fields_set
        for name in ("data", "mirror_images") if described else ("recipe",):
            if name not in self.model_fields_set:
                raise ValueError(f"{name} is missing")
        return self


def checked(header: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``header`` as JSON returns it.

    Raises:
        ArtefactError: a field is missing, of another type, or beyond what any set has.
    """
    return as_json(header, _Header)


def as_json(header: Mapping[str, Any], model: type[Section]) -> dict[str, Any]:
    """A copy of ``header`` as JSON returns it, if it is what ``model`` says.

    Raises:
        ArtefactError: it is not, or is not JSON.
    """
    text = storage.canonical(header)
    try:
        copy: dict[str, Any] = storage.parsed(text)
        model.model_validate_json(text, strict=True)
    except ValueError as error:
        wrong = (
            f"field {fault(error)}"
            if isinstance(error, ValidationError)
            else f"is no JSON of ours: {error}"
        )
        raise ArtefactError(f"header {wrong}; correct it, or get the original file again") from None
    return copy


def checked_names(names: Sequence[str]) -> tuple[str, ...]:
    """``names`` of classes as a tuple.

    Raises:
        ArtefactError: there are none, two are the same, or one is no text or too long.
    """
    if isinstance(names, str) or not isinstance(names, Sequence) or not names:
        raise ArtefactError(f"class_names must be a list of names, not {quoted(names)}; list them")
    for name in names:
        if not isinstance(name, str) or len(name) > _LONGEST_CLASS or not is_text(name):
            raise ArtefactError(
                f"class name {quoted(name)} is no text of at most {_LONGEST_CLASS} characters; "
                "name the class"
            )
    if len(set(names)) < len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        raise ArtefactError(f"two classes are called {quoted(twice)}; give each a name of its own")
    return tuple(names)


def implied_mirror_images(recipe: Mapping[str, Any]) -> bool:
    """What files written before there was the field mean: RCIG's sets were made with them alone.

    A method that does not say its kind is RCIG; what other methods call ``flip`` augments.
    """
    method = recipe.get("method", {})
    return method.get("kind", "rcig") == "rcig" and bool(method.get("flip", False))
