"""Commands for recipes: to list those shipped, and to read, write and check one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from potstill import methods, recipes
from potstill.cli.completion import complete_keys, complete_methods, complete_recipes
from potstill.cli.keeping import CacheFolder, cache_of
from potstill.cli.options import Assignments, DataRoot, Device, Recipes, app, chosen_device
from potstill.cli.terminal import print_lines
from potstill.cli.text import paper_row
from potstill.config import DataRecipe
from potstill.data.facts import DATASETS
from potstill.errors import DataError, NetworkError, RecipeError
from potstill.files import atomic_write
from potstill.methods.recipe import DESCRIPTIVE, Recipe
from potstill.quoting import quoted
from potstill.recipes import reading
from potstill.text import count, data_set_text, duration

if TYPE_CHECKING:
    from potstill.data.facts import DatasetInfo
    from potstill.reproduce.costs import Estimate, Stopwatch

_SCHEMA = "potstill-recipe.schema.json"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_OWN = "image_folder"
# A side that a processor carries, for images of one's own.
_OWN_SIDE = 32

group = typer.Typer(
    help="List recipes; show, write and check one.", rich_markup_mode=None, no_args_is_help=False
)
app.add_typer(group, name="recipes")

MethodName = Annotated[
    str | None,
    typer.Option(
        "--method",
        metavar="NAME",
        autocompletion=complete_methods,
        help="Method, such as rcig, dwa, coreset or dm",
    ),
]
DatasetName = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="NAME",
        autocompletion=lambda: [*DATASETS, _OWN],
        help=f"Data set: {', '.join(DATASETS)} or {_OWN}",
    ),
]


@group.callback(invoke_without_command=True)
def list_recipes(
    context: typer.Context,
    method: MethodName = None,
    dataset: DatasetName = None,
    fits: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Only those estimated to take no longer here, to make and score, such as 20m; "
            "with their costs",
        ),
    ] = None,
    device: Device = "auto",
    cache: CacheFolder = None,
) -> None:
    """List recipes and the paper rows they are; or show, write and check one."""
    if context.invoked_subcommand is not None:
        return
    if method is not None:
        methods.named(method)
    if dataset is not None:
        _require_dataset(dataset)
    chosen = [
        recipe
        for recipe in map(recipes.load, recipes.names())
        if method in (None, recipe.method.kind) and dataset in (None, recipe.data.dataset)
    ]
    costs = {}
    if fits is not None:
        limit, watch = _seconds(fits), _stopwatch(device, cache)
        costs = {recipe.name: cost for recipe in chosen if (cost := _cost(recipe, watch))}
        chosen = [
            recipe
            for recipe in chosen
            if recipe.name in costs and costs[recipe.name].total <= limit
        ]
    if not chosen:
        raise RecipeError("no shipped recipe is like that; leave out --method, --dataset or --fits")
    width = max(len(recipe.name) for recipe in chosen)
    for recipe in chosen:
        stands_for = "; ".join(paper_row(row) for row in recipe.paper) or recipe.description
        takes = f"{duration(costs[recipe.name].total):>12}  " if costs else ""
        print_lines(f"{recipe.name:{width}}  {takes}{stands_for}")


@group.command("show")
def show_recipe(recipe: Recipes, assignments: Assignments = None) -> None:
    """Print RECIPE with every key, its value and what it is."""
    print_lines(*reading.commented(recipes.load(recipe, assignments or ())).rstrip().split("\n"))


@group.command("new")
def new_recipe(
    file: Annotated[Path, typer.Argument(metavar="FILE.yaml", help="The file to write")],
    method: MethodName = None,
    dataset: DatasetName = None,
    folder: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder of images of your own, with train/ and test/ class folders",
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(min=4, help=f"Side that images are resized to  [of your own: {_OWN_SIDE}]"),
    ] = None,
    like: Annotated[
        str | None,
        typer.Option(
            metavar="RECIPE",
            autocompletion=complete_recipes,
            help="Recipe to begin with  [the smallest shipped one of that method and data]",
        ),
    ] = None,
) -> None:
    """Write a recipe to edit, every key with what it is."""
    if file.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"{file} is to hold a recipe; let its name end in .yaml")
    if file.exists():
        raise RecipeError(f"{file} exists already; name another file, or remove it")
    begun = _begin(method, dataset, folder, resolution, like)
    schema = file.parent / _SCHEMA
    text = reading.editable(begun, schema=_SCHEMA, file=str(file))
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(schema, _schema_text().encode())
    atomic_write(file, text.encode())
    print_lines(str(file))


@group.command("check")
def check_recipe(
    recipe: Recipes,
    assignments: Assignments = None,
    data_root: DataRoot = None,
    device: Device = "auto",
    cache: CacheFolder = None,
) -> None:
    """Say whether RECIPE is valid, and what it would make and take."""
    watch = None
    for name, each in recipes.load_all(recipe, assignments or ()).items():
        _require_known(each)
        watch = watch or _stopwatch(device, cache)
        print_lines(*_checked(name or each.name, each, data_root, watch))


@group.command("keys")
def print_keys(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY]",
            autocompletion=complete_keys,
            help="A key or a section, such as data or method.pool",
        ),
    ] = None,
    method: MethodName = None,
) -> None:
    """Say what every key of a recipe is, or one KEY."""
    if section is None and method is None:
        print_lines(*reading.reference().rstrip().split("\n"))
        return
    print_lines(*reading.about(section or "method", method))


@group.command("schema")
def print_schema() -> None:
    """Print the JSON schema of recipes, for editors."""
    print_lines(*_schema_text().rstrip().split("\n"))


def _schema_text() -> str:
    return json.dumps(reading.schema(), indent=1) + "\n"


def _begin(
    method: str | None,
    dataset: str | None,
    folder: str | None,
    resolution: int | None,
    like: str | None,
) -> Recipe:
    """What the new recipe says before anybody edits it."""
    if folder is not None and dataset not in (None, _OWN):
        raise RecipeError(f"--folder is for images of your own, not for {dataset}; leave one out")
    if dataset == _OWN and folder is None:
        raise RecipeError("images of your own lie in a folder; name it with --folder")
    kind = methods.named(method).name if method else None
    if dataset is not None:
        _require_dataset(dataset)
    if like is None:
        like = _smallest(kind or methods.default(), dataset or ("cifar10" if folder else None))
    begun = recipes.load(like)
    if kind not in (None, begun.method.kind):
        raise RecipeError(
            f"{like} is a recipe for {begun.method.kind}; leave out --method or --like"
        )
    data = begun.data.model_dump(mode="json")
    if folder is not None or dataset not in (None, begun.data.dataset):
        kept = ("preprocess", "zca_regularisation")
        data = {key: value for key, value in data.items() if key in kept}
        data["dataset"] = _OWN if folder is not None else dataset
        data["folder"] = folder
    if folder is not None or resolution is not None:
        data["resolution"] = resolution or _OWN_SIDE
    document = begun.model_dump(mode="json", exclude={*DESCRIPTIVE})
    return Recipe.model_validate(
        {**document, "data": DataRecipe.model_validate(data).model_dump(mode="json")}
    )


def _smallest(method: str, dataset: str | None) -> str:
    """The shipped recipe of a method to begin with: for a processor, few images, such data."""
    found = [each for each in map(recipes.load, recipes.names()) if each.method.kind == method]
    if not found:
        raise RecipeError(f"no recipe of {method} is shipped; name one to begin with by --like")
    near = min(
        found,
        key=lambda each: (
            dataset is not None and each.data.dataset != dataset,
            bool(each.paper),
            each.images_per_class,
            each.network.width,
            each.name,
        ),
    )
    return near.name


def _checked(name: str, recipe: Recipe, root: Path | None, watch: Stopwatch) -> list[str]:
    """What a valid recipe would make and take, in a few lines."""
    from potstill.reproduce import costs

    scored = f"{recipe.evaluation.protocol}, {count(recipe.evaluation.networks, 'network')}"
    try:
        shape = _shape(recipe, root)
    except DataError as error:
        return [
            f"{name}: valid",
            f"  makes   {count(recipe.images_per_class, 'image')} of each class",
            f"  takes   not known: {error}",
            f"  scored  {scored}",
        ]
    cost = costs.estimate(recipe, watch, shape)
    side, colour = shape.resolution, "grayscale" if shape.channels == 1 else "RGB"
    each = f"{recipe.images_per_class} of each of {shape.classes} classes"
    real = f"{shape.training:,} training images of {data_set_text(shape.title)}"
    asked = costs.work(recipe, shape)
    iterations = count(asked.iterations // asked.groups, "iteration")
    if asked.groups > 1:
        iterations += f" for each of {count(asked.groups, 'group')} of images"
    return [
        f"{name}: valid",
        f"  makes   {count(recipe.images_per_class * shape.classes, 'image')} ({each}), "
        f"{side}x{side}, {colour}, from {real}",
        f"  takes   {iterations}; {_told(cost)}",
        f"  scored  {scored}",
    ]


def _shape(recipe: Recipe, root: Path | None) -> DatasetInfo:
    """What the recipe's data is like: published, or counted in a folder."""
    from potstill.data import datasets
    from potstill.reproduce import costs

    published = recipe.data.dataset in DATASETS
    return costs.shape_of(recipe) if published else datasets.own_facts(recipe.data, root)


