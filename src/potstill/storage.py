"""A JSON document and tensors as one safetensors file, and back.

Distilled sets, teachers, checkpoints and cached whitenings are such files; ``docs/artefact.md``
specifies the first two. The invariant: the same document and tensors give the same bytes, and a
file whose bytes say anything else than was written is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor

from potstill import container, hardware
from potstill.errors import ArtefactError, PotstillError, RunError
from potstill.files import atomic_write, open_regular
from potstill.hashing import add_tensor
from potstill.quoting import quoted


@dataclass(frozen=True)
class Kind:
    """What tells the files of one kind from others, and what is said of a bad one."""

    name: str
    key: str
    """The only key of the safetensors metadata: safetensors writes several in random order."""
    newest: int
    """The newest ``format_version`` that this version of the library reads."""
    error: type[PotstillError] = ArtefactError
    """Raised when a file is refused."""
    remedy: str | None = None
    """What helps against a bad file whatever is wrong with it; if None, it depends."""

    def refusal(self, cause: str, remedy: str) -> PotstillError:
        """The error for a file that is damaged or not of this kind."""
        return self.error(f"{cause}; {self.remedy or remedy}")


DISTILLED_SET = Kind("distilled set", "potstill", newest=5)
TEACHER = Kind("teacher", "potstill.teacher", newest=2)
WHITENING = Kind("whitening", "potstill.whitening", newest=1)
CHECKPOINT = Kind(
    "checkpoint",
    "potstill.checkpoint",
    newest=2,
    error=RunError,
    remedy="restore a copy, or delete it to start this run from the beginning",
)
_KINDS = (DISTILLED_SET, TEACHER, WHITENING, CHECKPOINT)
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit
_DEEPEST, _LARGEST_INTEGER = 200, 1 << 200
_LARGEST_DOCUMENT = 1 << 26  # bytes of a file that is JSON alone


def canonical(document: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII only.

    Raises:
        ArtefactError: a value that JSON does not have, NaN and infinity among them.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ArtefactError(
            f"the header cannot be written as JSON ({error}); use finite numbers, text, lists "
            "and dicts with text keys"
        ) from None


def parsed(text: str | bytes) -> Any:
    """What JSON says.

    Raises:
        ValueError: it is no JSON, or is nested deeper, has larger or other numbers or other text
            than anything that potstill writes.
    """
    try:
        document = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    pending: list[tuple[Any, int]] = [(document, 1)]
    while pending:
        node, depth = pending.pop()
        if depth > _DEEPEST:
            raise ValueError("it is nested too deep")
        if isinstance(node, str):
            node.encode()  # refuses half a pair of surrogates, which no file or screen can have
        elif isinstance(node, int) and abs(node) > _LARGEST_INTEGER:
            raise ValueError("a number has too many digits")
        elif isinstance(node, float) and not math.isfinite(node):
            raise ValueError("a number is not finite")
        elif isinstance(node, list):
            pending.extend((child, depth + 1) for child in node)
        elif isinstance(node, dict):
            pending.extend((child, depth + 1) for pair in node.items() for child in pair)
    return document


def read_json(path: Path) -> Any:
    """What a file says that is JSON alone.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: as :func:`parsed`, or it is larger than any that potstill writes.
    """
    with open_regular(path) as file:
        data = file.read(_LARGEST_DOCUMENT + 1)
    if len(data) > _LARGEST_DOCUMENT:
        raise ValueError(f"it has more than {_LARGEST_DOCUMENT:,} bytes")
    return parsed(data)


def content_digest(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything but the results: it stays when a result is added."""
    content = {key: document[key] for key in document if key not in ("results", "digest")}
    digest = hashlib.sha256(f"{canonical(content)}\n".encode())
    for name in sorted(tensors):
        add_tensor(digest, name, tensors[name])
    return digest.hexdigest()


