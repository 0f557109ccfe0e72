"""How a tensor enters a SHA-256 digest: the same for fingerprints and for artefacts."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class _Digest(Protocol):
    def update(self, data: bytes, /) -> object: ...


def add_tensor(digest: _Digest, name: str, tensor: Tensor) -> None:
    """Feed one tensor to ``digest``, in a form that any language can reproduce.

    One line of UTF-8 text ``NAME DTYPE SHAPE``, such as ``images float32 10x3x32x32``, ended by
    a newline; then the elements in row-major order, little-endian.
    """
    kind = str(tensor.dtype).removeprefix("torch.")
    digest.update(f"{name} {kind} {'x'.join(map(str, tensor.shape))}\n".encode())
    array = tensor.detach().cpu().contiguous().reshape(-1).numpy()
    # A view, not a copy: the image tensors of a data set take gigabytes.
    digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)  # type: ignore[arg-type]
