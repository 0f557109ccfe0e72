"""Recipes as files: commented, edited, swept, checked by a schema, and listed by what they cost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from potstill import methods, recipes
from potstill.config import PROTOCOLS as NAMED
from potstill.data.facts import DATASETS
from potstill.errors import RecipeError
from potstill.evaluation.protocol import PROTOCOLS
from potstill.methods import plain_yaml
from potstill.methods.keys import meant
from potstill.methods.recipe import Recipe, parse, recipe_keys
from potstill.recipes import reading

Answer = Callable[..., str]
ROOT = Path(__file__).parents[1]
# One of every method, variants and sections that are null among them.
SOME = [
    "quickstart/digits-rcig",
    "quickstart/digits-dwa",
    "rcig/cifar10-ipc1-vig",
    "dwa/tiny-imagenet-ipc50-resnet18-sre2l",
    "dm/cifar10-ipc10-cpu",
    "dc/mnist-ipc1",
    "dsa/cub200-ipc1",
    "cafe/mnist-ipc1-dynamic-cpu",
    "datadam/cifar10-ipc1-cpu",
    "coreset/cifar10-ipc1-herding",
]


def unmarked(text: str) -> str:
    """The file after somebody took the mark from every key."""
    names = {key.name for method in methods.names() for key in recipe_keys(method)}
    lines = []
    for line in text.splitlines():
        key = re.match(r"# ( *(\w+):( .*)?)$", line)
        lines.append(key[1] if key and key[2] in names else line)
    return "\n".join(lines)


@pytest.mark.parametrize("method", methods.names())
def test_every_key_says_what_it_is(method: str) -> None:
    for key in recipe_keys(method):
        assert key.description and not key.description.endswith("."), key.path
        assert key.kind != "any value", key.path


def test_the_page_of_keys_is_what_the_command_prints(answer: Answer) -> None:
    """After a change to keys or protocols: potstill recipes keys > docs/recipes.md."""
    assert answer("recipes", "keys") == (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


def test_the_page_has_every_key_and_every_protocol() -> None:
    page = reading.reference()
    for method in methods.names():
        for key in recipe_keys(method):
            assert f"| `{key.path}` |" in page
    for name in PROTOCOLS:
        assert f"| `{name}` |" in page


def test_the_protocols_are_named_where_help_and_completion_look() -> None:
    assert tuple(PROTOCOLS) == NAMED


@pytest.mark.parametrize("name", SOME)
def test_a_commented_recipe_is_the_recipe(name: str) -> None:
    recipe = recipes.load(name)
    text = reading.commented(recipe)
    assert parse(plain_yaml.load(text), source=name) == recipe
    written = set(re.findall(r"^ *(\w+):", text, re.MULTILINE))
    assert {key.name for key in recipe_keys(recipe.method.kind)} - written <= TEACHERS
    assert max(len(line) for line in text.splitlines() if "[{" not in line) <= 100


# Keys of a section that is null in some recipes.
TEACHERS = {key.name for key in recipe_keys("dm") if key.path.startswith("method.teacher.")}


@pytest.mark.parametrize("name", SOME)
def test_a_recipe_to_edit_is_the_recipe_with_and_without_its_marks(name: str) -> None:
    recipe = recipes.load(name)
    wanted = recipe.model_copy(
        update={"name": "unnamed", "based_on": None, "paper": (), "departures": {}}
    )
    text = reading.editable(recipe, schema="s.json", file="mine.yaml")
    assert parse(plain_yaml.load(text), source=name) == wanted
    assert parse(plain_yaml.load(unmarked(text)), source=name) == wanted
    assert unmarked(text).count("\n# ") < text.count("\n# ")


def test_a_new_recipe_is_written_checked_and_never_over_another(
    answer: Answer, fails: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert answer("recipes", "new", "mine.yaml", "--method", "dm", "--dataset", "digits") == (
        "mine.yaml\n"
    )
    recipe = recipes.load("mine.yaml")
    assert (recipe.method.kind, recipe.data.dataset) == ("dm", "digits")
    first = Path("mine.yaml").read_text().splitlines()[0]
    assert first == "# yaml-language-server: $schema=potstill-recipe.schema.json"
    assert json.loads(Path("potstill-recipe.schema.json").read_text()) == reading.schema()
    assert "exists already" in fails("recipes", "new", "mine.yaml")
    assert "end in .yaml" in fails("recipes", "new", "mine")
    assert "leave out --method" in fails(
        "recipes", "new", "b.yaml", "--method", "dm", "--like", "rcig/mnist-ipc1"
    )
    assert answer("recipes", "check", "mine.yaml").startswith("mine: valid\n")


def test_a_new_recipe_for_images_of_ones_own(
    answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer("recipes", "new", "own.yaml", "--folder", "pets")
    data = recipes.load("own.yaml").data
    assert (data.dataset, data.folder, data.resolution) == ("image_folder", "pets", 32)
    assert "image folder pets does not exist" in answer("recipes", "check", "own.yaml")
    for split, number in (("train", 3), ("test", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                (folder / f"{index}.png").touch()  # what lies in it is not looked at
    said = answer("recipes", "check", "own.yaml", "--set", "images_per_class=2")
    assert "4 images (2 of each of 2 classes), 32x32, RGB, from 6 training images of pets" in said
    assert re.search(r"\d iterations; about .* here \(images .*, scoring .*\)", said)


def test_a_recipe_that_is_wrong_is_refused_in_a_line(fails: Answer, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for text, said in (
        ("method: {iteration: 3}", "did you mean method.iterations?"),
        ("iterations: 3", "did you mean method.iterations?"),
        ("netwrok: {width: 3}", "did you mean network?"),
        ("evaluation: {protocol: dsaa}", "unknown protocol 'dsaa'"),
        ("data: {dataset: minst}", "unknown data set 'minst'"),
        ("network: {depth: 9}\ndata: {resolution: 16}", "depth"),
    ):
        path.write_text(text)
        assert said in fails("recipes", "check", path)
    assert "did you mean method.iterations?" in fails(
        "distill", "rcig/mnist-ipc1", "--set", "method.iteration=3"
    )


def test_a_key_that_is_like_no_other_gets_no_suggestion() -> None:
    known = ["seed", "method.iterations", "network.width"]
    assert meant("zzz", known) is None
    assert meant("method.width", known) == "network.width"
    assert meant("network.iterations", known) == "method.iterations"


def test_recipes_are_filtered_by_method_data_and_cost(answer: Answer, fails: Answer) -> None:
    shown = answer("recipes", "--method", "dm", "--dataset", "mnist").splitlines()
    assert [line.split()[0] for line in shown] == [
        name for name in recipes.names() if name.startswith("dm/") and "/mnist-" in name
    ] + ["dm/privacy-mnist"]
    assert {line.split()[0] for line in answer("recipes").splitlines()} == {*recipes.names()}
    costs = answer("recipes", "--dataset", "digits", "--fits", "2000d").splitlines()
    assert [re.search(r"  +[\d.]+ (s|min|h)", line) is not None for line in costs] == [True, True]
    assert "no shipped recipe" in fails("recipes", "--dataset", "digits", "--fits", "0s")
    assert "is no time" in fails("recipes", "--fits", "soon")
    assert "unknown method" in fails("recipes", "--method", "dmm")


def test_show_says_every_key_with_what_was_set(answer: Answer) -> None:
    text = answer("recipes", "show", "dm/mnist-ipc1", "--set", "seed=7")
    assert parse(plain_yaml.load(text), source="shown") == recipes.load("dm/mnist-ipc1", ["seed=7"])


def test_keys_of_a_section_or_of_one_key(answer: Answer, fails: Answer) -> None:
    shown = answer("recipes", "keys", "method.pool")
    assert "method.pool.size: whole number, at least 1, at most 10000  [30]\n" in shown
    assert "data." not in shown
    assert "did you mean method.pool?" in fails("recipes", "keys", "pool")
    assert "method.map_weight" in answer("recipes", "keys", "--method", "cafe")


# The schema


def test_the_schema_takes_what_recipes_take_and_refuses_slips() -> None:
    """By a reading of JSON Schema that is short enough to check."""
    schema = reading.schema()
    for name in SOME:
        assert valid(schema, recipes.load(name).model_dump(mode="json"), schema), name
    for document in (
        {"sed": 1},
        {"seed": -1},
        {"method": {"kind": "dmm"}},
        {"method": {"kind": "dm", "pool": {}}},  # a key of another method
        {"method": {"real_batch": 3}},  # of a method that is not named
        {"data": {"dataset": "minst"}},
        {"sweep": {"seed": []}},
    ):
        assert not valid(schema, document, schema), document
    assert valid(schema, {"sweep": {"images_per_class": [1, 10]}}, schema)


def valid(node: Any, value: Any, root: Any) -> bool:
    if "$ref" in node:
        target = root
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return valid(target, value, root)
    types = {
        "object": dict,
        "array": list,
        "string": str,
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "number": (int, float),
    }
    wanted = node.get("type", [])
    wanted = [wanted] if isinstance(wanted, str) else wanted
    if wanted and not any(isinstance(value, types[one]) for one in wanted):
        return False
    if "enum" in node and value not in node["enum"]:
        return False
    if "const" in node and value != node["const"]:
        return False
    if isinstance(value, int | float) and not value >= node.get("minimum", value):
        return False
    if isinstance(value, list) and len(value) < node.get("minItems", 0):
        return False
    if "anyOf" in node and not any(valid(one, value, root) for one in node["anyOf"]):
        return False
    for case in node.get("allOf", ()):
        if valid(case["if"], value, root) and not valid(case["then"], value, root):
            return False
    if isinstance(value, dict):
        if not {*node.get("required", ())} <= value.keys():
            return False
        known, other = node.get("properties", {}), node.get("additionalProperties", True)
        for key, part in value.items():
            rule = known.get(key, other)
            if rule is False or (isinstance(rule, dict) and not valid(rule, part, root)):
                return False
    return True


# Sweeps


def test_a_sweep_is_a_recipe_for_each_combination(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 3\nsweep: {images_per_class: [1, 10], method.solver.name: [pcg, adam]}")
    found = recipes.load_all(path)
    assert list(found) == [
        f"images_per_class={number}-name={name}" for number in (1, 10) for name in ("pcg", "adam")
    ]
    recipe = found["images_per_class=10-name=adam"]
    assert (recipe.images_per_class, recipe.method.solver.name, recipe.seed) == (10, "adam", 3)
    assert recipe.name == "mine (images_per_class=10, name=adam)"
    assert recipe.based_on == "mine"
    assert recipes.load_all("rcig/mnist-ipc1") == {"": recipes.load("rcig/mnist-ipc1")}
    nested = "sweep: {method: {solver: {name: [pcg, adam]}}}"
    path.write_text(nested)
    assert list(recipes.load_all(path)) == ["name=pcg", "name=adam"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sweep: 3", "must list values of keys"),
        ("sweep: {}", "must list values of keys"),
        ("sweep: {seed: []}", "sweep.seed must list values"),
        ("sweep: {seed: 1}", "sweep.seed must list values"),
        ("sweep: {sed: [1, 2]}", "did you mean seed"),
        ("sweep: {seed: [1, 1]}", "would both be seed=1"),
        ("sweep: {seed: [1, x]}", "seed: Input should be"),
        (f"sweep: {{seed: {[*range(1001)]}}}", "at most 1,000 runs"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said):
        recipes.load_all(path)


def test_one_recipe_is_not_several(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("sweep: {seed: [1, 2]}")
    with pytest.raises(RecipeError, match="holds a sweep"):
        recipes.load(path)
    with pytest.raises(RecipeError, match="--set seed is one of the keys it sweeps"):
        recipes.load_all(path, ["seed=3"])


SMALL = {
    "network": {"depth": 1, "width": 2},
    "method": {"iterations": 2, "target_batch": 16, "pool": {"size": 2}},
    "evaluation": {"networks": 1},
}


def test_a_sweep_is_distilled_in_turn_and_gone_on_with(
    answer: Answer,
    fails: Answer,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(SMALL | {"sweep": {"images_per_class": [1, 2]}}))
    paths = [Path(line) for line in answer("distill", "mine.yaml").splitlines()]
    base = Path("runs/mine-seed0")
    assert paths == [base / f"images_per_class={n}" / "distilled.safetensors" for n in (1, 2)]
    before = [path.read_bytes() for path in paths]
    assert "already holds a run" in fails("distill", "mine.yaml")
    paths[1].unlink()
    again = answer("distill", "mine.yaml", "--resume").splitlines()
    assert [Path(line) for line in again] == paths
    assert [path.read_bytes() for path in paths] == before
    # Alone, the same recipe makes the same set.
    alone = yaml.safe_dump(SMALL | {"images_per_class": 2, "name": "mine"})
    Path("alone.yaml").write_text(alone)
    answer("distill", "alone.yaml", "--out", "alone")
    images = [yaml.safe_load((path.parent / "recipe.yaml").read_text()) for path in paths]
    assert [one["images_per_class"] for one in images] == [1, 2]
    assert "images_per_class=2" in answer("info", paths[1])


def test_runs_of_a_sweep_share_their_teacher(
    answer: Answer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    teacher = {"network": {"depth": 1, "width": 2, "normalisation": "batch"}, "epochs": 1}
    method = {"kind": "dwa", "iterations": 1, "teacher": teacher}
    path = tmp_path / "mine.yaml"
    sweep = {"images_per_class": [1, 2]}
    path.write_text(yaml.safe_dump({"method": method, "sweep": sweep}))
    capsys.readouterr()
    first, second = answer(
        "distill", path, "--out", tmp_path / "runs", "--workers", "1"
    ).splitlines()
    digests = [
        json.loads(answer("info", line, "--json"))["header"]["teacher"]["digest"]
        for line in (first, second)
    ]
    assert digests[0] == digests[1]
    assert (Path(first).parent / "teacher.safetensors").exists()


# The shell


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("recipes show dm/mn", "dm/mnist-ipc1-cpu"),
        ("recipes show ./mi", "./mine.yaml"),
        ("distill rcig/mnist-ipc1 --set method.it", "method.iterations="),
        ("evaluate x --protocol dw", "dwa-paper"),
    ],
)
def test_a_shell_completes_names(words: str, offered: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    line = f"potstill {words}"
    shell = {
        "_POTSTILL_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(line.count(" ")),
        "PYTHONPATH": str(ROOT / "src"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "potstill"],
        env={**os.environ, **shell},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert offered in done.stdout.split(), done.stderr
    last = words.split()[-1]
    assert all(word.startswith(last) for word in done.stdout.split())


def test_short_help_and_choices(answer: Answer) -> None:
    assert answer("-h") == answer("--help")
    shown = re.sub(r"-?\s+", "", answer("evaluate", "-h"))
    for name in PROTOCOLS:
        assert name.replace("-", "") in shown.replace("-", "")
    assert all(name in answer("recipes", "-h") for name in (*methods.names(), *DATASETS))
    assert methods.names() == methods.BUILT_IN


def test_protocols_say_what_they_are(answer: Answer, fails: Answer) -> None:
    shown = answer("protocols")
    assert re.findall(r"^\S+", shown, re.MULTILINE) == list(PROTOCOLS)
    assert "1,800 epochs" in answer("protocols", "datadam-as-run")
    assert "unknown protocol" in fails("protocols", "dsaa")


def test_a_recipe_of_a_registered_method_has_its_keys() -> None:
    assert Recipe.model_validate({}).method.kind == methods.default()
    with pytest.raises(RecipeError, match="unknown method"):
        recipe_keys("absent")
