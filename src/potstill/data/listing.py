"""Which files of a folder are images of which class, and which are passed over.

A file is read as an image if its name ends as those of images do, or if it has no ending and
begins as an image does. Files of other endings and hidden ones are passed over and counted.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from potstill.data import pixels
from potstill.errors import DataError
from potstill.quoting import is_text, quoted

SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
HIDDEN, NO_IMAGE, BESIDE = "hidden", "without ending or image", "beside the class folders"


@dataclass
class Listing:
    """The image files of each class, classes and files sorted, and what else lies beside them."""

    classes: dict[str, list[Path]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    """Files passed over, by kind: an ending, ``HIDDEN``, ``NO_IMAGE`` or ``BESIDE``."""

    @property
    def files(self) -> list[Path]:
        """All images, class by class."""
        return [path for paths in self.classes.values() for path in paths]


def class_files(split: Path) -> Listing:
    """The images of a folder of class folders; folders within a class folder are searched.

    Raises:
        DataError: it cannot be read, has no class folders, an empty one, or one whose name is no
            text.
    """
    found = Listing()
    try:
        entries = sorted(split.iterdir())
        for entry in entries:
            hidden = entry.name[0] == "."
            if not entry.is_dir():
                found.skipped[HIDDEN if hidden else BESIDE] += 1
            elif not hidden:
                require_text(entry)
                found.classes[entry.name] = _images_below(entry, found.skipped)
    except OSError as error:
        raise DataError(
            f"cannot read folder {error.filename}: {error.strerror}; check its permissions"
        ) from None
    if not found.classes:
        raise DataError(f"{split} has no class folders; put the images of each class into one")
    for name, files in found.classes.items():
        if not files:
            kinds = ", ".join(SUFFIXES)
            raise DataError(
                f"class folder {split / name} holds no images ({kinds}); add some, or remove it"
            )
    return found


def require_text(path: Path) -> None:
    """Refuse the name of a folder that would become the name of a class or of the data."""
    if not is_text(path.name):
        raise DataError(f"the name of folder {quoted(str(path))} is not UTF-8; rename it")


def _images_below(folder: Path, skipped: Counter[str]) -> list[Path]:
    def fail(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            why = _passed_over(Path(parent, name))
            if why is None:
                found.append(Path(parent, name))
            else:
                skipped[why] += 1
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _passed_over(path: Path) -> str | None:
    """The kind of a file that is not read; None of one that is."""
    if path.name.startswith("."):
        return HIDDEN
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return None
    if suffix:
        return suffix if suffix.isprintable() else quoted(suffix)
    return None if pixels.is_image(path) else NO_IMAGE
