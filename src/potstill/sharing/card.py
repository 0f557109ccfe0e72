"""The page of a set on the hub: what it is, what was measured, how to use it."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from potstill.data.distilled import DistilledDataset
from potstill.data.exchange import loss
from potstill.methods.describing import description_of
from potstill.quoting import printable
from potstill.results import Evaluation
from potstill.text import accuracy_text, data_set_text, network_text, protocol_text

PICTURE, SET = "images.png", "distilled.safetensors"
"""Files beside the card."""


def card(dataset: DistilledDataset, *, licence: str, name: str | None = None) -> str:
    """``README.md`` of a repository that holds the set, in Markdown with the hub's metadata.

    Args:
        dataset: the set.
        licence: identifier of the licence of its images, as the hub lists them.
        name: ``USER/NAME`` of the repository, for the lines that load it; a folder if None.
    """
    header = dataset.header
    source = data_set_text(header["source"]["name"])
    described = description_of(header)
    what = ", ".join(filter(None, (described.title, described.detail)))
    count, classes = len(dataset), len(dataset.class_names)
    return "\n".join(
        [
            "---",
            yaml.safe_dump(_metadata(dataset, source, licence), sort_keys=False).rstrip(),
            "---",
            "",
            f"# {_plain(source)} distilled to {count:,} images",
            "",
            f"{count:,} images of {classes:,} classes, on which networks train in place of "
            f"{_plain(source)}. Made by {_plain(what)}.",
            "",
            f"![The images, a row a class]({PICTURE})",
            "",
            *_use(dataset, name),
            *_numbers(dataset.results),
            "## What it is made of",
            "",
            *(f"- {_plain(fact)}" for fact in _facts(dataset)),
            "",
            *_recipe(header),
        ]
    )


def _metadata(dataset: DistilledDataset, source: str, licence: str) -> dict[str, Any]:
    return {
        "license": licence,
        "pretty_name": printable(f"{source} distilled to {len(dataset)} images"),
        "task_categories": ["image-classification"],
        "tags": ["dataset-distillation", "potstill"],
        "configs": [{"config_name": "default", "data_files": "data/*.parquet"}],
    }


def _use(dataset: DistilledDataset, name: str | None) -> list[str]:
    kept = loss(dataset)
    pictures = "They are the images exactly."
    if kept is not None:
        pictures = (
            "They are what 8 bits hold of images that are kept as a network sees them: "
            f"{100 * kept.cut:.1f} % of the numbers lie beyond black or white and are cut, and a "
            f"network sees the pictures with an error of {100 * kept.error:.1f} % (root mean "
            f"square). `{SET}` has the images exactly."
        )
    where = f'"{name}"' if name else '"FOLDER"'
    whole = f"from_hub({where})" if name else f'load("FOLDER/{SET}")'
    return [
        "## Use",
        "",
        "To train on, with preprocessing, soft labels and the protocol it was made for:",
        "",
        "```python",
        "from potstill import DistilledDataset",
        "",
        f"dataset = DistilledDataset.{whole}",
        "image, label = dataset[0]",
        "```",
        "",
        "To look at, as pictures:",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'pictures = load_dataset({where}, split="train")',
        "```",
        "",
        pictures,
        "",
    ]


def _numbers(results: tuple[Evaluation, ...]) -> list[str]:
    if not results:
        return ["## Accuracy", "", "Not measured.", ""]
    rows = [
        f"| {network_text(result.network)} | {protocol_text(result.training)} "
        f"| {len(result.accuracy.values)} | {accuracy_text(result.accuracy, 2)} % "
        f"| {'' if result.baseline is None else accuracy_text(result.baseline, 2) + ' %'} |"
        for result in results
    ]
    return [
        "## Accuracy",
        "",
        "Of fresh networks trained on the set, on the real test images, after the last step; "
        "beside it, that of as many random real images, where it was measured.",
        "",
        "| network | training | networks | accuracy | random real images |",
        "| --- | --- | --- | --- | --- |",
        *map(_plain_row, rows),
        "",
    ]


def _facts(dataset: DistilledDataset) -> list[str]:
    header, source = dataset.header, dataset.header["source"]
    _, channels, height, width = dataset.shape
    preprocess = dataset.preprocess.describe()
    where = "in the file" if preprocess.get("stored", True) else "fitted again on the real data"
    labels = "soft" if dataset.soft_labels is not None else "one for each image and class"
    return [
        f"Images: {height}x{width}, {'grayscale' if channels == 1 else 'RGB'}, kept as "
        f"{'8-bit pixels' if dataset.space == 'pixels' else 'numbers in network space'}",
        f"Labels: {labels}"
        + ("; made to be trained on with mirror images" * dataset.mirror_images),
        f"Preprocessing: {preprocess['kind']}, {where}",
        f"Real data: {source['name']}, fingerprint {source['fingerprint'][:12]}",
        f"Made for: protocol {header['evaluation']['protocol']}",
        f"Seed {header['seed']}, {header['iterations']} iterations, "
        + ", ".join(f"{name} {number}" for name, number in header["versions"].items()),
        f"Digest: {dataset.digest}",
    ]


def _recipe(header: dict[str, Any]) -> list[str]:
    recipe = header.get("recipe")
    if not recipe:
        return ["No recipe: the images were made by other code."]
    text = yaml.safe_dump(json.loads(json.dumps(recipe)), sort_keys=False, allow_unicode=False)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return ["## Recipe", "", f"{fence}yaml", text.rstrip(), fence, ""]


def _plain(text: str) -> str:
    """``text`` without what Markdown or HTML would make of it."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(text))


def _plain_row(row: str) -> str:
    """A row of a table, whose strokes stay."""
    cells = row.strip("| ").split(" | ")
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"
