"""The audits that commands leave in a run's record, as far as a report reads them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from potstill.config import NetworkRecipe
from potstill.report.documents import Accuracy, Document, Measurement


class Attacked(Document):
    """What attacks on networks after so many steps came to; areas over networks and chunks."""

    steps: int
    accuracy: Accuracy
    member_accuracy: Accuracy | None = None
    auc: dict[str, Accuracy]


class Roc(Document):
    """True positive rates of each attack at the false positive rates ``fpr``."""

    fpr: tuple[float, ...]
    tpr: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _aligned(self) -> Roc:
        if any(len(rates) != len(self.fpr) for rates in self.tpr.values()):
            raise ValueError("every curve in tpr must be as long as fpr")
        return self


class Victims(Document):
    """Networks trained on the same images, by the steps of their training."""

    images: int
    curve: tuple[Attacked, ...] = Field(min_length=1)
    roc: Roc

    @property
    def last(self) -> Attacked:
        """After the whole training."""
        return max(self.curve, key=lambda point: point.steps)


class Guesses(Document):
    """Areas alone, of networks that have learned nothing."""

    auc: dict[str, Accuracy]


class Membership(Measurement):
    """Membership inference; ``baselines`` are of networks trained on real images."""

    kind: Literal["membership"]
    network: NetworkRecipe
    attacks: tuple[str, ...]
    networks: int
    chunks: int
    members: int
    others: int
    distilled: Victims
    baselines: dict[str, Victims] = Field(default_factory=dict)
    untrained: Guesses | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class Part(Accuracy):
    """An accuracy that a score is made of, with how it was reached."""

    protocol: str | None = None
    epochs: int | None = None
    steps: int | None = None
    budget_steps: int | None = None


class Recovery(Document):
    """HLR: all real images less the distilled ones, both with hard labels."""

    value: float
    real: Part
    distilled: Part


class OverRandom(Document):
    """Distilled images less as many random real ones."""

    value: float
    distilled: Part
    random: Part
    protocol: str | None = None


class LabelRobust(Document):
    """LRS."""

    value: float
    improvement: float


class AugmentationRobust(LabelRobust):
    """ARS."""

    augmented: OverRandom
    plain: OverRandom


class Scores(Measurement):
    """Scores that labels and augmentation cannot lift."""

    kind: Literal["scores"]
    network: NetworkRecipe
    networks: int
    protocol: str
    seed: int = 0
    hlr: Recovery
    ior: OverRandom
    lrs: LabelRobust
    ars: AugmentationRobust
    warnings: tuple[str, ...] = ()


class Task(Document):
    """Accuracy on the classes so far, of networks that learned their images from scratch."""

    classes_so_far: int
    images: int
    accuracy: Accuracy
    baseline: Accuracy | None = None


class Continual(Measurement):
    """Learning class by class."""

    kind: Literal["continual"]
    protocol: str
    network: NetworkRecipe
    networks: int
    epochs: int | None = None
    order: str = "random"
    tasks: tuple[Task, ...] = Field(min_length=1)
    average_accuracy: float | None = None
    warnings: tuple[str, ...] = ()
