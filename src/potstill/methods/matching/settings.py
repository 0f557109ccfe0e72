"""The settings of the matching methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, EPOCHS, STEPS, NetworkRecipe
from potstill.methods.coresets.settings import STARTS, Start, StartSettings

Operation = Literal["colour", "crop", "cutout", "flip", "scale", "rotate"]
Strategy = Annotated[
    tuple[Operation, ...] | None,
    Field(
        description="operations that views are drawn from; if null, what is usual for the data: "
        "all six, for digits without flip; none if empty"
    ),
]
Milestones = Annotated[
    tuple[Annotated[int, Field(ge=0, le=STEPS)], ...],
    Field(max_length=100, description="networks seen at which the rate of the images is halved"),
]


class MatchingSettings(StartSettings):
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
    milestones: Milestones = ()
    strategy: Strategy = None

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
        return self


class DMSettings(MatchingSettings):
    """Every setting of distribution matching (Zhao and Bilen, WACV 2023)."""

    kind: Literal["dm"] = Field("dm", description="the method")
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

    kind: Literal["dc"] = Field("dc", description="the method")
    strategy: Strategy = ()
    start: Start = Field("noise", description=STARTS)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Evaluated without views; for MNIST the authors take protocol dc-mnist."""
        return {**super().defaults(given), "evaluation": {"protocol": "dc", "networks": 20}}


class DSASettings(GradientSettings):
    """Every setting of DSA, gradient matching on siamese views (Zhao and Bilen, ICML 2021)."""

    kind: Literal["dsa"] = Field("dsa", description="the method")


class DataDAMSettings(MatchingSettings):
    """Every setting of DataDAM (Sajedi et al., ICCV 2023), as its paper has it where that is known.

    The authors' program has ``power`` 1, 20,000 iterations and batch norm
    (``network.normalisation: batch``). Its ``scale`` is the default here too: the paper's, 1, moves
    the images hardly at all at a rate of 1. How many real images the paper took is not known.
    """

    kind: Literal["datadam"] = Field("datadam", description="the method")
    iterations: int = Field(
        8000, ge=0, le=STEPS, description="K; each has a fresh network and one step of the images"
    )
    real_batch: int = Field(
        64,
        ge=1,
        le=BATCH,
        description="real images of each class a step; all of a class with fewer",
    )
    learning_rate: float = Field(
        1.0, gt=0, description="of the images, by SGD; the authors take 10 above 50 a class"
    )
    power: Literal[1, 2, 4] = Field(4, description="p, of activations before channels are summed")
    feature_weight: float = Field(0.01, ge=0, description="lambda, weight of the mean features")
    scale: float = Field(100.0, gt=0, description="factor of the whole loss")

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Scored as the authors' program does."""
        evaluation = {"protocol": "datadam-as-run", "networks": 10}
        return {**super().defaults(given), "evaluation": evaluation}


class CAFESettings(TrainedSettings):
    """Every setting of CAFE (Wang et al., CVPR 2022), as its authors ran it."""

    kind: Literal["cafe"] = Field("cafe", description="the method")
    iterations: int = Field(2000, ge=0, le=STEPS, description="K, networks; each is a fresh one")
    milestones: Milestones = (1200, 1600, 1800)
    map_weight: float = Field(0.1, ge=0, description="of the maps of every block but the last")
    last_map_weight: float = Field(1.0, ge=0, description="of the last block's maps")
    feature_weight: float = Field(2.0, ge=0, description="of the mean features")
    centre_weight: float = Field(
        0.01, ge=0, description="of the cross-entropy of real images against class centres, a sum"
    )
    schedule: Literal["dynamic", "fixed"] = Field(
        "dynamic", description="fixed: updates and epochs, and no queries, which is not CAFE's"
    )
    query_batch: int = Field(128, ge=1, le=BATCH, description="training images a class in a query")
    settled: float = Field(
        0.04, ge=0, description="lambda_1: a network is left when 10 accuracies differ by less"
    )
    moved: float = Field(
        0.03, ge=0, description="lambda_2: a training ends when 10 accuracies differ by more"
    )
    most_updates: int = Field(100, ge=1, le=STEPS, description="steps of the images a network")
    most_epochs: int = Field(100, ge=1, le=EPOCHS, description="epochs of a training")
    carry_accuracy: bool = Field(
        False, description="as run: add the last accuracy over the number of classes to the next"
    )
    strategy: Strategy = ()
    start: Start = Field("noise", description=STARTS)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Evaluated without views; for MNIST the authors take protocol dc-mnist."""
        return {**super().defaults(given), "evaluation": {"protocol": "cafe", "networks": 20}}

    @model_validator(mode="after")
    def _one_schedule(self) -> CAFESettings:
        if self.schedule == "dynamic" and not (self.updates is None and self.epochs is None):
            raise ValueError(
                "a dynamic schedule finds out how many updates and epochs there are; remove them, "
                "or set schedule to fixed"
            )
        return self
