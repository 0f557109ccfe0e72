"""What evaluations and audits of distilled sets return, files keep and pages draw.

The order of a class's fields is the order of the keys in JSON. Reading passes over keys that
another version wrote; a field with a default may be absent, and is absent from
:meth:`Document.document` if it was not given. Accuracies and areas are fractions of 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol, Self, TypeVar

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)

from potstill.config import NetworkRecipe

if TYPE_CHECKING:
    import pandas as pd

Count = Annotated[int, Field(ge=0, lt=1 << 53)]
"""How many, as JSON has numbers exactly."""

Network = Annotated[NetworkRecipe, PlainSerializer(lambda network: network.model_dump(mode="json"))]
"""A network with all of its settings, defaults included."""


class Document(BaseModel):
    """Something that JSON holds."""

    model_config = ConfigDict(extra="ignore", frozen=True, str_max_length=10_000)

    def document(self) -> dict[str, Any]:
        """A JSON object of every field that was given."""
        return self.model_dump(mode="json", exclude_unset=True)

    def to_frame(self) -> pd.DataFrame:
        """A row for each number that was measured; see :func:`potstill.frames.rows`.

        Raises:
            PotstillError: pandas is not installed.
        """
        from potstill.frames import frame

        return frame(self)

    def given(self) -> dict[str, Any]:
        """The fields that were given, by name."""
        return {name: value for name, value in self if name in self.model_fields_set}


class Accuracy(Document):
    """Fractions of several networks: accuracies on test images, or areas under a curve."""

    mean: float
    std: float
    """The sample standard deviation of ``values``; 0 for a single one."""
    values: tuple[float, ...] = Field(min_length=1)
    """One for each network."""

    @classmethod
    def of(cls, values: Sequence[float], **more: Any) -> Self:
        """The mean and deviation of ``values``; ``more`` are a subclass's own fields."""
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        std = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0
        return cls(mean=mean, std=std, values=tuple(values), **more)


# Evaluations


class Training(NamedTuple):
    """How networks were trained. Accuracies are compared where it is the same."""

    network: NetworkRecipe
    protocol: str
    epochs: int | None
    """Of protocols that count them."""


class BestOnTest(Accuracy):
    """Accuracies of the epochs that the test set chose, as papers report them; never a result."""

    epochs: tuple[int, ...] = ()
    """Each network's best epoch, counted from 1."""


class Reached(Document):
    """What networks reached that were trained on one set of images."""

    accuracy: Accuracy
    """Accuracy on the test images after the last step."""
    best_on_test: BestOnTest | None = None


class Price(Document):
    """What it takes to keep a set and to train one network on it (:mod:`evaluation.price`)."""

    images: Count
    """Bytes of the images, as ``labels``, ``preprocessing`` and ``labeller`` of those."""
    labels: Count
    preprocessing: Count
    labeller: Count
    """Bytes of what labels while networks train: a teacher's weights."""
    total: Count
    bits_per_class: float
    storage_ratio: float
    """``total`` over the bytes of all training images at 8 bits."""
    operations: float
    """Operations of training one network: of its own passes and of the labeller's."""
    random_images: Count
    """How many random real images with a soft label each take as many bytes."""


class _Named(Document):
    # A class of its own so that the name stands before the numbers.
    kind: str = "random real images"


class Baseline(Accuracy, _Named):
    """The same protocol on the images that ``kind`` names, as many as the set has.

    Of ``images`` there are others, trained on under ``protocol``, where these are given.
    """

    images: Count | None = None
    protocol: str | None = None
    best_on_test: BestOnTest | None = None


class Evaluation(Document):
    """One evaluation of a distilled set: what fresh networks reached that were trained on it."""

    protocol: str
    """Name of the protocol that the networks were trained under."""
    dataset: str
    """Name of the real data whose test images they were tested on."""
    images: int
    images_per_class: int
    network: Network
    steps: int
    """Training steps of one network."""
    epochs: int | None = None
    """Epochs of one network; None under a protocol that does not count them."""
    presentations: int | None = None
    """Images shown to one network, under a protocol that counts them."""
    labels: str | None = None
    """Whose labels the networks were trained on: stored, on the fly, one an image, or hard."""
    teacher: Any = None
    """Who gave the labels that are not hard, as the set's header may say anything of it."""
    precision: str | None = None
    """In which convolutions and products were computed, where it was not float32."""
    strategy: tuple[str, ...] | None = None
    """Operations that views are drawn from, of protocols with siamese augmentation."""
    accuracy: Accuracy
    best_on_test: BestOnTest | None = None
    seed: int = 0
    source_fingerprint: str | None = None
    artefact_digest: str | None = None
    """Digest of the set; None where the result does not say which it is of."""
    baseline: Baseline | None = None
    beside: tuple[Baseline, ...] = ()
    """Other real images under the same training: as many as the same bytes buy, or all."""
    price: Price | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def training(self) -> Training:
        """How its networks were trained."""
        return Training(self.network, self.protocol, self.epochs)


