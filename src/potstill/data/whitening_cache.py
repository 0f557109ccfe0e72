"""A cache on disk of fitted ZCA, which takes minutes at 64 px, under everything it depends on.

That is the code as well: whoever changes what a fit computes raises ``GENERATION``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from potstill import __version__, storage
from potstill.data.blocks import Blocks
from potstill.data.transforms import ZCA, Preprocess
from potstill.errors import PotstillError, RunError
from potstill.files import make_folder, remove_leftovers
from potstill.hashing import add_tensor
from potstill.surroundings import machine

GENERATION = 1
"""Version of the code that fits; another one finds nothing cached."""


class WhiteningCache:
    """A folder of whitenings, each a file with its key, named after the key's SHA-256.

    A file that is damaged, or is of another key, is as good as none: ZCA is fitted again.

    Args:
        folder: made when something is put; nothing is cached if None.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self.problem: str | None = None
        """Why something could not be written, if so: no reason to lose the fit itself."""

    def key(
        self, images: Tensor, regularisation: float, blocks: Blocks, device: torch.device
    ) -> dict[str, Any]:
        """All that the bits of a fit depend on, as JSON; empty where nothing is cached.

        Args:
            images: (n, c, h, w) uint8, fitted on; they enter as their SHA-256.
            regularisation: relative to the mean eigenvalue.
            blocks: how an image is cut into rows.
            device: that computes: eigenvectors round differently on another.
        """
        if self._folder is None:
            return {}
        digest = hashlib.sha256()
        add_tensor(digest, "images", images)
        return {
            "version": __version__,
            "generation": GENERATION,
            "torch": torch.__version__,
            "machine": machine(str(device)),
            "threads": torch.get_num_threads(),
            "images": digest.hexdigest(),
            "shape": list(images.shape),
            "regularisation": regularisation,
            "block": blocks.side,
            "tiling": blocks.tiling,
        }

    def get(self, key: Mapping[str, Any]) -> ZCA | None:
        """What was put under an equal key, to the bit; None if there is nothing to be trusted."""
        if self._folder is None:
            return None
        try:
            document, tensors = storage.decode(self._path(self._folder, key), storage.WHITENING)
            fitted = Preprocess.from_parts(document.get("preprocess", {}), tensors)
        except PotstillError:
            return None
        if document.get("key") != key or not isinstance(fitted, ZCA):
            return None
        expected = (tuple(key["shape"][1:]), key["regularisation"], key["block"])
        found = (tuple(fitted.pixel_mean.shape), fitted.regularisation, fitted.blocks.side)
        return fitted if found == expected else None

    def put(self, key: Mapping[str, Any], fitted: ZCA) -> None:
        """Store ``fitted`` under ``key``."""
        if self._folder is None:
            return
        document = {"format_version": 1, "key": dict(key), "preprocess": fitted.describe()}
        try:
            make_folder(self._folder)
            remove_leftovers(self._folder)
            storage.save(
                self._path(self._folder, key), document, fitted.tensors(), storage.WHITENING
            )
        except RunError as error:
            self.problem = str(error)

    @staticmethod
    def _path(folder: Path, key: Mapping[str, Any]) -> Path:
        name = hashlib.sha256(storage.canonical(key).encode()).hexdigest()[:40]
        return folder / f"{name}.safetensors"
