"""Nested state in one safetensors file: exact, whole or not there, never a pickle.

The state is a tree of dicts with string keys, lists, tensors, ints, floats, strings, bools
and None. Tensors become the tensors of the file; the tree around them is part of the document
in its header (:mod:`potstill.storage`), with every number exact and every dict in its order.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from potstill import storage
from potstill.errors import RunError
from potstill.files import open_regular
from potstill.quoting import shortened


def write(path: Path, state: Any, header: Mapping[str, Any]) -> None:
    """Write ``state`` and a JSON ``header`` to ``path``, atomically.

    Tensors are kept without their graph; their strides are kept where they are dense, so that a
    tensor in channels_last comes back in channels_last. One at a time is copied, if at all.

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
    storage.save(path, document, tensors, storage.CHECKPOINT)


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
    try:
        header = _decode(document["header"], tensors)
        if not isinstance(header, dict):
            raise TypeError("its header is no dict")
        return _decode(document["state"], tensors), header
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = f"checkpoint {path} is malformed ({shortened(str(error))})"
        raise storage.CHECKPOINT.refusal(cause, "") from None


@contextmanager
def restoring(path: Path) -> Iterator[None]:
    """What breaks inside breaks because the checkpoint in ``path`` is of something else.

    Raises:
        RunError: anything that a state of another shape or type raises.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as e:
        raise RunError(
            f"the checkpoint in {path} is of another network, or of other code "
            f"({shortened(str(e))}); restore the code, or delete it to start from the beginning"
        ) from e


def require_like(found: Any, fresh: Any, where: str = "state") -> None:
    """Refuse a state that was not made as ``fresh`` was.

    Dicts must have the same keys, lists the same length, tensors the same shape and dtype, and
    everything the same type; whole numbers count something. What is empty in ``fresh`` is filled
    on the way, and can be anything of its type.

    Raises:
        ValueError: it says where they differ.
    """
    if isinstance(fresh, tuple):  # a file has lists
        fresh = list(fresh)
    if type(found) is not type(fresh):
        raise ValueError(f"{where} is of type {type(found).__name__}, not {type(fresh).__name__}")
    if isinstance(fresh, Tensor) and (found.shape, found.dtype) != (fresh.shape, fresh.dtype):
        raise ValueError(f"{where} has shape {tuple(found.shape)}, not {tuple(fresh.shape)}")
    if type(fresh) is int and found < 0:
        raise ValueError(f"{where} is {found}")
    if isinstance(fresh, dict) and fresh:
        if found.keys() != fresh.keys():
            raise ValueError(f"{where} has other entries")
        for key in fresh:
            require_like(found[key], fresh[key], f"{where}.{key}")
    if isinstance(fresh, list) and fresh:
        if len(found) != len(fresh):
            raise ValueError(f"{where} has {len(found)} entries, not {len(fresh)}")
        for place, (one, other) in enumerate(zip(found, fresh, strict=True)):
            require_like(one, other, f"{where}.{place}")


def load_moments(
    optimiser: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, Any]]
) -> None:
    """Give ``optimiser`` the state of its parameters, each by its place; it is copied.

    Beside others, a parameter without one begins at zero, as all do in a new optimiser: those of
    PyTorch that move many parameters at a time ask that all have moved or none.

    Raises:
        ValueError: it is none that this optimiser has after a step.
        LookupError: there is no such parameter.
    """
    expected = _after_a_step(optimiser)
    for place, values in moments.items():
        require_like(dict(values), expected[place], f"optimiser.{place}")
    document = optimiser.state_dict()
    document["state"] = {
        place: {k: v.clone() if isinstance(v, Tensor) else v for k, v in values.items()}
        for place, values in moments.items()
    }
    for place, values in enumerate(expected) if moments else ():
        document["state"].setdefault(place, {name: 0 * value for name, value in values.items()})
    optimiser.load_state_dict(document)


def _after_a_step(optimiser: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The state of each parameter that a step makes, taken by a copy."""
    stepped = copy.deepcopy(optimiser)
    parameters = [each for group in stepped.param_groups for each in group["params"]]
    for each in parameters:
        each.grad = torch.zeros_like(each)
    stepped.step()
    return [dict(stepped.state[each]) for each in parameters]


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
        name = str(len(tensors))
        tensors[name] = node.detach()
        # Dense strides and no others: such as a copy would have.
        dense = torch.empty_like(node, device="meta", memory_format=torch.preserve_format)
        return {"tensor": name, "stride": list(dense.stride())}
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


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    """What :func:`_encode` was given; its tensors are taken out of ``tensors``."""
    if isinstance(node, list):
        return [_decode(value, tensors) for value in node]
    if not isinstance(node, dict):
        return node
    if "items" in node:
        items = {key: _decode(value, tensors) for key, value in node["items"]}
        if not all(isinstance(key, str) for key in items):
            raise TypeError("a key is no text")
        return items
    if "float" in node:
        return float(node["float"])
    stored, stride = tensors.pop(node["tensor"]), node["stride"]
    _require_dense(stored.shape, stride)
    if stride == list(stored.stride()):
        return stored
    return torch.empty_strided(stored.shape, stride, dtype=stored.dtype).copy_(stored)


def _require_dense(shape: torch.Size, stride: Any) -> None:
    """Strides of memory without gaps or overlaps: others would take more than the file has."""
    if not isinstance(stride, list) or len(stride) != len(shape):
        raise ValueError("a tensor has no strides")
    if not all(type(step) is int and 0 <= step < 1 << 62 for step in stride):
        raise ValueError("a tensor has impossible strides")
    expected = 1
    for step, size in sorted(zip(stride, shape, strict=True)):
        if size > 1 and shape.numel():
            if step != expected:
                raise ValueError("a tensor has impossible strides")
            expected *= size
