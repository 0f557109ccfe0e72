"""Image files that are not what they are called, and images that are larger than they look."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from potstill import hardware
from potstill.data import image_folder, pixels
from potstill.errors import DataError

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
STARTED = ("subprocess.Popen", "os.exec", "os.system", "os.posix_spawn", "os.fork", "socket.")

events: list[str] | None = None


def listen(event: str, _: tuple[Any, ...]) -> None:
    if events is not None and event.startswith(STARTED):
        events.append(event)


sys.addaudithook(listen)  # which cannot be taken back: it listens while there is a list


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Whatever is started while a test runs."""
    global events
    events = []
    yield events
    events = None


def in_folder(folder: Path, name: str, content: bytes) -> Path:
    path = folder / "a" / name
    path.parent.mkdir()
    path.write_bytes(content)
    return path


def refusal(folder: Path, side: int | None = None) -> str:
    with pytest.raises(DataError) as caught:
        image_folder.read_classes(folder, resolution=side)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def header_of(side: int) -> bytes:
    """A gray image that says how large it is, and has no pixels."""
    return f"P5 {side} {side} 255\n".encode()


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
def test_postscript_in_an_image_folder_starts_nothing(
    tmp_path: Path, started: list[str], name: str
) -> None:
    path = in_folder(tmp_path, name, POSTSCRIPT)
    told = refusal(tmp_path)
    assert told.startswith(f"cannot read image {path} (it is none of BMP, GIF, JPEG, ")
    assert started == []


def test_pillow_alone_would_start_it(tmp_path: Path, started: list[str]) -> None:
    path = in_folder(tmp_path, "x.png", POSTSCRIPT)
    with pytest.raises(OSError, match="Ghostscript"), Image.open(path) as image:
        image.load()
    assert started


@pytest.mark.parametrize("kind", [*pixels.FORMATS, "MPO"])
def test_every_format_of_the_list_is_read_whatever_its_name(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a").mkdir()
    Image.new("RGB", (8, 8), (200, 100, 50)).save(tmp_path / "a" / "x.png", kind)
    _, split = image_folder.read_classes(tmp_path, resolution=None)
    assert split.images.shape == (1, 3, 8, 8)


# Pillow warns of the first, and refuses the second.
@pytest.mark.parametrize("side", [9_460, 20_000])
def test_a_decompression_bomb_is_one_line_and_no_warning(tmp_path: Path, side: int) -> None:
    path = in_folder(tmp_path, "x.png", header_of(side))
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        told = refusal(tmp_path, 8)
    assert told == (
        f"cannot read image {path} (it has more than 89,478,485 pixels); replace or remove the file"
    )
    assert not warned


def test_an_image_of_the_largest_size_is_not_taken_for_a_bomb(tmp_path: Path) -> None:
    in_folder(tmp_path, "x.png", header_of(9_459))
    assert "more than" not in refusal(tmp_path, 8)


def test_a_side_that_memory_does_not_hold_is_refused_before_a_file_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_folder(tmp_path, "x.png", header_of(8))
    monkeypatch.setattr(pixels, "read", None)
    told = refusal(tmp_path, 1_000_000)
    room = f"{hardware.memory() / 1e9:,.1f} GB"
    assert told == (
        "1 images of 1000000x1000000 with 1 channels take 1,000.0 GB, more than the "
        f"{room} that this machine has memory for; set a smaller data.resolution, or take fewer "
        "images"
    )


def test_images_that_memory_does_not_hold_are_refused_after_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    for number in range(10):
        Image.new("RGB", (100, 100)).save(tmp_path / "a" / f"{number}.png")
    monkeypatch.setattr(hardware, "memory", lambda: 10 * 3 * 100 * 100)
    image_folder.read_classes(tmp_path, resolution=None)
    monkeypatch.setattr(hardware, "memory", lambda: 10 * 3 * 100 * 100 - 1)
    monkeypatch.setattr(image_folder, "_in_order", None)
    assert "10 images of 100x100 with 3 channels take" in refusal(tmp_path)


def test_a_data_set_in_memory_is_not_made_larger_than_memory() -> None:
    images = torch.zeros(100, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"^100 images of 1000000x1000000 .* take 100,000\.0 GB"):
        pixels.resize(images, 1_000_000)
