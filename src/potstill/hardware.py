"""What the processor can do, and settings of the process that its speed depends on."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from potstill.config import Precision

# From glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_KEEP = 2**31 - 1
_LARGEST_MMAP_THRESHOLD = 32 << 20


def prepare() -> None:
    """Settle the process for numerical work; call it before the first tensor is made.

    - cuDNN takes its deterministic algorithms only, so that a seed gives the same bytes.
    - Denormal numbers count as zero: softplus at 60 makes them, and they cost half the
      speed. The setting belongs to a thread, and threads made later inherit it.
    - MKL has as many threads as PyTorch, and not fewer where it finds that there are fewer cores:
      their number decides the last bits of products.
    - Freed memory stays with the process (glibc only). By default every activation of
      some megabytes is mapped afresh, and its page faults take a third of a forward pass.
    """
    torch.set_flush_denormal(True)
    torch.backends.cudnn.deterministic = True
    torch.set_num_threads(torch.get_num_threads())
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
    mallopt(_M_TRIM_THRESHOLD, _KEEP)
    mallopt(_M_TOP_PAD, _LARGEST_MMAP_THRESHOLD)


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """PyTorch splits sums over so many threads in the block, and as before after it.

    None changes nothing. NumPy's products are the same with any number, as far as is known.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def processor() -> str:
    """What libraries choose their kernels by, such as ``x86_64 AVX512 bfloat16``."""
    parts = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    return " ".join([*parts, "bfloat16"] if native_bfloat16(torch.device("cpu")) else parts)


def native_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """A context in which convolutions and products run in ``precision``.

    ``auto`` is bfloat16 where the device has it in hardware, float32 elsewhere.
    """
    wanted = in_bfloat16(precision, device)
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted)


def in_bfloat16(precision: Precision, device: torch.device) -> bool:
    """Whether :func:`autocast` casts."""
    return native_bfloat16(device) if precision == "auto" else precision == "bfloat16"


def precision_of_training(asked: Precision | None, device: torch.device) -> Precision:
    """What networks that are only scored are trained in, where ``asked`` is None.

    On a card bfloat16 where the card has it, which is what its speed is made of; on a processor
    float32, so that recorded accuracies stay what they are.
    """
    if asked is not None:
        return asked
    return "float32" if device.type == "cpu" else "auto"


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A CPU tensor on ``device``; on its way to a card the host does not wait for it.

    A copy from ordinary memory waits for everything that the card was asked for before.
    """
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def memory() -> int:
    """Bytes of main memory that the machine has, used or not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def shortage(size: int, copies: int = 1) -> str | None:
    """By how much ``size`` bytes are too many for the memory; None if they are not.

    Such as ``8.0 GB, more than the 5.9 GB that this machine has memory for``.

    Args:
        size: in bytes.
        copies: how often the work at hand holds so many at a time.
    """
    room = memory() // copies
    if size <= room:
        return None
    # Sizes that are only declared can be too large for a float.
    wanted = min(size, 10**24) / 1e9
    return f"{wanted:,.1f} GB, more than the {room / 1e9:,.1f} GB that this machine has memory for"


class PeakMemory:
    """The most memory that was held at a time since this was made.

    Of a CUDA device what PyTorch allocated there; else what the process held, the interpreter, its
    libraries and the data included. Where the system cannot start the count anew (other than
    Linux), it is since the process began. Other processes are not counted.

    Args:
        device: such as ``cpu`` or ``cuda``.
    """

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda") and torch.cuda.is_available()
        self._device = device
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(device)
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    @property
    def bytes(self) -> int:
        """The peak so far."""
        if self._cuda:
            return torch.cuda.max_memory_allocated(self._device)
        with suppress(OSError, ValueError, StopIteration):
            lines = Path("/proc/self/status").read_text().splitlines()
            line = next(line for line in lines if line.startswith("VmHWM:"))
            return int(line.split()[1]) << 10
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10


def cores() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
