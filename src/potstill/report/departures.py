"""What a run changed against the setting of the paper's row beside it, in short phrases."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import ValidationError

from potstill import recipes
from potstill.config import NetworkRecipe, PaperRow, TeacherRecipe, flat
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.rcig.settings import RCIGSettings
from potstill.methods.recipe import Recipe, method_of
from potstill.papers import Row, find, rows
from potstill.recipes import ASIDE
from potstill.report.again import changes
from potstill.report.records import RunRecord
from potstill.results import Continual, Evaluation

_RCIG_DEPTHS = {"tiny_imagenet": 4, "imagenet64": 4, "imagenette": 5, "imagewoof": 5}
_RCIG_TARGET_BATCH = 1024
_RCIG_STUDENTS = {
    "ResNet-DN": ("resnet18", "none"),
    "ResNet-BN": ("resnet18", "batch"),
    "VGG-BN": ("vgg11", "batch"),
    "AlexNet": ("alexnet", "none"),
}
# Changes of a recipe that are spelt out against the paper itself.
_SPELT_OUT = (
    "data.dataset",
    "images_per_class",
    "method.iterations",
    "method.target_batch",
    "method.variant",
    "method.solver.",
    "network.",
    "evaluation.",
)
# A student is no part of a DWA recipe's distilled set: the result says which it was.
_DWA_SPELT_OUT = (
    "data.dataset",
    "images_per_class",
    "method.iterations",
    "method.teacher.network.",
    "method.teacher.epochs",
    "network.",
    "evaluation.",
)
_DWA_EPOCHS = {"cifar10": 400, "cifar100": 400, "tiny_imagenet": 200, "imagenet1k": 300}


def of_recipe(row: PaperRow, run: RunRecord) -> list[str]:
    """What the recipe, and how far its run is, set apart from the row."""
    return [*_other_data(row, run.recipe), *_of_method(row, run)]


def of_evaluation(row: PaperRow, run: RunRecord, result: Evaluation | Continual) -> list[str]:
    """What the evaluation, or a series of them, set apart from the row beyond :func:`of_recipe`."""
    found = []
    if row.paper == "rcig":
        if result.network != run.recipe.network or row.eval_arch in _RCIG_STUDENTS:
            found += _of_network("evaluation: ", result.network, student(row, run.recipe))
        if not result.protocol.startswith("rcig-"):
            found.append(f"other protocol ({result.protocol})")
        return found
    found += _of_network("evaluation: ", result.network, student(row, run.recipe))
    if result.protocol != "dwa-paper":
        found.append(f"other protocol ({result.protocol})")
    epochs = _DWA_EPOCHS.get(row.dataset)
    if epochs is not None and result.epochs is not None and result.epochs != epochs:
        found.append(_compared("evaluation: {} epochs", result.epochs, epochs, "fewer", "more"))
    return found


def unlike_paper(run: RunRecord) -> list[str]:
    """Why a run that stands for no row has none, if a paper has its data set and size."""
    recipe = run.recipe
    if recipe.paper or run.imported:
        return []
    if isinstance(recipe.method, DWASettings):
        teacher = _inverted(run, recipe.method) or recipe.method.teacher
        row = _nearest(recipe, recipe.method.model_copy(update={"teacher": teacher}))
        return [] if row is None else of_recipe(row, run)
    row = PaperRow(
        paper="rcig",
        table="7",
        dataset=recipe.data.dataset,
        images_per_class=recipe.images_per_class,
        method="RCIG",
    )
    return [] if _rcig_iterations(row) is None else of_recipe(row, run)


def student(row: PaperRow, recipe: Recipe) -> NetworkRecipe:
    """The network that a row of a table was evaluated on; the recipe's if it names none.

    RCIG's Table 3: "DN" is that of the paper's own evaluations, which have no normalisation,
    whatever the set was distilled with.
    """
    if row.eval_arch is None:
        return recipe.network
    if row.paper == "rcig":
        if row.eval_arch in _RCIG_STUDENTS:
            name, norm = _RCIG_STUDENTS[row.eval_arch]
            return NetworkRecipe.model_validate({"name": name, "normalisation": norm})
        return recipe.network.model_copy(update={"normalisation": "none"})
    if row.eval_arch == "convnet-128":
        return NetworkRecipe(growth=1, normalisation="batch")
    norm = "layer" if row.eval_arch == "deit_tiny" else "batch"
    return NetworkRecipe.model_validate({"name": row.eval_arch, "normalisation": norm})


def _other_data(row: PaperRow, recipe: Recipe) -> list[str]:
    found = []
    if recipe.data.dataset != row.dataset:
        found.append(f"other data set ({recipe.data.dataset}; the row's is {row.dataset})")
    if recipe.images_per_class != row.images_per_class:
        found.append(
            f"other size ({recipe.images_per_class} per class; the row's is {row.images_per_class})"
        )
    return found


def _of_method(row: PaperRow, run: RunRecord) -> list[str]:
    recipe, method = run.recipe, run.recipe.method
    if row.paper != method.kind:
        return [f"other method ({method.kind.upper()})"]
    if isinstance(method, RCIGSettings):
        found = _of_network("", recipe.network, _rcig_network(row))
        if method.variant != "random":
            found += _rcig_effort(row, method, run.iteration)
        return found + _phrases(changes(recipe) or {}, _SPELT_OUT)
    shipped, method = _shipped().get(find(row)), method_of(recipe, DWASettings)
    if shipped is None or not isinstance(shipped.method, DWASettings):
        return _phrases(changes(recipe) or {}, _SPELT_OUT[:2])
    teacher = _inverted(run, method)
    found = [] if teacher is not None else ["teacher of unknown settings"]
    method = method.model_copy(update={"teacher": teacher or shipped.method.teacher})
    recipe = recipe.model_copy(update={"method": method})
    found += _dwa_effort(method, shipped.method)
    if run.status != "finished":
        found.append("unfinished")
    return found + _phrases(_differing(recipe, shipped), _DWA_SPELT_OUT)


def _rcig_effort(row: PaperRow, method: RCIGSettings, iteration: int) -> list[str]:
    found = []
    paper = _rcig_iterations(row)
    if paper is not None and iteration != paper:
        found.append(_compared("{} iterations", iteration, paper, "fewer", "more"))
    if method.target_batch != _RCIG_TARGET_BATCH:
        batch = method.target_batch
        found.append(_compared("{} target batch", batch, _RCIG_TARGET_BATCH, "smaller", "larger"))
    if method.solver.name != "adam" and method.variant != "frepo":
        found.append("exact inner solver (the paper's is 20 Adam steps)")
    return found


def _inverted(run: RunRecord, method: DWASettings) -> TeacherRecipe | None:
    """The settings of the teacher that was inverted, be it another than the recipe's.

    The recipe's where the run has no set that says, None where the set's cannot be read.
    """
    known = run.dataset.header.get("teacher", {}) if run.dataset is not None else {}
    if "settings" not in known:
        return method.teacher
    try:
        teacher = TeacherRecipe.model_validate(known["settings"])
    except ValidationError:  # the header of a teacher may hold anything
        return None
    if teacher.pretrained or teacher.checkpoint:
        return teacher
    return teacher.model_copy(update={"epochs": known.get("epochs", teacher.epochs)})


def _dwa_effort(method: DWASettings, paper: DWASettings) -> list[str]:
    found = []
    if method.iterations != paper.iterations:
        found.append(
            _compared("{} iterations", method.iterations, paper.iterations, "fewer", "more")
        )
    ours, theirs = method.teacher, paper.teacher
    found += _of_network("teacher: ", ours.network, theirs.network)
    if ours.epochs != theirs.epochs and not (ours.pretrained or ours.checkpoint):
        found.append(_compared("teacher: {} epochs", ours.epochs, theirs.epochs, "fewer", "more"))
    return found


def _rcig_iterations(row: PaperRow) -> int | None:
    """The meta-iterations that Table 7 of RCIG gives for the row's data set and size."""
    found = rows(
        paper="rcig",
        table=7,
        dataset=row.dataset,
        ipc=row.images_per_class,
        metric="training_iterations",
    )
    return int(found[0].value) if found else None


