"""Recipes: everything that decides the result of a run, in one validated document.

A recipe is YAML on disk and a :class:`Recipe` in memory. Unknown keys and wrong
types are refused. What depends on the machine (data root, device, output folder)
is no part of a recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from potstill.errors import RecipeError

Variant = Literal["random", "frepo", "vig", "cig", "rig", "rcig"]
Normalisation = Literal["none", "batch", "instance", "group", "layer"]
Adjustment = Literal["none", "random", "directed"]
Precision = Literal["auto", "float32", "bfloat16"]

_M = TypeVar("_M", bound="RCIGRecipe | DWARecipe")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PaperRow(_Strict):
    """The row of a paper's table that a recipe stands for."""

    paper: Literal["rcig", "dwa"]
    table: str
    dataset: str
    images_per_class: int
    method: str
    distill_arch: str | None = Field(None, description="where the table compares several")
    eval_arch: str | None = Field(None, description="where the table compares several")


class DataRecipe(_Strict):
    """Which images, at which size, and how pixels become network inputs."""

    dataset: str = "digits"
    folder: str | None = Field(
        None, description="image_folder only: folder with train/ and test/ class folders"
    )
    train_images: int | None = Field(
        None, ge=1, description="use so many training images, balanced by class; all if absent"
    )
    resolution: int | None = Field(None, ge=4, description="resize to a square of this side")
    channels: Literal[1, 3] | None = Field(None, description="convert to this many channels")
    preprocess: Literal["standardise", "zca"] = "standardise"
    zca_regularisation: float = Field(0.1, gt=0, description="times trace(C)/d, added to C")
    zca_block: int | None = Field(None, ge=4, description="whiten blocks of this side")
    mean: tuple[float, ...] | None = Field(
        None, description="of each channel, pixels in [0, 1]; measured on the data if absent"
    )
    std: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _statistics(self) -> DataRecipe:
        if (self.mean is None) != (self.std is None):
            raise ValueError("mean and std belong together; give both or none")
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std) or len(self.mean) not in (1, 3):
                raise ValueError("mean and std must list one number for each of 1 or 3 channels")
            if min(self.std) <= 0:
                raise ValueError("std must be positive")
        return self


