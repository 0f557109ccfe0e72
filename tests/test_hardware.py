from __future__ import annotations

from mmap import mmap

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
