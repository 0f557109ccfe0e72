"""Nested state in one safetensors file: exact, whole or not there, never a pickle.

The state is a tree of dicts with string keys, lists, tensors, ints, floats, strings, bools
and None. Tensors become the tensors of the file; the tree around them is part of the document
in its header (:mod:`potstill.storage`), with every number exact and every dict in its order.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from potstill import storage
from potstill.errors import RunError
from potstill.files import atomic_write, open_regular


def write(path: Path, state: Any, header: Mapping[str, Any]) -> None:
    """Write ``state`` and a JSON ``header`` to ``path``, atomically.

    Tensors are copied to the CPU without their graph; their strides are kept where they are
    dense, so that a tensor in channels_last comes back in channels_last.

    Raises:
        TypeError: a value that is none of the kinds above, or a key that is no string.
        RunError: the file cannot be written.
    """
    tensors: dict[str, Tensor] = {}
    document = {
        "format_version": storage.CHECKPOINT.newest,
        "header": _encode(header, tensors, "header"),
        "state": _encode(state, tensors, "state"),
    }
    atomic_write(path, storage.encode(document, tensors, storage.CHECKPOINT))


def read(path: Path) -> tuple[Any, dict[str, Any]]:
    """The state, its tensors on the CPU, and the header that :func:`write` was given.

    Raises:
        RunError: the file is missing, truncated, altered, no checkpoint, or of another format.
    """
    try:
        document, tensors = storage.decode(path, storage.CHECKPOINT)
    except RunError:
        if _has_format_1(path):
            raise RunError(
                f"checkpoint {path} was written by an earlier potstill (format 1); finish the run "
                "with the version that wrote it, or start again with another --out"
            ) from None
        raise
    return _decode(document["state"], tensors), _decode(document["header"], tensors)


def _has_format_1(path: Path) -> bool:
    """Whether it is a checkpoint whose document was kept as text, beside that text's digest."""
    try:
        open_regular(path).close()
        with safetensors.safe_open(path, framework="pt") as file:
            envelope = json.loads((file.metadata() or {})["potstill"])
    except (OSError, safetensors.SafetensorError, KeyError, ValueError):
        return False
    return isinstance(envelope, dict) and envelope.keys() == {"digest", "document"}


def _encode(node: Any, tensors: dict[str, Tensor], where: str) -> Any:
    """The canonical JSON of ``node``, which sorts keys and has neither infinity nor NaN.

    Dicts become lists of pairs under a tag, so that their order stays and no key can be a tag.
    """
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
        return {"items": [[k, _encode(v, tensors, f"{where}.{k}")] for k, v in node.items()]}
    if isinstance(node, list | tuple):
        return [_encode(value, tensors, f"{where}.{i}") for i, value in enumerate(node)]
    if type(node) is float and not math.isfinite(node):
        return {"float": repr(node)}
    if node is None or type(node) in (bool, int, float, str):
        return node
    raise TypeError(f"{where}: cannot keep a {type(node).__name__} in a checkpoint")


def _decode(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if "items" in node:
        return {key: _decode(value, tensors) for key, value in node["items"]}
    if "float" in node:
        return float(node["float"])
    stored = tensors[node["tensor"]]
    return torch.empty_strided(stored.shape, node["stride"], dtype=stored.dtype).copy_(stored)
