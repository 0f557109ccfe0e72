"""Recipes as a person writes and reads them: with what every key means beside it.

One walk through the keys (:func:`potstill.methods.keys.keys`) serves the commented file, the
page of all keys and the JSON schema that editors complete and check recipes by.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from textwrap import wrap
from typing import Any

import yaml

from potstill import methods
from potstill.config import EVERY_KEY, PROTOCOLS
from potstill.data.facts import DATASETS
from potstill.errors import RecipeError
from potstill.methods.keys import Key, keys, meant
from potstill.methods.recipe import DESCRIPTIVE, Recipe, recipe_keys
from potstill.quoting import quoted
from potstill.recipes import SWEEP

_WIDTH = 100
_ALWAYS = ("data.dataset", "data.folder", "images_per_class", "method.kind", "method.iterations")
"""What a recipe to edit says in any case, so far as it has a value: the first that one changes."""

_SWEEP = (
    "keys with dots, each with a list of values: the file stands for one run of every combination"
)


def commented(recipe: Recipe) -> str:
    """The recipe as YAML, every key with its value and a comment that says what it is."""
    return "\n".join(_lines(recipe, lambda _key, _value: True, leave_out=()))


def editable(recipe: Recipe, *, schema: str, file: str) -> str:
    """The recipe as a file to edit: what it says stands there, and the rest as comments.

    Taking the mark ``# `` from the line of a key changes nothing as long as its value
    stays.

    Args:
        recipe: what the file says.
        schema: where the JSON schema lies, from the file, for editors.
        file: what the file will be called, for the commands in its head.
    """
    head = [
        f"# yaml-language-server: $schema={schema}",
        "# A recipe of potstill. Lines that are commented out show defaults: take away '# ' and",
        "# change the value (and take it away from the section above). Then:",
        f"#   potstill recipes check {file}",
        f"#   potstill distill {file}",
        "",
    ]
    left_out = tuple(key for key in DESCRIPTIVE if key != "description")
    method = recipe.model_dump(mode="json")["method"]
    silent = Recipe.model_validate({"method": method}).model_dump(mode="json", context=EVERY_KEY)

    def said(key: Key, value: Any) -> bool:
        if key.path in _ALWAYS:
            return value is not None
        # A section that stands there takes the model's defaults, or those of the method.
        return value != key.default or value != _value(silent, key.path)[1]

    return "\n".join([*head, *_lines(recipe, said, leave_out=left_out)])


def _lines(
    recipe: Recipe, shown: Callable[[Key, Any], bool], *, leave_out: tuple[str, ...]
) -> Iterator[str]:
    """A line for each key or two; of those that are not ``shown``, as comments."""
    document = recipe.model_dump(mode="json", context=EVERY_KEY)
    entries = []
    for key in recipe_keys(recipe.method.kind):
        found, value = _value(document, key.path)
        if found and key.path.partition(".")[0] not in leave_out:
            entries.append((key, value))
    open_sections = {
        key.path.rpartition(".")[0]
        for key, value in entries
        if not isinstance(value, Mapping) and shown(key, value)
    }
    for key, value in entries:
        section = key.section is not None and isinstance(value, Mapping)
        if section:
            # Of a section within another the outer one has to be there, too.
            active = any(f"{one}.".startswith(f"{key.path}.") for one in open_sections)
        else:
            active = shown(key, value)
        yield from _entry(key, None if section else value, section, "" if active else "# ")
    yield ""


def _entry(key: Key, value: Any, section: bool, mark: str) -> Iterator[str]:
    indent = "  " * key.path.count(".")
    said = [f"{indent}{key.name}:"] if section else _written(key.name, value, indent)
    note = key.description + (f"; {key.kind}" if "one of" in key.kind else "")
    if not indent and section:
        yield ""
    if len(said) == 1 and len(mark) + len(said[0]) + len(note) + 4 <= _WIDTH:
        yield f"{mark}{said[0]}  # {note}"
        return
    yield from (f"{mark}{indent}# {line}" for line in _wrapped(note, mark + indent))
    yield from (mark + line for line in said)


def _written(name: str, value: Any, indent: str) -> list[str]:
    """A key with its value; of a long text, a line and those that it is folded into."""
    plain = f"{indent}{name}: {_plain(value)}"
    folds = isinstance(value, str) and len(plain) > _WIDTH and value == " ".join(value.split())
    if not folds:
        return [plain]
    inner = f"{indent}  "
    return [f"{indent}{name}: >-", *(inner + line for line in _wrapped(value, inner))]


def _wrapped(text: str, before: str) -> list[str]:
    return wrap(text, _WIDTH - len(before) - 2, break_long_words=False, break_on_hyphens=False)


def _value(document: Mapping[str, Any], path: str) -> tuple[bool, Any]:
    """Whether ``document`` has what a dotted key names, and its value."""
    node: Any = document
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return False, None
        node = node[part]
    return True, node


def _plain(value: Any) -> str:
    """A value in one line of YAML that is read as the same value."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def reference() -> str:
    """A page of every key there is, in Markdown: shared ones, those of each method, protocols."""
    from potstill.evaluation.protocol import PROTOCOLS as protocols  # with PyTorch

    shared = [key for key in recipe_keys(methods.default()) if not key.path.startswith("method.")]
    parts = [
        _HEAD,
        *_table(shared),
        f"| `{SWEEP}` | {_SWEEP} | section |  |",
    ]
    for name in methods.names():
        settings = methods.named(name).settings
        summary = " ".join((settings.__doc__ or "").split("\n\n")[0].split())
        parts += ["", f"## `method` with `kind: {name}`", "", summary, ""]
        parts += _table(list(keys(settings, "method.")))
    parts += ["", "## `evaluation.protocol`", "", "| protocol | what it is |", "| --- | --- |"]
    parts += [f"| `{name}` | {each.summary} |" for name, each in protocols.items()]
    return "\n".join(parts) + "\n"