class _Measured(Protocol):
    @property
    def artefact_digest(self) -> str | None: ...


_M = TypeVar("_M", bound=_Measured)


def of_set(measured: Iterable[_M], digest: str | None) -> tuple[_M, ...]:
    """Those measured on the set with this digest, and those that do not say on which.

    A set that was given soft labels is another set, which has another digest.
    """
    return tuple(one for one in measured if one.artefact_digest in (None, digest))


def standing(
    results: Iterable[Evaluation],
    *,
    network: NetworkRecipe | None,
    protocol: str | None,
    epochs: int | None,
) -> Evaluation | None:
    """The result that stands for others where there is room for one; None if there is none.

    Not the newest, which may be a quick look, but the one most like what was asked for: on
    ``network``, of ``protocol`` and for ``epochs`` (the most, if None) rather than not, in this
    order; then of the most networks; then the newest. It may be on another network than was asked
    for, so it must be shown with its own.
    """

    def likeness(result: Evaluation) -> tuple[bool, bool, int, int]:
        lasting = result.epochs or 0
        return (
            result.network == network,
            result.protocol == protocol,
            lasting if epochs is None else int(lasting == epochs),
            len(result.accuracy.values),
        )

    return max(reversed(tuple(results)), key=likeness, default=None)


def representatives(results: Iterable[Evaluation]) -> tuple[Evaluation, ...]:
    """Of networks that were trained alike the result of the most, or the newest of these."""
    alike: dict[Training, Evaluation] = {}
    for result in results:
        before = alike.get(result.training)
        if before is None or len(result.accuracy.values) >= len(before.accuracy.values):
            alike[result.training] = result
    return tuple(alike.values())


# Audits


class _OfSet(Document):
    """What every audit says first."""

    kind: str
    dataset: str
    """Name of the real data that the set stands for."""
    images: int
    images_per_class: int


class HardLabelled(Accuracy):
    """The accuracy on distilled images that HLR compares, and how the networks were trained."""

    protocol: str
    epochs: int
    steps: int


class OnReal(HardLabelled):
    """The accuracy on all real images that HLR compares, and how the networks were trained."""

    budget_steps: int
    """The most steps that a training was to take, if an epoch is not longer."""
    kept: int = 0
    """How many of the networks were in the cache."""


class OnRandom(Accuracy):
    """The accuracy on random real images."""

    kept: bool = False
    """Whether the accuracy was in the cache."""


class Recovery(Document):
    """HLR: accuracy on all real images less that on distilled ones, both with hard labels."""

    value: float
    real: OnReal
    distilled: HardLabelled


class OverRandom(Document):
    """Accuracy on distilled images less that on as many random real ones."""

    protocol: str | None = None
    """Name of the protocol; None where it is the audit's own."""
    value: float
    distilled: Accuracy
    random: OnRandom


class LabelRobust(Document):
    """LRS, and the weighed improvement that is mapped to it."""

    value: float
    improvement: float


class AugmentationRobust(LabelRobust):
    """ARS, and the improvements over random images with augmentation and without."""

    augmented: OverRandom
    plain: OverRandom


class RobustScores(_OfSet):
    """Scores that labels and augmentation cannot lift (DD-Ranking)."""

    kind: Literal["scores"]
    network: Network
    networks: int
    """How many were trained on each set of images."""
    protocol: str
    """Name of the set's own protocol."""
    teacher: dict[str, Any] | None = None
    seed: int = 0
    weights: dict[str, float] = Field(default_factory=dict)
    """Weights: ``lrs``, that of IOR in LRS, and ``ars``, that of augmentation in ARS."""
    hlr: Recovery
    ior: OverRandom
    lrs: LabelRobust
    ars: AugmentationRobust
    source_fingerprint: str | None = None
    artefact_digest: str | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None


class TargetTraining(Document):
    """How target models are trained on the images that are attacked."""

    optimiser: str
    learning_rate: float
    batch_size: int
    augmented: bool
    steps: int


class Areas(Document):
    """The area under each attack's curve, of each network; 1/2 for one that guesses."""

    auc: dict[str, Accuracy]


class Attacked(Document):
    """Target models after so many steps of their training, and what attacks on them came to."""

    steps: int
    accuracy: Accuracy
    """Accuracy on test images."""
    member_accuracy: Accuracy | None = None
    """Accuracy on the members, the images that the set was distilled from."""
    auc: dict[str, Accuracy]
    """The area under each attack's curve, of each network; 1/2 for one that guesses."""


class Roc(Document):
    """True positive rates of each attack at the false positive rates ``fpr``."""

    fpr: tuple[float, ...]
    tpr: dict[str, tuple[float, ...]]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if any(len(rates) != len(self.fpr) for rates in self.tpr.values()):
            raise ValueError("every curve in tpr must be as long as fpr")
        return self


