"""The matching methods, as the rest of the library sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

from potstill.description import Curve, Description, Panel
from potstill.methods.coresets.settings import teacher_to_start
from potstill.methods.matching.settings import (
    CAFESettings,
    DataDAMSettings,
    DCSettings,
    DMSettings,
    DSASettings,
    GradientSettings,
    MatchingSettings,
)
from potstill.methods.method import Method, Passes, Session, Work
from potstill.text import count

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.methods.recipe import Recipe

S = TypeVar("S", bound=MatchingSettings)

_NORMS = Panel(
    title="Gradient norm",
    curves=(Curve("images", "image_gradient_norm"),),
    logarithmic=True,
)

# Of a pass forward and backward: images that pass forward alone; a gradient through a gradient.
_FORWARD, _TWICE = 1 / 3, 3


def _distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    from potstill.methods.matching.distil import distil

    return distil(recipe, source, session)


def _work_frozen(recipe: Recipe, data: DatasetInfo) -> Work:
    """A forward pass of the real batches and a whole one of S, for each network."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, MatchingSettings)
    images = settings.iterations * (_real(settings, data) * _FORWARD + _size(recipe, data))
    return Work(settings.iterations, (Passes(recipe.network, images),))


def _work_gradients(recipe: Recipe, data: DatasetInfo) -> Work:
    """T steps through the gradient of both sides, and T - 1 trainings on S, for each network."""
    from potstill.methods.matching.schedules import lengths
    from potstill.methods.recipe import method_of

    settings, size = method_of(recipe, GradientSettings), _size(recipe, data)
    updates, epochs = lengths(settings, recipe.images_per_class)
    steps = updates * (_real(settings, data) + _TWICE * size)
    images = settings.iterations * (steps + (updates - 1) * epochs * size)
    return Work(settings.iterations, (Passes(recipe.network, images),))


def _work_cafe(recipe: Recipe, data: DatasetInfo) -> Work:
    """At least 10 steps of the images a network, 10 epochs between two, a query after each."""
    from potstill.methods.matching.schedules import WINDOW, lengths
    from potstill.methods.recipe import method_of

    settings, size = method_of(recipe, CAFESettings), _size(recipe, data)
    queried = settings.schedule == "dynamic"
    query = min(settings.query_batch * data.classes, data.training) * _FORWARD * queried
    updates, epochs = WINDOW, WINDOW
    if not queried:
        updates, epochs = lengths(settings, recipe.images_per_class)
    steps = updates * (_real(settings, data) * _FORWARD + size + query)
    images = settings.iterations * (steps + (updates - 1) * epochs * (size + query))
    return Work(settings.iterations, (Passes(recipe.network, images),))


def _real(settings: MatchingSettings, data: DatasetInfo) -> int:
    """Real images that a step sees, of all classes."""
    return min(settings.real_batch * data.classes, data.training)


def _size(recipe: Recipe, data: DatasetInfo) -> int:
    return recipe.images_per_class * data.classes


def _describing(title: str, note: str) -> Callable[[Recipe, Mapping[str, Any]], Description]:
    """How many real images a step sees, and at which rate S moves."""

    def describe(recipe: Recipe, header: Mapping[str, Any]) -> Description:
        from potstill.methods.recipe import method_of

        settings = method_of(recipe, MatchingSettings)
        batch = count(settings.real_batch, "real image")
        loss = Panel(title="Loss", curves=(Curve("loss", "loss"),), note=note, logarithmic=True)
        return Description(
            title=title,
            detail=f"{batch} of each class a step, learning rate {settings.learning_rate:g}",
            panels=(loss, _NORMS),
        )

    return describe


def _method(
    title: str,
    settings: type[S],
    work: Callable[[Recipe, DatasetInfo], Work],
    note: str,
) -> Method[S]:
    name = settings.model_fields["kind"].default
    return Method(
        name=name,
        settings=settings,
        distil=_distil,
        work=work,
        describe=_describing(title, note),
        recipes=resources.files("potstill.methods.matching") / "recipes" / name,
        teacher=teacher_to_start,
        inverts=False,
        memory=("network.width",),
    )


_OF_GRADIENTS = "distance of the weights' gradients, summed over the classes; each step a network"

DC = _method("DC", DCSettings, _work_gradients, _OF_GRADIENTS)
DSA = _method("DSA", DSASettings, _work_gradients, _OF_GRADIENTS)
DM = _method(
    "DM",
    DMSettings,
    _work_frozen,
    "distance of the mean features, summed over the classes; each step another network",
)
CAFE = _method(
    "CAFE",
    CAFESettings,
    _work_cafe,
    "distance of the mean activations and of the centres, summed over the classes; each step a "
    "network",
)
DATADAM = _method(
    "DataDAM",
    DataDAMSettings,
    _work_frozen,
    "distance of the mean attention, summed over the classes; each step another network",
)
