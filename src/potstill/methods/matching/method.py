"""The matching methods, as the rest of the library sees them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from potstill.description import Curve, Description, Panel
from potstill.methods.matching.settings import DMSettings
from potstill.methods.method import Method, Passes, Session, Work
from potstill.text import count

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.methods.recipe import Recipe

PANELS = (
    Panel(
        title="Loss",
        curves=(Curve("loss", "loss"),),
        note="distance of the mean features, summed over the classes; each step another network",
        logarithmic=True,
    ),
    Panel(
        title="Gradient norm",
        curves=(Curve("images", "image_gradient_norm"),),
        logarithmic=True,
    ),
)

# Of a pass forward and backward: real images go forward alone.
_FORWARD = 1 / 3


def _distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    from potstill.methods.matching.distil import distil

    return distil(recipe, source, session)


def work(recipe: Recipe, data: DatasetInfo) -> Work:
    """A forward pass of the real batches and a whole one of S, for each network."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, DMSettings)
    real = min(settings.real_batch * data.classes, data.training) * _FORWARD
    images = settings.iterations * (real + recipe.images_per_class * data.classes)
    return Work(settings.iterations, (Passes(recipe.network, images),))


def describe(recipe: Recipe, header: Mapping[str, Any]) -> Description:
    """How many real images a step sees, and at which rate S moves."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, DMSettings)
    batch = count(settings.real_batch, "real image")
    return Description(
        title="DM",
        detail=f"{batch} of each class a step, learning rate {settings.learning_rate:g}",
        panels=PANELS,
    )


DM = Method(
    name="dm",
    settings=DMSettings,
    distil=_distil,
    work=work,
    describe=describe,
    recipes=resources.files("potstill.methods.matching") / "recipes" / "dm",
    memory=("network.width",),
)