def is_of(path: Path, kind: Kind) -> bool:
    """Whether a file says that it is of this kind, whatever else is wrong with it."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            metadata = _header(path, file, size, kind).get("__metadata__")
    except (OSError, PotstillError):
        return False
    return isinstance(metadata, dict) and kind.key in metadata


def save(
    path: Path, document: Mapping[str, Any], tensors: Mapping[str, Tensor], kind: Kind
) -> None:
    """Write a document (with ``format_version``, without ``digest``) and its tensors, atomically.

    They take no memory besides themselves but for one tensor at a time, where it is not on the
    CPU or not contiguous.

    Raises:
        ArtefactError: the document holds a value that JSON does not have.
        RunError: the file cannot be written.
    """
    text = canonical({**document, "digest": _digests(document, tensors)})
    atomic_write(path, lambda file: container.write(file, tensors, {kind.key: text}))


def decode(path: Path, kind: Kind) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document (without ``digest``) and the tensors of a file, intact as written.

    Raises:
        PotstillError: ``kind.error``, as the file is missing, truncated, altered, not ours, of
            another kind or of a newer format.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            _require_room(path, size, kind)
            entries = _header(path, file, size, kind)
            document = _document(path, entries.pop("__metadata__", None), kind)
            _check_version(path, document, kind)
            try:
                tensors = container.read(file, entries, size - file.tell())
                intact = document.pop("digest") == _digests(document, tensors)
            # Malformed entries, missing keys, NaN as JSON, types that NumPy does not have.
            except (ArtefactError, KeyError, ValueError, TypeError, RuntimeError):
                intact = False
    except OSError as error:
        reason = error.strerror or str(error)
        raise kind.error(f"cannot read {path}: {reason}; check the path") from None
    if not intact:
        raise kind.refusal(
            f"{path} was altered after it was written: its digest does not match",
            "get the original file again",
        )
    return document, tensors


def _require_room(path: Path, size: int, kind: Kind) -> None:
    shortage = hardware.shortage(size)
    if shortage is not None:
        raise kind.error(f"{path} has {shortage}; use a machine with more")


def _digests(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The digest of the content, and one that binds the results, if any, to it."""
    content = content_digest(document, tensors)
    if "results" not in document:
        return {"content": content}
    results = f"{content}\n{canonical(document['results'])}"
    return {"content": content, "results": hashlib.sha256(results.encode()).hexdigest()}


def _header(path: Path, file: BinaryIO, size: int, kind: Kind) -> dict[str, Any]:
    """The header of a safetensors file, whose bytes must all be there; ``file`` stands behind it.

    Raises:
        PotstillError: ``kind.error``, as it is no such file or a part of one.
    """
    truncated = kind.refusal(f"{path} is truncated", "copy or download it again")
    length = int.from_bytes(file.read(8), "little")
    if size > 8 and (file.peek(1)[:1] != b"{" or length > _LONGEST_HEADER):  # type: ignore[attr-defined]
        raise kind.refusal(f"{path} is no safetensors file", "pass one that potstill wrote")
    if size < 8 + max(length, 2):
        raise truncated
    try:
        header: dict[str, Any] = parsed(file.read(length))
        tensors = (entry for name, entry in header.items() if name != "__metadata__")
        end = max((entry["data_offsets"][1] for entry in tensors), default=0)
        missing = 8 + length + end - size
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise kind.refusal(
            f"{path} has a damaged safetensors header", "get the original file again"
        ) from None
    if missing > 0:
        raise truncated
    return header


def _document(path: Path, metadata: Any, kind: Kind) -> dict[str, Any]:
    if not isinstance(metadata, dict):
        metadata = {}
    if kind.key not in metadata:
        for other in _KINDS:
            if other.key in metadata:
                raise kind.refusal(
                    f"{path} is a {other.name}, no {kind.name}", f"pass a file with a {kind.name}"
                )
        raise kind.refusal(
            f"{path} is a safetensors file but no {kind.name}: it has no {kind.key} header",
            "pass a file that potstill wrote",
        )
    try:
        document = parsed(metadata[kind.key])
    except (ValueError, TypeError):
        document = None
    if not isinstance(document, dict):
        raise kind.refusal(
            f"the {kind.key} header of {path} is not a JSON object", "get the original file again"
        )
    return document


def _check_version(path: Path, document: Mapping[str, Any], kind: Kind) -> None:
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise kind.refusal(
            f"{path} names no format version but {quoted(version)}", "get the original file again"
        )
    if version > kind.newest:
        raise kind.error(
            f"{path} was made by a newer potstill (format {version}, this one reads "
            f"{kind.newest}); upgrade potstill"
        )
