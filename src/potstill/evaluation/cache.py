"""A cache on disk of numbers that took long to train for, under everything they depend on.

That is the code as well: whoever changes what a training computes raises ``GENERATION``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import BaseModel, ValidationError

from potstill import __version__, storage
from potstill.config import NetworkRecipe
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset
from potstill.errors import RunError
from potstill.files import atomic_write, make_folder, remove_leftovers

GENERATION = 1
"""Version of the code that trains and attacks networks; another one finds nothing cached."""

_M = TypeVar("_M", bound=BaseModel)


def trained_on(
    source: SourceDataset,
    preprocess: Preprocess,
    network: NetworkRecipe,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """What every training on real images depends on, and every test on them: part of a key."""
    return {
        "version": __version__,
        "generation": GENERATION,
        "torch": torch.__version__,
        "device": device.type,
        "source_fingerprint": source.fingerprint,
        "preprocess": storage.content_digest(preprocess.describe(), preprocess.tensors()),
        "network": network.model_dump(mode="json"),
        "seed": seed,
    }


class Cache:
    """A folder of JSON files ``{"key": ..., "value": ...}``, each named after its key's SHA-256.

    A file that is damaged or has another key is as good as none: its number is trained for again,
    and the file replaced.

    Args:
        folder: made when something is put; nothing is cached if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._tidy = False
        self.problem: str | None = None
        """Why something could not be written, if so: no reason to lose the number itself."""

    def numbers(self, key: Mapping[str, Any], name: str, count: int) -> list[float] | None:
        """The ``count`` finite numbers under ``name`` of what was put under an equal key, if so."""
        values = (self._value(key) or {}).get(name)
        if not isinstance(values, list) or len(values) != count:
            return None
        if not all(isinstance(value, float) and math.isfinite(value) for value in values):
            return None
        return values

    def get(self, key: Mapping[str, Any], model: type[_M]) -> _M | None:
        """What was put under an equal key, if it is strictly what ``model`` says; else None."""
        value = self._value(key)
        if value is None:
            return None
        try:
            return model.model_validate_json(storage.canonical(value), strict=True)
        except ValidationError:
            return None

    def _value(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        if self._folder is None:
            return None
        try:
            document = storage.read_json(self._path(self._folder, key))
        except (OSError, ValueError):
            return None
        if not isinstance(document, dict) or document.get("key") != json.loads(_text(key)):
            return None
        value = document.get("value")
        return value if isinstance(value, dict) else None

    def put(self, key: Mapping[str, Any], value: Mapping[str, Any]) -> None:
        """Store ``value`` under ``key``; both as JSON has them."""
        if self._folder is None:
            return
        content = json.dumps({"key": key, "value": value}, indent=2, sort_keys=True) + "\n"
        try:
            make_folder(self._folder)
            if not self._tidy:
                remove_leftovers(self._folder)
                self._tidy = True
            atomic_write(self._path(self._folder, key), content.encode())
        except RunError as error:
            self.problem = str(error)

    @staticmethod
    def _path(folder: Path, key: Mapping[str, Any]) -> Path:
        return folder / f"{hashlib.sha256(_text(key).encode()).hexdigest()[:40]}.json"


def _text(key: Mapping[str, Any]) -> str:
    return storage.canonical(key)
