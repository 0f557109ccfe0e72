"""A distilled set from images that other code made.

The images may be pixels or already preprocessed; which, their owner has to state, and
:mod:`potstill.data.plausible` catches what cannot be true. What comes out is a set like any
other: it trains, is scored and is audited as those made here are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import torch
from torch import Tensor

from potstill.config import DataRecipe, EvaluationRecipe, NetworkRecipe
from potstill.data import plausible, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.foreign import Foreign
from potstill.data.plausible import Check, LabelKind, Verdict
from potstill.data.preprocess import Preprocess, Standardise
from potstill.data.source import SourceDataset, centred_one_hot
from potstill.data.whitening_cache import WhiteningCache
from potstill.description import Description, Fact
from potstill.errors import DataError

Space = Literal["pixels", "standardised", "zca"]

METHOD = "imported"
"""What the header of an imported set names as its method."""

# Rounding of pixels that went through float32 arithmetic, in 8-bit levels.
_LEVEL_ROUNDING = 1e-2


@dataclass(frozen=True)
class Statement:
    """What the owner of the images says of them."""

    space: Space
    """``standardised``: (pixel in [0, 1] - mean) / std of each channel. ``zca``: whitened after
    that, as :mod:`potstill.data.preprocess` does it."""
    labels: LabelKind | None = None
    """``probabilities``, ``logits`` or ``centred`` for labels (n, C); told from the numbers if
    they are probabilities."""
    mirror_images: bool = False
    """Whether it was made to be trained on with its mirror images, as RCIG's and FRePo's are."""


def import_set(
    foreign: Foreign,
    statement: Statement,
    data: DataRecipe,
    network: NetworkRecipe,
    evaluation: EvaluationRecipe,
    *,
    class_names: Sequence[str] | None = None,
    source: SourceDataset | None = None,
    fitted_on: SourceDataset | None = None,
    whitenings: WhiteningCache | None = None,
    versions: Mapping[str, str] | None = None,
) -> DistilledDataset:
    """The set that ``foreign`` is if ``statement`` is true.

    Pixels that are whole numbers stay 8-bit pixels in the set; all other images are kept in
    network space. Labels become centred: one-hot or probabilities minus 1/C, logits through a
    softmax first.

    Args:
        foreign: images and labels as they were read.
        statement: what they are.
        data: the real data the set stands for, and the preprocessing between pixels and network
            space.
        network: that it shall be scored with.
        evaluation: how.
        class_names: C names; those of ``source`` or of the class folders if None.
        source: the real data, if it is at hand.
        fitted_on: the data whose training images the preprocessing is fitted on; ``data``
            has ``mean`` and ``std`` if None.
        whitenings: where that is looked for before it is fitted, and stored.
        versions: versions of the libraries, for the header.

    Returns:
        A set whose header has ``import``: space, label_kind, fitted_on and ``checks``, a
        list of {check, value, verdict}; a verdict is "ok" or "warning".

    Raises:
        DataError: the statement cannot be true; set and data differ in classes or shape; or no
            class names, or no preprocessing, can be had.
    """
    names, named = _class_names(foreign, class_names, source)
    checks = [plausible.finite(foreign.images, foreign.labels), *_which(foreign), *named]
    checks += _shape(foreign, source)
    fitted = _preprocess(data, statement, foreign, fitted_on, whitenings)
    images, pixels, seen = _images(foreign.images, statement.space, fitted)
    checks += seen
    if source is not None:
        checks += plausible.like_real(pixels, source)
    matched = _matched(foreign, names)
    kind, labelled = plausible.label_kind(matched, len(names), statement.labels)
    labels = _centred(matched, kind, len(names))
    checks += [labelled, *plausible.balance(labels.argmax(1), names)]
    described = _described(statement, kind, checks)
    header = {
        "method": METHOD,
        "description": described.model_dump(mode="json"),
        "data": _portable(data),
        "mirror_images": statement.mirror_images,
        "evaluation": {
            **evaluation.model_dump(mode="json", exclude_none=True),
            "network": network.model_dump(mode="json"),
        },
        "source": _source(data, source, foreign, names),
        "seed": 0,
        "iterations": 0,
        "versions": dict(versions or {}),
        "import": {
            "space": statement.space,
            "label_kind": kind,
            "fitted_on": None if fitted_on is None else fitted_on.name,
            "layout": foreign.layout,
            "checks": [check.document() for check in checks],
        },
    }
    return DistilledDataset(images, labels, names, fitted, header)


def _class_names(
    foreign: Foreign, given: Sequence[str] | None, source: SourceDataset | None
) -> tuple[tuple[str, ...], list[Check]]:
    """The names of the classes, and how class folders go with them."""
    if given is not None:
        _require_distinct(given)
    known = None if source is None else source.class_names
    if given is not None and known is not None and tuple(given) != known:
        raise DataError(
            f"--class-names are not those of {source.name if source else ''}, "
            f"{', '.join(known[:3])}{', ...' if len(known) > 3 else ''}; leave them out"
        )
    names = known or (None if given is None else tuple(given)) or foreign.class_names
    if names is None:
        raise DataError(
            "nothing says what the classes are called; pass --class-names, or --dataset and the "
            "--data-root it lies in"
        )
    if foreign.class_names is None:
        return names, []
    if len(foreign.class_names) != len(names):
        raise DataError(
            f"there are {len(foreign.class_names)} class folders "
            f"({', '.join(foreign.class_names[:3])}, ...) and {len(names)} classes; give every "
            "class one folder"
        )
    return names, [_places(foreign.class_names, names)[1]]


def _require_distinct(names: Sequence[str]) -> None:
    if "" in names:
        raise DataError("--class-names has an empty name; give every class one")
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise DataError(f"--class-names has {twice!r} twice; give every class its own name")


def _places(folders: tuple[str, ...], names: tuple[str, ...]) -> tuple[list[int], Check]:
    """The class of each folder: the one of its name, of its number, or of its place."""
    if set(folders) == set(names):
        return [names.index(name) for name in folders], _folders("by name", "ok")
    numbers = [re.search(r"\d+$", name) for name in folders]
    places = [int(number[0]) if number else -1 for number in numbers]
    if sorted(places) == list(range(len(names))):
        return places, _folders("by number", "ok")
    how = f"in sorted order: {folders[0]} is {names[0]}, {folders[-1]} is {names[-1]}"
    return list(range(len(names))), _folders(how, "warning")


def _folders(how: str, verdict: Verdict) -> Check:
    return Check("class folders", f"matched {how}", verdict)


def _matched(foreign: Foreign, names: tuple[str, ...]) -> Tensor:
    """The labels; of class folders, the classes that they are matched with."""
    if foreign.class_names is None:
        return foreign.labels
    return torch.tensor(_places(foreign.class_names, names)[0])[foreign.labels]


def _which(foreign: Foreign) -> list[Check]:
    """Which set of a file it is, if the file holds several."""
    if foreign.sets == 1:
        return []
    return [Check("sets in the file", f"the last of {foreign.sets}", "ok")]


def _shape(foreign: Foreign, source: SourceDataset | None) -> list[Check]:
    channels, side = foreign.images.shape[1], foreign.images.shape[2]
    value = _size(side, channels)
    if source is not None and (channels, side) != (source.channels, source.resolution):
        raise DataError(
            f"the images are {value}, and those of {source.name} are "
            f"{_size(source.resolution, source.channels)}; name the right --dataset, or "
            f"{_conversion(foreign, source)}"
        )
    return [Check("shape", f"{len(foreign.images)} of {value}", "ok")]


def _size(side: int, channels: int) -> str:
    return f"{side}x{side}, {channels} channel{'s' if channels != 1 else ''}"


def _conversion(foreign: Foreign, source: SourceDataset) -> str:
    """What makes images and real ones alike: gray is never made colour."""
    channels, side = foreign.images.shape[1], foreign.images.shape[2]
    folders = foreign.class_names is not None
    if channels > source.channels and not folders:
        return "save the images with one channel, as (n, 1, height, width) or (n, height, width)"
    options = [] if side == source.resolution else [f"--resolution {side}"]
    options += [] if channels == source.channels else ["--channels 1"]
    whose = "both" if folders else "the real ones"
    return f"state {' '.join(options)} if {whose} are to be converted"


def _preprocess(
    data: DataRecipe,
    statement: Statement,
    foreign: Foreign,
    fitted_on: SourceDataset | None,
    whitenings: WhiteningCache | None,
) -> Preprocess:
    """Between pixels and network space, fitted or as stated."""
    wanted = {"standardised": "standardise", "zca": "zca"}.get(statement.space)
    if wanted not in (None, data.preprocess):
        raise DataError(
            f"images in space {statement.space} do not go with data.preprocess "
            f"{data.preprocess}; set it to {wanted}"
        )
    if fitted_on is None and data.preprocess == "zca" and data.mean is not None:
        raise DataError(
            "mean and std do not say how images are whitened; leave out --mean and --std, and "
            "pass --fit-on with the data set whose training images do"
        )
    if fitted_on is not None:
        fitted = preprocess.fit(data, fitted_on.train.images, cache=whitenings)
    elif data.mean is None or data.std is None:
        raise DataError(
            "nothing says how the images are preprocessed; pass --mean and --std, or --fit-on "
            "with the data set whose training images say it, and the --data-root it lies in"
        )
    else:
        mean, std = (torch.tensor(x, dtype=torch.float64) for x in (data.mean, data.std))
        fitted = Standardise(mean, std)
    fitted.check(foreign.images)
    return fitted


def _images(images: Tensor, space: Space, fitted: Preprocess) -> tuple[Tensor, Tensor, list[Check]]:
    """What the set keeps (n, c, h, w), the pixels with 1.0 for white, and what was seen."""
    if space != "pixels":
        signs = plausible.both_signs(images, space)
        pixels = fitted.invert(images)
        return images, pixels, [signs, plausible.undone(pixels)]
    scale, seen = plausible.pixel_scale(images)
    pixels = images.float() / scale
    levels = (pixels * 255).round()
    whole = bool(((pixels * 255 - levels).abs() <= _LEVEL_ROUNDING).all())
    if whole and float(levels.min()) >= 0 and float(levels.max()) <= 255:
        return levels.to(torch.uint8), pixels, [seen]
    return fitted.apply(pixels), pixels, [seen, plausible.undone(pixels)]


def _centred(labels: Tensor, kind: LabelKind, classes: int) -> Tensor:
    """Labels as a set has them: (n, C) float32."""
    if labels.ndim == 1:
        return centred_one_hot(labels, classes)
    if kind == "hard":
        return centred_one_hot(labels.argmax(1), classes)
    if kind == "centred":
        return labels
    return (labels.softmax(1) if kind == "logits" else labels) - 1 / classes


def _described(statement: Statement, kind: LabelKind, checks: Sequence[Check]) -> Description:
    """What was said of the images, and what was odd about them."""
    odd = (Fact("Odd", check.check, check.value) for check in checks if check.verdict == "warning")
    return Description(
        title="imported",
        detail="made by other code",
        facts=(Fact("Said to be", statement.space, f"labels {kind}"), *odd),
        learned_labels=kind != "hard",
    )


def _portable(data: DataRecipe) -> dict[str, Any]:
    """The data as a JSON object, an absolute folder by its last part."""
    document = data.model_dump(mode="json")
    if data.folder and PurePath(data.folder).is_absolute():
        document["folder"] = PurePath(data.folder).name
    return document


def _source(
    data: DataRecipe, source: SourceDataset | None, foreign: Foreign, names: tuple[str, ...]
) -> dict[str, Any]:
    """The real data; of the fingerprint "unknown" where it is not at hand."""
    if source is not None:
        return source.document()
    return {
        "name": _data_name(data),
        "fingerprint": "unknown",
        "classes": len(names),
        "channels": foreign.images.shape[1],
        "resolution": foreign.images.shape[2],
    }


def _data_name(data: DataRecipe) -> str:
    if data.dataset != "image_folder":
        return data.dataset
    return "unknown" if data.folder is None else PurePath(data.folder).name
