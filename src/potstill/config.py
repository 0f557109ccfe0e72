"""Recipes: everything that decides the result of a run, in one validated document.

A recipe is YAML on disk and a :class:`Recipe` in memory. Unknown keys and wrong
types are refused. What depends on the machine (data root, device, output folder)
is no part of a recipe.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from potstill.errors import RecipeError

Variant = Literal["random", "frepo", "vig", "cig", "rig", "rcig"]
Normalisation = Literal["none", "batch", "instance", "group", "layer"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PaperRow(_Strict):
    """The row of a paper's table that a recipe stands for."""

    paper: Literal["rcig", "dwa"]
    table: str
    dataset: str
    images_per_class: int
    method: str


class DataRecipe(_Strict):
    """Which images, at which size, and how pixels become network inputs."""

    dataset: str = "digits"
    folder: str | None = Field(
        None, description="image_folder only: folder with train/ and test/ class folders"
    )
    resolution: int | None = Field(None, ge=4, description="resize to a square of this side")
    channels: Literal[1, 3] | None = Field(None, description="convert to this many channels")
    preprocess: Literal["standardise", "zca"] = "standardise"
    zca_regularisation: float = Field(0.1, gt=0, description="times trace(C)/d, added to C")
    zca_block: int | None = Field(None, ge=4, description="whiten blocks of this side")


class NetworkRecipe(_Strict):
    """The network a set is distilled for (Appendix C)."""

    name: str = "convnet"
    depth: int = Field(3, ge=1, description="convnet only")
    width: int = Field(128, ge=1, description="channels of the first block; doubles per block")
    normalisation: Normalisation = "none"


class SolverRecipe(_Strict):
    """How the inner problem and the inverse-Hessian product are solved."""

    name: Literal["pcg", "adam"] = "pcg"
    # pcg
    tolerance: float = Field(1e-2, gt=0, lt=1, description="on the preconditioned residual")
    max_steps: int = Field(50, ge=1)
    # adam
    inner_steps: int = Field(20, ge=0)
    inverse_steps: int = Field(20, ge=0)
    inner_learning_rate: float = Field(1e-5, gt=0, description="start of the search")
    inverse_learning_rate: float = Field(5e-5, gt=0, description="start of the search")
    tune: bool = Field(True, description="search both rates first, adapt them every 50 iterations")


class PoolRecipe(_Strict):
    """The pool of partly trained networks (3.3)."""

    size: int = Field(30, ge=1)
    max_steps: int = Field(100, ge=1, description="a model older than this starts afresh")
    steps_per_visit: tuple[int, int] = Field(
        (1, 15), description="uniform, inclusive; the paper's text has (1, 1), its runs (1, 15)"
    )
    learning_rate: float = Field(5e-5, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> PoolRecipe:
        low, high = self.steps_per_visit
        if not 0 <= low <= high:
            raise ValueError("steps_per_visit must be [low, high] with 0 <= low <= high")
        return self


class RCIGRecipe(_Strict):
    """Every setting of the RCIG ladder: random, FRePo, VIG, CIG, RIG, RCIG (Table 1)."""

    kind: Literal["rcig"] = "rcig"
    variant: Variant = "rcig"
    iterations: int = Field(15_000, ge=0)
    target_batch: int = Field(1024, ge=1)
    solver: SolverRecipe = SolverRecipe()
    l2_rate: float = Field(5e-4, gt=0, description="lambda = l2_rate * n, n without flips")
    outer_loss: Literal["platt", "mse"] = "platt"
    label_margin: bool = False
    clip_implicit: bool = Field(False, description="adam only: |implicit| <= |direct|")
    learn_labels: bool = True
    flip: bool = Field(False, description="use S with its mirror images, same labels")
    subset: int | None = Field(None, ge=1, description="images per backward pass; all if absent")
    pool: PoolRecipe = PoolRecipe()
    image_learning_rate: float = Field(3e-3, gt=0)
    label_learning_rate: float = Field(3e-3, gt=0)
    temperature_learning_rate: float = Field(3e-2, gt=0)
    final_learning_rate: float = Field(
        1.0, gt=0, le=1, description="of the three rates at the end, falling as a cosine"
    )
    ema_decay: float = Field(0.99, ge=0, lt=1)
    start: Literal["real", "noise"] = "real"
    softplus_beta: float | None = Field(60.0, gt=0, description="ReLU if null")
    kernel_dtype: Literal["float32", "float64"] = "float64"
    target_precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it natively"
    )

    @model_validator(mode="after")
    def _possible(self) -> RCIGRecipe:
        if self.variant in ("vig", "rig") and self.solver.name == "pcg":
            raise ValueError(
                f"variant {self.variant} has no quadratic inner problem; set solver.name to adam"
            )
        if self.variant in ("vig", "rig") and self.subset is not None:
            raise ValueError(
                f"variant {self.variant} passes all of S at every step; remove method.subset"
            )
        if self.clip_implicit and (
            self.solver.name != "adam" or self.variant not in ("rig", "rcig")
        ):
            raise ValueError(
                "clip_implicit needs a direct and an implicit part: variant rig or rcig, "
                "solver.name adam"
            )
        return self


