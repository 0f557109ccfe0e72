"""The bytes of a distilled set or a teacher: tensors and one JSON document in one safetensors file.

``docs/artefact.md`` specifies the format. The invariant: the same document and tensors give the
same bytes, and a file whose bytes say anything else than was written is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor

from potstill.data.hashing import add_tensor
from potstill.errors import ArtefactError

Kind = Literal["distilled set", "teacher"]

FORMAT_VERSIONS: Mapping[Kind, int] = {"distilled set": 3, "teacher": 1}
"""The newest format of each kind of file that this version reads."""
# safetensors writes several metadata keys in random order, so each kind of file has one.
_KEYS: Mapping[Kind, str] = {"distilled set": "potstill", "teacher": "potstill.teacher"}
_LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


def canonical(document: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII only.

    Raises:
        ArtefactError: a value that JSON does not have, NaN and infinity among them.
    """
    try:
        return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArtefactError(
            f"the header cannot be written as JSON ({error}); use finite numbers, text, lists "
            "and dicts with text keys"
        ) from None


def content_digest(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of everything but the results: it stays when a result is added."""
    content = {key: document[key] for key in document if key not in ("results", "digest")}
    digest = hashlib.sha256(f"{canonical(content)}\n".encode())
    for name in sorted(tensors):
        add_tensor(digest, name, tensors[name])
    return digest.hexdigest()


def encode(
    document: Mapping[str, Any], tensors: Mapping[str, Tensor], kind: Kind = "distilled set"
) -> bytes:
    """The file of a document (with ``results``, without ``digest``) and its tensors."""
    content = content_digest(document, tensors)
    digest = {"content": content, "results": _results_digest(content, document["results"])}
    metadata = {_KEYS[kind]: canonical({**document, "digest": digest})}
    return safetensors.torch.save(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, metadata
    )


def decode(path: Path, kind: Kind = "distilled set") -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document (without ``digest``) and the tensors of a file, intact as written.

    Raises:
        ArtefactError: the file is missing, truncated, altered, not ours, of another kind or of a
            newer format.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArtefactError(f"cannot read {path}: {reason}; check the path") from None
    document = _document(path, _metadata(path, data), kind)
    _check_version(path, document, kind)
    try:
        tensors = safetensors.torch.load(data)
        digest = document.pop("digest")
        content = content_digest(document, tensors)
        expected = {"content": content, "results": _results_digest(content, document["results"])}
    # Besides safetensors' own errors: missing keys, NaN as JSON, types that NumPy does not have.
    except (safetensors.SafetensorError, ArtefactError, KeyError, TypeError, RuntimeError):
        raise _altered(path) from None
    if digest != expected:
        raise _altered(path)
    return document, tensors


def _results_digest(content: str, results: Any) -> str:
    """Binds the results to the content they were measured on."""
    return hashlib.sha256(f"{content}\n{canonical(results)}".encode()).hexdigest()


def _metadata(path: Path, data: bytes) -> Mapping[str, Any]:
    """The metadata of a safetensors file, whose bytes must all be there."""
    length = int.from_bytes(data[:8], "little")
    if len(data) > 8 and (data[8:9] != b"{" or length > _LONGEST_HEADER):
        raise ArtefactError(f"{path} is no safetensors file; pass one that potstill wrote")
    if len(data) < 8 + max(length, 2):
        raise _truncated(path)
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        missing = 8 + length + end - len(data)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        raise ArtefactError(
            f"{path} has a damaged safetensors header; get the original file again"
        ) from None
    if missing > 0:
        raise _truncated(path)
    return metadata if isinstance(metadata, dict) else {}


def _document(path: Path, metadata: Mapping[str, Any], kind: Kind) -> dict[str, Any]:
    key = _KEYS[kind]
    if key not in metadata:
        for other, name in _KEYS.items():
            if name in metadata:
                raise ArtefactError(f"{path} is a {other}, no {kind}; pass a file with a {kind}")
        raise ArtefactError(
            f"{path} is a safetensors file but no {kind}: it has no {key} header; "
            "pass a file that potstill wrote"
        )
    try:
        document = json.loads(metadata[key])
    except (ValueError, TypeError):
        document = None
    if not isinstance(document, dict):
        raise ArtefactError(
            f"the {key} header of {path} is not a JSON object; get the original file again"
        )
    return document


def _check_version(path: Path, document: Mapping[str, Any], kind: Kind) -> None:
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise ArtefactError(
            f"{path} names no format version but {version!r}; get the original file again"
        )
    newest = FORMAT_VERSIONS[kind]
    if version > newest:
        raise ArtefactError(
            f"{path} was made by a newer potstill (format {version}, this one reads {newest}); "
            "upgrade potstill"
        )


def _truncated(path: Path) -> ArtefactError:
    return ArtefactError(f"{path} is truncated; copy or download it again")


def _altered(path: Path) -> ArtefactError:
    return ArtefactError(
        f"{path} was altered after it was written: its digest does not match; "
        "get the original file again"
    )
