"""Recipes as files, and settings of recipes on the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import yaml

from potstill import recipes
from potstill.config import flat
from potstill.methods.recipe import Recipe, dump, parse, read_yaml
from potstill.runs import again
from tests.hostile.damage import damaged
from tests.hostile.fuzzing.uses import Use, call, command
from tests.hostile.mutations import mutated

_SHIPPED = ("quickstart/digits-rcig", "quickstart/digits-dwa", "dm/cifar10-ipc10-cpu",
            "rcig/cifar100-ipc10", "dwa/cifar100-ipc10-resnet18")  # fmt: skip
_BOMB = "".join(f"k{n}: &a{n} [{', '.join([f'*a{n - 1}' if n else 'x'] * 9)}]\n" for n in range(20))
_TEXTS = (
    *(
        _BOMB,
        "a: &a [*a]\n",
        "a: &a {<<: *a}\n",
        "seed: !!int foo\n",
        "%YAML 9.9\n---\n",
        "\t- x\n",
    ),
    *("name: !!python/object/apply:os.system [touch x]\n", "a: !!binary x\n", "? [a]\n: b\n"),
    *("name: 2001-99-99\n", "seed: 1:30\n", "a: " + "[" * 5000, "{a: " * 5000, "- " * 5000),
    *(f"seed: {'9' * 5000}\n", f"name: {'x' * 50_000}\n", "# " + "x" * (1 << 20), "---\n---\n"),
    *('name: "\\0"\n', 'name: "\\ud800"\n', "name: \x1b[2J\n", "\ufeffname: x\n", "seed: .nan\n"),
    *("seed: 1e999\n", "name: |\n a\n b\n", "name: 'it''s\n", "network: &n\n", "\u2028x: y\n"),
)
_KEYS = ("", ".", "..", "x" * 9000, ".".join("abc" * 99), "method", "data", "network", "paper",
         "a\n\x1b[2J", "\0")  # fmt: skip


def usable(made: Recipe) -> None:
    """All that is made of a recipe before a run, and written beside it."""
    text = dump(made)
    assert parse(yaml.safe_load(text), source="again") == made
    assert again.command(made).startswith("potstill distill ")
    below = Path("runs", recipes.folder_name(made))
    assert below.resolve().is_relative_to(Path("runs").resolve())


def refused_by_teacher(recipe: str | Path, place: Path, *words: str) -> Use:
    """Distilling, but for what takes time: a teacher that is not there is asked for first."""
    missing = ["--teacher", str(place / "none"), "--device", "cpu", "--data-root", str(place)]
    return command("distill", recipe, *words, *missing, "--out", place / "run")


class RecipeFile:
    """A recipe in a file."""

    def __init__(self, folder: Path) -> None:
        self._valid = [recipes.load(name).model_dump(mode="json") for name in _SHIPPED]

    def good(self, place: Path) -> list[Use]:
        path = place / "recipe.yaml"
        path.write_text(yaml.safe_dump(self._valid[0]))
        return [call(lambda: usable(recipes.load(path)))]

    def hostile(self, place: Path, random: Random) -> list[Use]:
        path = place / "recipe.yaml"
        path.write_bytes(_text_of(random.choice(self._valid), random))
        return [call(lambda: usable(recipes.load(path))), call(lambda: _read(path)),
                refused_by_teacher(path, place)]  # fmt: skip


def _text_of(document: Any, random: Random) -> bytes:
    way = random.random()
    if way < 0.4:
        return json.dumps(mutated(document, random)).encode()
    text = yaml.safe_dump(document, sort_keys=False)
    if way < 0.7:
        return damaged(text.encode(), random)
    lines = text.splitlines(keepends=True)
    lines.insert(random.randrange(len(lines) + 1), random.choice(_TEXTS))
    encoding = random.choice(["utf-8", "utf-8", "utf-8", "utf-16", "utf-32", "latin-1"])
    return "".join(lines).encode(encoding, errors="replace")


def _read(path: Path) -> None:
    parse(read_yaml(path), source=str(path))


class Assignment:
    """Settings on the command line."""

    def __init__(self, folder: Path) -> None:
        self._keys = {name: list(flat(recipes.load(name).model_dump(mode="json")))
                      for name in _SHIPPED}  # fmt: skip

    def good(self, place: Path) -> list[Use]:
        return [call(lambda: usable(recipes.load(_SHIPPED[0], ["seed=3", "network.width=8"])))]

    def hostile(self, place: Path, random: Random) -> list[Use]:
        name = random.choice(_SHIPPED)
        given = [self._one(name, random) for _ in range(random.choice([1, 1, 2, 5]))]
        words = [word for assignment in given for word in ("--set", assignment)]
        return [call(lambda: usable(recipes.load(name, given))),
                refused_by_teacher(name, place, *_possible(words))]  # fmt: skip

    def _one(self, name: str, random: Random) -> str:
        key = random.choice(self._keys[name])
        if random.random() < 0.2:
            key = random.choice([*_KEYS, f"{key}.x", f"{key}.", key.upper()])
        return key + random.choice(["=", "=", "=", "=", "==", "", " = "]) + _value(random)


def _value(random: Random) -> str:
    way = random.random()
    if way < 0.5:
        document = mutated({"x": random.choice([1, 0.5, "a", [1], {}])}, random)
        return json.dumps(next(iter(document.values()), None))
    if way < 0.65:
        return random.choice(_TEXTS).removesuffix("\n")
    plain = random.choice(
        ["0.01", "1e-3", "1", "2", "8", "true", "digits", "[1, 2]", "{a: b}", "~"]
    )
    return plain if way < 0.85 else damaged(plain.encode(), random).decode(errors="replace")


def _possible(words: Sequence[str]) -> list[str]:
    """As a system hands words on: without NUL, and what is no text as half surrogates."""
    return [word.replace("\0", "").encode(errors="replace").decode() for word in words]
