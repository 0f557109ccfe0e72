"""The JSON that runs leave behind, as far as a report reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from potstill.config import NetworkRecipe


class Document(BaseModel):
    """Keys that a later version writes are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Accuracy(Document):
    """Accuracies as fractions; ``std`` is the sample standard deviation over ``values``."""

    mean: float
    std: float
    values: tuple[float, ...]


class Baseline(Accuracy):
    """The same protocol on other images, such as as many real ones drawn at random."""

    kind: str = "random real images"


class Measurement(Document):
    """Something that was measured on a distilled set; None where it does not say on which."""

    artefact_digest: str | None = None


class Result(Measurement):
    """One evaluation of a distilled set."""

    protocol: str
    dataset: str
    images: int
    images_per_class: int
    network: NetworkRecipe
    steps: int
    accuracy: Accuracy
    seconds: float | None = None
    seed: int = 0
    source_fingerprint: str | None = None
    baseline: Baseline | None = None
    warnings: tuple[str, ...] = ()
    epochs: int | None = None
    labels: str | None = None
    """Whose labels the networks were trained on: stored, on the fly, or hard."""
    teacher: Any = None
    """Who gave the labels that are not hard, as the set's header may say anything of it."""
    best_on_test: Accuracy | None = None
    """Of the epochs that the test set chose, as papers report it; never the result."""


class Distances(Document):
    """Feature distances of the images of each class; None where a class has fewer than two."""

    mean: float | None = None
    classes: tuple[float | None, ...] = ()


class Embedding(Document):
    """Images as points of the plane: of each its class, and whether it is a real image."""

    class_names: tuple[str, ...]
    x: tuple[float, ...]
    y: tuple[float, ...]
    classes: tuple[int, ...]
    real: tuple[bool, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Embedding:
        sizes = {len(self.x), len(self.y), len(self.classes), len(self.real)}
        if len(sizes) > 1:
            raise ValueError("x, y, classes and real must be equally long")
        if any(not 0 <= index < len(self.class_names) for index in self.classes):
            raise ValueError("classes must be indices of class_names")
        return self


class Diversity(Measurement):
    """How different the images of a class are to a teacher; ``real`` is of random real images."""

    kind: Literal["diversity"]
    distance: Distances
    real: Distances | None = None
    relative: float | None = None
    embedding: Embedding | None = None


class Timing(Document):
    """Wall-clock seconds of a run, in total and by named part."""

    total: float = 0.0
    parts: dict[str, float] = {}


class Record(Document):
    """What ``record.json`` holds."""

    status: Literal["running", "finished", "stopped"]
    iteration: int = Field(ge=0)
    seconds: Timing = Timing()
    machine: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    results: tuple[Result, ...] = ()
    audits: tuple[dict[str, Any], ...] = ()