def about(section: str, method: str | None = None) -> list[str]:
    """A key, or those of a section, in plain lines; of this method, or of the first that has it.

    Raises:
        RecipeError: there is no such method or key.
    """
    asked = methods.names() if method is None else (method,)
    for name in asked:
        known = recipe_keys(name)
        found = [key for key in known if f"{key.path}.".startswith(f"{section}.")]
        if found:
            return [line for key in found for line in _about(key)]
    wanted = meant(section, [key.path for name in asked for key in recipe_keys(name)])
    hint = f"; did you mean {wanted}?" if wanted else ""
    raise RecipeError(f"no recipe has a key {quoted(section)}{hint}")


def _about(key: Key) -> Iterator[str]:
    default = "" if key.section or key.default is None else f"  [{_plain(key.default)}]"
    yield f"{key.path}: {key.kind}{default}"
    yield f"    {key.description}"


_HEAD = """# Keys of a recipe

A recipe is a YAML file; `potstill recipes new` writes one to edit, `potstill recipes check` says
whether it is valid and what it would take, and `potstill recipes show` prints one with every key.
Keys are written here with dots between sections, as `--set KEY=VALUE` takes them. A key that is
left out has its default; what a method has instead, `potstill recipes show` says. This page is
what `potstill recipes keys` prints.

## Keys of every recipe
"""


def _table(found: list[Key]) -> Iterator[str]:
    yield "| key | what it is | value | default |"
    yield "| --- | --- | --- | --- |"
    for key in found:
        default = "" if key.section or key.default is None else f"`{json.dumps(key.default)}`"
        cells = (f"`{key.path}`", key.description, key.kind, default)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of a recipe's file, with the methods known here.

    Editors complete keys and values by it and show what they mean. It is a little more lenient
    than the recipe itself: combinations of keys that are impossible pass.
    """
    document = Recipe.model_json_schema()
    parts = document.setdefault("$defs", {})
    cases = []
    for name in methods.names():
        where = f"#/$defs/{name}."
        settings = methods.named(name).settings.model_json_schema(ref_template=where + "{model}")
        parts |= {f"{name}.{key}": part for key, part in settings.pop("$defs", {}).items()}
        settings["properties"]["kind"] |= {"const": name}
        parts[f"method {name}"] = settings
        kind: dict[str, Any] = {"properties": {"kind": {"const": name}}}
        if name != methods.default():  # the one of a recipe that names none
            kind["required"] = ["kind"]
        cases.append({"if": kind, "then": {"$ref": f"#/$defs/method {name}"}})
    own = document["properties"]
    own["method"] = {
        "type": "object",
        "description": own["method"]["description"],
        "properties": {"kind": {"enum": list(methods.names())}},
        "allOf": cases,
    }
    own[SWEEP] = {
        "type": "object",
        "description": _SWEEP,
        "additionalProperties": {"type": ["array", "object"], "minItems": 1},
    }
    document.pop("required", None)
    parts["DataRecipe"]["properties"]["dataset"]["enum"] = [*DATASETS, "image_folder"]
    parts["EvaluationRecipe"]["properties"]["protocol"]["examples"] = list(PROTOCOLS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **document,
        "title": "potstill recipe",
    }
