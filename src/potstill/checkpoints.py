"""Nested state in one safetensors file: exact, whole or not there, never a pickle.

The state is a tree of dicts with string keys, lists, tensors, ints, floats, strings, bools
and None. Tensors become the tensors of the file; the tree around them, with every number
exact, is one JSON document in its header. A SHA-256 digest over both refuses altered bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from potstill.data.hashing import add_tensor
from potstill.errors import RunError
from potstill.files import atomic_write

FORMAT = 1
_KEY = "potstill"


def write(path: Path, state: Any, header: Mapping[str, Any]) -> None:
    """Write ``state`` and a JSON ``header`` to ``path``, atomically.

    Tensors are copied to the CPU without their graph; their strides are kept where they are
    dense, so that a tensor in channels_last comes back in channels_last.

    Raises:
        TypeError: a value that is none of the kinds above, or a key that is no string.
        RunError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    tree = _encode(state, tensors, "state")
    document = json.dumps({"format": FORMAT, "header": dict(header), "state": tree})
    metadata = {_KEY: json.dumps({"digest": _digest(document, tensors), "document": document})}
    atomic_write(path, safetensors.torch.save(tensors, metadata))


def read(path: Path) -> tuple[Any, dict[str, Any]]:
    """The state, its tensors on the CPU, and the header that :func:`write` was given.

    Raises:
        RunError: the file is missing, truncated, altered, or of another format.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            envelope = json.loads((file.metadata() or {})[_KEY])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        document = envelope["document"]
        intact = envelope["digest"] == _digest(document, tensors)
        content = json.loads(document)
    except OSError as error:
        reason = error.strerror or str(error)
        raise RunError(f"cannot read checkpoint {path}: {reason}; check the path") from error
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, "it is truncated, or no checkpoint") from error
    if not intact:
        raise _damaged(path, "its bytes were altered")
    if content["format"] != FORMAT:
        raise RunError(
            f"checkpoint {path} has format {content['format']}, this version reads {FORMAT}; "
            "resume with the version that wrote it"
        )
    return _decode(content["state"], tensors), content["header"]


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(
        f"checkpoint {path} is damaged: {reason}; restore a copy, or delete it to start this "
        "run from the beginning"
    )


def _encode(node: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """The JSON form of ``node``: dicts are tagged, so that no key of a user's can be a tag."""
    if isinstance(node, Tensor):
        # A clone drops shared storage; preserve_format keeps dense strides and no others.
        copy = node.detach().cpu().clone(memory_format=torch.preserve_format)
        name = str(len(tensors))
        tensors[name] = copy.contiguous()
        return {"tensor": name, "stride": list(copy.stride())}
    if isinstance(node, Mapping):
        for key in node:
            if not isinstance(key, str):
                raise TypeError(f"{where}: key {key!r} is no string")
        return {"items": {k: _encode(v, tensors, f"{where}.{k}") for k, v in node.items()}}
    if isinstance(node, list | tuple):
        return [_encode(value, tensors, f"{where}.{i}") for i, value in enumerate(node)]
    if node is None or type(node) in (bool, int, float, str):
        return node
    raise TypeError(f"{where}: cannot keep a {type(node).__name__} in a checkpoint")


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if "items" in node:
        return {key: _decode(value, tensors) for key, value in node["items"].items()}
    stored = tensors[node["tensor"]]
    return torch.empty_strided(stored.shape, node["stride"], dtype=stored.dtype).copy_(stored)


def _digest(document: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(document.encode())
    for name in sorted(tensors):
        add_tensor(digest, name, tensors[name])
    return digest.hexdigest()