class NetworkRecipe(_Strict):
    """The network a set is distilled for (RCIG, Appendix C), or a teacher's (DWA)."""

    name: str = Field(
        "convnet", description="one of potstill's, or package.name:factory for one of your own"
    )
    depth: int = Field(3, ge=1, description="convnet only")
    width: int = Field(128, ge=1, description="convnet only: channels of the first block")
    growth: Literal[1, 2] = Field(
        2, description="convnet only: each block's channels over the last one's; 1 in DWA"
    )
    normalisation: Normalisation = "none"

    @property
    def foreign(self) -> bool:
        """Whether code that is not potstill's makes it."""
        return ":" in self.name


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
    target_precision: Precision = Field(
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


class TeacherRecipe(_Strict):
    """The network that DWA inverts, and how it is trained on the real data (squeeze).

    At most one of ``pretrained`` and ``module`` names another network than ``network``.
    """

    network: NetworkRecipe = NetworkRecipe(name="resnet18", normalisation="batch")
    pretrained: str | None = Field(
        None, description="torchvision:NAME or timm:NAME with its own weights; it is not trained"
    )
    module: str | None = Field(
        None,
        description="package.name:factory, called with channels, resolution and classes",
        pattern=r"^[\w.]+:\w+$",
    )
    checkpoint: str | None = Field(
        None, description="a .safetensors or .pt state dict; the network is not trained"
    )
    epochs: int = Field(200, ge=1)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(0.1, gt=0, description="falls to 0 along a cosine")
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(5e-4, ge=0)
    crop_padding: int = Field(4, ge=0, description="pixels around the image before a random crop")
    flip: bool = True
    precision: Precision = "auto"

    @model_validator(mode="after")
    def _one_origin(self) -> TeacherRecipe:
        if self.pretrained is not None and (self.module or self.checkpoint):
            raise ValueError("pretrained excludes module and checkpoint; keep one of them")
        if self.pretrained is not None and not self.pretrained.startswith(
            ("torchvision:", "timm:")
        ):
            raise ValueError("pretrained must be torchvision:NAME or timm:NAME")
        if self.network.foreign:
            raise ValueError("a teacher's network of your own goes into module, not network.name")
        return self


class DWARecipe(_Strict):
    """Every setting of DWA's synthesis (Algorithm 1), and of SRe2L's below it."""

    kind: Literal["dwa"] = "dwa"
    teacher: TeacherRecipe = TeacherRecipe()
    adjustment: Adjustment = "directed"
    adjustment_steps: int = Field(12, ge=1, description="K")
    adjustment_size: float = Field(15e-3, ge=0, description="rho, the length of the climb")
    mean_weight: float = Field(0.01, ge=0, description="lambda_mean")
    variance_weight: float = Field(0.11, ge=0, description="lambda_var; SRe2L: that of the mean")
    first_layer_factor: float = Field(10.0, ge=0, description="of the first batch norm's terms")
    statistics: Literal["adjusted", "unadjusted"] = Field(
        "adjusted", description="the pass that batch statistics come from; eq. 16: unadjusted"
    )
    iterations: int = Field(1000, ge=1)
    learning_rate: float = Field(0.25, gt=0, description="falls to 0 along a cosine")
    betas: tuple[float, float] = (0.5, 0.9)
    class_batch: int = Field(100, ge=1, description="classes inverted together")
    start: Literal["real", "noise"] = "real"
    jitter: int = Field(4, ge=0, description="random roll of up to so many pixels")
    resized_crop: bool = Field(False, description="RandomResizedCrop before the roll")
    flip: bool = False
    precision: Precision = "auto"
    compiled: bool = Field(
        False, description="torch.compile the teacher: faster after a minute; needs a compiler"
    )
    store_soft_labels: bool = Field(
        False, description="keep the teacher's labels of every epoch's views in the artefact"
    )

    @model_validator(mode="after")
    def _possible(self) -> DWARecipe:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        return self


class EvaluationRecipe(_Strict):
    """The protocol a set is made for."""

    protocol: str = "rcig-paper"
    networks: int = Field(5, ge=1)
    epochs: int | None = Field(
        None, ge=1, description="of protocols that count them: instead of the protocol's own"
    )


class Recipe(_Strict):
    """One run, from data to evaluation."""

    name: str = "unnamed"
    description: str = ""
    paper: tuple[PaperRow, ...] = ()
    seed: int = Field(0, ge=0)
    data: DataRecipe = DataRecipe()
    images_per_class: int = Field(1, ge=1)
    network: NetworkRecipe = NetworkRecipe()
    method: RCIGRecipe | DWARecipe = Field(RCIGRecipe(), discriminator="kind")
    evaluation: EvaluationRecipe = EvaluationRecipe()
    checkpoint_every: int = Field(200, ge=1, description="iterations between checkpoints")
    log_every: int = Field(10, ge=1, description="iterations between lines of the log")

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_kind(cls, document: Any) -> Any:
        """A method that does not say its kind is RCIG; DWA's defaults are not RCIG's.

        DWA is scored under its own protocol, with networks like the teacher.
        """
        if not isinstance(document, Mapping) or not isinstance(document.get("method"), Mapping):
            return document
        method = {"kind": "rcig", **document["method"]}
        if method["kind"] != "dwa":
            return {**document, "method": method}
        teacher = method.get("teacher")
        inverted = teacher.get("network") if isinstance(teacher, Mapping) else None
        if inverted is None:
            inverted = TeacherRecipe().network.model_dump()
        defaults = {"network": inverted, "evaluation": {"protocol": "dwa-paper"}}
        merged = {key: _over(default, document.get(key)) for key, default in defaults.items()}
        return {**document, "method": method, **merged}


def _over(defaults: Any, given: Any) -> Any:
    """``given``, and of ``defaults`` what it leaves out."""
    if given is None:
        return defaults
    both = isinstance(defaults, Mapping) and isinstance(given, Mapping)
    return {**defaults, **given} if both else given


def method_of(recipe: Recipe, kind: type[_M]) -> _M:
    """The recipe's method, which must be of ``kind``.

    Raises:
        RecipeError: it is of another kind.
    """
    if not isinstance(recipe.method, kind):
        wanted = kind.model_fields["kind"].default
        raise RecipeError(
            f"{recipe.name} is a recipe for {recipe.method.kind}, not {wanted}; "
            f"take one with method.kind {wanted}"
        )
    return recipe.method


def parse(document: Mapping[str, Any], *, source: str) -> Recipe:
    """Validate ``document``; ``source`` names it in errors.

    Raises:
        RecipeError: an unknown key, a wrong type, or an impossible combination.
    """
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = _dotted(first["loc"]) or "recipe"
        if first["type"] == "extra_forbidden":
            message = f"unknown key {where!r}; remove it or correct its spelling"
        elif first["type"] == "value_error":
            message = f"{where}: {first['ctx']['error']}"
        else:
            message = f"{where}: {first['msg']} (got {first['input']!r})"
        raise RecipeError(f"{source}: {' '.join(message.split())}") from None


def _dotted(place: tuple[str | int, ...]) -> str:
    """A key as ``--set`` takes it: pydantic puts a method's kind between it and its settings."""
    if place[:1] == ("method",):
        place = place[:1] + place[2:]
    return ".".join(str(part) for part in place)


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


def dump(recipe: Recipe, *, leave_out: Collection[str] = ()) -> str:
    """The resolved recipe as YAML: every key but those left out, in the order of the model."""
    document = recipe.model_dump(mode="json", exclude=set(leave_out))
    return yaml.safe_dump(document, sort_keys=False)


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
