"""Small files that declare large things: refused before anything of that size is made."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from potstill import archives, hardware
from potstill.data import foreign
from potstill.errors import DataError, NetworkError
from potstill.networks.pretrained import load_weights

PAIR = {"images": torch.arange(64.0).view(4, 1, 4, 4), "labels": torch.tensor([0, 1, 0, 1])}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 100 MB."""
    monkeypatch.setattr(hardware, "memory", lambda: 100_000_000)


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> None:
    """The zip file anew, with the contents of some entries replaced."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, replaced.get(Path(name).stem, content))


def header_of(shape: tuple[int, ...]) -> bytes:
    """An array of which there is the header alone."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return file.getvalue()


def compressed(path: Path) -> None:
    torch.save({"images": torch.zeros(50_000_000)}, path)
    repacked(path, zipfile.ZIP_DEFLATED)


def expanded(path: Path) -> None:
    images = torch.zeros(1).expand(1000, 3, 224, 224)
    torch.save({**PAIR, "images": images}, path)


def expanded_bytes(path: Path) -> None:
    images = torch.zeros(1, dtype=torch.uint8).expand(1000, 3, 224, 224)
    torch.save({**PAIR, "images": images}, path)


def expanded_labels(path: Path) -> None:
    torch.save({**PAIR, "labels": torch.zeros(1).expand(4, 20_000_000)}, path)


def compressed_arrays(path: Path) -> None:
    np.savez_compressed(path, images=np.zeros(50_000_000, np.float32))


def declared_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header_of((1000, 3, 224, 224)))


def declared_array(path: Path) -> None:
    path.write_bytes(header_of((1000, 3, 224, 224)))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("make", "name", "size"),
    [
        (compressed, "x.pt", "0.2"),
        (expanded, "x.pt", "0.6"),
        (expanded_bytes, "x.pt", "0.6"),
        (expanded_labels, "x.pt", "0.3"),
        (compressed_arrays, "x.npz", "0.2"),
        (declared_arrays, "x.npz", "0.6"),
        (declared_array, "x.npy", "0.6"),
    ],
)
def test_what_declares_more_than_memory_is_refused(
    tmp_path: Path, make: Callable[[Path], None], name: str, size: str
) -> None:
    path = tmp_path / name
    make(path)
    assert path.stat().st_size < 300_000
    with pytest.raises(DataError) as caught:
        foreign.read(path)
    assert str(path) in str(caught.value)
    assert f" declares {size} GB, more than the 0." in str(caught.value)
    assert "that this machine has memory for; take fewer, or a machine" in str(caught.value)


@pytest.mark.usefixtures("small")
def test_weights_are_held_to_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    compressed(path)
    with pytest.raises(NetworkError, match=r"x\.pt declares 0\.2 GB, more than"):
        load_weights(nn.Linear(1, 1), path)


@pytest.mark.parametrize("name", ["x.npz", "x.npy"])
def test_a_header_that_declares_more_than_follows_is_told_so(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = header_of((1000, 1000))
    if name == "x.npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("images.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} declares 4,000,000 bytes and holds 128; save"):
        foreign.read(path)


def test_a_compressed_file_of_torch_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(PAIR, path)
    repacked(path)
    assert foreign.read(path).images.shape == (4, 1, 4, 4)
    repacked(path, zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match=r"is compressed, which torch.save does not do"):
        foreign.read(path)


# Pickles that PyTorch reads, and that do harm by their size


def key(depth: int) -> object:
    """A tuple of the same tuple twice, and so on."""
    node: object = (1, 1)
    for _ in range(depth):
        node = (node, node)
    return node


class Call:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.called


def zipped(path: Path, thing: object) -> None:
    torch.save(PAIR, path)
    repacked(path, data=pickle.dumps(thing, 2))


def legacy(path: Path, thing: object) -> None:
    torch.save(PAIR, path, _use_new_zipfile_serialization=False)
    with path.open("rb") as file:
        first = [pickle.load(file) for _ in range(3)]
    path.write_bytes(b"".join(pickle.dumps(each, 2) for each in (*first, thing, [])))


@pytest.mark.parametrize("write", [zipped, legacy])
@pytest.mark.parametrize(
    ("thing", "told"),
    [
        (Call(bytearray, 1 << 40), "holds a bytearray; save plain tensors"),
        (key(60), "holds tuples that no tensor needs"),
        ([key(400)], "holds tuples that no tensor needs"),
        (
            Call(torch._utils._rebuild_device_tensor_from_cpu_tensor, 1, 2, 3, 4),
            "holds a _rebuild_device_tensor_from_cpu_tensor; save plain tensors",
        ),
    ],
)
def test_pickles_that_grow_are_refused(
    tmp_path: Path, write: Callable[[Path, object], None], thing: object, told: str
) -> None:
    path = tmp_path / "x.pt"
    write(path, thing)
    with pytest.raises(DataError, match=rf"x\.pt {told}"):
        foreign.read(path)


@pytest.mark.parametrize("old", [False, True])
def test_what_people_save_is_read_to_the_same_numbers(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "x.pt"
    network = nn.Sequential(*(nn.Linear(2, 2) for _ in range(100)))
    content = {
        "state_dict": network.state_dict(),
        "optimiser": torch.optim.Adam(network.parameters()).state_dict(),
        "sizes": [torch.Size((1, 2)), (3, 4)] * 1000,
        **PAIR,
    }
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    read = archives.read_pt(path)
    assert torch.equal(read["images"], PAIR["images"])
    for name, tensor in network.state_dict().items():
        assert torch.equal(read["state_dict"][name], tensor)
    found = foreign.read(path)
    assert torch.equal(found.images, PAIR["images"])


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save(PAIR, path)
    found = foreign.read(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert torch.equal(found.images, PAIR["images"])


MEASURED = """
import resource, sys
from pathlib import Path
from potstill import hardware
from potstill.data import foreign
from potstill.errors import DataError

hardware.memory = lambda: 1_000_000_000
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    foreign.read(Path(sys.argv[1]))
except DataError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts in KiB")
@pytest.mark.parametrize(
    ("make", "name"), [(compressed, "x.pt"), (expanded, "x.pt"), (compressed_arrays, "x.npz")]
)
def test_memory_stays_what_it_was(tmp_path: Path, make: Callable[[Path], None], name: str) -> None:
    path = tmp_path / name
    make(path)
    told = subprocess.run(
        [sys.executable, "-c", MEASURED, str(path)],
        env={"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) < 20_000
