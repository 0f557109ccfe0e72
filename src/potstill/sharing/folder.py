"""A set as a folder that ``datasets.load_dataset`` reads: Parquet, card, and its own file."""

from __future__ import annotations

import io
from importlib import import_module
from pathlib import Path
from typing import Any

from potstill.data.distilled import DistilledDataset
from potstill.data.exchange import png_files
from potstill.errors import RunError
from potstill.files import atomic_write, make_folder
from potstill.report import picture
from potstill.sharing.card import PICTURE, SET, card

PARQUET = "data/train-00000-of-00001.parquet"


def write_folder(
    dataset: DistilledDataset, out: Path, *, licence: str = "unknown", name: str | None = None
) -> None:
    """Write the set as a repository of the hub has it, into a folder that is not there or empty.

    ``data/train-*.parquet`` has ``image`` (pictures in natural colours, 8 bits), ``label`` (a
    class) and ``soft_label`` (a number for each class, as the set's labels are: they sum to 0).

    Raises:
        RunError: it cannot be written, it holds something, or the extra ``hub`` is not installed.
    """
    hugging = library("datasets")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there and not an empty folder; name another")
    columns = {
        "image": [{"bytes": content, "path": None} for content in png_files(dataset)],
        "label": dataset.hard_labels().tolist(),
        "soft_label": dataset.labels.tolist(),
    }
    features = hugging.Features(
        {
            "image": hugging.Image(),
            "label": hugging.ClassLabel(names=list(dataset.class_names)),
            "soft_label": hugging.Sequence(
                hugging.Value("float32"), length=len(dataset.class_names)
            ),
        }
    )
    table = io.BytesIO()
    shown = hugging.is_progress_bar_enabled()
    hugging.disable_progress_bars()
    try:
        hugging.Dataset.from_dict(columns, features=features).to_parquet(table)
    finally:
        if shown:
            hugging.enable_progress_bars()
    make_folder((out / PARQUET).parent)
    atomic_write(out / PARQUET, table.getvalue())
    dataset.save(out / SET)
    drawn = io.BytesIO()
    picture(dataset).save(drawn, format="PNG")
    atomic_write(out / PICTURE, drawn.getvalue())
    atomic_write(out / "README.md", card(dataset, licence=licence, name=name).encode())


def library(name: str) -> Any:
    """A library of the extra ``hub``.

    Raises:
        RunError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise RunError(
            f"this needs {name}, which is not installed; install potstill[hub]"
        ) from None