class EvaluationRecipe(_Strict):
    """The protocol a set is made for."""

    protocol: str = "rcig-paper"
    networks: int = Field(5, ge=1)


class Recipe(_Strict):
    """One run, from data to evaluation."""

    name: str = "unnamed"
    description: str = ""
    paper: tuple[PaperRow, ...] = ()
    seed: int = Field(0, ge=0)
    data: DataRecipe = DataRecipe()
    images_per_class: int = Field(1, ge=1)
    network: NetworkRecipe = NetworkRecipe()
    method: RCIGRecipe = RCIGRecipe()
    evaluation: EvaluationRecipe = EvaluationRecipe()
    checkpoint_every: int = Field(200, ge=1, description="iterations between checkpoints")
    log_every: int = Field(10, ge=1, description="iterations between lines of the log")


def parse(document: Mapping[str, Any], *, source: str) -> Recipe:
    """Validate ``document``; ``source`` names it in errors.

    Raises:
        RecipeError: an unknown key, a wrong type, or an impossible combination.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        if first["type"] == "extra_forbidden":
            message = f"unknown key {where!r}; remove it or correct its spelling"
        else:
            message = f"{where}: {first['msg']} (got {first['input']!r})"
        raise RecipeError(f"{source}: {' '.join(message.split())}") from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        RecipeError: no such file, not YAML, or not a mapping.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"cannot read recipe {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise RecipeError(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(document, dict):
        raise RecipeError(f"{path} holds no recipe: expected keys and values at the top level")
    return document


def override(document: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """``document`` with ``dotted.key=YAML value`` assignments applied, in order.

    Raises:
        RecipeError: an assignment without ``=`` or with a value that is not YAML.
    """
    result = _deep_copy(document)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals or not key:
            raise RecipeError(f"--set {assignment!r}: expected key=value, such as seed=1")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError(f"--set {assignment!r}: the value is not valid YAML") from None
        if isinstance(value, str):
            value = _number(value)
        node = result
        *parents, leaf = key.split(".")
        for parent in parents:
            child = node.setdefault(parent, {})
            if not isinstance(child, dict):
                raise RecipeError(f"--set {assignment!r}: {parent!r} is a value, not a section")
            node = child
        node[leaf] = value
    return result


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML: every key, in the order of the model."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``document`` with nested keys written with dots, as ``--set`` takes them."""
    result: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def _number(text: str) -> str | float:
    """YAML 1.1 reads 1e-3 as text; a user means the number."""
    try:
        return float(text)
    except ValueError:
        return text


def _deep_copy(node: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _deep_copy(v) if isinstance(v, Mapping) else v for k, v in node.items()}
