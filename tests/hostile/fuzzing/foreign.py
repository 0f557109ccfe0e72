"""Arrays and tensors that other code has saved, on their way into a set."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from tests.hostile.damage import damaged
from tests.hostile.fuzzing.uses import Use, command
from tests.hostile.test_expansion import Call, header_of, key, legacy, zipped

_NAMES = (
    "images",
    "labels",
    "x",
    "y",
    "",
    "../../x",
    "a\n\x1b[2J",
    "/x",
    "n" * 300,
    "\u202ex",
    "data",
)
_TEN = ["--class-names", "a,b,c,d,e,f,g,h,i,j", "--mean", "0.5", "--std", "0.2"]
_STATED = (*[["--dataset", "digits"]] * 3, *[_TEN] * 3, ["--class-names", "a,b,c"], [])


class _Import:
    """An import of a file, and of what came of it."""

    suffixes: tuple[str, ...]

    def __init__(self, folder: Path) -> None:
        """Nothing is made beforehand."""

    def good(self, place: Path) -> list[Use]:
        path = place / f"x{self.suffixes[0]}"
        images, labels = _pair()
        self.write(path, {"images": images, "labels": labels})
        return self._uses(path, ["--space", "pixels", "--dataset", "digits"])

    def hostile(self, place: Path, random: Random) -> list[Use]:
        path = place / f"x{random.choice(self.suffixes)}"
        with warnings.catch_warnings():  # of what nobody should save
            warnings.simplefilter("ignore")
            self.spoil(path, random)
        words = ["--space", random.choice(["pixels", "pixels", "standardised"])]
        words += random.choice(_STATED)
        if random.random() < 0.2:
            words += ["--labels", str(path)]
        return self._uses(path, words)[:1]

    def _uses(self, path: Path, words: list[str]) -> list[Use]:
        out = path.with_name("out.safetensors")
        return [command("import", path, *words, "--out", out), command("info", out)]

    def write(self, path: Path, content: Any) -> None:
        """Save ``content`` as other code would."""
        raise NotImplementedError

    def spoil(self, path: Path, random: Random) -> None:
        """Write something hostile."""
        raise NotImplementedError

    def _arrays(self, random: Random, other: Callable[[Any, Random], Any]) -> dict[str, Any]:
        """The pair with one of them changed, one more, or under another name."""
        images, labels = _pair()
        content: dict[str, Any] = {"images": images, "labels": labels}
        for name in random.sample(sorted(content), random.choice([1, 1, 2])):
            content[name] = other(content[name], random)
        if random.random() < 0.2:
            content[random.choice(_NAMES)] = content.pop(random.choice(sorted(content)))
        return content


def _pair() -> tuple[Any, Any]:
    """20 images of 8x8 pixels, two of each of the ten digits."""
    return np.arange(1280, dtype=np.uint8).reshape(20, 1, 8, 8), np.arange(20) % 10


class Npz(_Import):
    """A file of ``numpy.savez``, or of ``numpy.save``."""

    suffixes = (".npz", ".npz", ".npz", ".npy")

    def write(self, path: Path, content: Any) -> None:
        np.savez(path, **content)

    def spoil(self, path: Path, random: Random) -> None:
        content, way = self._arrays(random, _other_array), random.random()
        single = path.suffix == ".npy"
        if way < 0.5:
            entries = {f"{name}.npy": _saved(array) for name, array in content.items()}
        else:
            entries = {
                f"{name}.npy": _saved(array) for name, array in zip(content, _pair(), strict=False)
            }
            name = random.choice(sorted(entries))
            entries[name] = _other_entry(entries[name], random)
        if single:
            path.write_bytes(random.choice(sorted(entries.values())))
        else:
            _zip(path, entries, random)
        if way > 0.85:
            path.write_bytes(damaged(path.read_bytes(), random))


def _other_array(array: Any, random: Random) -> Any:
    types = [
        "<f2",
        ">f4",
        "f8",
        "i1",
        ">i8",
        "u8",
        "c16",
        "?",
        "U5",
        "S3",
        "M8[s]",
        "m8[s]",
        "O",
        "g",
    ]
    return random.choice(
        [
            lambda: array.astype(random.choice(types)),
            lambda: array.astype(np.float32) * random.choice([np.nan, np.inf, 1e36, -1, 0]),
            lambda: array.reshape(-1),
            lambda: array[:0],
            lambda: array.astype(np.float32) / 255 if array.ndim == 4 else np.eye(10)[array],
            lambda: array.astype(random.choice(["i4", ">i2", "u2"])),
            lambda: array[:1],
            lambda: array[None],
            lambda: np.asfortranarray(array),
            lambda: np.zeros(array.shape, [("a", "f4"), ("b", "O")]),
            lambda: np.zeros(array.shape, "V16"),
            lambda: np.array(None),
            lambda: np.array({"a": Call(print, "x")}, object),
            lambda: np.zeros((20, 1, 8, 7)),
            lambda: np.zeros((20, 3, 8, 8), np.float32),
            lambda: np.full(20, 1 << 60),
            lambda: np.full(20, -1),
            lambda: np.zeros((20, 100_000), np.float16),
            lambda: np.zeros((0, 1, 0, 0)),
        ]
    )()


def _saved(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _other_entry(content: bytes, random: Random) -> bytes:
    """An array whose header says something else than what follows."""
    texts = [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 8)}",
        "{'descr': '<f4', 'fortran_order': 3, 'shape': (True,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': [('a', [('b', '<f4', (99999, 99999))])], 'fortran_order': False, 'shape': ()}",
        "{'descr': '<U999999999', 'fortran_order': False, 'shape': (9,)}",
        "{'descr': ',f', 'fortran_order': False, 'shape': (9,)}",
        "__import__('os').system('touch x')",
        "(" * 5000,
        "{" * 200,
        "'" + "x" * 60_000 + "'",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({'9' * 5000},)}}",
    ]
    if random.random() < 0.3:
        return header_of(random.choice([(10**9, 10**9), (0, 10**18), (10**8,), (2,) * 40]))
    if random.random() < 0.5:
        return damaged(content, random)
    text = random.choice(texts).encode()
    version = random.choice([b"\1\0", b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"])
    length = struct.pack("<H" if version == b"\1\0" else "<I", len(text) & 0xFFFF)
    return b"\x93NUMPY" + version + length + text + b"\0" * 400


def _zip(path: Path, entries: dict[str, bytes], random: Random) -> None:
    compression = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED,
                                 zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])  # fmt: skip
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name or "x", content)
        if random.random() < 0.1:
            archive.writestr("notes.txt", b"x" * random.choice([5, 1_000_000]))
        if random.random() < 0.05:
            for number in range(3000):
                archive.writestr(f"{number}.npy", b"")


class Pt(_Import):
    """A file of ``torch.save``, as it writes them or as it did until 2020."""

    suffixes = (".pt", ".pth")

    def write(self, path: Path, content: Any) -> None:
        torch.save({name: torch.from_numpy(array) for name, array in content.items()}, path)

    def spoil(self, path: Path, random: Random) -> None:
        way = random.random()
        content = self._arrays(random, _other_tensor)
        if way < 0.5:
            content = {name: _tensor(value) for name, value in content.items()}
            noted = {**content, "notes": {"a": [1, (2, None)]}}
            thing = random.choice([content, content, list(content.values()), noted])
            torch.save(thing, path, _use_new_zipfile_serialization=random.random() < 0.7)
        elif way < 0.7:
            random.choice([zipped, legacy])(path, random.choice(_THINGS)())
        elif way < 0.75:
            torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
        else:
            self.write(path, dict(zip(("images", "labels"), _pair(), strict=True)))
            if random.random() < 0.5:
                _repickled(path, random)
            else:
                path.write_bytes(damaged(path.read_bytes(), random))


_THINGS: tuple[Callable[[], Any], ...] = (
    lambda: Call(print, "x"),
    lambda: Call(eval, "1"),
    lambda: Call(torch.load, "x"),
    lambda: Call(bytearray, 1 << 40),
    lambda: Call(torch._utils._rebuild_tensor, 1, 2, 3, 4),
    lambda: Call(torch._utils._rebuild_parameter, 1, 2, 3),
    lambda: key(60),
    lambda: [key(400)],
    lambda: 10**4000,
    lambda: "x" * 1_000_000,
    lambda: {"images": "x", "labels": None},
    lambda: {"a\n\x1b[2J" * 50: 1, 7: 2, None: 3, (1, 2): 4},
    lambda: {"\ud800": 1},
    lambda: None,
    lambda: set(range(1000)),
    lambda: (),
)


def _tensor(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def _other_tensor(array: Any, random: Random) -> Any:
    tensor = torch.from_numpy(array)
    types = [torch.float16, torch.bfloat16, torch.float64, torch.bool, torch.complex64, torch.int8,
             torch.float8_e5m2, torch.uint16]  # fmt: skip
    return random.choice(
        [
            lambda: tensor.to(random.choice(types)),
            lambda: tensor.float() * random.choice([float("nan"), float("inf"), 1e38, -1]),
            lambda: tensor.flatten(),
            lambda: tensor[:0],
            lambda: tensor.float() / 255 if tensor.ndim == 4 else torch.eye(10)[tensor],
            lambda: tensor.to(torch.int32),
            lambda: tensor[:1],
            lambda: tensor[..., None],
            lambda: torch.zeros(1).expand(random.choice([10**5, 10**9]), 3, 32, 32),
            lambda: torch.zeros(1).expand(20, 10**6),
            lambda: tensor.float().to_sparse(),
            lambda: tensor.to("meta"),
            lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
            lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
            lambda: torch.nn.Parameter(tensor.float()),
            lambda: tensor.float().requires_grad_(),
            lambda: torch.complex(tensor.float(), tensor.float()).conj(),
            lambda: torch._neg_view(tensor.float()),
            lambda: [tensor, tensor],
            lambda: {"images": tensor},
        ]
    )()


def _repickled(path: Path, random: Random) -> None:
    """The pickle within changed, and the archive whole."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = random.choice([name for name in entries if name.endswith(("data.pkl", "version", "/0"))])
    if name.endswith("data.pkl") and random.random() < 0.3:
        entries[name] = pickle.dumps(random.choice(_THINGS)(), random.choice([0, 1, 2, 4, 5]))
    else:
        entries[name] = damaged(entries[name], random)
    with zipfile.ZipFile(path, "w") as archive:
        for each, content in entries.items():
            archive.writestr(each, content)
