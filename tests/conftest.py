from __future__ import annotations

import os

# Before PyTorch is imported: tests are many and small, and run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Machines differ in speed; whether a test passes may not.
settings.register_profile("potstill", deadline=None)
settings.load_profile("potstill")


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """What a run does to its process is undone: hypothesis wants denormal numbers."""
    yield
    torch.set_flush_denormal(False)
