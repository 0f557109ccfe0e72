"""Safetensors files written and read a tensor at a time, against the library."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill import container

TENSORS = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name != "__metadata__"),
    st.builds(
        lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
        st.lists(st.integers(0, 3), max_size=3),
        st.sampled_from(list(container._NAMES)),
    ),
    max_size=6,
)


def written(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> bytes:
    file = io.BytesIO()
    container.write(file, tensors, metadata)
    return file.getvalue()


def read(content: bytes, change: Any = lambda entries: None) -> dict[str, torch.Tensor]:
    length = int.from_bytes(content[:8], "little")
    entries = json.loads(content[8 : 8 + length])
    entries.pop("__metadata__", None)
    change(entries)
    return container.read(io.BytesIO(content[8 + length :]), entries, len(content) - 8 - length)


@given(tensors=TENSORS, text=st.text())
def test_the_bytes_are_the_librarys(tensors: dict[str, torch.Tensor], text: str) -> None:
    content = written(tensors, {"key": text})
    assert content == safetensors.torch.save(tensors, {"key": text})
    back = read(content)
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor)


def test_tensors_that_share_memory_or_lie_otherwise_are_written_as_they_read() -> None:
    base = torch.arange(12.0).view(3, 4)
    tensors = {"whole": base, "row": base[1], "turned": base.T, "wide": base[:1].expand(3, 4)}
    back = read(written(tensors, {}))
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())


def test_a_type_that_such_files_do_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="complex64"):
        written({"x": torch.zeros(1, dtype=torch.complex64)}, {})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "F99"), ("dtype", ["F32"]), ("dtype", "F64"), ("shape", [3]), ("shape", None),
        ("shape", [-1, -2]), ("shape", [2.0]), ("shape", [True, 2]), ("shape", [1 << 70]),
        ("data_offsets", [0, 12]), ("data_offsets", [8, 0]), ("data_offsets", [4, 12]),
        ("data_offsets", [0]), ("data_offsets", "ab"), ("data_offsets", None), ("other", 1),
    ],
)  # fmt: skip
def test_what_no_writer_declares_is_refused(key: str, value: Any) -> None:
    content = written({"a": torch.ones(2), "b": torch.ones(1)}, {})
    with pytest.raises(ValueError):
        read(content, lambda entries: entries["a"].update({key: value}))


def test_missing_spare_and_shared_bytes_are_refused() -> None:
    content = written({"a": torch.ones(2), "b": torch.ones(2)}, {})
    assert read(content).keys() == {"a", "b"}
    with pytest.raises(ValueError):
        read(content[:-1])
    with pytest.raises(ValueError):
        read(content + b"\0")
    with pytest.raises(ValueError):
        read(content, lambda entries: entries.update(a=entries["b"]))
    with pytest.raises(ValueError):
        read(content, lambda entries: entries.update(a=7))
