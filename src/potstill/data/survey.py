"""What was found in a folder of images, and what whitening them would take."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from potstill.quoting import listed

_PROBE = 512  # rows and columns of the matrices that are timed
_SHOWN = 8


@dataclass
class Survey:
    """What reading a folder of images found.

    Attributes:
        folder: that holds the splits.
        classes: numbers of training and of test images, by the name of the class.
        skipped: numbers of files that were passed over, by kind.
        formats: numbers of images, by format.
        modes: numbers of images, by Pillow's mode, such as ``RGB``, ``L`` and ``CMYK``.
        sizes: numbers of images, by width and height as they lie in the files.
        turned: number of images that were turned upright as their EXIF data say.
        broken: images that cannot be read, with reasons.
        problem: why the folder cannot be distilled from as it is, in one line.
        shape: channels, height and width that every image gets.
        mean: of each channel of the training images, pixels in [0, 1].
        std: standard deviation of each channel.
    """

    folder: Path
    classes: dict[str, tuple[int, int]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    turned: int = 0
    broken: list[tuple[Path, str]] = field(default_factory=list)
    problem: str | None = None
    shape: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """The survey in words, a line for each thing."""
        train, test = (sum(sizes[split] for sizes in self.classes.values()) for split in (0, 1))
        several = f"{len(self.classes)} class{'' if len(self.classes) == 1 else 'es'}"
        named = [f"{name} {a:,} + {b:,}" for name, (a, b) in self.classes.items()]
        lines = [
            f"{self.folder.resolve().name}: {train:,} training and {test:,} test images of "
            f"{several}" + (f" ({listed(named, _SHOWN)})" if named else "")
        ]
        if self.formats:
            turned = f"; {self.turned:,} turned upright by EXIF" if self.turned else ""
            lines.append(
                f"read: {_counted(self.formats)}; modes: {_counted(self.modes)}; {self._sizes()}"
                f"{turned}"
            )
        lines.append(f"passed over: {_counted(self.skipped) or 'nothing'}")
        lines += [f"cannot be read: {path} ({reason})" for path, reason in self.broken]
        if self.problem is not None:
            lines.append(f"cannot be distilled from: {self.problem}")
        if self.shape is not None:
            channels, height, width = self.shape
            colours = "gray" if channels == 1 else "RGB"
            lines.append(f"become: {colours} images of {width}x{height}")
        if self.mean is not None and self.std is not None:
            mean, std = (", ".join(f"{x:.4f}" for x in each) for each in (self.mean, self.std))
            lines.append(f"statistics: mean {mean}, std {std} of pixels in [0, 1]")
        return lines

    def _sizes(self) -> str:
        if len(self.sizes) == 1:
            (width, height), _ = self.sizes.most_common(1)[0]
            return f"all {width}x{height}"
        smallest, *_, largest = sorted(self.sizes, key=lambda size: size[0] * size[1])
        return (
            f"{len(self.sizes):,} sizes from {smallest[0]}x{smallest[1]} to "
            f"{largest[0]}x{largest[1]}"
        )


def whitening_bytes(shape: tuple[int, int, int], block: int | None = None) -> int:
    """What ZCA of images (c, h, w) adds to a distilled set's file, in bytes."""
    channels, height, width = shape
    size = channels * (block**2 if block else height * width)
    return 4 * (size * (size + 1) // 2 + channels * height * width)


def whitening_seconds(images: int, shape: tuple[int, int, int]) -> float:
    """About how long this machine takes to fit ZCA to so many images (c, h, w).

    A product and an eigendecomposition in float64 are timed, and scaled by their operations.
    """
    channels, height, width = shape
    size = channels * height * width
    matrix = torch.randn(_PROBE, _PROBE, dtype=torch.float64)
    product = _seconds(lambda: matrix @ matrix) * images / _PROBE * (size / _PROBE) ** 2
    symmetric = matrix + matrix.T
    return product + _seconds(lambda: torch.linalg.eigh(symmetric)) * (size / _PROBE) ** 3


def _seconds(work: Callable[[], object]) -> float:
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _counted(numbers: Counter[str]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in numbers.most_common())
