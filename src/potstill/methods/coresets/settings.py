"""Which real images are chosen: the settings of coresets, and of starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, model_validator

from potstill.config import BATCH, EPOCHS, SIDE, NetworkRecipe, TeacherRecipe
from potstill.methods.method import MethodSettings

Algorithm = Literal["random", "herding", "k-center", "k-means", "all"]
Features = Literal["trained", "random", "pixels"]
Start = Literal["real", "noise", "herding", "k-center", "k-means"]
STARTS = "random real images, standard normal noise, or a coreset"
"""What synthetic images are at first."""


class ExtractorRecipe(TeacherRecipe):
    """A teacher whose features images are compared by: the field's ConvNet, trained plainly.

    Which network the authors of the published coresets took, and how long it was trained, is
    not recorded for all of them: the lengths are a choice.
    """

    network: NetworkRecipe = Field(
        NetworkRecipe(growth=1, normalisation="instance"), description="the teacher's network"
    )
    epochs: int = Field(20, ge=1, le=EPOCHS, description="epochs of its training")
    batch_size: int = Field(256, ge=2, le=BATCH, description="images of a training step")
    learning_rate: float = Field(0.01, gt=0, description="falls to 0 along a cosine")
    crop_padding: int = Field(
        0, ge=0, le=SIDE, description="pixels around the image before a random crop"
    )
    flip: bool = Field(False, description="mirror half of the training images, at random")


@dataclass(frozen=True)
class Selection:
    """How images are chosen.

    Attributes:
        algorithm: see :mod:`potstill.methods.coresets.select`; ``all`` leaves out no image.
        features: of a trained network, of one with random weights, or the preprocessed pixels.
        extractor: that network, and how it is trained.
    """

    algorithm: Algorithm
    features: Features
    extractor: TeacherRecipe

    @property
    def compares(self) -> bool:
        """Whether the choice depends on features."""
        return self.algorithm not in ("random", "all")

    @property
    def teacher(self) -> TeacherRecipe | None:
        """What has to be trained first, if anything."""
        return self.extractor if self.compares and self.features == "trained" else None


def selection_of(start: Start, features: Features, extractor: TeacherRecipe) -> Selection | None:
    """How the coreset to start from is chosen; None for starts from random images and noise."""
    if start == "real" or start == "noise":
        return None
    return Selection(start, features, extractor)


class StartSettings(MethodSettings):
    """Base of the settings of methods that can start from a coreset and have no other teacher."""

    start: Start = Field("real", description=STARTS)
    start_features: Features = Field(
        "trained", description="what a coreset compares images by; as for method coreset"
    )
    teacher: ExtractorRecipe | None = Field(
        None, description="whose features a coreset compares; method coreset's own if null"
    )

    @property
    def selection(self) -> Selection | None:
        """How the coreset to start from is chosen; None for other starts."""
        return selection_of(self.start, self.start_features, self.teacher or ExtractorRecipe())

    @model_validator(mode="after")
    def _teacher_of_a_coreset(self) -> StartSettings:
        if self.teacher is not None and self.selection is None:
            raise ValueError(
                f"a start from {self.start} has no teacher; remove it, or set start to herding, "
                "k-center or k-means"
            )
        return self


def teacher_to_start(settings: StartSettings) -> TeacherRecipe | None:
    """What has to be trained before the start, if anything."""
    return None if settings.selection is None else settings.selection.teacher


class CoresetSettings(MethodSettings):
    """Every setting of a coreset: real images as they are, with their labels."""

    kind: Literal["coreset"] = Field("coreset", description="the method")
    algorithm: Algorithm = Field(
        "random",
        description="how real images are chosen; all: every training image, and images_per_class "
        "is what there is on average",
    )
    features: Features = Field(
        "trained",
        description="what images are compared by: what the last layer of the teacher sees, "
        "trained or with random weights, or the preprocessed pixels",
    )
    teacher: ExtractorRecipe = Field(
        ExtractorRecipe(), description="the network whose features are compared, if trained"
    )

    @property
    def selection(self) -> Selection:
        """How the images are chosen."""
        return Selection(self.algorithm, self.features, self.teacher)

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """The field's ConvNet, and the protocol of the methods without views."""
        network = NetworkRecipe(growth=1, normalisation="instance")
        return {
            "network": network.model_dump(mode="json"),
            "evaluation": {"protocol": "dc", "networks": 20},
        }
