"""Coresets, as the rest of the library sees them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from potstill.description import Description
from potstill.methods.coresets.settings import CoresetSettings, Selection
from potstill.methods.method import Method, Passes, Session, Work
from potstill.text import count

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.methods.recipe import Recipe

# Of a pass forward and backward.
_FORWARD = 1 / 3

_TITLES = {
    "random": "Random real images",
    "herding": "Herding",
    "k-center": "K-center",
    "k-means": "K-means",
    "all": "All real images",
}


def _distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    from potstill.methods.coresets.distil import distil

    return distil(recipe, source, session)


def _selection(recipe: Recipe) -> Selection:
    from potstill.methods.recipe import method_of

    return method_of(recipe, CoresetSettings).selection


def work(recipe: Recipe, data: DatasetInfo) -> Work:
    """One forward pass of all training images; choosing takes seconds."""
    selection = _selection(recipe)
    if not selection.compares or selection.features == "pixels":
        return Work(0)
    return Work(0, (Passes(selection.extractor.network, data.training * _FORWARD),))


def describe(recipe: Recipe, header: Mapping[str, Any]) -> Description:
    """Which algorithm, and by which features."""
    selection = _selection(recipe)
    if not selection.compares:
        return Description(title=_TITLES[selection.algorithm])
    named = selection.extractor.pretrained or selection.extractor.network.name
    detail = {
        "trained": f"by features of a {named} trained for "
        f"{count(selection.extractor.epochs, 'epoch')}",
        "random": f"by features of a {named} with random weights",
        "pixels": "by pixels",
    }
    return Description(title=_TITLES[selection.algorithm], detail=detail[selection.features])


CORESET = Method(
    name="coreset",
    settings=CoresetSettings,
    distil=_distil,
    work=work,
    describe=describe,
    recipes=resources.files("potstill.methods.coresets") / "recipes",
    teacher=lambda settings: settings.selection.teacher,
    inverts=False,
    memory=("method.teacher.network.width",),
)
