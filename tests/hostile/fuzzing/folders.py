"""Folders of images, as strangers pack them."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from potstill.data import pixels
from tests.hostile.damage import damaged
from tests.hostile.fuzzing.texts import refused_by_teacher
from tests.hostile.fuzzing.uses import Use, command
from tests.hostile.test_files import bound
from tests.hostile.test_images import POSTSCRIPT

_SUFFIXES = (".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm", ".PNG", ".jpeg")
_STRANGE = (b"-x", b" ", b"\xff", b"a\n\x1b[2J", b"%s{}", b"\xe2\x80\xae")
_CLASSES = (b"a", b"b", b"x" * 255, b"..a", b"~", b"'\"<script>", *_STRANGE)

_MODES = {
    "GIF": ("L", "RGB", "P", "1"),
    "BMP": ("L", "RGB", "P", "1"),
    "PPM": ("L", "RGB", "1"),
    "JPEG": ("L", "RGB", "CMYK"),
}


class Folder:
    """A folder for each class, and in each some images."""

    def __init__(self, folder: Path) -> None:
        """Nothing is made beforehand."""

    def good(self, place: Path) -> list[Use]:
        for number in range(10):
            _put(place / "set" / str(number), b"x.png", _image("PNG"))
        return [self._importing(place, ["--dataset", "digits"])]

    def hostile(self, place: Path, random: Random) -> list[Use]:
        top = random.choice(["set", "set/train"])
        for name in random.sample(_CLASSES, random.choice([1, 2, 3])):
            folder = Path(os.fsdecode(os.fsencode(place / top) + b"/" + name))
            _put(folder, b"0.png", _image("PNG"))
            for number in range(random.choice([0, 1, 2])):
                _spoil(folder, f"{number + 1}{random.choice(_SUFFIXES)}".encode(), random)
        if random.random() < 0.1:
            random.choice([_fifo, _loop, bound])(place / top / "z")
        words = random.choice([[], ["--resolution", "8"], ["--channels", "1"],
                               ["--resolution", "5", "--channels", "3"]])  # fmt: skip
        if random.random() < 0.7 and top == "set":
            return [self._importing(place, words)]
        settings = [f"data.{word.removeprefix('--')}={value}"
                    for word, value in zip(words[::2], words[1::2], strict=True)]  # fmt: skip
        settings += ["data.dataset=image_folder", "data.folder=set"]
        assigned = [word for setting in settings for word in ("--set", setting)]
        return [refused_by_teacher("quickstart/digits-dwa", place, *assigned)]

    def _importing(self, place: Path, words: list[str]) -> Use:
        out = place / "out.safetensors"
        stated = words if "--dataset" in words else [*words, "--mean", "0.5", "--std", "0.2"]
        return command("import", place / "set", "--space", "pixels", *stated, "--out", out)


def _put(folder: Path, name: bytes, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)


def _image(kind: str, mode: str = "L", side: int = 8, **options: Any) -> bytes:
    file = io.BytesIO()
    channels = len(Image.new(mode, (1, 1)).getbands())
    pattern = np.arange(side * side * channels, dtype=np.uint8).reshape(side, side, channels)
    image = Image.fromarray(
        pattern.squeeze(-1) if channels == 1 else pattern, "RGB" if mode == "RGB" else None
    )
    (image if image.mode == mode else image.convert(mode)).save(file, kind, **options)
    return file.getvalue()


def _spoil(folder: Path, name: bytes, random: Random) -> None:
    """An entry with this name, or another that is longer or stranger."""
    way = random.random()
    if way < 0.1:
        path = folder / os.fsdecode(name)
        random.choice([_fifo, bound, _zeros, _loop, _passwords, _upwards, Path.mkdir])(path)
        return
    if way < 0.2:
        name = random.choice([b"x" * 240, *_STRANGE]) + name
    _put(folder, name, _content(random))


def _content(random: Random) -> bytes:
    way = random.random()
    if way < 0.6:
        kind = random.choice(pixels.FORMATS)
        modes = _MODES.get(kind, ("L", "RGB", "RGBA"))
        good = _image(kind, random.choice(modes))
        return damaged(good, random) if way < 0.5 else good
    return random.choice(_CONTENTS)()


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return struct.pack(">I", len(content)) + name + content + checksum


def _png(width: int, height: int, colour: int, pixels_of: bytes, *chunks: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(pixels_of)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + body


def _frames() -> bytes:
    images = [Image.new("L", (8, 8), number % 256) for number in range(500)]
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:])
    return file.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 5
    exif[0x010E] = "x" * 60_000
    return _image("JPEG", "RGB", exif=exif.tobytes()[:-9])


def _tiff(tag: int, value: int) -> bytes:
    """A TIFF of which a directory entry says something else."""
    content = bytearray(_image("TIFF"))
    entry = content.index(struct.pack("<H", tag), struct.unpack("<I", content[4:8])[0])
    content[entry + 8 : entry + 12] = struct.pack("<I", value)
    return bytes(content)


_CONTENTS: tuple[Callable[[], bytes], ...] = (
    lambda: POSTSCRIPT,
    lambda: b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n",
    lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    lambda: b"#!/bin/sh\ntouch x\n",
    lambda: b"",
    lambda: b"\0" * 100,
    lambda: b"P5 20000 20000 255\n",
    lambda: b"P5 " + b"9" * 5000 + b" 1 255\n",
    lambda: b"P6 -1 -1 255\n" + b"\0" * 100,
    lambda: b"P2 8 8 255\n" + b"99999999999999999999 " * 64,
    lambda: b"Pf 8 8 -1.0\n" + b"\0" * 256,
    lambda: b"P7\nWIDTH 8\nHEIGHT 8\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n",
    lambda: _png(9_000, 9_000, 0, b"\0" * (9_001 * 9_000)),
    lambda: _png(30_000, 30_000, 0, b"\0" * 1000),
    lambda: _png(0xFFFFFFFF, 1, 0, b"\0"),
    lambda: _png(0, 0, 0, b""),
    lambda: _png(8, 8, 0, b"\0" * 72, _chunk(b"zTXt", b"x\0\0" + zlib.compress(b"x" * 70_000_000))),
    lambda: _png(8, 8, 0, b"\0" * 72, _chunk(b"iCCP", b"x\0\0" + zlib.compress(b"x" * 50_000_000))),
    lambda: _png(8, 8, 3, b"\0" * 72),
    lambda: _png(8, 8, 0, b"\0" * 200_000_000),
    lambda: _png(8, 8, 0, b"\0" * 72, *[_chunk(b"tEXt", b"x\0y")] * 50_000),
    _frames,
    _exif,
    lambda: _tiff(273, 1 << 31),
    lambda: _tiff(259, 34676),
    lambda: _tiff(256, 1 << 30),
    lambda: _image("TIFF", "F"),
    lambda: _image("TIFF", "I"),
    lambda: _image("PNG", side=9),
    lambda: _image("PNG", "RGB", side=300),
)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _loop(path: Path) -> None:
    path.symlink_to(path.name)


def _passwords(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def _upwards(path: Path) -> None:
    path.symlink_to("..")
