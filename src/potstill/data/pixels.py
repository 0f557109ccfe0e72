"""Channels and sizes: every image becomes 8-bit gray or RGB, at the side asked for.

One meaning throughout: gray is the luma of ITU-R 601 in Pillow's integers; a resized image is
the central square, resampled bilinearly with antialiasing, unless a :class:`Fit` says otherwise.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from potstill import hardware
from potstill.errors import DataError
from potstill.files import open_regular

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What an image may be, whatever its file is called. Pillow, left to itself, tries all that it
knows, and starts Ghostscript for one of them."""
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_MOST_PIXELS = 89_478_485  # from here on Pillow warns of a decompression bomb: 256 MiB of RGB
_TOO_LARGE = f"it has more than {_MOST_PIXELS:,} pixels"
_ORIENTATION = 0x0112  # of EXIF: 1 is upright
# Numbers per chunk of a resize: 64 MiB of float32.
_CHUNK_NUMBERS = 1 << 24


def luma(images: Tensor) -> Tensor:
    """RGB to gray as Pillow's ``convert("L")`` does: (n, 3, h, w) to (n, 1, h, w), uint8."""
    weights = (19595, 38470, 7471)
    total = torch.full_like(images[:, :1], 0, dtype=torch.int32).add_(1 << 15)
    for channel, weight in enumerate(weights):
        total += images[:, channel : channel + 1].int() * weight
    return (total >> 16).to(torch.uint8)


def resize(images: Tensor, side: int) -> Tensor:
    """Square images to another side: (n, c, s, s) to (n, c, side, side), uint8.

    Raises:
        DataError: memory does not hold so many images of this side.
    """
    if images.shape[-1] == side:
        return images
    require_room(len(images), images.shape[1], side)
    result = torch.empty(*images.shape[:2], side, side, dtype=torch.uint8)
    step = max(1, _CHUNK_NUMBERS // (images.shape[1] * max(side, images.shape[-1]) ** 2))
    for start in range(0, len(images), step):
        resized = torch.nn.functional.interpolate(
            images[start : start + step].float(), (side, side), mode="bilinear", antialias=True
        )
        result[start : start + step] = resized.round_().clamp_(0, 255)
    return result


def through_jpeg(images: Tensor) -> Tensor:
    """What JPEG leaves of images: (n, c, h, w) uint8, c = 1 or 3, to the same.

    Of Pillow's own quality 75 with colours at half the resolution (4:2:0), which is what code has
    that says nothing but ``save("NAME.jpg")``. Another build of libjpeg may round otherwise.
    """
    return torch.stack([_through_jpeg(image) for image in images])


def _through_jpeg(image: Tensor) -> Tensor:
    gray = len(image) == 1
    array = image[0].numpy() if gray else image.permute(1, 2, 0).contiguous().numpy()
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=75, subsampling="4:2:0")
    decoded = torch.from_numpy(np.array(Image.open(file)))
    return decoded[None] if gray else decoded.permute(2, 0, 1)


def require_room(count: int, channels: int, side: int) -> None:
    """Refuse images that memory does not hold, 8 bits a number.

    Raises:
        DataError: they take more.
    """
    shortage = hardware.shortage(count * channels * side**2)
    if shortage is not None:
        raise DataError(
            f"{count:,} images of {side}x{side} with {channels} channels take {shortage}; "
            "set a smaller data.resolution, or take fewer images"
        )


@dataclass(frozen=True)
class Fit:
    """How an image becomes a square, resampled bilinearly with antialiasing.

    side: of the square, in pixels; None leaves the size alone. squashed: the whole image is
    squeezed into it, of whatever form; else the central square is taken. share: how much of the
    central square's side, around its middle; 224 / 256 is Resize(256) and CenterCrop(224).
    """

    side: int | None = None
    squashed: bool = False
    share: float = 1.0

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """What is taken of an image of this width and height: left, upper, right, lower."""
        width, height = size
        if self.squashed:
            return (0.0, 0.0, float(width), float(height))
        side = min(size) * self.share
        left, upper = (width - side) / 2, (height - side) / 2
        return (left, upper, left + side, upper + side)


@dataclass(frozen=True)
class Seen:
    """What an image file is: its format, Pillow's mode, its size, whether it had to be turned."""

    format: str
    mode: str
    size: tuple[int, int]
    turned: bool


def is_image(path: Path) -> bool:
    """Whether a file begins as an image of one of ``FORMATS`` does."""
    try:
        with open_regular(path) as file, _open(file):
            return True
    except (OSError, ValueError, SyntaxError):
        return False


def read(path: Path, fit: Fit, channels: int | None) -> tuple[np.ndarray, Seen]:
    """Decode one image file, upright.

    Args:
        path: a regular file of one of ``FORMATS``, of any mode but floating point or 32-bit
            integers.
        fit: what becomes of its size.
        channels: 1 converts to gray; otherwise gray images stay gray and others become RGB.

    Returns:
        (1, h, w) or (3, h, w) uint8, and what the file is. Of several images in it, the first.

    Raises:
        Exception: whatever Pillow raises for the way in which this file is broken.
    """
    side = fit.side
    with open_regular(path) as file, _open(file) as image:
        kind, mode, size = image.format or "", image.mode, image.size
        if side is not None:
            # A JPEG may be decoded at a fraction of its size, here never below twice the target.
            image.draft(None, (2 * side, 2 * side))
        turned = "exif" in image.info and image.getexif().get(_ORIENTATION, 1) in range(2, 9)
        upright = ImageOps.exif_transpose(image) if turned else image
        plain = _gray_or_rgb(upright)
    return _fitted(plain, fit, channels), Seen(kind, mode, size, turned)


def of_pil(image: Image.Image, fit: Fit, channels: int | None) -> np.ndarray:
    """An image that Pillow holds, as :func:`read` decodes one of a file; it is not turned.

    Raises:
        ValueError: its pixels are floating-point numbers or 32-bit integers.
    """
    return _fitted(_gray_or_rgb(image), fit, channels)


def _fitted(plain: Image.Image, fit: Fit, channels: int | None) -> np.ndarray:
    """An image of mode L or RGB, of this size and with so many channels."""
    side = fit.side
    if channels == 1:
        plain = plain.convert("L")
    if side is not None and (plain.size != (side, side) or fit.share != 1):
        plain = plain.resize((side, side), Image.Resampling.BILINEAR, box=fit.box(plain.size))
    array = np.asarray(plain)
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)


def _open(file: BinaryIO) -> Image.Image:
    """The image in a file, as far as its header; of a size that can be decoded."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise ValueError(_TOO_LARGE) from None
    if image.width * image.height > _MOST_PIXELS:
        raise ValueError(_TOO_LARGE)
    return image


def _gray_or_rgb(image: Image.Image) -> Image.Image:
    """Mode L if the image is stored as gray, else RGB; transparency lies on white."""
    if image.mode in _SIXTEEN_BITS or image.mode == "I":
        return Image.fromarray(_high_byte(np.asarray(image)))
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; convert it to 8 or 16 bits")
    gray = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    if gray:
        return image.convert("L")
    rgb = image.convert("RGB")
    if image.mode in ("P", "PA") and _is_gray(rgb):
        return rgb.convert("L")
    return rgb


def _high_byte(values: np.ndarray) -> np.ndarray:
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("its pixels are 32-bit integers; convert it to 8 or 16 bits")
    return (values >> 8).astype(np.uint8)


def _is_gray(rgb: Image.Image) -> bool:
    array = np.asarray(rgb)
    return bool((array[..., 1:] == array[..., :1]).all())
