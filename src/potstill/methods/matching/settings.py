"""The settings of the matching methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, EPOCHS, STEPS, NetworkRecipe
from potstill.methods.coresets.settings import ExtractorRecipe, Features, Selection
from potstill.methods.method import MethodSettings

Operation = Literal["colour", "crop", "cutout", "flip", "scale", "rotate"]
Strategy = Annotated[
    tuple[Operation, ...] | None,
    Field(
        description="operations that views are drawn from; if null, what is usual for the data: "
        "all six, for digits without flip; none if empty"
    ),
]
Start = Literal["real", "noise", "herding", "k-center", "k-means"]


class MatchingSettings(MethodSettings):
    """What every matching method has: networks, real batches, SGD on the images, views, a start."""

    iterations: int = Field(20_000, ge=0, le=STEPS, description="K, networks; each is a fresh one")
    real_batch: int = Field(
        256,
        ge=1,
        le=BATCH,
        description="real images of each class a step; all of a class with fewer",
    )
    learning_rate: float = Field(1.0, gt=0, description="of the images, by SGD")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the images, over the whole run")
    strategy: Strategy = None
    start: Start = Field(
        "real", description="random real images, standard normal noise, or a coreset"
    )
    start_features: Features = Field(
        "trained", description="what a coreset compares images by; as for method coreset"
    )
    teacher: ExtractorRecipe | None = Field(
        None, description="whose features a coreset compares; method coreset's own if null"
    )

    @property
    def selection(self) -> Selection | None:
        """How the coreset to start from is chosen; None for other starts."""
        if self.start == "real" or self.start == "noise":
            return None
        extractor = self.teacher or ExtractorRecipe()
        return Selection(self.start, self.start_features, extractor)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The field's ConvNet, and the protocol that the authors evaluate by."""
        network = NetworkRecipe(growth=1, normalisation="instance")
        return {
            "network": network.model_dump(mode="json"),
            "evaluation": {"protocol": "dsa", "networks": 20},
        }

    @model_validator(mode="after")
    def _possible(self) -> MatchingSettings:
        if self.strategy is not None and len(set(self.strategy)) < len(self.strategy):
            raise ValueError("strategy names an operation twice; name each once")
        if self.teacher is not None and self.selection is None:
            raise ValueError(
                f"a start from {self.start} has no teacher; remove it, or set start to herding, "
                "k-center or k-means"
            )
        return self


class DMSettings(MatchingSettings):
    """Every setting of distribution matching (Zhao and Bilen, WACV 2023)."""

    kind: Literal["dm"] = "dm"
    iterations: int = Field(
        20_000, ge=0, le=STEPS, description="K; each has a fresh network and one step of the images"
    )
    learning_rate: float = Field(
        1.0, gt=0, description="of the images, by SGD; the authors take 10 from 100 a class on"
    )


class TrainedSettings(MatchingSettings):
    """A method whose networks are trained on the images in between, by plain SGD."""

    iterations: int = Field(1000, ge=0, le=STEPS, description="K, networks; each is a fresh one")
    updates: int | None = Field(
        None,
        ge=1,
        le=STEPS,
        description="T, steps of the images under each network; if null, the authors' for so many "
        "images per class",
    )
    epochs: int | None = Field(
        None,
        ge=0,
        le=EPOCHS,
        description="I, epochs on the images between two steps; if null, the authors'",
    )
    learning_rate: float = Field(0.1, gt=0, description="of the images, by SGD")
    network_learning_rate: float = Field(0.01, gt=0, description="of the networks, by plain SGD")
    network_batch: int = Field(256, ge=1, le=BATCH, description="images a step of the networks")


class GradientSettings(TrainedSettings):
    """A method that matches gradients: DC, and DSA, which differ in what is usual for them."""

    distance: Literal["rows", "squared", "cosine"] = Field(
        "rows",
        description="of gradients: a cosine for each row of each weight tensor; the squared "
        "difference, or one cosine, of all parameters' as one vector",
    )


class DCSettings(GradientSettings):
    """Every setting of gradient matching, DC (Zhao, Mopuri and Bilen, ICLR 2021)."""

    kind: Literal["dc"] = "dc"
    strategy: Strategy = ()
    start: Start = "noise"

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Evaluated without views; for MNIST the authors take protocol dc-mnist."""
        return {**super().defaults(given), "evaluation": {"protocol": "dc", "networks": 20}}


class DSASettings(GradientSettings):
    """Every setting of DSA, gradient matching on siamese views (Zhao and Bilen, ICML 2021)."""

    kind: Literal["dsa"] = "dsa"
