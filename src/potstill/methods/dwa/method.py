"""DWA, and SRe2L below it, as the rest of the library sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import resources
from typing import TYPE_CHECKING, Any

from potstill.description import Curve, Description, Fact, Panel
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.method import Method, Passes, Session, Work
from potstill.text import count, network_detail, percent, short_network_text

if TYPE_CHECKING:
    from potstill.config import TeacherRecipe
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.methods.recipe import Recipe

PANELS = (
    Panel(
        title="Loss",
        curves=(Curve("all", "loss"), Curve("cross-entropy", "cross_entropy")),
        note="mean over the groups of images, each over its own iterations",
        logarithmic=True,
    ),
    Panel(
        title="Batch-norm terms",
        curves=(Curve("means", "mean_term"), Curve("variances", "variance_term")),
        note="distance of the images' statistics from the teacher's",
        logarithmic=True,
    ),
)

_NEARNESS = Panel(
    title="Nearness to earlier groups",
    curves=(Curve("of the same class", "sequence_term"),),
    note="from 0 to 1; mean over the groups, 0 of the first",
)


def _distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    from potstill.methods.dwa.distil import distil

    return distil(recipe, source, session)


def work(recipe: Recipe, data: DatasetInfo) -> Work:
    """Iterations of all groups, one after the other; every image passes the teacher in each."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, DWASettings)
    groups = recipe.images_per_class * math.ceil(data.classes / settings.class_batch)
    climbs = settings.adjustment != "none" and settings.random_size is None
    climb = settings.adjustment_steps if climbs else 0
    images = groups * (settings.iterations + climb) * min(settings.class_batch, data.classes)
    return Work(
        groups * settings.iterations,
        (Passes(settings.teacher.network, images, settings.precision),),
        groups=groups,
    )


def describe(recipe: Recipe, header: Mapping[str, Any]) -> Description:
    """The set in words: which adjustment, and from which teacher."""
    from potstill.methods.recipe import method_of

    settings = method_of(recipe, DWASettings)
    title, detail = _title(settings)
    if settings.sequence_weight:
        detail += f", in sequence at {settings.sequence_weight:g}"
    teacher = header.get("teacher")
    known = teacher if isinstance(teacher, Mapping) else {}
    return Description(
        title=title,
        detail=detail,
        facts=(
            Fact("Teacher", *_teacher(settings.teacher, known.get("accuracy"))),
            *_lossy(settings),
        ),
        panels=(*PANELS, _NEARNESS) if settings.sequence_weight else PANELS,
        period=settings.iterations,
    )


def _title(settings: DWASettings) -> tuple[str, str]:
    if settings.variant == "sre2l":
        return "SRe2L", "no adjustment, from noise"
    if settings.adjustment == "none":
        return "DWA", "no adjustment"
    if settings.adjustment == "random":
        size = settings.random_size
        return "DWA", "random adjustment" + ("" if size is None else f" of length {size:g}")
    length = f"ρ {settings.adjustment_size:g}"  # noqa: RUF001
    if settings.adjustment_rise is not None:
        length = f"loss raised by {settings.adjustment_rise:g}"
    return "DWA", f"K {settings.adjustment_steps}, {length}"


def _lossy(settings: DWASettings) -> tuple[Fact, ...]:
    """That the images went through JPEG, if they did."""
    return (Fact("Stored", "as JPEG", "quality 75, 4:2:0"),) if settings.storage == "jpeg" else ()


def _teacher(teacher: TeacherRecipe, accuracy: Any) -> tuple[str, str]:
    """What it is; how it came to be, and its accuracy if that is known."""
    network = teacher.network
    if teacher.pretrained is not None:
        name, how = teacher.pretrained, ["its own weights"]
    elif teacher.module is not None:
        name, how = teacher.module, []
    else:
        name, how = short_network_text(network), [network_detail(network)]
    if teacher.checkpoint is not None:
        how.append("weights from a file")
    elif teacher.pretrained is None:
        how.append(count(teacher.epochs, "epoch"))
    if isinstance(accuracy, int | float):
        how.append(f"{percent(accuracy)} % on the test set")
    return name, ", ".join(part for part in how if part)


DWA = Method(
    name="dwa",
    settings=DWASettings,
    distil=_distil,
    work=work,
    describe=describe,
    recipes=resources.files("potstill.methods.dwa") / "recipes",
    teacher=lambda settings: settings.teacher,
    parallel=True,
    nests=lambda settings: settings.start != "k-means",  # whose clusters follow their number
    cost=("adjustment", "synthesis"),
    memory=("method.class_batch", "method.teacher.batch_size"),
)
