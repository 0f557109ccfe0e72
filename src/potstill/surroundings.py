"""What numbers were measured on: the machine, and the versions of what they depend on."""

from __future__ import annotations

import platform
import warnings
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from potstill import __version__
from potstill.errors import PotstillWarning, RunError
from potstill.hardware import cores, processor

# Of the versions, those of what computes.
_DECISIVE = ("potstill", "torch", "torchvision", "numpy", "timm")
MOST_THREADS = 4096


class Surroundings(BaseModel):
    """What decides the bytes of a result, besides recipe, seed and data.

    Kernels are chosen by the processor or the graphics card, and differ from version to version.
    Threads share out the sums in convolutions, matrix products and batch norms, and the order of
    a sum decides its last bits.

    Attributes:
        device: ``cpu``, or the name of the graphics card.
        processor: its instructions, such as ``x86_64 AVX512 bfloat16``.
        threads: that sums are split over.
        versions: of libraries, by name.
        mixed: in what other surroundings a part of the work was done, such as ``torch 2.14.0 and
            2.15.0``; empty if all was done in these.
    """

    model_config = ConfigDict(frozen=True)

    device: str
    processor: str
    threads: int = Field(ge=1, le=MOST_THREADS)
    versions: dict[str, str]
    mixed: tuple[str, ...] = ()

    def differences(self, now: Surroundings) -> tuple[str, ...]:
        """In what ``now`` differs, apart from threads, such as ``torch 2.14.0 and 2.15.0``."""
        return tuple(
            f"{name} {was} and {there}"
            for (name, was), (_, there) in zip(self._decisive(), now._decisive(), strict=True)
            if was != there
        )

    def mixed_with(self, others: tuple[str, ...]) -> Surroundings:
        """These, of work that was partly done in others: differences, as they are put here."""
        return self.model_copy(update={"mixed": tuple(dict.fromkeys((*self.mixed, *others)))})

    def document(self) -> dict[str, Any]:
        """As the header of a set or of a teacher has them, which has the versions besides."""
        return self.model_dump(mode="json", exclude={"versions"})

    def _decisive(self) -> list[tuple[str, str | None]]:
        numbers = [(name, self.versions.get(name)) for name in _DECISIVE]
        return [("device", self.device), ("processor", self.processor), *numbers]


def present(device: str | torch.device, threads: int | None = None) -> Surroundings:
    """The surroundings of work on ``device`` with so many threads; with PyTorch's own if None."""
    where = torch.device(device)
    return Surroundings(
        device=torch.cuda.get_device_name(where) if where.type == "cuda" else where.type,
        processor=processor(),
        threads=threads or torch.get_num_threads(),
        versions=versions(),
    )


def going_on(
    path: Path, there: Surroundings, device: str | torch.device, threads: int | None
) -> Surroundings:
    """The surroundings in which to go on with work that was begun: its number of threads is kept.

    What else differs cannot be restored from here: it is warned of and noted in what is returned.

    Args:
        path: where the work lies, for messages.
        there: the surroundings so far.
        device: where it goes on.
        threads: as the user asks for; None if they do not.

    Raises:
        RunError: another number of threads is asked for.
    """
    require_threads(path, there.threads, threads)
    here = present(device, there.threads).mixed_with(there.mixed)
    return here.mixed_with(noted(path, there.differences(here)))


def require_threads(path: Path, there: int | None, asked: int | None) -> None:
    """Refuse to go on in ``path``, the work of so many threads, with as many as the user asks for.

    Raises:
        RunError: the numbers are known and differ.
    """
    if None not in (there, asked) and there != asked:
        raise RunError(
            f"{path} was begun with {there} threads, and another number gives other bytes; leave "
            "out --threads, or use another --out"
        )


def noted(path: Path, differing: tuple[str, ...]) -> tuple[str, ...]:
    """``differing``, after a warning that the work in ``path`` is of such surroundings."""
    if differing:
        warnings.warn(
            f"{path} is the work of different surroundings ({', '.join(differing)}): its bytes are "
            "not those of one made in either alone, and the set will say so",
            PotstillWarning,
            stacklevel=3,
        )
    return differing


def machine(device: str) -> dict[str, Any]:
    """System, processor, cores and device, as JSON has them."""
    description: dict[str, Any] = {
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": cores(),
        "device": device,
    }
    if torch.device(device).type == "cuda":
        description["device_name"] = torch.cuda.get_device_name(torch.device(device))
    return description


def versions() -> dict[str, str]:
    """The versions of Python, of this library and of those its numbers depend on."""
    libraries = ("torch", "torchvision", "numpy", "safetensors", "timm")
    return {
        "python": platform.python_version(),
        "potstill": __version__,
        **{library: metadata.version(library) for library in libraries},
    }


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
