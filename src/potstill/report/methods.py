"""What each method has of its own on the page: its name, its curves, its facts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import groupby

from potstill.config import DWARecipe, RCIGRecipe, Recipe, TeacherRecipe
from potstill.networks.names import network_detail, short_network_text
from potstill.report.records import RunRecord, Series
from potstill.report.text import count, duration, percent

_VARIANTS = {"frepo": "FRePo", "random": "random images"}
_SOLVERS = {"pcg": "solved by conjugate gradient", "adam": "solved by Adam"}


@dataclass(frozen=True)
class Panel:
    """Which logged quantities share a drawing: (legend, name in the log)."""

    title: str
    lines: tuple[tuple[str, str], ...]
    note: str = ""
    unit: str = ""
    log: bool = False


_INNER, _INVERSE = "inner problem", "inverse"
_RCIG_PANELS = (
    Panel("Loss", (("loss", "loss"),), "on the batch of real images"),
    Panel("Batch accuracy", (("accuracy", "batch_accuracy"),), "on the batch of real images", "%"),
    Panel(
        "Temperature",
        (("temperature", "log_temperature"),),
        "by which the predictions are multiplied",
    ),
    Panel("Solver steps", ((_INNER, "inner_steps"), (_INVERSE, "inverse_steps"))),
    Panel(
        "Solver residuals", ((_INNER, "inner_residual"), (_INVERSE, "inverse_residual")), log=True
    ),
    Panel(
        "Gradient norms",
        (("images", "image_gradient_norm"), ("labels", "label_gradient_norm")),
        log=True,
    ),
)


def title(run: RunRecord) -> tuple[str, str]:
    """The method's name, and what sets this run's apart from others of the name."""
    if run.imported:
        return "imported", "made by other code"
    method = run.recipe.method
    if isinstance(method, RCIGRecipe):
        name = _VARIANTS.get(method.variant, method.variant.upper())
        return name, "" if method.variant in _VARIANTS else _SOLVERS[method.solver.name]
    if is_sre2l(method):
        return "SRe2L", "no adjustment, from noise"
    if method.adjustment == "none":
        return "DWA", "no adjustment"
    if method.adjustment == "random":
        return "DWA", "random adjustment"
    return "DWA", f"K {method.adjustment_steps}, ρ {method.adjustment_size:g}"  # noqa: RUF001


def is_sre2l(method: DWARecipe) -> bool:
    """Whether it is the coupled case: no adjustment, one weight for both terms, from noise."""
    coupled = method.variance_weight == method.mean_weight
    return method.adjustment == "none" and coupled and method.start == "noise"


def groups(run: RunRecord) -> int | None:
    """How many groups of images DWA inverts one by one; None while the classes are unknown."""
    method = run.recipe.method
    if not isinstance(method, DWARecipe):
        return 1
    if run.dataset is None:
        return run.iteration // method.iterations if run.status == "finished" else None
    batches = math.ceil(len(run.dataset.class_names) / method.class_batch)
    return run.recipe.images_per_class * batches


def planned(run: RunRecord) -> int | None:
    """The iterations of the whole run; None while it cannot be told."""
    if run.imported:
        return None
    number = groups(run)
    return None if number is None else number * run.recipe.method.iterations


def panels(run: RunRecord) -> tuple[Panel, ...]:
    """The drawings of the run's log, in order."""
    if isinstance(run.recipe.method, RCIGRecipe):
        return _RCIG_PANELS
    note = "mean over the groups of images, each over its own iterations"
    return (
        Panel("Loss", (("all", "loss"), ("cross-entropy", "cross_entropy")), note, log=True),
        Panel(
            "Batch-norm terms",
            (("means", "mean_term"), ("variances", "variance_term")),
            "distance of the images' statistics from the teacher's",
            log=True,
        ),
    )


def series(run: RunRecord) -> dict[str, Series]:
    """The log as it is drawn: of DWA, the mean over its groups.

    A group's iterations follow those of the group before, and each begins anew.
    """
    method = run.recipe.method
    if isinstance(method, RCIGRecipe):
        return run.series
    return {name: folded(line, method.iterations) for name, line in run.series.items()}


def folded(line: Series, period: int) -> Series:
    """The mean of the finite values at each place of the period; NaN where there is none."""
    placed = sorted(
        ((iteration - 1) % period + 1, value)
        for iteration, value in zip(line.iterations, line.values, strict=True)
        if value == value
    )
    means = [
        (place, _mean(value for _, value in values))
        for place, values in groupby(placed, key=lambda entry: entry[0])
    ]
    return Series(line.name, tuple(place for place, _ in means), tuple(v for _, v in means))


def seconds_per_image(run: RunRecord) -> float | None:
    """Computing time for one image of every class, as Table 11 of DWA counts it."""
    method = run.recipe.method
    parts = run.timing.parts
    if not isinstance(method, DWARecipe) or "synthesis" not in parts or run.status != "finished":
        return None
    return (parts["synthesis"] + parts.get("adjustment", 0.0)) / run.recipe.images_per_class


def facts(run: RunRecord) -> list[tuple[str, str, str]]:
    """What a method adds to the facts at the head of its run: (name, value, detail)."""
    if run.imported:
        return _stated(run)
    method = run.recipe.method
    if not isinstance(method, DWARecipe):
        return []
    found = [("Teacher", *_teacher(run, method.teacher))]
    seconds = seconds_per_image(run)
    if seconds is not None:
        adjusting = run.timing.parts.get("adjustment", 0.0) / run.recipe.images_per_class
        share = f", {100 * adjusting / seconds:.1f} % of it to adjust" if adjusting else ""
        found.append(("Synthesis", duration(seconds), f"for an image of each class{share}"))
    if run.dataset is not None and run.dataset.soft_labels is not None:
        labels = run.dataset.soft_labels
        size = labels.numel() * labels.element_size() / 2**20
        detail = f"stored with the images, {size:,.1f} MiB"
        found.append(("Soft labels", f"of {count(len(labels), 'epoch')}", detail))
    return found


def unsaid(run: RunRecord) -> Collection[str]:
    """The parts of the run's recipe that the set's own leaves out, as that of an import does."""
    if not run.imported or run.dataset is None:
        return ()
    return Recipe.model_fields.keys() - run.dataset.header["recipe"].keys()


def _stated(run: RunRecord) -> list[tuple[str, str, str]]:
    """What was said of an imported set, and what was odd about it."""
    known = run.dataset.header.get("import", {}) if run.dataset is not None else {}
    labels = f"labels {known.get('label_kind', 'unknown')}"
    stated = [("Said to be", str(known.get("space", "unknown")), labels)]
    odd = [check for check in known.get("checks", ()) if check.get("verdict") == "warning"]
    return stated + [("Odd", str(check["check"]), str(check["value"])) for check in odd]


def _teacher(run: RunRecord, teacher: TeacherRecipe) -> tuple[str, str]:
    """What it is; how it came to be, and its accuracy if the run says so."""
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
    known = run.dataset.header.get("teacher", {}) if run.dataset is not None else {}
    if isinstance(known.get("accuracy"), int | float):
        how.append(f"{percent(known['accuracy'])} % on the test set")
    return name, ", ".join(part for part in how if part)


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)