def _told(cost: Estimate) -> str:
    parts = [("teacher", cost.teaching), ("images", cost.distilling), ("scoring", cost.scoring)]
    listed = ", ".join(f"{what} {duration(seconds)}" for what, seconds in parts if seconds)
    return f"about {duration(cost.total)} here ({listed})"


def _cost(recipe: Recipe, watch: Stopwatch) -> Estimate | None:
    """What a shipped recipe takes; None where its data or its network do not say."""
    from potstill.reproduce import costs

    try:
        return costs.estimate(recipe, watch)
    except (KeyError, NetworkError):
        return None


def _stopwatch(device: str, cache: Path | None) -> Stopwatch:
    from potstill.reproduce.costs import Stopwatch

    return Stopwatch(cache_of(cache, "timings"), chosen_device(device))


def _require_known(recipe: Recipe) -> None:
    """Refuse names that only a run would find wrong."""
    from potstill.evaluation.protocol import named

    named(recipe.evaluation.protocol)
    _require_dataset(recipe.data.dataset)


def _require_dataset(name: str) -> None:
    if name not in (*DATASETS, _OWN):
        raise RecipeError(
            f"unknown data set {quoted(name)}; choose one of {', '.join(DATASETS)}, {_OWN}"
        )


def _seconds(text: str) -> float:
    """``20m``, ``1h30m`` or ``90s`` in seconds."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise typer.BadParameter(f"--fits {text!r} is no time such as 90s, 20m or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)
