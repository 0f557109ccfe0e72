"""What numbers were measured on: the machine, and the versions of what they depend on."""

from __future__ import annotations

import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from potstill import __version__
from potstill.hardware import cores


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
