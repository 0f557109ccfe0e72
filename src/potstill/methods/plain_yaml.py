"""YAML as recipes are written in it: text, numbers, lists and sections, and nothing else.

YAML can say more than a recipe needs: names for parts that stand elsewhere, which a few lines
repeat a billion times, dates, numbers to the base 60, types named by tags. Here the first and the
last are refused, and what YAML 1.1 would take for a date or for hours and minutes is text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from potstill.errors import RecipeError
from potstill.quoting import quoted, shortened

LARGEST = 1 << 20
"""Bytes of a document."""
_NODES, _DEPTH, _TEXT, _DIGITS = 10_000, 32, 20_000, 100

_INT, _FLOAT, _DATE = (f"tag:yaml.org,2002:{name}" for name in ("int", "float", "timestamp"))
# PyYAML's own but for the last form of each, to the base 60.
_NUMBERS = {
    _INT: re.compile(r"[-+]?(?:0b[0-1_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$"),
    _FLOAT: re.compile(
        r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}


def load(text: str | bytes) -> Any:
    """What ``text`` says: None, a bool, a number, text, a list, or a dict whose keys are text.

    Args:
        text: the whole document; bytes are UTF-8.

    Raises:
        RecipeError: it is not YAML, says more than a recipe can, or is larger or deeper than any.
    """
    if len(text) > LARGEST:
        raise RecipeError(f"it has more than {LARGEST:,} characters, which no recipe has")
    try:
        return yaml.load(text if isinstance(text, str) else text.decode(), _Reader)
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"it is not valid YAML: {shortened(str(error))}") from None


class _Reader(yaml.SafeLoader):
    """PyYAML's safe loader with limits, checked before anything is made of a node."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        self._nodes += 1
        if self._nodes > _NODES:
            raise RecipeError(f"it has more than {_NODES:,} values, which no recipe has")
        if self._depth == _DEPTH:
            raise RecipeError(f"it is nested more than {_DEPTH} deep, which no recipe is")
        if isinstance(event, yaml.AliasEvent):
            raise RecipeError(f"alias {quoted(event.anchor)} stands for a value; write the value")
        if event.tag is not None:
            raise RecipeError(f"tag {quoted(event.tag)} names a type; write the value alone")
        if isinstance(event, yaml.ScalarEvent):
            _require_text(event.value)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        for key in mapping:
            if not isinstance(key, str):
                raise RecipeError(f"key {quoted(key)} is no text; put it in quotes")
        return mapping

    def number(self, node: Any) -> Any:
        """The int or float of a scalar that looks like one."""
        if len(node.value) > _DIGITS:
            raise RecipeError(f"a number has {len(node.value):,} digits; write a smaller one")
        integer = node.tag == _INT
        return self.construct_yaml_int(node) if integer else self.construct_yaml_float(node)


_Reader.yaml_implicit_resolvers = {
    first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in forms if tag != _DATE]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag in _NUMBERS:
    _Reader.add_constructor(_tag, _Reader.number)


def _require_text(value: str) -> None:
    if len(value) > _TEXT:
        raise RecipeError(f"a text has {len(value):,} characters, which none in a recipe has")
    if re.search("[\0\ud800-\udfff]", value):
        raise RecipeError("a text holds a character that no file can have; remove it")
