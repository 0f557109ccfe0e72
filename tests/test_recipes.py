from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

import pytest
import torch
import yaml

from potstill import methods, papers, recipes
from potstill.config import NetworkRecipe
from potstill.data import datasets
from potstill.data.facts import DATASETS
from potstill.errors import RecipeError
from potstill.evaluation.protocol import PROTOCOLS
from potstill.methods.dwa.settings import DWASettings
from potstill.methods.rcig.settings import RCIGSettings
from potstill.methods.recipe import Recipe, method_of
from potstill.networks import zoo

# classes, channels, ConvNet depth (Appendix C)
FACTS = {
    "mnist": (10, 1, 3),
    "fashion_mnist": (10, 1, 3),
    "cifar10": (10, 3, 3),
    "cifar100": (100, 3, 3),
    "tiny_imagenet": (200, 3, 4),
    "cub200": (200, 3, 3),
    "imagenette": (10, 3, 5),
    "imagewoof": (10, 3, 5),
    "imagenet64": (1000, 3, 4),
}
L2_RATE = {3: 5e-4, 4: 5e-4, 5: 5e-2}
SUBSET = {
    ("cifar100", 50): 2000,
    ("tiny_imagenet", 10): 500,
    ("imagenet64", 1): 500,
    ("imagenet64", 2): 500,
}
# Method as the tables spell it, and the variant of the recipe that stands for it.
VARIANTS = {
    "Random Subset": "random",
    "VIG": "vig",
    "CIG (+ Linearization)": "cig",
    "RIG (+ Reparam)": "rig",
    "RCIG (+ Lin + Reparam)": "rcig",
    "RCIG": "rcig",
    "FRePo": "frepo",
}
# Method as DWA's tables spell it: the end of the recipe's name, and its settings.
ADJUSTMENTS = {
    "DWA": ("", "directed", "real"),
    "DWA directed adjustment": ("", "directed", "real"),
    "DWA no adjustment": ("-no-adjustment", "none", "real"),
    "DWA random adjustment": ("-random-adjustment", "random", "real"),
    "SRe2L": ("-sre2l", "none", "noise"),
}
DWA_TABLES = ("1", "2", "3", "4", "5", "9", "11")
# Teacher as DWA's tables spell it: in the recipe's name, its network and a student's.
BATCH = {"normalisation": "batch"}
TEACHERS = {
    "resnet18": ("resnet18", {"name": "resnet18", **BATCH}, {"name": "resnet18", **BATCH}),
    "convnet-128": ("convnet", {"growth": 1, **BATCH}, {"growth": 1, **BATCH}),
    "deit_tiny_bn": (
        "deit-tiny-bn",
        {"name": "deit_tiny_bn", **BATCH},
        {"name": "deit_tiny", "normalisation": "layer"},
    ),
}
# Of DWA's scripts: iterations, learning rate, classes together, jitter, crop and flip, weights of
# means and variances.
SYNTHESIS: dict[str, tuple[int, float, int, int, bool, float, float]] = {
    "cifar10": (1000, 0.25, 100, 4, False, 0.01, 0.11),
    "cifar100": (1000, 0.25, 100, 4, False, 0.01, 0.11),
    "tiny_imagenet": (2000, 0.1, 200, 4, True, 0.01, 0.11),
    "imagenet1k": (2000, 0.25, 100, 32, True, 0.01, 0.02),
}
# The same of SRe2L's.
COUPLED: dict[str, tuple[int, float, int, int, bool, float, float]] = {
    "cifar10": (1000, 0.25, 100, 4, False, 0.01, 0.01),
    "cifar100": (1000, 0.25, 100, 4, False, 0.01, 0.01),
    "tiny_imagenet": (4000, 0.1, 100, 4, True, 1.0, 1.0),
    "imagenet1k": (4000, 0.25, 100, 32, True, 0.01, 0.01),
}
# What their authors ran and the recipes do not: the labeller's mode, and two contrasts.
LABELLER = {"evaluation.protocol": "dwa-as-run"}
CONTRASTS = {
    "data.mean": [0.4914, 0.4822, 0.4465],
    "data.std": [0.2023, 0.1994, 0.2010],
    "method.teacher.std": [0.2470, 0.2435, 0.2616],
}
DEPARTURES = {"cifar10": LABELLER | CONTRASTS, "cifar100": LABELLER}
NAMES = recipes.names()
PRIVACY_NAMES = ["rcig/privacy-fashion-mnist", "rcig/privacy-mnist"]
PAPER_NAMES = [
    name
    for name in NAMES
    if name.startswith("rcig/") and recipes.load(name).paper and name not in PRIVACY_NAMES
]
DWA_NAMES = [name for name in NAMES if name.startswith("dwa/") and recipes.load(name).paper]


