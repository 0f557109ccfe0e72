"""Which real images are chosen: the settings of coresets, and of starts from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from potstill.config import BATCH, EPOCHS, SIDE, NetworkRecipe, TeacherRecipe
from potstill.methods.method import MethodSettings

Algorithm = Literal["random", "herding", "k-center", "k-means"]
Features = Literal["trained", "random", "pixels"]


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
        algorithm: see :mod:`potstill.methods.coresets.select`.
        features: of a trained network, of one with random weights, or the preprocessed pixels.
        extractor: that network, and how it is trained.
    """

    algorithm: Algorithm
    features: Features
    extractor: ExtractorRecipe

    @property
    def teacher(self) -> ExtractorRecipe | None:
        """What has to be trained first, if anything."""
        trained = self.algorithm != "random" and self.features == "trained"
        return self.extractor if trained else None


class CoresetSettings(MethodSettings):
    """Every setting of a coreset: real images as they are, with their labels."""

    kind: Literal["coreset"] = Field("coreset", description="the method")
    algorithm: Algorithm = Field("random", description="how real images are chosen")
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
