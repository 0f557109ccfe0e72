"""A safetensors file, written and read a tensor at a time.

The library's own functions hold the whole file in memory beside the tensors, and refuse tensors
that share memory. What is written here is the same to the byte; what is read is checked as there:
tensors of known types, one after the other, without gaps, to the end of the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from torch import Tensor

# In the order of the file, names deciding among equals: wide types first, so that all are aligned.
_TYPES = {
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
    "F32": torch.float32,
    "U32": torch.uint32,
    "I32": torch.int32,
    "BF16": torch.bfloat16,
    "F16": torch.float16,
    "U16": torch.uint16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_ORDER = {dtype: place for place, dtype in enumerate(_TYPES.values())}


def write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to ``file``; one tensor is copied at a time, if at all.

    Raises:
        TypeError: a tensor of a type that such a file does not have.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _ORDER:
            raise TypeError(f"cannot keep {name}: it is of type {tensor.dtype}")
    order = sorted(tensors, key=lambda name: (_ORDER[tensors[name].dtype], name))
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in order:
        tensor, start = tensors[name], end
        end += tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    file.write(len(header).to_bytes(8, "little") + header)
    for name in order:
        file.write(_bytes(tensors[name].detach().cpu().contiguous()))


def read(file: BinaryIO, entries: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """The tensors that ``entries`` describe, from the ``size`` bytes that follow in ``file``.

    Args:
        file: stands where the first tensor begins.
        entries: the header without ``__metadata__``.

    Raises:
        ValueError: they describe no tensors, or others than so many bytes.
    """
    shapes = {name: _checked(entry) for name, entry in entries.items()}
    end = 0
    for _, _, start, stop in sorted(shapes.values(), key=lambda parts: parts[2:]):
        if start != end:
            raise ValueError("tensors overlap, or leave a gap")
        end = stop
    if end != size:
        raise ValueError("there are more or fewer bytes than tensors")
    found = {}
    for name, (dtype, shape, *_) in sorted(shapes.items(), key=lambda item: item[1][2:]):
        found[name] = torch.empty(shape, dtype=dtype)
        content = _bytes(found[name])
        if file.readinto(content) != len(content):  # type: ignore[attr-defined]
            raise ValueError("the file became shorter")
    return found


def _checked(entry: Any) -> tuple[torch.dtype, list[int], int, int]:
    """Type, shape and place of the tensor that an entry of the header describes."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError("an entry describes no tensor")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise ValueError("a tensor has no shape or no place")
    if not all(type(number) is int and 0 <= number < 1 << 62 for number in (*shape, *offsets)):
        raise ValueError("a tensor has an impossible shape or place")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _TYPES:
        raise ValueError("a tensor is of an unknown type")
    dtype, (start, stop) = _TYPES[entry["dtype"]], offsets
    if math.prod(shape) * dtype.itemsize != stop - start:
        raise ValueError("a tensor's place does not fit its shape")
    return dtype, shape, start, stop


def _bytes(tensor: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data
