"""A distilled set in files that other code reads, and back: class folders, ``.npz`` and ``.pt``.

Beside images and labels each has all that the set's own file has, so that :func:`restored` gives
the same set again, to the digest, where the format holds its images:

    npz, pt   images as the set keeps them (float32 in network space, or 8-bit pixels), ``labels``
              (n, C) float32, ``class_names``, ``soft_labels`` if there are some, the tensors of
              the preprocessing, and ``potstill``, the set's document as JSON.
    png       CLASS/NUMBER.png in natural colours, 8 bits a channel: exact for a set that keeps
              pixels, rounded and cut to black and white for one in network space (:func:`loss`).
              ``labels.csv`` and ``statistics.json`` are to be read, ``potstill.npz`` has labels
              and the rest as above.

No pickle but PyTorch's own of plain tensors and text, which ``weights_only`` loads.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from potstill import archives, storage
from potstill.data import image_folder
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, RunError
from potstill.files import atomic_write, make_folder

Form = Literal["png", "npz", "pt"]

SIDECAR = "potstill.npz"
"""Of a folder of class folders: what is no picture. It is written last."""

_DOCUMENT, _FILES = "potstill", "files"
_COPIES = 4  # of the images, held at a time while a set is restored
# Above so many numbers labels.csv has classes alone.
_MOST_NUMBERS = 1_000_000
_LONGEST_NAME = 120  # bytes of a folder's name


@dataclass(frozen=True)
class Loss:
    """What 8-bit pixels leave out of a set that is kept in network space."""

    cut: float
    """Share of the numbers that are darker than black or brighter than white, and are cut."""
    error: float
    """Root mean square of what a network then sees otherwise, over that of the images."""


def loss(dataset: DistilledDataset) -> Loss | None:
    """What pictures of the set lose; None if it keeps pixels, which they hold exactly."""
    if dataset.space == "pixels":
        return None
    natural = dataset.preprocess.invert(dataset.images)
    seen = dataset.preprocess.apply(_bytes(dataset))
    return Loss(
        cut=float(((natural < 0) | (natural > 1)).double().mean()),
        error=float((seen - dataset.images).norm() / dataset.images.norm()),
    )


def export(dataset: DistilledDataset, out: Path, form: Form) -> None:
    """Write the set to ``out``, a file or, of png, a folder that is not there or empty.

    Raises:
        RunError: it cannot be written, or the folder holds something.
    """
    if form == "png":
        _folder(dataset, out)
        return
    make_folder(out.parent)
    tensors, document = dataset.parts()
    content: dict[str, Any] = {**tensors, "class_names": list(dataset.class_names)}
    content[_DOCUMENT] = storage.canonical(document | {"digest": dataset.digest})
    if form == "pt":
        atomic_write(out, lambda file: torch.save(content, file))
    else:
        atomic_write(out, _npz(content))


def is_export(path: Path) -> bool:
    """Whether a file or folder is one that :func:`export` wrote."""
    found = path / SIDECAR if path.is_dir() else path
    try:
        if found.suffix == ".npz":
            with zipfile.ZipFile(found) as archive:
                return f"{_DOCUMENT}.npy" in archive.namelist()
        return found.suffix == ".pt" and _DOCUMENT in archives.read_pt(found)
    # Whoever reads it for what it is says what is wrong with it.
    except Exception:
        return False


def restored(path: Path) -> DistilledDataset:
    """The set that :func:`export` wrote to ``path``.

    Where the images are not those of the set that was exported, since they were rounded to 8 bits
    or somebody changed them, it is another set: the results are left out, and the header's
    ``import`` says so.

    Raises:
        ArtefactError: the file is damaged, or its parts do not fit each other.
        DataError: an image cannot be read.
    """
    content = _content(path / SIDECAR if path.is_dir() else path)
    try:
        document = storage.parsed(str(content.pop(_DOCUMENT)))
        digest = document.pop("digest")
        content.pop("class_names", None)
        files = content.pop(_FILES, None)
        if files is not None:
            content["images"] = _pictures(path, [str(name) for name in files], document)
            document["images"]["space"] = "pixels"
        tensors = {name: _tensor(value) for name, value in content.items()}
        dataset = DistilledDataset.from_parts(document, tensors)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise _damaged(path, " ".join(str(error).split())[:200]) from None
    except ArtefactError as error:
        raise ArtefactError(f"{path}: {error}") from None
    return dataset if dataset.digest == digest else _another(dataset, tensors)


def _another(dataset: DistilledDataset, tensors: Mapping[str, Tensor]) -> DistilledDataset:
    """The set as one that was made of these images, with nothing measured on it."""
    _, document = dataset.parts()
    checks = [
        {
            "check": "images and labels",
            "value": "not those of the set that was exported: rounded to 8 bits, or changed",
            "verdict": "warning",
        }
    ]
    stated = {"space": dataset.space, "label_kind": "centred", "checks": checks}
    return DistilledDataset.from_parts(document | {"results": [], "import": stated}, tensors)


def png_files(dataset: DistilledDataset) -> Iterator[bytes]:
    """Each image in natural colours as the content of a PNG file, in the order of the set."""
    return map(_png, _bytes(dataset))


def _folder(dataset: DistilledDataset, out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there and not an empty folder; name another")
    tensors, document = dataset.parts()
    folders = _folder_names(dataset.class_names)
    classes, width = dataset.hard_labels().tolist(), len(str(len(dataset) - 1))
    files = [f"{folders[c]}/{index:0{width}}.png" for index, c in enumerate(classes)]
    for name, content in zip(files, png_files(dataset), strict=True):
        make_folder((out / name).parent)
        atomic_write(out / name, content)
    atomic_write(out / "labels.csv", _csv(dataset, files).encode())
    facts = {"classes": dict(zip(folders, dataset.class_names, strict=True))}
    facts |= {"preprocess": dataset.preprocess.describe()}
    atomic_write(
        out / "statistics.json", (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()
    )
    kept: dict[str, Any] = {name: tensors[name] for name in tensors if name != "images"}
    kept[_FILES] = files
    kept[_DOCUMENT] = storage.canonical(document | {"digest": dataset.digest})
    atomic_write(out / SIDECAR, _npz(kept))


def _bytes(dataset: DistilledDataset) -> Tensor:
    """The pictures, (n, c, h, w) uint8."""
    return (dataset.pixels() * 255).round().to(torch.uint8)


def _png(pixels: Tensor) -> bytes:
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(file, "PNG")
    return file.getvalue()


def _csv(dataset: DistilledDataset, files: list[str]) -> str:
    """A line an image: its file, its class, and its labels if they are not too many."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    whole = dataset.labels.numel() <= _MOST_NUMBERS
    writer.writerow(["file", "class", *(dataset.class_names if whole else ())])
    classes = dataset.hard_labels().tolist()
    for name, label, row in zip(files, classes, dataset.labels.numpy(), strict=True):
        writer.writerow([name, dataset.class_names[label], *(map(str, row) if whole else ())])
    return text.getvalue()


