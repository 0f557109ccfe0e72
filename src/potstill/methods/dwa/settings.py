"""The settings of DWA's synthesis and of SRe2L below it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, PRECISION, SIDE, STEPS, Precision, TeacherRecipe
from potstill.methods.coresets.settings import Features, Selection, Start, selection_of
from potstill.methods.method import MethodSettings

Variant = Literal["dwa", "sre2l"]
Adjustment = Literal["none", "random", "directed"]


class DWASettings(MethodSettings):
    """Every setting of DWA's synthesis (Algorithm 1), and of SRe2L's below it."""

    kind: Literal["dwa"] = Field("dwa", description="the method")
    variant: Variant = Field(
        "dwa", description="sre2l: no adjustment, one weight for both terms, from noise"
    )
    teacher: TeacherRecipe = Field(
        TeacherRecipe(), description="the network that is trained first and inverted"
    )
    adjustment: Adjustment = Field(
        "directed", description="of the teacher's weights before each group of images is made"
    )
    adjustment_steps: int = Field(12, ge=1, le=STEPS, description="K")
    adjustment_size: float = Field(15e-3, ge=0, description="rho, the length of the climb")
    adjustment_rise: float | None = Field(
        None,
        gt=0,
        description="climb until the cross-entropy on S_0 has risen by so much; then no rho",
    )
    adjustment_view: Literal["plain", "first"] = Field(
        "plain",
        description="the climb sees S_0 as it is, or, as the authors ran it, the view of it that "
        "the first iteration has",
    )
    random_size: float | None = Field(
        None,
        ge=0,
        description="length of a random adjustment; if absent, that of the directed one",
    )
    mean_weight: float = Field(0.01, ge=0, description="lambda_mean")
    variance_weight: float = Field(0.11, ge=0, description="lambda_var; SRe2L: that of the mean")
    first_layer_factor: float = Field(
        10.0, ge=0, description="factor of the first batch norm's terms"
    )
    statistics: Literal["adjusted", "unadjusted"] = Field(
        "adjusted", description="the pass that batch statistics come from; eq. 16: unadjusted"
    )
    sequence_weight: float = Field(
        0.0,
        ge=0,
        description="lambda_seq, of a term that keeps images apart from those of earlier groups; "
        "above 0 groups are made in turn",
    )
    iterations: int = Field(1000, ge=1, le=STEPS, description="steps of each group of images")
    learning_rate: float = Field(0.25, gt=0, description="falls to 0 along a cosine")
    betas: tuple[float, float] = Field((0.5, 0.9), description="of Adam, which moves the images")
    class_batch: int = Field(100, ge=1, le=BATCH, description="classes inverted together")
    start: Start = Field(
        "real",
        description="of the images, and of the climb, which has random real images where the "
        "images start from noise; a coreset is chosen by what the teacher sees",
    )
    start_features: Features = Field(
        "trained", description="what a coreset compares images by; as for method coreset"
    )
    jitter: int = Field(4, ge=0, le=SIDE, description="random roll of up to so many pixels")
    roll: Literal["both", "forward"] = Field(
        "both",
        description="by -jitter to jitter pixels, or, as the authors ran it, by 0 to jitter",
    )
    resized_crop: bool = Field(False, description="RandomResizedCrop before the roll")
    flip: bool = Field(False, description="mirror the images in half of the steps, at random")
    precision: Precision = Field("auto", description=PRECISION)
    compiled: bool = Field(
        False, description="torch.compile the teacher: faster after a minute; needs a compiler"
    )
    storage: Literal["lossless", "jpeg"] = Field(
        "lossless",
        description="lossless: the nearest 8-bit pixels; jpeg: what JPEG of quality 75 (4:2:0) "
        "leaves of truncated ones, as the authors stored images",
    )
    store_soft_labels: bool = Field(
        False, description="keep the teacher's labels of every epoch's views in the artefact"
    )

    @model_validator(mode="before")
    @classmethod
    def _named(cls, document: Any) -> Any:
        """SRe2L's settings where the variant is named, and its name where all of them are given.

        Files from before the variant had a name say all of them.
        """
        if not isinstance(document, Mapping):
            return document
        weight = document.get("mean_weight", cls.model_fields["mean_weight"].default)
        coupled = {"adjustment": "none", "start": "noise", "variance_weight": weight}
        if document.get("variant") == "sre2l":
            return {**coupled, **document}
        if "variant" not in document and coupled.items() <= document.items():
            return {**document, "variant": "sre2l"}
        return document

    @property
    def selection(self) -> Selection | None:
        """How the coreset to start from is chosen; None for other starts."""
        return selection_of(self.start, self.start_features, self.teacher)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Scored under the paper's own protocol, with networks like the teacher."""
        teacher = given.get("teacher")
        inverted = teacher.get("network") if isinstance(teacher, Mapping) else None
        if inverted is None:
            inverted = TeacherRecipe().network.model_dump()
        return {"network": inverted, "evaluation": {"protocol": "dwa-paper"}}

    @model_validator(mode="after")
    def _possible(self) -> DWASettings:
        coupled = (self.adjustment, self.start) == ("none", "noise")
        if self.variant == "sre2l" and not (coupled and self.variance_weight == self.mean_weight):
            raise ValueError(
                "variant sre2l has no adjustment, equal mean_weight and variance_weight, and "
                "starts from noise; leave these out, or take variant dwa"
            )
        if self.random_size is not None and self.adjustment != "random":
            raise ValueError(
                "random_size is the length of a random adjustment; set adjustment to random, or "
                "remove it"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("betas must lie in [0, 1)")
        return self
