"""The fitted maps from pixels to network space: a base and its final kinds."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, final

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from potstill.config import SIDE
from potstill.data import pixels, statistics
from potstill.data.blocks import Blocks, Tiling
from potstill.errors import ArtefactError, DataError
from potstill.quoting import fault, quoted

# Of the probe's norm: far above what another machine rounds otherwise, far below other data.
_PROBE_TOLERANCE = 1e-3


class Preprocess(ABC):
    """A fitted, invertible map from pixels to network inputs.

    ``mean`` and ``std``: (c,) float64, the channel statistics both kinds begin with.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std

    @torch.no_grad()
    def apply(self, images: Tensor | Image.Image | Sequence[Image.Image]) -> Tensor:
        """Pixels to network space, in chunks: beyond the result, memory does not grow with n.

        The device of ``images`` does the work; 8-bit pixels are the cheapest to bring there.

        Args:
            images: (n, c, h, w) uint8, or floating point with 1.0 for white (not clipped); or a
                picture of Pillow's, or several, of the size of those fitted on.

        Returns:
            (n, c, h, w) float32 on the device of ``images``.

        Raises:
            DataError: the images have another shape than those fitted on, or another dtype.
        """
        if not isinstance(images, Tensor):
            images = self._of_pil(images)
        self.check(images)
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        for rows in statistics.chunks(images):
            result[rows] = self._forward(self._standardise(images[rows]))
        return result

    @torch.no_grad()
    def invert(self, images: Tensor) -> Tensor:
        """Network space to pixels, the exact inverse of :meth:`apply`.

        Args:
            images: (n, c, h, w) floating point, network space.

        Returns:
            (n, c, h, w) float32 with 1.0 for white; distilled images may leave [0, 1], and
            clipping is the caller's.

        Raises:
            DataError: the images have another shape than those fitted on, or are integers.
        """
        self.check(images)
        if not images.is_floating_point():
            raise DataError(
                f"images of type {dtype_name(images.dtype)} are not in network space; "
                "pass what apply() returned"
            )
        result = torch.empty(images.shape, dtype=torch.float32, device=images.device)
        mean, std = self._statistics(images.device)
        for rows in statistics.chunks(images):
            result[rows] = self._backward(images[rows].float()) * std + mean
        return result

    def check(self, images: Tensor) -> None:
        """Refuse images that :meth:`apply` or :meth:`invert` cannot take.

        Raises:
            DataError: not (n, c, h, w), of integers but no uint8, or of another shape than those
                fitted on.
        """
        if images.ndim != 4:
            raise DataError(
                f"images have shape {tuple(images.shape)}; pass (n, channels, height, width)"
            )
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise DataError(
                f"images have type {dtype_name(images.dtype)}; pass uint8, or floats with 1.0 for "
                "white"
            )
        problem = self._shape_error(images.shape[1:])
        if problem:
            raise DataError(f"{problem}; pass images like those the preprocessing was fitted on")

    def _of_pil(self, images: Any) -> Tensor:
        """Pictures of Pillow's as (n, c, h, w) uint8; gray, if those fitted on are."""
        several = [images] if isinstance(images, Image.Image) else images
        if not isinstance(several, Sequence) or not all(
            isinstance(image, Image.Image) for image in several
        ):
            raise DataError(
                f"an object of type {type(images).__name__} holds no images; pass a tensor "
                "(n, channels, height, width), or pictures of Pillow's"
            )
        if len({image.size for image in several}) != 1:
            raise DataError("pass pictures, at least one, that are all of one size")
        channels = len(self.mean)
        try:
            read = [pixels.of_pil(image, pixels.Fit(), channels) for image in several]
        except ValueError as error:
            raise DataError(f"a picture cannot be taken: {error}") from None
        return torch.from_numpy(
            np.stack([np.broadcast_to(image, (channels, *image.shape[1:])) for image in read])
        )

    @abstractmethod
    def for_images(self, shape: torch.Size) -> Preprocess:
        """The same map, for images of this shape (c, h, w) and no other."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What is not a tensor, as JSON; ``kind`` names the class."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The tensors that :meth:`from_parts` needs beside :meth:`describe`."""

    @staticmethod
    def from_parts(describe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Preprocess:
        """The preprocessing that gave these parts, to the bit.

        Raises:
            ArtefactError: an unknown kind, or parts that are missing or do not fit together.
        """
        kinds: dict[str, type[Standardise] | type[ZCA] | type[RefittedZCA]] = {
            "standardise": Standardise,
            "zca": RefittedZCA if isinstance(describe, Mapping) and "stored" in describe else ZCA,
        }
        kind = describe.get("kind") if isinstance(describe, Mapping) else describe
        if not isinstance(kind, str) or kind not in kinds:
            raise ArtefactError(
                f"unknown preprocessing {quoted(kind)}; upgrade potstill, or make the file again"
            )
        try:
            return kinds[kind].restore(describe, tensors)
        except ValueError as error:
            reason = fault(error) if isinstance(error, ValidationError) else str(error)
            raise ArtefactError(
                f"the parts of the {kind} preprocessing are missing or do not fit ({reason}); "
                "get the original file again"
            ) from None

    @abstractmethod
    def _shape_error(self, shape: torch.Size) -> str | None:
        """What is wrong with the shape (c, h, w) of an image, if anything."""

    @abstractmethod
    def _forward(self, images: Tensor) -> Tensor:
        """(k, c, h, w) float32, standardised, to network space."""

    @abstractmethod
    def _backward(self, images: Tensor) -> Tensor:
        """The inverse of :meth:`_forward`."""

    def _statistics(self, device: torch.device) -> tuple[Tensor, Tensor]:
        mean, std = (x.float().to(device).view(-1, 1, 1) for x in (self.mean, self.std))
        return mean, std

    def _standardise(self, images: Tensor) -> Tensor:
        mean, std = self._statistics(images.device)
        return (statistics.unit(images, torch.float32) - mean) / std


@final
class Standardise(Preprocess):
    """Zero mean and unit standard deviation per channel over the training set.

    Images may have any size. A distilled set has it for the size of its own images alone, since
    nothing else would tell that others were passed.
    """

    def __init__(self, mean: Tensor, std: Tensor, shape: torch.Size | None = None) -> None:
        super().__init__(mean, std)
        self._shape = shape

    def for_images(self, shape: torch.Size) -> Standardise:
        """The same map, for images of this shape (c, h, w) and no other."""
        return Standardise(self.mean, self.std, shape)

    def describe(self) -> dict[str, Any]:
        """``kind``, ``mean`` and ``std`` per channel, for pixels in [0, 1]."""
        return {"kind": "standardise", "mean": self.mean.tolist(), "std": self.std.tolist()}

    def tensors(self) -> dict[str, Tensor]:
        """None: the few numbers stand in :meth:`describe`."""
        return {}

    @classmethod
    def restore(cls, describe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Standardise:
        """See :meth:`Preprocess.from_parts`, which turns the errors of this into one kind."""
        _expect(tensors, {})
        return cls(*_Statistics.model_validate(describe).tensors())

    def _shape_error(self, shape: torch.Size) -> str | None:
        channels = len(self.mean)
        if shape[0] != channels:
            return f"images have {_count(shape[0], 'channel')}, the preprocessing has {channels}"
        if self._shape is None or shape == self._shape:
            return None
        height, width = self._shape[1:]
        return f"images are {shape[2]}x{shape[1]}, and the set's are {width}x{height}"

    def _forward(self, images: Tensor) -> Tensor:
        return images

    def _backward(self, images: Tensor) -> Tensor:
        return images


@final
class ZCA(Preprocess):
    """Regularised ZCA whitening of standardised images, whole or in blocks.

    It is applied in float32: a row x comes out within 2^-24 (sqrt(d) |x| + 4 s) |W| of what
    float64 gives, s = (pixel + mean) / std + |pixel_mean| being the size of what x is the
    difference of.

    Args:
        mean: (c,) float64, as in :class:`Standardise`.
        std: (c,) float64.
        pixel_mean: (c, h, w) float32, the mean standardised image.
        whitening: (d, d) float32, W, symmetric positive definite; d = c h w, or c block block.
        regularisation: r, for the record; W holds it already.
        blocks: the rows that W is applied to; their side divides h and w.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        pixel_mean: Tensor,
        whitening: Tensor,
        regularisation: float,
        blocks: Blocks,
    ) -> None:
        super().__init__(mean, std)
        self.pixel_mean = pixel_mean
        self.whitening = whitening
        self.regularisation = regularisation
        self.blocks = blocks
        self._placed = (pixel_mean, whitening)
        self._factor: Tensor | None = None

    def for_images(self, shape: torch.Size) -> ZCA:
        """Itself: it is for images of one shape as it is."""
        return self

    def describe(self) -> dict[str, Any]:
        """``kind``, ``shape`` of an image, ``mean``, ``std``, ``regularisation``, ``block``.

        ``tiling`` besides, if the blocks are phases: without it they are contiguous.
        """
        return _zca_document(self, self.pixel_mean.shape)

    def tensors(self) -> dict[str, Tensor]:
        """``pixel_mean`` (c, h, w) and ``whitening`` (d (d + 1) / 2,), both float32.

        W is symmetric, so only its upper triangle is stored, row by row: half the file.
        """
        triangle = statistics.upper_triangle(self.whitening)
        return {"pixel_mean": self.pixel_mean, "whitening": triangle}

    @classmethod
    def restore(cls, describe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ZCA:
        """See :meth:`Preprocess.from_parts`, which turns the errors of this into one kind."""
        facts = _ZCAFacts.model_validate(describe)
        channels, height, width = facts.shape
        shape, blocks = (channels, height, width), facts.blocks()
        size = blocks.size(shape)
        _expect(tensors, {"pixel_mean": shape, "whitening": (size * (size + 1) // 2,)})
        whitening = statistics.from_upper_triangle(tensors["whitening"], size)
        if not (whitening.diagonal() > 0).all():
            raise ValueError("the whitening matrix is not positive definite")
        return cls(*facts.tensors(), tensors["pixel_mean"], whitening, facts.regularisation, blocks)

    def _shape_error(self, shape: torch.Size) -> str | None:
        return _zca_shape_error(shape, self.pixel_mean.shape)

    def _forward(self, images: Tensor) -> Tensor:
        pixel_mean, whitening = self._on(images.device)
        rows = self.blocks.cut(images - pixel_mean)
        return self.blocks.join(rows @ whitening, images.shape)

    def _backward(self, images: Tensor) -> Tensor:
        # Only W is stored, and solving with it undoes exactly what was applied. On the CPU: not
        # every device has float64, and few images come this way.
        if self._factor is None:
            self._factor = _cholesky(self.whitening.double())
        rows = self.blocks.cut(images.cpu()).double()
        rows = torch.cholesky_solve(rows.T, self._factor).T.float().to(images.device)
        return self.blocks.join(rows, images.shape) + self.pixel_mean.to(images.device)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """``pixel_mean`` and ``whitening`` on ``device``, brought there once."""
        if device == self.whitening.device:
            return self.pixel_mean, self.whitening
        if device != self._placed[1].device:
            self._placed = (self.pixel_mean.to(device), self.whitening.to(device))
        return self._placed


@final
class RefittedZCA(Preprocess):
    """ZCA whose matrix no file holds: it is fitted again on the training images, and checked.

    What stands in a file, :meth:`describe` and :meth:`tensors`, is the same before and after. The
    check is what ZCA makes of one fixed image, the probe: eigenvectors round differently on
    another machine, so that no digest of W would do.

    Args:
        mean: (c,) float64, as in :class:`Standardise`.
        std: (c,) float64.
        regularisation: r, to fit with.
        blocks: the rows that W is applied to.
        probe: (c, h, w) float32, what comes of :func:`probe_image` in network space.
        fitted: the ZCA, where it is at hand; without it nothing is applied or inverted.
    """

    def __init__(
        self,
        mean: Tensor,
        std: Tensor,
        regularisation: float,
        blocks: Blocks,
        probe: Tensor,
        fitted: ZCA | None = None,
    ) -> None:
        super().__init__(mean, std)
        self.regularisation = regularisation
        self.blocks = blocks
        self.fitted = fitted
        self._probe = probe

    @classmethod
    def of(cls, fitted: ZCA) -> RefittedZCA:
        """``fitted``, to be left out of files."""
        probe = _probe_of(fitted)
        return cls(fitted.mean, fitted.std, fitted.regularisation, fitted.blocks, probe, fitted)

    def refitted(self, fitted: ZCA) -> RefittedZCA:
        """The same with ``fitted``, a ZCA that was fitted again.

        Raises:
            ArtefactError: it makes another image of the probe, by more than a thousandth.
        """
        found = _probe_of(fitted)
        alike = found.shape == self._probe.shape
        error = float((found - self._probe).norm() / self._probe.norm()) if alike else math.inf
        if not error <= _PROBE_TOLERANCE:
            raise ArtefactError(
                f"the ZCA fitted again is not the one the set was made with (the probe differs by "
                f"{100 * error:.3g} %, {100 * _PROBE_TOLERANCE:g} % may be rounding); get the "
                "original file of the set again"
            )
        return RefittedZCA(
            self.mean, self.std, self.regularisation, self.blocks, self._probe, fitted
        )

    def for_images(self, shape: torch.Size) -> RefittedZCA:
        """Itself: it is for images of one shape as it is."""
        return self

    def describe(self) -> dict[str, Any]:
        """As :meth:`ZCA.describe`, and ``stored``: false."""
        return {**_zca_document(self, self._probe.shape), "stored": False}

    def tensors(self) -> dict[str, Tensor]:
        """``probe`` (c, h, w) float32."""
        return {"probe": self._probe}

    @classmethod
    def restore(cls, describe: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> RefittedZCA:
        """See :meth:`Preprocess.from_parts`, which turns the errors of this into one kind."""
        facts = _RefittedFacts.model_validate(describe)
        channels, height, width = facts.shape
        _expect(tensors, {"probe": (channels, height, width)})
        return cls(*facts.tensors(), facts.regularisation, facts.blocks(), tensors["probe"])

    def _shape_error(self, shape: torch.Size) -> str | None:
        return _zca_shape_error(shape, self._probe.shape)

    def _forward(self, images: Tensor) -> Tensor:
        return self._at_hand()._forward(images)

    def _backward(self, images: Tensor) -> Tensor:
        return self._at_hand()._backward(images)

    def _at_hand(self) -> ZCA:
        if self.fitted is None:
            raise ArtefactError(
                "the set's file holds no ZCA matrix (data.zca_stored is false), and this needs "
                "it; fit it again on the real data: dataset.refitted(source) in Python, and "
                "commands that take --data-root do it by themselves"
            )
        return self.fitted


def probe_image(shape: Sequence[int]) -> Tensor:
    """A fixed image, (1, c, h, w) uint8 for ``shape`` (c, h, w), that tells nothing of real ones.

    Number k from 1, in the order channel, y, x, is the 8 highest of the 31 bits of
    1640531527 k^2 mod 2^31: a quadratic phase, whose spectrum is flat, so that it has a share in
    all directions; and integers, which every reader makes alike.
    """
    squares = torch.arange(1, math.prod(shape) + 1).square() % (1 << 31)
    return (squares * 1640531527 % (1 << 31) >> 23).to(torch.uint8).reshape(1, *shape)


def _probe_of(fitted: ZCA) -> Tensor:
    return fitted.apply(probe_image(fitted.pixel_mean.shape))[0]


def _zca_document(zca: ZCA | RefittedZCA, shape: torch.Size) -> dict[str, Any]:
    phases = zca.blocks.side is not None and zca.blocks.tiling == "phases"
    return {
        "kind": "zca",
        "shape": list(shape),
        "mean": zca.mean.tolist(),
        "std": zca.std.tolist(),
        "regularisation": zca.regularisation,
        "block": zca.blocks.side,
        **({"tiling": "phases"} if phases else {}),
    }


def _zca_shape_error(shape: torch.Size, wanted: torch.Size) -> str | None:
    if shape == wanted:
        return None
    return (
        f"images have shape {tuple(shape)}, the ZCA is for {tuple(wanted)} "
        "(channels, height, width)"
    )


class _Statistics(BaseModel):
    """What :meth:`Preprocess.describe` says, read back."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)

    mean: list[Annotated[float, Field(ge=-1e6, le=1e6)]]
    std: list[Annotated[float, Field(ge=1e-9, le=1e6)]]

    @model_validator(mode="after")
    def _aligned(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std must be equally long")
        return self

    def tensors(self) -> tuple[Tensor, Tensor]:
        """``mean`` and ``std``, (c,) float64."""
        mean, std = (torch.tensor(x, dtype=torch.float64) for x in (self.mean, self.std))
        return mean, std


class _ZCAFacts(_Statistics):
    shape: list[Annotated[int, Field(ge=1, le=SIDE)]] = Field(min_length=3, max_length=3)
    regularisation: float = Field(gt=0)
    block: Annotated[int, Field(ge=1, le=SIDE)] | None
    tiling: Tiling = "contiguous"

    @model_validator(mode="after")
    def _tiled(self) -> Self:
        channels, height, width = self.shape
        if len(self.mean) != channels or not self.blocks().fit((channels, height, width)):
            raise ValueError("shape, block and channel statistics disagree")
        if "tiling" in self.model_fields_set and (self.block is None or self.tiling != "phases"):
            raise ValueError("tiling must be phases, of blocks, or absent")
        return self

    def blocks(self) -> Blocks:
        """``block`` and ``tiling``."""
        return Blocks(self.block, self.tiling)


class _RefittedFacts(_ZCAFacts):
    stored: Literal[False]


def in_phases(preprocess: Preprocess) -> bool:
    """Whether it whitens blocks that are phases, which readers of older formats would misread."""
    return "tiling" in preprocess.describe()


def _cholesky(matrix: Tensor) -> Tensor:
    """Its factor; this takes seconds for a large matrix, so that only inverting does it."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info.item():
        raise ArtefactError(
            "the whitening matrix of the set is not positive definite, so that its images cannot "
            "be shown; get the original file again"
        )
    return factor


def _expect(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if found != shapes or any(tensor.dtype != torch.float32 for tensor in tensors.values()):
        raise ValueError(f"expected float32 tensors {dict(shapes)}, found {quoted(found)}")
    if not all(tensor.isfinite().all() for tensor in tensors.values()):
        raise ValueError("they are not finite numbers")


def dtype_name(dtype: torch.dtype) -> str:
    """``uint8`` for ``torch.uint8``."""
    return str(dtype).removeprefix("torch.")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
