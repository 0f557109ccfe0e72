"""The settings of RCIG and of the ladder of methods below it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, STEPS, Precision, Strict
from potstill.methods.coresets.settings import StartSettings

Variant = Literal["random", "frepo", "vig", "cig", "rig", "rcig"]


class SolverSettings(Strict):
    """How the inner problem and the inverse-Hessian product are solved."""

    name: Literal["pcg", "adam"] = Field(
        "pcg", description="preconditioned conjugate gradient, or, as in the paper, Adam"
    )
    # pcg
    tolerance: float = Field(1e-2, gt=0, lt=1, description="on the preconditioned residual")
    max_steps: int = Field(50, ge=1, le=STEPS, description="of conjugate gradient")
    # adam
    inner_steps: int = Field(20, ge=0, le=STEPS, description="0 for rcig and cig alone")
    inverse_steps: int = Field(20, ge=0, le=STEPS, description="0 for rcig alone")
    inner_learning_rate: float = Field(1e-5, gt=0, description="start of the search")
    inverse_learning_rate: float = Field(5e-5, gt=0, description="start of the search")
    tune: bool = Field(True, description="search both rates first, adapt them every 50 iterations")


class PoolSettings(Strict):
    """The pool of partly trained networks (3.3)."""

    size: int = Field(30, ge=1, le=10_000, description="networks in it")
    max_steps: int = Field(100, ge=1, le=STEPS, description="a model older than this starts afresh")
    steps_per_visit: tuple[int, int] = Field(
        (1, 15), description="uniform, inclusive; the paper's text has (1, 1), its runs (1, 15)"
    )
    learning_rate: float = Field(5e-5, gt=0, description="of its networks, by Adam")

    @model_validator(mode="after")
    def _ordered(self) -> PoolSettings:
        low, high = self.steps_per_visit
        if not 0 <= low <= high <= STEPS:
            raise ValueError(
                f"steps_per_visit must be [low, high] with 0 <= low <= high <= {STEPS}"
            )
        return self


class RCIGSettings(StartSettings):
    """Every setting of the RCIG ladder: random, FRePo, VIG, CIG, RIG, RCIG (Table 1)."""

    kind: Literal["rcig"] = Field("rcig", description="the method")
    variant: Variant = Field(
        "rcig", description="the rung of the paper's ladder (Table 1); random learns nothing"
    )
    iterations: int = Field(
        15_000, ge=0, le=STEPS, description="steps of the images; what a run's time grows with"
    )
    target_batch: int = Field(
        1024, ge=1, le=BATCH, description="real images of a step; what its time grows with"
    )
    solver: SolverSettings = Field(
        SolverSettings(), description="how the inner problem and its inverse Hessian are solved"
    )
    l2_rate: float = Field(5e-4, gt=0, description="lambda = l2_rate * n, n without flips")
    outer_loss: Literal["platt", "mse"] = Field(
        "platt",
        description="the paper's ladder: mse for vig, cig and frepo, platt for rig and rcig",
    )
    label_margin: bool = Field(
        False, description="as run: the outer loss keeps the top label of every image ahead"
    )
    clip_implicit: bool | None = Field(
        None,
        description="|implicit| <= |direct|, as run; if absent: wherever adam solves and there are "
        "both parts (rig, rcig)",
    )
    rig_features: Literal["start", "trained"] = Field(
        "start",
        description="rig only: the features that the last layer in closed form sees, of the body "
        "before its training, as run, or after it",
    )
    learn_labels: bool = Field(True, description="learn the labels with the images")
    flip: bool = Field(False, description="use S with its mirror images, same labels")
    subset: int | None = Field(
        None, ge=1, le=BATCH, description="images per backward pass; all if absent"
    )
    pool: PoolSettings = Field(
        PoolSettings(), description="the partly trained networks that steps are taken through"
    )
    image_learning_rate: float = Field(3e-3, gt=0, description="of the images, by AdaBelief")
    label_learning_rate: float = Field(3e-3, gt=0, description="of the labels, by AdaBelief")
    temperature_learning_rate: float = Field(
        3e-2, gt=0, description="of the Platt loss's temperature, by AdaBelief"
    )
    final_learning_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the three rates that is left at the end, after a cosine",
    )
    ema_decay: float = Field(
        0.99, ge=0, lt=1, description="the set is the average of the learned ones, fading so fast"
    )
    softplus_beta: float | None = Field(60.0, gt=0, description="ReLU if null")
    kernel_dtype: Literal["float32", "float64"] = Field(
        "float64", description="number format of the kernel that the last layer is solved in"
    )
    target_precision: Precision = Field(
        "auto", description="auto: bfloat16 where the processor multiplies it natively"
    )

    @model_validator(mode="after")
    def _possible(self) -> RCIGSettings:
        if self.variant in ("vig", "rig") and self.solver.name == "pcg":
            raise ValueError(
                f"variant {self.variant} has no quadratic inner problem; set solver.name to adam"
            )
        if self.variant in ("vig", "rig") and self.subset is not None:
            raise ValueError(
                f"variant {self.variant} passes all of S at every step; remove method.subset"
            )
        if self.variant == "random" and self.selection is not None:
            raise ValueError(
                f"variant random has no start from {self.start}; take method.kind coreset for that"
            )
        if self.clip_implicit and not self._has_both_parts:
            raise ValueError(
                "clip_implicit needs a direct and an implicit part: variant rig or rcig, "
                "solver.name adam"
            )
        if self.solver.name == "adam":
            self._require_steps()
        return self

    @property
    def clips(self) -> bool:
        """Whether the implicit gradient is scaled down to the direct one's norm."""
        return self._has_both_parts if self.clip_implicit is None else self.clip_implicit

    @property
    def _has_both_parts(self) -> bool:
        return self.solver.name == "adam" and self.variant in ("rig", "rcig")

    def _require_steps(self) -> None:
        """Refuse solves without steps where there would be nothing to learn from."""
        if self.variant in ("vig", "rig") and not self.solver.inner_steps:
            raise ValueError(
                f"variant {self.variant} without inner steps trains no network; set "
                "solver.inner_steps to 1 at least"
            )
        if self.variant in ("vig", "cig", "rig") and not self.solver.inverse_steps:
            raise ValueError(
                f"variant {self.variant} without inverse steps has no implicit gradient; set "
                "solver.inverse_steps to 1 at least"
            )
