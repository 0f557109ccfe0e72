"""What a comparison of distilled sets found: what the command returns, files keep, pages draw.

Accuracies are fractions of 1. Rows that may be held against each other have the same data, the
same images per class and the same :attr:`Row.asked`, and under a common protocol the same network,
number of networks and number of images shown; under ``own`` each has those of its own recipe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from potstill import storage
from potstill.errors import RunError
from potstill.quoting import fault
from potstill.results import Accuracy, Document, Network

DOCUMENT, TABLE = "comparison.json", "comparison.csv"
OWN = "own"
"""Asks for each set's own protocol, with its own network."""
RANDOM = "random real images"
"""The method of rows that are no method's."""


class Row(Document):
    """One method at one number of images per class, scored in one way; all its seeds together."""

    method: str
    """What it is called in tables and pictures; :data:`RANDOM` for random real images."""
    name: str
    """What tells methods of one kind apart: the recipe's name without its images per class."""
    images_per_class: int
    asked: str
    """The protocol that was asked for: :data:`OWN`, or the one that the rows have in common."""
    protocol: str
    network: Network
    networks: int
    """Number of networks trained on each set."""
    epochs: int | None = None
    """Epochs of one network; None under a protocol that does not count them."""
    shown: int
    """Images that one network learns from, each counted as often as it is shown."""
    beside: tuple[str, ...] = ()
    """Of a row of random real images: the methods that it stands beside."""
    accuracy: Accuracy
    """Of all networks of all seeds."""
    seeds: tuple[int, ...]
    by_seed: tuple[float, ...]
    """Mean accuracy of each seed's networks."""
    bytes: int | None = None
    """Price of a set as the protocol uses it: images, labels, labeller; None where unknown."""
    seconds: float | None = None
    """Mean over the seeds of what making a set took, a teacher of its own left out."""
    scoring_seconds: float | None = None
    """Mean over the seeds of what its evaluation took."""

    @property
    def random(self) -> bool:
        """Whether the images are random real ones."""
        return self.method == RANDOM


class Missing(Document):
    """What was asked for and is not there."""

    method: str
    name: str
    images_per_class: int
    asked: str
    seed: int
    why: str
    """Such as what it would take, or what went wrong; a line."""
    failed: bool = False
    """Whether it was tried, and went wrong."""


class Comparison(Document):
    """The table, and all that is needed to read it."""

    format: Literal[1] = 1
    dataset: str
    """Name of the data whose test images every accuracy is of."""
    title: str
    """The data set as papers name it."""
    source_fingerprint: str | None = None
    teacher: dict[str, Any] | None = None
    """Who labels under the common protocols that have a teacher."""
    notes: tuple[str, ...] = ()
    """What is not equal between rows, a sentence each."""
    rows: tuple[Row, ...] = ()
    missing: tuple[Missing, ...] = ()
    files: dict[str, str] = Field(default_factory=dict)
    """Where each set lies, by ``NAME at IPC, seed N``."""

    @property
    def complete(self) -> bool:
        """Whether all that was asked for is there."""
        return not self.missing

    def beside(self, row: Row) -> Row | None:
        """The random real images that stand beside a method's row."""
        for other in self.rows:
            same = (other.images_per_class, other.asked) == (row.images_per_class, row.asked)
            if other.random and same and row.method in other.beside and not row.random:
                return other
        return None

    def csv(self) -> str:
        """The rows as a table of text, with a head."""
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in self.rows:
            writer.writerow(_flat(row, self.beside(row)))
        return buffer.getvalue()

    def text(self) -> str:
        """The document as JSON, keys in the order of the fields."""
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"


_COLUMNS = (
    "images_per_class",
    "asked",
    "method",
    "name",
    "protocol",
    "network",
    "networks",
    "epochs",
    "shown",
    "seeds",
    "accuracy",
    "std",
    "over_random",
    "bytes",
    "seconds",
    "scoring_seconds",
)


def _flat(row: Row, beside: Row | None) -> Mapping[str, Any]:
    gain = None if beside is None else round(row.accuracy.mean - beside.accuracy.mean, 6)
    own = {key: getattr(row, key) for key in _COLUMNS if hasattr(row, key)}
    return {
        **own,
        "network": storage.canonical(row.network.model_dump(mode="json")),
        "seeds": " ".join(map(str, row.seeds)),
        "accuracy": round(row.accuracy.mean, 6),
        "std": round(row.accuracy.std, 6),
        "over_random": gain,
    }


def ordered(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows by what they may be held against, in the order in which these first come."""
    groups: dict[tuple[int, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.images_per_class, row.asked), []).append(row)
    return list(groups.values())


def holds(folder: Path) -> bool:
    """Whether there is a comparison in ``folder``."""
    return (folder / DOCUMENT).is_file()


def read(folder: Path) -> Comparison:
    """The comparison in ``folder``.

    Raises:
        RunError: there is none, or its file is damaged or of a newer format.
    """
    path = folder / DOCUMENT
    try:
        return Comparison.model_validate_json(storage.canonical(storage.read_json(path)))
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror or error}; check the path") from None
    except ValidationError as error:
        reason = fault(error)
    except ValueError as error:
        reason = str(error)
    raise RunError(
        f"{path} is damaged or of a newer potstill ({reason}); repeat potstill compare, which "
        "writes it anew from the sets"
    )
