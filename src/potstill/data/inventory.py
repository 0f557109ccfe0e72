"""What a data set consists of, in few enough words to be kept beside every intermediate state.

A fingerprint tells that two data sets differ; an inventory also tells in what.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from potstill.data.source import SourceDataset, Split
from potstill.errors import RunError
from potstill.quoting import listed, quoted


class Inventory(BaseModel):
    """A data set's fingerprint, and what a person would count in it.

    Attributes:
        fingerprint: of both splits, :func:`potstill.data.source.fingerprint`.
        shape: channels, height and width of every image; None where that is not known.
        classes: the names in the order of the labels, each with its number of training and of test
            images; None where that is not known.
    """

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    shape: tuple[int, int, int] | None
    classes: dict[str, tuple[int, int] | None]

    @classmethod
    def of(cls, source: SourceDataset) -> Inventory:
        """Take the inventory of ``source``."""
        train, test = (_counts(split, source.classes) for split in (source.train, source.test))
        return cls(
            fingerprint=source.fingerprint,
            shape=_shape(source.channels, source.resolution),
            classes=dict(zip(source.class_names, zip(train, test, strict=True), strict=True)),
        )

    @classmethod
    def stated(cls, source: Mapping[str, Any], class_names: Sequence[str]) -> Inventory:
        """What the header of a set or of a teacher says: no numbers of images."""
        known = {"channels", "resolution"} <= source.keys()
        return cls(
            fingerprint=source["fingerprint"],
            shape=_shape(source["channels"], source["resolution"]) if known else None,
            classes=dict.fromkeys(class_names),
        )

    def require_same(self, now: Inventory, path: Path) -> None:
        """Refuse to go on in ``path``, which is of this data, with other data.

        Raises:
            RunError: in what they differ.
        """
        differing = self.differences(now)
        if differing:
            raise RunError(
                f"{path} is of other data: {listed(differing)}; restore the data as they were, or "
                "use another --out"
            )

    def differences(self, now: Inventory) -> list[str]:
        """In what ``now`` differs, a phrase for each; empty for the same data."""
        found = [*self._of_classes(now), *self._of_images(now)]
        if not found and self.fingerprint != now.fingerprint:
            counted = None not in self.classes.values()
            found = [
                "images were altered or exchanged, as many of each class"
                if counted
                else "images were altered, added or removed"
            ]
        return found

    def _of_classes(self, now: Inventory) -> Iterator[str]:
        for name in self.classes:
            if name not in now.classes:
                yield f"class {quoted(name)} was removed"
        for name in now.classes:
            if name not in self.classes:
                yield f"class {quoted(name)} was added"
        if self.classes.keys() == now.classes.keys() and [*self.classes] != [*now.classes]:
            yield "the classes come in another order"

    def _of_images(self, now: Inventory) -> Iterator[str]:
        for name, before in self.classes.items():
            after = now.classes.get(name)
            if before is None or after is None:
                continue
            for what, was, there in zip(("training", "test"), before, after, strict=True):
                if was != there:
                    yield f"class {quoted(name)} has {there} {what} images and had {was}"
        if None not in (self.shape, now.shape) and self.shape != now.shape:
            yield f"images are of {now.shape} and were of {self.shape}"


def _shape(channels: int, side: int) -> tuple[int, int, int]:
    return channels, side, side


def _counts(split: Split, classes: int) -> list[int]:
    counts: list[int] = torch.bincount(split.labels, minlength=classes).tolist()
    return counts
