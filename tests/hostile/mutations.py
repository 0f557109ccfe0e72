"""Documents with something wrong: entries deleted, of another type, deeper, larger or doubled."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

LARGE = 30_000


def mutated(document: dict[str, Any], random: Random) -> dict[str, Any]:
    """A copy of ``document`` in which one to three entries are changed."""
    result = copy.deepcopy(document)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        places = _places(result)
        if not places:
            break
        parent, key = random.choice(places)
        if random.random() < 0.2:
            del parent[key]
        elif isinstance(parent, dict) and random.random() < 0.05:
            parent[str(_value(random))[:LARGE]] = parent.pop(key)
        else:
            parent[key] = _changed(parent[key], random)
    return result


def _places(node: Any, levels: int = 12) -> list[tuple[Any, Any]]:
    """Every (container, key) in ``node``; long lists by their first entries, deep ones in part."""
    if not levels:
        return []
    if isinstance(node, dict):
        keys: list[Any] = list(node)
    else:
        keys = list(range(min(len(node), 4))) if isinstance(node, list) else []
    return [place for key in keys for place in [(node, key), *_places(node[key], levels - 1)]]


def _changed(value: Any, random: Random) -> Any:
    if random.random() < 0.5:
        return _value(random)
    if isinstance(value, bool) or value is None:
        return random.choice(["yes", 1, {}])
    if isinstance(value, int):
        return random.choice([-value - 1, value + 1, 10**18, 10**60, float(value), str(value)])
    if isinstance(value, float):
        return random.choice([-value, value * 1e300, 1e-300, 0.0, str(value)])
    if isinstance(value, str):
        return random.choice([value * (1 + LARGE // (len(value) or 1)), value + "\0", [value]])
    if isinstance(value, list):
        return random.choice([value * 2, [*value, None], value[:1], {}])
    return random.choice([[value], {}, {"0": value}, None])


def _value(random: Random) -> Any:
    return random.choice(
        [
            *(None, True, 0, -1, 7, 1 << 63, 10**150, 0.5, -1e308, "", "x", "NaN", "0", [], {}),
            *("\ud800", "a\nb\x1b[2J", "~nosuchuser/x", "../" * 50, "é" * LARGE, ["x"] * 2000),
            *([0] * 4, [[[]]], {"a": {"b": {}}}, deep(40), deep(500)),
        ]
    )


def deep(levels: int) -> list[Any]:
    """A list in a list in a list ..."""
    node: list[Any] = []
    for _ in range(levels):
        node = [node]
    return node
