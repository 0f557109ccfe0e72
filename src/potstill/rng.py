"""Named streams of random numbers.

A stream is a function of (seed, purpose, step) and of nothing else: nobody
holds a generator between steps, so there is no generator state to checkpoint,
two purposes never share draws, and a resumed run draws what the uninterrupted
one would have drawn. Streams are Philox counters keyed through SHA-256, drawn on
the CPU and moved, so that every device sees the same numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def _digest(seed: int, purpose: str, step: int) -> bytes:
    return hashlib.sha256(f"{seed}\0{purpose}\0{step}".encode()).digest()


def stream(seed: int, purpose: str, step: int = 0) -> np.random.Generator:
    """The generator of one named stream; calling again gives the same draws."""
    key = np.frombuffer(_digest(seed, purpose, step), dtype=np.uint64)
    return np.random.Generator(np.random.Philox(counter=[*key[:2].tolist(), 0, 0], key=key[2:]))


def integer_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 32-bit seed for libraries that insist on seeding a generator of their own."""
    return int.from_bytes(_digest(seed, purpose, step)[:4], "little")


def normal(
    shape: tuple[int, ...],
    generator: np.random.Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Standard normal draws, ``shape``, on the CPU."""
    return torch.from_numpy(generator.standard_normal(shape)).to(dtype)


def truncated_normal(
    shape: tuple[int, ...],
    generator: np.random.Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Normal draws conditioned on [-2, 2], scaled back to unit variance, on the CPU."""
    draws = generator.standard_normal(shape)
    outside = np.abs(draws) > 2
    while outside.any():
        draws[outside] = generator.standard_normal(int(outside.sum()))
        outside = np.abs(draws) > 2
    return torch.from_numpy(draws / _TRUNCATED_STD).to(dtype)


# Standard deviation of a standard normal conditioned on [-2, 2].
_TRUNCATED_STD = 0.87962566103423978