def document(name: str) -> dict[str, Any]:
    kind, _, rest = name.partition("/")
    folder = methods.named(kind).recipes if kind in methods.names() else None
    path = (folder or resources.files("potstill.recipes") / kind) / f"{rest}.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def number(metric: str, dataset: str, ipc: int) -> float:
    (row,) = papers.rows(paper="rcig", metric=metric, dataset=dataset, images_per_class=ipc)
    return row.value


def test_recipes_are_shipped():
    assert "quickstart/digits-rcig" in NAMES
    assert {"rcig/mnist-ipc1-cpu", "rcig/fashion-mnist-ipc1-cpu", "rcig/cifar10-ipc1-cpu"} <= {
        *NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_is_valid_named_and_described(name):
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    assert recipe.data.dataset in datasets.names()
    assert recipe.evaluation.protocol in PROTOCOLS
    assert "name" not in document(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_says_only_what_differs_from_the_defaults(name):
    def repeated(node: Mapping[str, Any], default: Mapping[str, Any], prefix: str = ""):
        for key, value in node.items():
            if isinstance(value, Mapping):
                yield from repeated(value, default[key], f"{prefix}{key}.")
            elif value == default[key]:
                yield prefix + key

    defaults = Recipe.model_validate({}).model_dump(mode="json")
    kind = document(name).get("method", {}).get("kind", methods.default())
    defaults["method"] = methods.named(kind).settings().model_dump(mode="json")
    defaults["method"]["kind"] = methods.default()
    if defaults["method"].get("teacher"):
        # A section that a recipe has takes the place of the whole default.
        defaults["method"]["teacher"]["network"] = NetworkRecipe().model_dump(mode="json")
    # Which data, teacher and how long is said in any case: they are what a reader looks for.
    written = {key: part for key, part in document(name).items() if key != "departures"}
    said = {*repeated(written, defaults)}
    assert said <= {"data.dataset", "method.iterations", "method.teacher.network.name"}


def test_every_row_of_the_rcig_tables_has_exactly_one_recipe():
    wanted_methods = {"1": set(VARIANTS), "2": {"RCIG"}, "4": {"RCIG", "Random Subset"}}
    wanted = {
        ("rcig", table, row.dataset, row.images_per_class, row.method)
        for table, chosen in wanted_methods.items()
        for row in papers.rows(paper="rcig", table=table)
        if row.method in chosen
    }
    assert len(wanted) == 40 + 16 + 12
    found = [
        (row.paper, row.table, row.dataset, row.images_per_class, row.method)
        for name in PAPER_NAMES
        for row in recipes.load(name).paper
        if row.table != "3"
    ]
    assert len(found) == len(set(found))
    assert wanted <= set(found)
    assert {row[-1] for row in set(found) - wanted} == {"FRePo"}


@pytest.mark.parametrize("name", PAPER_NAMES)
def test_a_paper_recipe_has_the_papers_settings(name):
    recipe = recipes.load(name)
    method = method_of(recipe, RCIGSettings)
    dataset, per_class = recipe.data.dataset, recipe.images_per_class
    classes, channels, depth = FACTS[dataset]
    for row in recipe.paper:
        assert (row.dataset, row.images_per_class) == (dataset, per_class)
        assert VARIANTS[row.method] == method.variant
        assert row.table == "3" or papers.find(row) is not None
    suffix = "" if method.variant == "rcig" else f"-{method.variant}"
    assert name == f"rcig/{dataset.replace('_', '-')}-ipc{per_class}{suffix}"

    assert (recipe.network.name, recipe.network.width) == ("convnet", 128)
    assert recipe.network.depth == depth
    assert recipe.data.preprocess == ("zca" if channels == 3 else "standardise")
    assert recipe.data.zca_block == (64 if depth == 5 else None)
    mirrored = channels == 3 and classes * per_class <= 1000
    # As run: none on ImageNet.
    assert method.flip == (mirrored and dataset != "imagenet64")
    augmented, plain = (
        number(f"accuracy_pct_{kind}_augmentation", dataset, per_class) for kind in ("with", "no")
    )
    better = "rcig-paper-augmented" if augmented > plain else "rcig-paper"
    assert recipe.evaluation.protocol == better

    if method.variant == "random":
        assert method.iterations == 0
        return
    assert method.iterations == number("training_iterations", dataset, per_class)
    assert method.target_batch == 1024
    assert method.l2_rate == L2_RATE[depth]
    assert method.softplus_beta == (60 if depth == 3 else None)
    assert method.subset == SUBSET.get((dataset, per_class))
    closed = method.variant in ("rig", "rcig")
    assert method.outer_loss == ("platt" if closed else "mse")
    assert method.label_margin == closed
    assert method.clips == (method.variant == "rig")
    assert method.rig_features == "start"
    assert {"platt": "Platt", "mse": "mean squared error"}[method.outer_loss] in recipe.description
    adam = method.variant in ("vig", "cig", "rig")
    assert method.solver.name == ("adam" if adam else "pcg")
    otherwise = {"method.solver.name": "adam"} if method.variant == "rcig" else {}
    if method.variant in ("frepo", "cig", "rcig"):
        otherwise["method.target_precision"] = "float32"
    assert recipe.departures == otherwise
    if method.variant == "rcig":
        # The paper's solver comes with what its runs did.
        assert recipe.as_in_paper().method.clips
        assert method.solver.tolerance == (1e-2 if per_class == 1 else 1e-3)


@pytest.mark.parametrize(("dataset", "per_class"), [("cifar10", 50), ("cifar100", 5)])
def test_the_sets_of_figure_7_are_of_500_images_from_10_000(dataset, per_class):
    recipe, near = (recipes.load(f"rcig/{n}") for n in (f"privacy-{dataset}", f"{dataset}-ipc10"))
    assert recipe.images_per_class * DATASETS[dataset].classes == 500
    assert recipe.images_per_class == per_class
    assert recipe.data == near.data.model_copy(update={"train_images": 10_000})
    assert recipe.method.model_copy(update={"iterations": near.method.iterations}) == near.method
    # Five of its kind share no image.
    assert DATASETS[dataset].training >= 5 * 10_000


@pytest.mark.parametrize("name", PRIVACY_NAMES)
def test_a_privacy_recipe_is_that_of_50_images_per_class_on_fewer_images(name):
    recipe = recipes.load(name)
    whole = recipes.load(name.replace("privacy-", "") + "-ipc50")
    assert recipe.method == whole.method and recipe.network == whole.network
    assert recipe.data == whole.data.model_copy(update={"train_images": 10_000})
    assert recipe.images_per_class == 50
    (row,) = recipe.paper
    assert (row.dataset, row.method) == (recipe.data.dataset, "RCIG")
    assert row.table == {"mnist": "5", "fashion_mnist": "6"}[row.dataset]
    accuracy = {"mnist": (98.9, 0.0), "fashion_mnist": (86.7, 0.3)}[row.dataset]
    printed = papers.find(row)
    assert printed is not None and (printed.value, printed.std) == accuracy
    area = papers.find(row, "attack_auc_knn")
    assert area is not None and area.value == {"mnist": 0.52, "fashion_mnist": 0.50}[row.dataset]


def test_the_privacy_recipe_for_a_processor_is_about_as_many_images():
    small, large = (recipes.load(f"rcig/privacy-mnist{end}") for end in ("-cpu", ""))
    assert small.data == large.data and not small.paper
    assert small.images_per_class == large.images_per_class
    assert small.network.width < large.network.width


def stands_for(row: papers.Row) -> str:
    end, *_ = ADJUSTMENTS[row.method]
    data, teacher = row.dataset.replace("_", "-"), TEACHERS[row.distill_arch][0]
    return f"dwa/{data}-ipc{row.images_per_class}-{teacher}{end}"


def test_every_row_of_the_dwa_tables_has_exactly_one_recipe():
    wanted = {
        row: stands_for(row)
        for table in DWA_TABLES
        for row in papers.rows(paper="dwa", table=table)
        if row.method in ADJUSTMENTS
    }
    assert len(wanted) == 148
    found = [
        (papers.find(row) or papers.find(row, papers.SECONDS), name)
        for name in DWA_NAMES
        for row in recipes.load(name).paper
    ]
    assert dict(found) == wanted and len(found) == len(wanted)


@pytest.mark.parametrize("name", DWA_NAMES)
def test_a_dwa_recipe_has_the_papers_settings(name):
    recipe = recipes.load(name)
    method, dataset = method_of(recipe, DWASettings), recipe.data.dataset
    coupled = name.endswith("-sre2l")
    settings = (COUPLED if coupled else SYNTHESIS)[dataset]
    iterations, rate, together, jitter, cropped, mean_weight, variance_weight = settings
    for row in recipe.paper:
        assert (row.dataset, row.images_per_class) == (dataset, recipe.images_per_class)
        end, adjustment, start = ADJUSTMENTS[row.method]
        assert (method.adjustment, method.start) == (adjustment, start)
        _, teacher, student = TEACHERS[row.distill_arch or ""]
        assert method.teacher.network == NetworkRecipe.model_validate(teacher)
        assert recipe.network == NetworkRecipe.model_validate(student)
    assert coupled == (end == "-sre2l")
    assert method.variance_weight == variance_weight
    assert method.mean_weight == mean_weight and method.first_layer_factor == 10
    assert method.storage == "jpeg"
    assert method.roll == ("both" if coupled and dataset == "tiny_imagenet" else "forward")
    assert method.adjustment_view == ("plain" if method.adjustment == "none" else "first")
    assert recipe.departures == DEPARTURES.get(dataset, {})
    on_imagenet = dataset == "imagenet1k"
    assert recipe.data.train_squashed == on_imagenet
    assert recipe.data.test_resize == (256 if on_imagenet else None)
    assert (method.iterations, method.learning_rate) == (iterations, rate)
    assert (method.class_batch, method.jitter) == (together, jitter)
    assert method.resized_crop == method.flip == cropped
    if method.adjustment == "directed":
        assert method.adjustment_steps == (15 if dataset == "imagenet1k" else 12)
        assert method.adjustment_size == 15e-3
    assert recipe.evaluation.protocol == "dwa-paper"


def test_the_networks_of_dwa_recipes_fit_their_images():
    sides = {"tiny_imagenet": 64, "imagenet1k": 224}
    wanted = set()
    for name in DWA_NAMES:
        recipe = recipes.load(name)
        side = sides.get(recipe.data.dataset, 32)
        wanted |= {(recipe.network, side), (method_of(recipe, DWASettings).teacher.network, side)}
    assert len(wanted) == 6
    for network, side in wanted:
        with torch.device("meta"):
            zoo.build(network, channels=3, resolution=side, classes=10)


def test_dwa_teachers_are_those_of_the_paper():
    cifar = method_of(recipes.load("dwa/cifar100-ipc50-resnet18"), DWASettings).teacher
    assert (cifar.epochs, cifar.batch_size, cifar.learning_rate) == (200, 128, 0.1)
    assert (cifar.momentum, cifar.weight_decay, cifar.crop_padding) == (0.9, 5e-4, 4)
    imagenet = recipes.load("dwa/imagenet1k-ipc50-resnet18")
    assert method_of(imagenet, DWASettings).teacher.pretrained == "torchvision:resnet18"
    assert imagenet.data.mean == (0.485, 0.456, 0.406)
    assert imagenet.data.std == (0.229, 0.224, 0.225)
    for end, epochs in (("", 100), ("-sre2l", 50)):
        recipe = recipes.load(f"dwa/tiny-imagenet-ipc50-resnet18{end}")
        tiny = method_of(recipe, DWASettings).teacher
        assert (tiny.epochs, tiny.batch_size, tiny.learning_rate) == (epochs, 256, 0.2)
        assert (tiny.warmup_epochs, tiny.weight_decay, tiny.crop) == (5, 1e-4, "resized")


@pytest.mark.parametrize("end", ["", "-sre2l"])
def test_a_transformers_teacher_is_trained_as_transformers_are(end):
    recipe = recipes.load(f"dwa/imagenet1k-ipc50-deit-tiny-bn{end}")
    teacher = method_of(recipe, DWASettings).teacher
    assert (teacher.optimiser, teacher.learning_rate, teacher.batch_size) == ("adamw", 1e-3, 1024)
    assert (teacher.warmup_epochs, teacher.epochs, teacher.weight_decay) == (5, 300, 0.05)
    assert (teacher.crop, teacher.mix, teacher.label_smoothing) == ("resized", "either", 0.1)
    assert not teacher.decay_vectors


def test_small_recipes_store_what_they_made():
    """No row of a paper asks for what JPEG leaves, so the images are kept as they are."""
    for name in NAMES:
        if not recipes.load(name).paper and recipes.load(name).method.kind == "dwa":
            assert recipes.load(name).method.storage == "lossless"


def test_a_recipe_of_ones_own_takes_the_name_of_its_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\n")
    assert recipes.load(path).name == "mine"
    assert recipes.load(str(path), ["seed=4", "name=other"]) == Recipe(name="other", seed=4)


def test_assignments_apply_to_shipped_recipes():
    recipe = recipes.load("rcig/mnist-ipc1", ["method.iterations=7"])
    assert recipe.method.iterations == 7
    assert recipe.data.dataset == "mnist"


def test_an_unknown_name_is_refused_with_a_near_one():
    with pytest.raises(RecipeError, match=r"did you mean rcig/mnist-ipc1\?"):
        recipes.load("rcig/mnist-ipc-1")
    with pytest.raises(RecipeError, match="'potstill recipes' lists"):
        recipes.load("zzz")


def test_a_missing_yaml_file_is_refused_as_a_file(tmp_path):
    with pytest.raises(RecipeError, match="check the path"):
        recipes.load(tmp_path / "absent.yaml")
