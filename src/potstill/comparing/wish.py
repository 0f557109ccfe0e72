"""What a comparison is asked for: a small YAML file, options, or both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from potstill.comparison import OWN
from potstill.config import BATCH, EPOCHS, Name, Strict
from potstill.errors import RecipeError
from potstill.methods.recipe import read_yaml
from potstill.quoting import fault

_Seed = Annotated[int, Field(ge=0, lt=1 << 63)]
_PerClass = Annotated[int, Field(ge=1, le=BATCH)]


class Asked(Strict):
    """Methods and sets, how many images, which seeds, scored how.

    Names of files in a YAML file are as on the command line: relative to where it is run.
    """

    methods: tuple[Name, ...] = Field(
        min_length=1,
        max_length=1000,
        description="recipes by name or file, run folders, distilled sets",
    )
    images_per_class: tuple[_PerClass, ...] = Field(
        (), max_length=100, description="of the recipes' sets; each recipe's own if empty"
    )
    seeds: tuple[_Seed, ...] = Field((0,), min_length=1, max_length=1000)
    protocols: tuple[Name, ...] = Field(
        (OWN,),
        min_length=1,
        max_length=100,
        description="own: each set's own; others are common to all sets",
    )
    network: Name | None = Field(
        None,
        description="that common protocols train, as --network has it; the first method's if null",
    )
    networks: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="trained on each set; if null, the recipe's under own, else the first method's",
    )
    epochs: int | None = Field(
        None, ge=1, le=EPOCHS, description="under common protocols; the protocol's own if null"
    )
    teacher: Name | None = Field(
        None,
        description="who labels under common protocols: a teacher's file, or a recipe to train "
        "one from",
    )
    settings: tuple[str, ...] = Field(
        (), max_length=1000, description="key=value, set in every recipe"
    )

    @field_validator("images_per_class", "seeds", "protocols", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """A single value is a list of one."""
        return (value,) if isinstance(value, int | str) else value

    @field_validator("images_per_class", "seeds", "protocols", "methods")
    @classmethod
    def _each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(values))


def is_comparison(path: str) -> bool:
    """Whether this is a YAML file that describes a comparison, and no recipe."""
    if Path(path).suffix not in (".yaml", ".yml") or not Path(path).is_file():
        return False
    return "methods" in read_yaml(Path(path))


def asked(given: Mapping[str, Any]) -> Asked:
    """What is asked for, where a file among the ``methods`` may say what ``given`` does not.

    Args:
        given: fields of :class:`Asked`; None stands for what was not given.

    Raises:
        RecipeError: an unknown key or an impossible value, several files, or a file beside
            methods.
    """
    names = [str(one) for one in given.get("methods") or ()]
    files = [name for name in names if is_comparison(name)]
    said = {key: value for key, value in given.items() if value is not None and value != ()}
    if files:
        if len(names) > 1:
            raise RecipeError(
                f"{files[0]} describes a whole comparison; name it alone, or list its methods"
            )
        said = {**read_yaml(Path(files[0])), **{k: v for k, v in said.items() if k != "methods"}}
    else:
        said["methods"] = tuple(names)
    try:
        return Asked.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{files[0]}: " if files else ""
        if first["type"] == "extra_forbidden":
            raise RecipeError(
                f"{what}unknown key {where!r}; use some of {', '.join(Asked.model_fields)}"
            ) from None
        if first["loc"] == ("methods",):
            raise RecipeError("no methods to compare; name recipes, run folders or sets") from None
        raise RecipeError(f"{what}{fault(error)}") from None
