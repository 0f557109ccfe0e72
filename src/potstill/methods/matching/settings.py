"""The settings of the matching methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, STEPS, NetworkRecipe
from potstill.methods.method import MethodSettings

Operation = Literal["colour", "crop", "cutout", "flip", "scale", "rotate"]


class DMSettings(MethodSettings):
    """Every setting of distribution matching (Zhao and Bilen, WACV 2023)."""

    kind: Literal["dm"] = "dm"
    iterations: int = Field(
        20_000, ge=0, le=STEPS, description="K; each has a fresh network and one step of the images"
    )
    real_batch: int = Field(
        256,
        ge=1,
        le=BATCH,
        description="real images of each class a step; all of a class with fewer",
    )
    learning_rate: float = Field(
        1.0, gt=0, description="of the images, by SGD; the authors take 10 from 100 a class on"
    )
    momentum: float = Field(0.5, ge=0, lt=1, description="of the images, over the whole run")
    strategy: tuple[Operation, ...] | None = Field(
        None,
        description="operations that views are drawn from; if null, what is usual for the data: "
        "all six, for digits without flip; none if empty",
    )
    start: Literal["real", "noise"] = "real"

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The field's ConvNet, and the protocol that the authors evaluate by."""
        network = NetworkRecipe(growth=1, normalisation="instance")
        return {
            "network": network.model_dump(mode="json"),
            "evaluation": {"protocol": "dsa", "networks": 20},
        }

    @model_validator(mode="after")
    def _distinct(self) -> DMSettings:
        if self.strategy is not None and len(set(self.strategy)) < len(self.strategy):
            raise ValueError("strategy names an operation twice; name each once")
        return self