class Targets(Document):
    """Target models trained on the same images."""

    images: int
    """Number of images that they were trained on."""
    curve: tuple[Attacked, ...] = Field(min_length=1)
    """What was found at each number of training steps that was looked at."""
    roc: Roc
    """Curves after the last step, the mean over networks and folds."""

    @property
    def last(self) -> Attacked:
        """What was found after the whole training."""
        return max(self.curve, key=lambda point: point.steps)


class Membership(_OfSet):
    """Membership inference: whether target models betray the images a set was distilled from."""

    kind: Literal["membership"]
    artefact_digest: str | None = None
    source_fingerprint: str | None = None
    network: Network
    training: TargetTraining
    attacks: tuple[str, ...]
    """Names of the attacks."""
    networks: int
    """Number of target models that are trained on each set of images."""
    folds: int = Field(validation_alias=AliasChoices("folds", "chunks"))
    """Parts of members and others; an attack is scored on one and fitted on the rest."""
    sets: int = 1
    """Number of distilled sets, each with members of its own, whose audits are put together."""
    seed: int = 0
    members: int
    """Number of training images that are guessed at."""
    others: int
    """Number of test images that are guessed at."""
    untrained: Areas | None = None
    """Areas for networks before their training."""
    distilled: Targets
    baselines: dict[str, Targets] = Field(default_factory=dict)
    """Target models trained on all ``members``, and on as many ``random`` ones as the set has."""
    warnings: tuple[str, ...] = ()
    seconds: float | None = None


class Task(Document):
    """Accuracy on the classes so far, of fresh networks trained on their images."""

    classes: tuple[int, ...]
    """Indices of the classes that are new."""
    classes_so_far: int
    images: int
    """Number of distilled images of the classes so far."""
    tested: int
    """Number of test images of the classes so far."""
    steps: int
    accuracy: Accuracy
    baseline: Baseline | None = None


class Continual(_OfSet):
    """Class-incremental learning on a distilled set, task by task."""

    kind: Literal["continual"]
    artefact_digest: str | None = None
    source_fingerprint: str | None = None
    protocol: str
    network: Network
    epochs: int | None = None
    labels: str | None = None
    networks: int
    """Number of networks trained for each task."""
    order: str = "random"
    tasks: tuple[Task, ...] = Field(min_length=1)
    average_accuracy: float
    """Mean over the tasks of their mean accuracies."""
    seed: int = 0
    teacher: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    seconds: float | None = None

    @property
    def training(self) -> Training:
        """How the networks of every task were trained."""
        return Training(self.network, self.protocol, self.epochs)


class Observer(Document):
    """The teacher whose features are compared, and which layer gives them."""

    digest: str
    layer: str


class Distances(Document):
    """Feature distances of the images of each class; None where a class has fewer than two."""

    mean: float | None = None
    """Mean over the classes that have a distance."""
    classes: tuple[float | None, ...] = ()
    """Mean squared distance of two different images of each class."""
    sums: tuple[float | None, ...] = ()
    """Sum of the squared distances in each class (DWA, eq. 21)."""


class Embedding(Document):
    """Images as points of the plane (t-SNE of the teacher's outputs)."""

    class_names: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    classes: tuple[int, ...]
    """Each point's class, an index of ``class_names``."""
    real: tuple[bool, ...]
    """Whether each point is a real image."""
    sets: tuple[str, ...] = ()
    """Names of the distilled sets, where the map is of several."""
    of: tuple[int, ...] = ()
    """Each point's set then, an index of ``sets``; -1 of real images."""
    perplexity: float | None = None

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        sizes = {len(self.x), len(self.y), len(self.classes), len(self.real)}
        if len(sizes) > 1:
            raise ValueError("x, y, classes and real must be equally long")
        if any(not 0 <= index < len(self.class_names) for index in self.classes):
            raise ValueError("classes must be indices of class_names")
        if len(self.of) not in (0, len(self.x)) or any(
            index not in (range(len(self.sets)), (-1,))[real]
            for index, real in zip(self.of, self.real, strict=False)
        ):
            raise ValueError("of must be indices of sets, and -1 of real images")
        return self


class Diversity(_OfSet):
    """How different from each other the images of a class are to a teacher."""

    kind: Literal["diversity"]
    artefact_digest: str | None = None
    teacher: Observer | None = None
    distance: Distances
    seed: int = 0
    real: Distances | None = None
    """Distances of as many random real images."""
    relative: float | None = None
    """Mean distance of distilled images over that of real ones."""
    source_fingerprint: str | None = None
    embedding: Embedding | None = None
    """Map of the images; None for fewer than 4 points, or if all are alike."""
    warnings: tuple[str, ...] = ()
    seconds: float | None = None


Audit = RobustScores | Membership | Continual | Diversity
