"""RCIG and the ladder of methods below it, as the rest of the library sees them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from potstill.description import Curve, Description, Panel
from potstill.methods.coresets.settings import teacher_to_start
from potstill.methods.method import Method, Passes, Session, Work
from potstill.methods.rcig.settings import RCIGSettings

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.methods.recipe import Recipe

_NAMES = {"frepo": "FRePo", "random": "random images"}
_SOLVERS = {"pcg": "solved by conjugate gradient", "adam": "solved by Adam"}
_ON_REAL = "on the batch of real images"
_INNER, _INVERSE = "inner problem", "inverse"
PANELS = (
    Panel(title="Loss", curves=(Curve("loss", "loss"),), note=_ON_REAL),
    Panel(
        title="Batch accuracy",
        curves=(Curve("accuracy", "batch_accuracy"),),
        note=_ON_REAL,
        unit="%",
        scale="percent",
    ),
    Panel(
        title="Temperature",
        curves=(Curve("temperature", "log_temperature"),),
        note="by which the predictions are multiplied",
        scale="exponential",
    ),
    Panel(
        title="Solver steps",
        curves=(Curve(_INNER, "inner_steps"), Curve(_INVERSE, "inverse_steps")),
    ),
    Panel(
        title="Solver residuals",
        curves=(Curve(_INNER, "inner_residual"), Curve(_INVERSE, "inverse_residual")),
        logarithmic=True,
    ),
    Panel(
        title="Gradient norms",
        curves=(Curve("images", "image_gradient_norm"), Curve("labels", "label_gradient_norm")),
        logarithmic=True,
    ),
)

# Passes forward and backward that an iteration costs, between those found at widths 32 and 128:
# for an image of the target batch; for an image of S in each step of either solver; for an image
# of S in the gradient. A step of a pool's model is one.
_TARGET, _SOLVER, _GRADIENT = 1.5, 1.5, 5.0
# Steps of conjugate gradient in both solves, at tolerances from 0.01 on and below.
_CG_STEPS = (8, 32)
_LOOSE = 1e-2


def _distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    from potstill.methods.rcig.distil import distil

    return distil(recipe, source, session)


def work(recipe: Recipe, data: DatasetInfo) -> Work:
    """Iterations, and passes through the network: of S in the solvers, of the target batch."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, RCIGSettings)
    if settings.variant == "random":
        return Work(0, mirror_images=settings.flip)
    images = recipe.images_per_class * data.classes * (2 if settings.flip else 1)
    visit = sum(settings.pool.steps_per_visit) / 2
    learned = images * (_SOLVER * _solver_steps(settings) + visit)
    learned += min(settings.subset or images, images) * _GRADIENT
    target = min(settings.target_batch, data.training) * _TARGET
    number = settings.iterations
    return Work(
        number,
        (
            Passes(recipe.network, number * learned),
            Passes(recipe.network, number * target, settings.target_precision),
        ),
        settings.flip,
    )


def _solver_steps(settings: RCIGSettings) -> int:
    if settings.variant == "frepo":
        return 0
    if settings.solver.name == "adam":
        return settings.solver.inner_steps + settings.solver.inverse_steps
    return _CG_STEPS[0] if settings.solver.tolerance >= _LOOSE else _CG_STEPS[1]


def describe(recipe: Recipe, header: Mapping[str, Any]) -> Description:
    """The set in words: the rung of the ladder, and how its inner problem is solved."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, RCIGSettings)
    named = settings.variant in _NAMES
    return Description(
        title=_NAMES.get(settings.variant, settings.variant.upper()),
        detail="" if named else _SOLVERS[settings.solver.name],
        panels=PANELS,
        learned_labels=settings.learn_labels and settings.variant != "random",
    )


RCIG = Method(
    name="rcig",
    settings=RCIGSettings,
    distil=_distil,
    work=work,
    describe=describe,
    recipes=resources.files("potstill.methods.rcig") / "recipes",
    teacher=teacher_to_start,
    inverts=False,
    memory=("method.subset", "method.target_batch"),
)
