"""A trained network that images are inverted against and labelled by, as one file.

The file is a safetensors file like a distilled set's (:mod:`potstill.storage`) of another
kind: the weights, the preprocessing they were trained with, the class names, and in the header
how the network is built and where it comes from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from potstill import storage
from potstill.config import Name, NetworkRecipe
from potstill.data.header import (
    UNRECORDED,
    MadeIn,
    Section,
    Seed,
    Side,
    Source,
    as_json,
    checked_names,
)
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, Split
from potstill.data.transforms import in_phases
from potstill.errors import ArtefactError, DataError
from potstill.hardware import sent
from potstill.hashing import add_tensor
from potstill.networks import pretrained, zoo
from potstill.networks.convnet import channels_last
from potstill.networks.factory import from_factory
from potstill.quoting import fault, quoted, shortened
from potstill.results import Count
from potstill.train import images_at_once

# What the file's document has besides.
_DERIVED = frozenset({"class_names", "digest", "format_version", "preprocess"})
_NETWORK, _PREPROCESS = "network.", "preprocess."
_BATCH = 1000


class _Measured(Section):
    accuracy: float = Field(ge=0, le=1)


class _Network(Section):
    module: Name = ""
    pretrained: Name = ""


class _Images(Source):
    channels: Side
    resolution: Side


class _Header(Section):
    network: _Network
    teacher: dict[str, Any]
    source: _Images
    epochs: Count
    seed: Seed
    versions: dict[Name, Name]
    surroundings: MadeIn = UNRECORDED
    results: tuple[_Measured, ...]


@dataclass(frozen=True)
class Teacher:
    """A network in evaluation mode, without gradients, and all that belongs to it.

    Attributes:
        network: (n, c, h, w) float32, network space, to (n, C); float32 weights.
        preprocess: from pixels to what the network sees.
        class_names: C names; output k of the network is class k.
        header: as JSON: ``network`` (a network recipe, {"module": factory} or {"pretrained":
            name}), ``teacher`` (its recipe), ``source`` (name, fingerprint, classes, channels,
            resolution), ``epochs`` it was trained for, ``seed``, ``versions``, ``surroundings``
            (absent from a teacher of an earlier potstill) and ``results``, each of which has its
            ``accuracy`` on the test images as a fraction.
    """

    network: nn.Module
    preprocess: Preprocess
    class_names: tuple[str, ...]
    header: dict[str, Any]

    def __post_init__(self) -> None:
        """Check the header and freeze the network, in place.

        Raises:
            ArtefactError: a field of the header is missing, of the wrong type or beyond what any
                teacher has, or the class names are none.
        """
        as_json(self.header, _Header)
        checked_names(self.class_names)
        self.network.eval().requires_grad_(False)

    def __repr__(self) -> str:
        right = "" if self.accuracy is None else f", {100 * self.accuracy:.2f} % right"
        source, (channels, side) = self.header["source"]["name"], (self.channels, self.resolution)
        return (
            f"Teacher({type(self.network).__name__} of {source}: images of "
            f"{channels}x{side}x{side}, {self.classes} classes{right})"
        )

    @property
    def channels(self) -> int:
        """Channels of the images it sees: 1 for grayscale, 3 for RGB."""
        return self.header["source"]["channels"]

    @property
    def resolution(self) -> int:
        """Side of the square images it sees."""
        return self.header["source"]["resolution"]

    @property
    def classes(self) -> int:
        """Number of classes that it tells apart."""
        return len(self.class_names)

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the weights: names and numbers, whatever their strides."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.network.state_dict().items()):
            add_tensor(digest, name, tensor)
        return digest.hexdigest()

    @property
    def accuracy(self) -> float | None:
        """The fraction of test images it gets right, if that was measured."""
        results = self.header["results"]
        return results[-1]["accuracy"] if results else None

    def summary(self) -> dict[str, Any]:
        """What a result made with its help says of it, as JSON.

        ``digest``, ``accuracy``, ``network``, the ``epochs`` it was trained for, ``settings``,
        its recipe, and ``surroundings`` if it says in which it was trained.
        """
        facts = {
            "digest": self.digest,
            "accuracy": self.accuracy,
            "network": self.header["network"],
            "epochs": self.header["epochs"],
            "settings": self.header["teacher"],
        }
        return facts | {k: self.header[k] for k in ("surroundings",) if k in self.header}

    def require_for(self, source: SourceDataset) -> None:
        """Refuse other data than it was made for.

        Raises:
            DataError: classes, channels or resolution differ.
        """
        for what, theirs, ours in (
            ("classes", _shortened(self.class_names), _shortened(source.class_names)),
            ("channels", self.channels, source.channels),
            ("resolution", self.resolution, source.resolution),
        ):
            if theirs != ours:
                raise DataError(
                    f"the teacher was made for {what} {theirs} and {source.name} has {ours}; take "
                    "a teacher that was trained on this data"
                )

    @torch.no_grad()
    def logits(self, images: Tensor, batch: int | None = None) -> Tensor:
        """Outputs before the softmax, (n, C) float32 on the device of the network.

        Args:
            images: (n, c, h, w) float32, network space, on any device.
            batch: images processed at a time; what suits the device if None.
        """
        device = next(self.network.parameters()).device
        on_cpu = device.type == "cpu"
        size = batch or images_at_once(images.shape[-1], device)
        arrange = channels_last if on_cpu else torch.Tensor.contiguous
        parts = [self.network(arrange(part.to(device))) for part in images.split(size)]
        return torch.cat(parts).float()

    def score(self, split: Split) -> float:
        """The fraction of ``split``, which must not be empty, that the network gets right."""
        hits, device = 0, next(self.network.parameters()).device
        for first in range(0, len(split), _BATCH):
            part = slice(first, first + _BATCH)
            images = self.preprocess.apply(sent(split.images[part], device))
            predicted = self.logits(images).argmax(1)
            hits += int((predicted.cpu() == split.labels[part].cpu()).sum())
        return hits / len(split)

    def save(self, path: Path | str) -> None:
        """Write the teacher as one file: the whole file or none, the same one to the same bytes.

        Raises:
            ArtefactError: the header is not JSON.
            RunError: the file cannot be written.
        """
        document = {
            **self.header,
            "format_version": _format_version(self.preprocess),
            "class_names": list(self.class_names),
            "preprocess": self.preprocess.describe(),
        }
        weights = {_NETWORK + name: value for name, value in self.network.state_dict().items()}
        parts = {_PREPROCESS + name: value for name, value in self.preprocess.tensors().items()}
        storage.save(Path(path), document, {**weights, **parts}, storage.TEACHER)

    @classmethod
    def load(cls, path: Path | str, factory: str | None = None) -> Teacher:
        """Read a file that :meth:`save` wrote; the network is on the CPU.

        Args:
            factory: ``package.name:factory`` that may be imported and called. A file that needs
                one names it, but a file does not choose what code runs: the caller must name
                the same.

        Raises:
            ArtefactError: the file is missing, truncated, altered, no teacher, of a newer
                format, needs a factory that was not passed, or does not fit its network.
            NetworkError: the network cannot be built, or does not take the file's images.
        """
        path = Path(path)
        document, tensors = storage.decode(path, storage.TEACHER)
        try:
            header = {key: value for key, value in document.items() if key not in _DERIVED}
            preprocess = Preprocess.from_parts(
                document["preprocess"], _with_prefix(tensors, _PREPROCESS)
            )
            if document["format_version"] != _format_version(preprocess):
                raise ArtefactError(
                    f"format {document['format_version']} does not go with what it holds; "
                    "get the original file again"
                )
            as_json(header, _Header)
            names = checked_names(document["class_names"])
            weights = _with_prefix(tensors, _NETWORK)
            network = _build(header, len(names), factory, weights)
            network.load_state_dict(weights)
            return cls(network, preprocess, names, header)
        except ArtefactError as error:
            raise ArtefactError(f"{path}: {error}") from None
        except (KeyError, TypeError, AttributeError, RuntimeError, ValidationError, DataError) as e:
            reason = fault(e) if isinstance(e, ValidationError) else shortened(str(e))
            raise ArtefactError(
                f"{path}: its weights and its network do not fit ({reason}); get the original "
                "file again, or the version of the network that it was trained with"
            ) from None


def _format_version(preprocess: Preprocess) -> int:
    return 2 if in_phases(preprocess) else 1


def _build(
    header: Mapping[str, Any], classes: int, factory: str | None, weights: Mapping[str, Tensor]
) -> nn.Module:
    """The network a header describes, its ``weights`` still to be loaded.

    A network of potstill's is tried without storage first: a header could ask for more than the
    file holds and memory has.
    """
    network, source = header["network"], header["source"]
    shape = {"channels": source["channels"], "resolution": source["resolution"]}
    if "module" in network:
        if factory is None or factory != network["module"]:
            raise ArtefactError(
                f"the network is built by {network['module']!r}, which is not part of potstill; "
                "if you trust that code, pass --module PACKAGE:FACTORY, or set "
                "method.teacher.module"
            )
        return from_factory(factory, **shape, classes=classes)
    if "pretrained" in network:
        return pretrained.pretrained(network["pretrained"], **shape, classes=classes, weights=False)
    recipe = NetworkRecipe.model_validate(network)
    if recipe.foreign:
        raise ArtefactError(
            f"there is no network {quoted(recipe.name)}; get the original file again"
        )
    if recipe.library is None:
        with torch.device("meta"):
            planned = zoo.build(recipe, **shape, classes=classes).state_dict()
        for name, tensor in planned.items():
            if name in weights and weights[name].shape != tensor.shape:
                raise ArtefactError(
                    f"size mismatch for {name}: {tuple(weights[name].shape)} in the file, "
                    f"{tuple(tensor.shape)} in the network it names; get the original file again"
                )
    return zoo.build(recipe, **shape, classes=classes)


def _shortened(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{len(names)} ({shown}{', ...' if len(names) > 5 else ''})"


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
