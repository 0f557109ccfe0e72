"""What is no file where a file belongs, and what killed processes leave."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from potstill import archives, checkpoints, files, hardware
from potstill.data import foreign, image_folder
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, PotstillError
from potstill.files import atomic_write, open_regular, remove_leftovers
from potstill.methods.recipe import parse, read_yaml
from potstill.networks.pretrained import load_weights
from potstill.runs import Run
from potstill.teacher import Teacher

RECIPE = parse({"method": {"iterations": 1}}, source="test")
TEMPORARY = r"\.potstill-[0-9a-f]{32}\.tmp"


def fifo(path: Path) -> None:
    os.mkfifo(path)


def bound(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # for the length of a socket's name is limited
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


READERS: dict[str, Callable[[Path], object]] = {
    "set.safetensors": DistilledDataset.load,
    "teacher.safetensors": Teacher.load,
    "checkpoint.safetensors": checkpoints.read,
    "recipe.yaml": read_yaml,
    "images.pt": foreign.read,
    "images.npz": foreign.read,
    "images.npy": foreign.read,
    "weights.pt": lambda path: load_weights(nn.Linear(1, 1), path),
    "weights.safetensors": lambda path: load_weights(nn.Linear(1, 1), path),
    "a/image.png": lambda path: image_folder.read_classes(path.parent.parent, resolution=None),
}


@pytest.mark.parametrize("make", [fifo, bound, zeros])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused_in_a_line(
    tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    make(path)
    signal.alarm(20)  # a reader that waits for a writer would wait for ever
    try:
        with pytest.raises(PotstillError) as caught:
            READERS[name](path)
    finally:
        signal.alarm(0)
    assert re.fullmatch(
        rf"cannot read (recipe |image )?{path}(: | \()it is no regular file(; check the path|\); "
        "replace or remove the file)",
        str(caught.value),
    )


def test_a_folder_and_a_missing_file_are_called_that(tmp_path: Path) -> None:
    for path, code in ((tmp_path, errno.EISDIR), (tmp_path / "none", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            open_regular(path)
        assert caught.value.errno == code


def test_a_file_larger_than_memory_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "set.safetensors"
    path.touch()
    os.truncate(path, 1 << 42)  # a hole of 4.4 TB
    with pytest.raises(ArtefactError, match=r"has 4,398\.0 GB, more than the .* GB that this"):
        DistilledDataset.load(path)
    weights = path.rename(tmp_path / "weights.pt")
    with pytest.raises(archives.Refused, match=r"declares 4,398\.0 GB"):
        archives.read_pt(weights)


# Temporary files


def temporary(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.endswith(".tmp")]


def test_names_of_temporary_files_cannot_be_foreseen(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        atomic_write(tmp_path / "a", lambda _: seen.extend(temporary(tmp_path)))
    assert len(set(seen)) == 2
    assert all(re.fullmatch(TEMPORARY, name) for name in seen)


def test_a_temporary_file_that_is_there_is_neither_followed_nor_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 32)
    trap = tmp_path / f".potstill-{'0' * 32}.tmp"
    for put in (lambda: trap.symlink_to(mine), lambda: trap.write_bytes(b"")):
        put()
        with pytest.raises(PotstillError, match="File exists"):
            atomic_write(tmp_path / "a", b"theirs")
        trap.unlink()
    assert mine.read_bytes() == b"mine"
    assert not (tmp_path / "a").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from potstill.files import atomic_write

def die(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGSTOP if sys.argv[2] == "stop" else signal.SIGKILL)

atomic_write(Path(sys.argv[1], "checkpoint.safetensors"), die)
"""


def killed(folder: Path, how: str = "kill") -> subprocess.Popen[bytes]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([sys.executable, "-c", KILLED, str(folder), how], env=environment)


def test_a_run_removes_what_a_killed_process_has_left(tmp_path: Path) -> None:
    Run.create(tmp_path, RECIPE).close()
    assert killed(tmp_path).wait() == -signal.SIGKILL
    assert len(temporary(tmp_path)) == 1
    for name in (".potstill-1.tmp", ".notes.tmp", f".potstill-{'0' * 32}.tmp.png"):
        (tmp_path / name).touch()  # of the user
    link = f".potstill-{'1' * 32}.tmp"
    (tmp_path / link).symlink_to(tmp_path / "recipe.yaml")
    Run.create(tmp_path, RECIPE, resume=True).close()
    assert sorted(temporary(tmp_path)) == [
        ".notes.tmp",
        ".potstill-1.tmp",
        f".potstill-{'1' * 32}.tmp",
    ]
    assert (tmp_path / "recipe.yaml").exists()


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    writer = killed(tmp_path, "stop")
    os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
    remove_leftovers(tmp_path)
    assert len(temporary(tmp_path)) == 1
    writer.send_signal(signal.SIGCONT)
    assert writer.wait() == 0
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == b"half"
    assert temporary(tmp_path) == []


def test_nothing_is_said_of_a_folder_that_is_not_there(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "none")


def test_memory_is_the_limit_and_more_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "memory", lambda: 12_000_000_000)
    assert hardware.shortage(4_000_000_000, 3) is None
    assert hardware.shortage(4_000_000_001, 3) == (
        "4.0 GB, more than the 4.0 GB that this machine has memory for"
    )
    assert (hardware.shortage(10**5000) or "").startswith("1,000,000,000,000,000.0 GB")
