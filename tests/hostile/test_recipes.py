"""Recipes, shipped or not, that somebody wrote to do harm: an error of one line, and at once."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import pytest
import yaml

from potstill import recipes
from potstill.cli.keeping import cache_of
from potstill.config import DataRecipe, NetworkRecipe
from potstill.data import datasets
from potstill.errors import NetworkError, PotstillError, RecipeError
from potstill.methods import plain_yaml
from potstill.methods.recipe import dump, override, parse, read_yaml
from potstill.networks import zoo
from potstill.networks.parsing import parse_network
from potstill.runs import again
from tests.hostile.mutations import mutated

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + level)}: &{chr(98 + level)} [{', '.join([f'*{chr(97 + level)}'] * 9)}]\n"
    for level in range(12)
)
NUMBER = "1" * 5000


def refused(act: Callable[[], Any]) -> str:
    """What the error says that ``act`` ends with, in a line that a screen can hold."""
    start = perf_counter()
    with pytest.raises(PotstillError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 1000, text
    text.encode()
    assert perf_counter() - start < 5
    return text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "alias 'a'"),
        ("a: &a [*a]", "alias 'a'"),
        ("a: &a {<<: *a}", "alias 'a'"),
        (f"seed: {NUMBER}", "5,000 digits"),
        (f"seed: 0x{NUMBER}", "5,002 digits"),
        (f"seed: {NUMBER}.5", "5,002 digits"),
        ("seed: !!int foo", "tag 'tag:yaml.org,2002:int'"),
        ("seed: !!python/object/apply:os.system [ls]", "tag"),
        ("seed: 0x_", "not valid YAML"),
        ("seed: 0b_", "not valid YAML"),
        ('name: "\\0"', "no file can have"),
        ('name: "\\ud800"', "no file can have"),
        ("name: \0", "not valid YAML"),
        (f"name: {'x' * 30_000}", "30,000 characters"),
        (f"name: {'x' * 5000}", "at most 1000 characters"),
        (f"description: {'x' * 15_000}", "at most 10000 characters"),
        ("[" * 100_000, "nested more than"),
        ("{a: " * 100_000, "nested more than"),
        ("- " * 100_000, "nested more than"),
        (f"seed: [{'1, ' * 200_000}]", "more than 10,000 values"),
        (f"# {'x' * (1 << 20)}", "more than 1,048,576"),
        ("1: 2", "key 1 is no text"),
        ("true: 2", "key True is no text"),
        ("[a]: b", "not valid YAML"),
        ("seed: 1\n---\nseed: 2", "not valid YAML"),
        ("name: 2001-99-99\nseed: x", "seed"),
        ("seed: 12:30:45", "got '12:30:45'"),
        ("network: {width: 1e+30}", "network.width"),
        ("network: {depth: 16, width: 128}", "more than 16384 channels"),
        ("images_per_class: 1000000000000", "images_per_class"),
        ("data: {mean: [1e+300], std: [1.0]}", "mean"),
        ("method: {kind: 2001-12-14}", "unknown method '2001-12-14'"),
        ("data: {folder: \"a\\0b\"}", "no file can have"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_recipe_is_refused_in_a_line(tmp_path: Path, text: str, words: str):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert words in refused(lambda: recipes.load(path))
    if "\n" not in text and ": " in text and "{a" not in text:
        key, _, value = text.partition(": ")
        with pytest.raises(RecipeError):
            recipes.load("quickstart/digits-rcig", [f"{key}={value}"] * 2 + ["seed=x"])


@pytest.mark.parametrize(
    "assignment",
    ["a." * 100_000 + "b=1", "seed=1e30", "seed=nan", f"seed={NUMBER}", "=", "x" * 100_000,
     "method=[]", "method.kind=[]", "data=3", "network.width=1e400", "seed=*a", "seed=&a [*a]",
     f"{'x' * 100_000}=1", "network.width=.inf", "method.betas=[1e400, 0]"],
)  # fmt: skip
def test_assignments_are_refused_in_a_line(assignment: str):
    for name in ("quickstart/digits-rcig", "quickstart/digits-dwa"):
        refused(lambda name=name: recipes.load(name, [assignment]))


def numbers(node: Any, where: str = "") -> list[str]:
    """The dotted keys of whole numbers in a recipe, but those of one of two values."""
    if isinstance(node, dict):
        return [found for key, value in node.items() for found in numbers(value, f"{where}.{key}")]
    return [where[1:]] if type(node) is int else []


@pytest.mark.parametrize(
    "name",
    [
        "quickstart/digits-rcig",
        "quickstart/digits-dwa",
        "dm/cifar10-ipc10-cpu",
        "dc/cifar10-ipc10-cpu",
        "coreset/cifar10-ipc10-herding",
        "cafe/mnist-ipc1-dynamic-cpu",
        "datadam/cifar10-ipc10-cpu",
    ],
)
def test_no_whole_number_is_without_bounds(name: str):
    found = numbers(recipes.load(name).model_dump(mode="json"))
    assert len(found) > 8 and "seed" in found
    for key in found:
        for value in ("-1", str(10**18), "9" * 99, "1e30", "-1e30"):
            if key == "seed" and value == str(10**18):
                continue
            assert key.rpartition(".")[2] in refused(lambda k=key, v=value: recipes.load(name, [f"{k}={v}"]))  # noqa: E501  # fmt: skip


def test_names_of_recipes_that_no_file_can_have():
    for name in ("x" * 100_000, "a\0b", "a\0b.yaml", "x" * 5000 + ".yaml", "~nosuchuser", ""):
        refused(lambda name=name: recipes.load(name))


def test_a_user_who_does_not_exist_has_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    own = DataRecipe(dataset="image_folder", folder="~nosuchuser/images")
    assert "nosuchuser" in refused(lambda: datasets.load(own, None))
    assert "nosuchuser" in refused(
        lambda: datasets.load(DataRecipe(dataset="mnist"), "~nosuchuser")
    )
    assert "nosuchuser" in refused(lambda: cache_of(Path("~nosuchuser/x"), "audits"))
    long = own.model_copy(update={"folder": "x" * 900})
    assert "File name too long" in refused(lambda: datasets.load(long, tmp_path))


def test_a_long_list_of_changes_gives_a_recipe_that_can_be_read_again(tmp_path: Path):
    changes = [
        f"network.name=package.{'x' * 900}:f",
        f"data.folder={'y' * 900}",
        f"name={'n' * 999}",
    ]
    for assignments in (changes[:2], changes):
        made = recipes.load("quickstart/digits-rcig", assignments)
        path = tmp_path / "recipe.yaml"
        path.write_text(dump(made))
        assert parse(read_yaml(path), source="again") == made


def test_shipped_recipes_say_what_yaml_says():
    folder = Path(recipes.__file__).parents[1]
    found = list(folder.rglob("*.yaml"))
    assert len(found) > 60
    for path in found:
        assert plain_yaml.load(path.read_bytes()) == yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "text",
    ["1", "-17", "0x1F", "010", "0b11", "1_000", "1.5", "-.5", "1.e+3", "1e3", ".inf", "-.INF",
     "yes", "off", "~", "null", "", "'1'", "[1, {a: b}]", "<<: {a: 1}", "|\n a\n b", "no: 1"],
)  # fmt: skip
def test_what_is_plain_is_read_as_yaml_1_1_has_it(text: str):
    document = yaml.safe_load(f"key: {text}" if "<<" not in text and "no:" not in text else "{}")
    assert repr(plain_yaml.load(f"key: {text}" if document else "{}")) == repr(document)


def test_dates_and_numbers_to_the_base_60_are_text():
    for text in ("2001-12-14", "2001-99-99", "2001-12-14t21:59:43.10-05:00", "190:20:30", "1:30.5"):
        assert plain_yaml.load(text) == text


def test_the_command_that_starts_a_run_again_quotes_what_is_no_plain_text():
    for value in ("2001-99-99", "*a", "!!int foo", "a: b", "3", "[", "~x"):
        recipe = recipes.load("quickstart/digits-rcig", [f"data.folder={json.dumps(value)}"])
        said = shlex.split(again.command(recipe))
        name, assignments = said[2], [word for word in said if word.startswith("data.folder=")]
        assert recipes.load(name, assignments).data.folder == value


def test_networks_that_are_too_large_or_images_too_small():
    for text in (f"convnet,width={NUMBER}", "convnet,width=20000", "convnet,depth=17", "x" * 5000):
        refused(lambda text=text: parse_network(text, resolution=32))
    with pytest.raises(NetworkError, match="images of 1 px are too small for a ConvNet"):
        zoo.build(NetworkRecipe(depth=1), channels=3, resolution=1, classes=10)


@pytest.mark.parametrize("name", ["quickstart/digits-rcig", "quickstart/digits-dwa"])
def test_a_mutated_recipe_is_read_or_refused(tmp_path: Path, name: str):
    random, path = Random(name), tmp_path / "recipe.yaml"
    valid = recipes.load(name).model_dump(mode="json")
    outcomes = {"read": 0, "refused": 0}
    for _ in range(150):
        document = mutated(valid, random)
        path.write_text(json.dumps(document))
        for act in (
            lambda: recipes.load(path),
            lambda document=document: parse(document, source="a header"),
            lambda document=document: override(valid, assignments(document)),
        ):
            try:
                act()
                outcomes["read"] += 1
            except PotstillError as error:
                outcomes["refused"] += 1
                assert len(str(error)) < 1000
                assert not re.search("[\n\ud800-\udfff]", str(error))
    assert min(outcomes.values()) > 50


def assignments(document: dict[str, Any]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in document.items()]