def _folder_names(names: tuple[str, ...]) -> list[str]:
    """A folder for each class: its name where every file system has all of them, else numbers."""
    same = {unicodedata.normalize("NFC", name).casefold() for name in names}
    if len(same) == len(names) and all(map(_is_folder_name, names)):
        return list(names)
    width = len(str(len(names) - 1))
    return [f"class-{index:0{width}}" for index in range(len(names))]


def _is_folder_name(name: str) -> bool:
    return (
        name == name.strip(". ")
        and bool(name)
        and name.isprintable()
        and not set(name) & set('/\\:*?"<>|')
        and len(name.encode()) <= _LONGEST_NAME
    )


def _npz(content: Mapping[str, Any]) -> Callable[[BinaryIO], None]:
    arrays: dict[str, Any] = {
        name: value.numpy() if isinstance(value, Tensor) else np.array(value)
        for name, value in content.items()
    }
    return lambda file: np.savez(file, allow_pickle=False, **arrays)


def _content(path: Path) -> dict[str, Any]:
    """Arrays or tensors and text of an export, by name."""
    try:
        read = archives.read_pt(path) if path.suffix == ".pt" else archives.read_npz(path, _COPIES)
        return dict(read)
    except archives.Refused as refusal:
        raise ArtefactError(f"{path} {refusal}") from None
    # Readers and the unpickler refuse with exceptions of many types.
    except Exception as error:
        raise _damaged(path, type(error).__name__) from None


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def _pictures(folder: Path, files: list[str], document: Mapping[str, Any]) -> Tensor:
    """The pictures of an exported folder in the order of the set."""
    names, split = image_folder.read_classes(
        folder, resolution=None, channels=document["images"]["shape"][1]
    )
    places = sorted(range(len(files)), key=lambda place: files[place].split("/"))
    there = {name: 0 for name in names}
    for name in files:
        there[name.split("/")[0]] += 1
    if [there[name] for name in names] != split.labels.bincount(minlength=len(names)).tolist():
        raise _damaged(folder, "there are other images than it was written with")
    images = torch.empty_like(split.images)
    images[places] = split.images
    return images


def _damaged(path: Path, reason: str) -> ArtefactError:
    return ArtefactError(
        f"{path} is no export as potstill wrote it ({reason}); export the set again, or pass "
        "--space to import what is there as images of unknown origin"
    )