def _rcig_network(row: PaperRow) -> NetworkRecipe:
    batch = row.distill_arch == "Conv-BN"
    depth = _RCIG_DEPTHS.get(row.dataset, 3)
    return NetworkRecipe(depth=depth, normalisation="batch" if batch else "none")


def _of_network(prefix: str, network: NetworkRecipe, paper: NetworkRecipe) -> list[str]:
    """What sets ``network`` apart from the paper's."""
    if network.name != paper.name:
        name = "a ConvNet" if paper.name == "convnet" else paper.name
        return [f"{prefix}other network ({network.name}; the paper's is {name})"]
    found = []
    if network.name == "convnet":
        if network.width != paper.width:
            word = "narrower" if network.width < paper.width else "wider"
            found.append(
                f"{prefix}{word} network ({network.width} channels; the paper's {paper.width})"
            )
        if network.depth != paper.depth:
            word = "shallower" if network.depth < paper.depth else "deeper"
            found.append(
                f"{prefix}{word} network ({network.depth} blocks; the paper's {paper.depth})"
            )
        if network.growth != paper.growth:
            found.append(
                f"{prefix}channels times {network.growth} each block (the paper's {paper.growth})"
            )
    if network.normalisation != paper.normalisation:
        found.append(
            f"{prefix}network with {network.normalisation} normalisation "
            f"(the paper: {paper.normalisation})"
        )
    return found


def _compared(phrase: str, ours: int, paper: int, less: str, more: str) -> str:
    word = less if ours < paper else more
    return f"{phrase.format(word)} ({ours:,}; the paper's {paper:,})"


def _phrases(changed: dict[str, Any], spelt_out: tuple[str, ...]) -> list[str]:
    return [
        f"{key} changed to {value}"
        for key, value in changed.items()
        if not key.startswith(spelt_out)
    ]


@cache
def _shipped() -> dict[Row | None, Recipe]:
    """The shipped recipe of each line of DWA's tables."""
    loaded = [recipes.load(name) for name in recipes.names() if name.startswith("dwa/")]
    return {find(row): recipe for recipe in loaded for row in recipe.paper}


def _nearest(recipe: Recipe, method: DWASettings) -> PaperRow | None:
    """A row of DWA's tables for the same data, size, adjustment and start.

    Of several, one whose teacher is the same network, and whose weights are.
    """
    fitting = [
        (
            other.teacher.network.name != method.teacher.network.name,
            other.variance_weight != method.variance_weight,
            shipped.name,
            shipped.paper[0],
        )
        for shipped in _shipped().values()
        if isinstance(other := shipped.method, DWASettings)
        and shipped.data.dataset == recipe.data.dataset
        and shipped.images_per_class == recipe.images_per_class
        and (other.adjustment, other.start) == (method.adjustment, method.start)
    ]
    return min(fitting, key=lambda entry: entry[:3])[-1] if fitting else None


def _differing(recipe: Recipe, shipped: Recipe) -> dict[str, Any]:
    ours, theirs = (flat(r.model_dump(mode="json")) for r in (recipe, shipped))
    return {
        key: ours.get(key)
        for key in sorted({*ours, *theirs})
        if ours.get(key) != theirs.get(key) and key not in ASIDE
    }
