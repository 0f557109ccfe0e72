from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from potstill import files
from potstill.errors import RunError
from potstill.files import atomic_write


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_bytes_and_callables_are_written_and_replace_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    assert path.read_bytes() == b"old"

    def write(file: BinaryIO) -> None:
        file.write(b"new ")
        file.write(b"content")

    atomic_write(str(path), write)
    assert path.read_bytes() == b"new content"
    assert names(tmp_path) == ["a.bin"]


def test_new_files_have_the_permissions_the_user_set(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


@pytest.mark.parametrize("error", [ValueError("bug"), KeyboardInterrupt()])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, write)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_reader_never_sees_a_part(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(b"half")
        file.flush()
        seen.append(path.read_bytes())

    atomic_write(path, write)
    assert seen == [b"old"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free space, then resume or repeat"),
        (errno.EACCES, "choose a place you may write to"),
        (errno.EIO, "check the path and the disk"),
    ],
)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_what_the_system_refuses_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str, call: str
) -> None:
    path = tmp_path / "a.bin"
    atomic_write(path, b"old")

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, call, refuse)
        with pytest.raises(RunError) as caught:
            atomic_write(path, b"new")
    message = str(caught.value)
    assert message.startswith(f"cannot write {path}: {os.strerror(number)}; {remedy}")
    assert message.endswith("(the old file is untouched)")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_full_device_is_reported() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")

    def write(_: BinaryIO) -> None:
        with full.open("wb", buffering=0) as device:
            device.write(b"x")

    target = Path("/dev/shm/potstill-test.bin")
    if not os.access(target.parent, os.W_OK):
        pytest.skip("nowhere to write")
    with pytest.raises(RunError, match="No space left on device; free space"):
        atomic_write(target, write)
    assert not target.exists()


def test_missing_folder_and_folder_as_file(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"create its folder first$"):
        atomic_write(tmp_path / "none" / "a", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"choose a path that is no folder$"):
        atomic_write(tmp_path / "folder", b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RunError, match=r"parents are folders$"):
        atomic_write(tmp_path / "file" / "a", b"")
    assert names(tmp_path) == ["file", "folder"]
