"""The keys that a recipe can have, as its models declare them: what each means and may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

_LARGEST = 10_000
"""A bound above it is there to refuse slips, and is not worth a word."""


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Attributes:
        path: the key with dots between sections, as ``--set`` takes it.
        description: what it means.
        kind: what its value may be, in words: ``whole number, at least 1``; ``section``.
        default: the value of a section that is silent about it, as JSON has it.
        section: the model of the keys in it, if its value is a section.
    """

    path: str
    description: str
    kind: str
    default: Any
    section: type[BaseModel] | None

    @property
    def name(self) -> str:
        """The last part of the path, as the key stands in its section."""
        return self.path.rpartition(".")[2]


def keys(
    model: type[BaseModel], prefix: str = "", sections: Mapping[str, type[BaseModel]] | None = None
) -> Iterator[Key]:
    """The keys of ``model`` in its order, those of a section after the section's own.

    Args:
        model: such as :class:`potstill.methods.recipe.Recipe`.
        prefix: what stands before each key: empty, or sections and a dot.
        sections: in place of the declared model of a section, another, by its path.
    """
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        path = prefix + name
        section = (sections or {}).get(path) or _section(field)
        node = schema["properties"][name]
        kind = "section" if section else _kind(node, schema.get("$defs", {}))
        default = field.get_default(call_default_factory=True, validated_data={})
        yield Key(
            path=path,
            description=field.description or "",
            kind=f"{kind}, or null" if section and default is None else kind,
            default=None if field.is_required() else to_jsonable_python(default),
            section=section,
        )
        if section is not None:
            yield from keys(section, f"{path}.", sections)


def meant(key: str, known: Sequence[str]) -> str | None:
    """The known key that a misspelt one most likely is: of its section, else of any.

    Args:
        key: with dots.
        known: all that there are, with dots.
    """
    section, _, name = key.rpartition(".")
    beside = [one for one in known if one.rpartition(".")[0] == section]
    close = get_close_matches(key, beside, n=1, cutoff=0.8)
    elsewhere = [one for one in known if one.rpartition(".")[2] == name]
    near = get_close_matches(key, elsewhere or known, n=1, cutoff=0.2 if elsewhere else 0.7)
    return next(iter([*close, *near]), None)


def _section(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that holds one, or None and one."""
    union = isinstance(field.annotation, UnionType)
    for part in get_args(field.annotation) if union else (field.annotation,):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part
    return None


def _kind(node: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    """What a node of a JSON schema allows, in words."""
    if "$ref" in node:
        return _kind(models[node["$ref"].rpartition("/")[2]], models)
    if "anyOf" in node:
        return ", or ".join(_kind(one, models) for one in node["anyOf"])
    if "const" in node or "enum" in node:
        choices = [node["const"]] if "const" in node else node["enum"]
        return "one of " * (len(choices) > 1) + ", ".join(map(str, choices))
    form = node.get("type")
    if form == "array":
        if "prefixItems" in node:
            items = [_kind(one, models) for one in node["prefixItems"]]
            return f"list of {len(items)}: {'; '.join(items)}"
        return f"list, each {_kind(node.get('items', {}), models)}"
    names = {
        "boolean": "true or false",
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "null": "null",
        "object": "section",
    }
    return ", ".join([names.get(str(form), "any value"), *_bounds(node)])


def _bounds(node: Mapping[str, Any]) -> Iterator[str]:
    for bound, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if bound in node and abs(node[bound]) <= _LARGEST:
            yield f"{words} {node[bound]:g}"
