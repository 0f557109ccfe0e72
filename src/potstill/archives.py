"""The files of PyTorch and NumPy, read without code that they bring and only if memory holds them.

What a file declares (the sizes in its zip directory and in the headers of its arrays, the objects
that its pickle makes) is checked before anything of that size is made: compression, tensors that
repeat one number and false headers turn a few kilobytes into any number of gigabytes.
"""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray

from potstill import hardware
from potstill.files import open_regular

_LARGEST_TUPLE = 500
"""Objects in a tuple, those within its tuples counted as often as they stand there. Tensors need
tens. Python walks through all of them to hash or print it, and its stack limits the depth."""
_GROWING = (
    "bytearray",
    "_rebuild_device_tensor_from_cpu_tensor",
    "_rebuild_device_tensor_from_numpy",
)
"""What PyTorch's reader makes if asked to, as large as asked for: bytes, and copies of views."""
_FIRST_PICKLES = 5
"""What a file has before the numbers in the format that torch.save had until 2020."""
_NUMPY_NUMBERS = (
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
)
"""What a pickle makes of a NumPy number, such as an accuracy beside the tensors."""


class _Forgotten:
    """Stands in a file's content where a NumPy number stood, of which nothing is made."""

    def __init__(self, *_: object) -> None:
        """Take what the number would be made of, and keep none of it."""

    def __setstate__(self, _: object) -> None:
        """Take the state of a dtype likewise."""


class Refused(Exception):
    """Why a file is not read, to be put behind its name, and the remedy."""


def require_room(size: int, copies: int = 1) -> None:
    """Refuse what declares more bytes than the memory holds so many copies of.

    Raises:
        Refused: it does.
    """
    shortage = hardware.shortage(size, copies)
    if shortage is not None:
        raise Refused(f"declares {shortage}; take fewer, or a machine with more")


def read_pt(path: Path) -> Any:
    """What ``torch.save`` has put into a file: tensors in plain containers, and nothing else.

    NumPy numbers beside them, such as the accuracies of a log, are passed over: an object without
    content stands in their place.

    The tensors may be mapped from the file, and may be views that repeat few numbers often
    (``expand``): ask :func:`require_room` before you make one contiguous.

    Raises:
        Refused: it declares more than the memory holds, is compressed, or has objects that only
            a file made to do harm has.
        OSError: it cannot be read.
        Exception: whatever PyTorch raises for a damaged file, or for one that has other objects.
    """
    with open_regular(path) as file:
        require_room(os.fstat(file.fileno()).st_size)
        zipped = file.read(4) == b"PK\x03\x04"  # as PyTorch tells them apart
        file.seek(0)
        if zipped:
            with zipfile.ZipFile(file) as archive:
                _check_records(archive)
        else:
            for _ in range(_FIRST_PICKLES):
                _check_pickle(file)
    passed_over: list[Any] = [(_Forgotten, name) for name in _NUMPY_NUMBERS]
    with warnings.catch_warnings(), torch.serialization.safe_globals(passed_over):
        warnings.simplefilter("ignore")  # of kinds of tensors that are refused, or read as they are
        # Mapped, no number is read before it is used, and PyTorch refuses compressed ones.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)


def read_npz(path: Path, copies: int = 1) -> dict[str, NDArray[Any]]:
    """The arrays in a file of ``numpy.savez``, compressed or not, by name.

    Raises:
        Refused: it declares more than the memory holds so many copies of, or than it has.
        OSError: it cannot be read.
        Exception: whatever NumPy raises for a damaged file, or for one that has other objects.
    """
    with open_regular(path) as file:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            require_room(sum(entry.file_size for entry in entries), copies)
            for entry in entries:
                with archive.open(entry) as content:
                    _check_header(content, entry.file_size, copies)
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def read_npy(path: Path, copies: int = 1) -> NDArray[Any]:
    """The array in a file of ``numpy.save``.

    Raises:
        Refused: it declares more than the memory holds so many copies of, or than it has.
        OSError: it cannot be read.
        ValueError: it is damaged, or holds objects.
    """
    with open_regular(path) as file:
        _check_header(file, os.fstat(file.fileno()).st_size, copies)
        file.seek(0)
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        return array


def _check_header(file: Any, held: int, copies: int) -> None:
    """What the header of a NumPy array says follows it must fit memory and file."""
    read_header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in read_header:  # 3.0 is for names of fields, which arrays of numbers have not
        raise ValueError(f"format {version}")
    shape, _, dtype = read_header[version](file)
    declared = prod(shape) * dtype.itemsize
    require_room(declared, copies)
    if declared > held and not dtype.hasobject:
        raise Refused(f"declares {declared:,} bytes and holds {held:,}; save it again")


def _check_records(archive: zipfile.ZipFile) -> None:
    entries = archive.infolist()
    require_room(sum(entry.file_size for entry in entries))
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise Refused("is compressed, which torch.save does not do; save plain tensors with it")
    for entry in entries:
        if entry.filename.endswith("data.pkl"):
            with archive.open(entry) as content:
                _check_pickle(content)


def _check_pickle(file: Any) -> None:
    """Go through the next pickle without making anything of it.

    PyTorch's reader makes no objects but harmless ones; what may do harm is their size. A tuple
    of the same tuple twice, 60 deep, takes for ever to hash when it is a key.

    Raises:
        Refused: it would make one of ``_GROWING``, or a tuple larger than any that tensors need.
        Exception: whatever ``pickletools`` raises for a damaged pickle.
    """
    sizes: list[int | None] = []  # of the objects on the stack; None is a mark
    stored: dict[Any, int] = {}
    for operation, argument, _ in pickletools.genops(file):
        name = operation.name
        if name == "GLOBAL" and str(argument).split()[-1] in _GROWING:
            raise Refused(f"holds a {str(argument).split()[-1]}; save plain tensors of the CPU")
        if name.endswith("GET"):
            sizes.append(stored[argument])
        elif name.endswith("PUT"):
            stored[argument] = sizes[-1] or 0
        else:
            taken = _taken(sizes, operation)
            size = 1 + (sum(taken) if "TUPLE" in name else 0)
            if size > _LARGEST_TUPLE:
                raise Refused("holds tuples that no tensor needs; save plain tensors")
            marks = pickletools.markobject in operation.stack_after
            sizes += [None if marks else size for _ in operation.stack_after]


def _taken(sizes: list[int | None], operation: pickletools.OpcodeInfo) -> list[int]:
    """Take from the stack the sizes of what an operation uses."""
    taken = []
    above = operation.stack_before
    if pickletools.markobject in above:
        while (size := sizes.pop()) is not None:
            taken.append(size)
        above = above[: above.index(pickletools.markobject)]
    return taken + [sizes.pop() or 0 for _ in above]
