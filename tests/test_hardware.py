from __future__ import annotations

from mmap import mmap
from unittest.mock import create_autospec

import torch

from potstill import hardware
from potstill.hardware import PeakMemory


def test_peak_memory_is_of_what_was_held_since():
    """100 MB more while they are held, and still afterwards; a later count starts lower."""
    before = PeakMemory("cpu")
    # Pages of their own: an allocator may have freed ones left, which the process holds already.
    start, held = before.bytes, mmap(-1, 100_000_000)
    held.write(bytes(1000) * 100_000)
    assert before.bytes - start > 90_000_000
    held.close()
    assert before.bytes - start > 90_000_000
    assert before.bytes - PeakMemory("cpu").bytes > 90_000_000


def test_what_is_sent_to_a_card_is_pinned_and_not_waited_for() -> None:
    rows = create_autospec(torch.Tensor, instance=True)
    rows.device = torch.device("cpu")
    found = hardware.sent(rows, torch.device("cuda"))
    rows.pin_memory.return_value.to.assert_called_once_with(torch.device("cuda"), non_blocking=True)
    assert found is rows.pin_memory.return_value.to.return_value
    plain = torch.arange(3)
    assert hardware.sent(plain, torch.device("cpu")) is plain
