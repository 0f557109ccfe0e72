from __future__ import annotations

import torch

from potstill.hardware import PeakMemory


def test_peak_memory_is_of_what_was_held_since():
    """100 MB more while they are held, and still afterwards; a later count starts lower."""
    before = PeakMemory("cpu")
    start, held = before.bytes, torch.ones(25_000_000)
    assert before.bytes - start > 90_000_000
    del held
    assert before.bytes - start > 90_000_000
