"""potstill distils an image dataset into a handful of images a network can be trained on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.comparing import compare
    from potstill.data.datasets import SourceDataset
    from potstill.data.datasets import load as load_source
    from potstill.data.distilled import DistilledDataset
    from potstill.errors import PotstillError
    from potstill.evaluation.protocol import evaluate
    from potstill.evaluation.relabel import relabel
    from potstill.methods.distilling import distill
    from potstill.methods.recipe import Recipe
    from potstill.recipes import load as load_recipe
    from potstill.runs import Run
    from potstill.teacher import Teacher

__version__ = "0.1.0"

__all__ = [
    "DistilledDataset",
    "PotstillError",
    "Recipe",
    "Run",
    "SourceDataset",
    "Teacher",
    "compare",
    "distill",
    "evaluate",
    "load_recipe",
    "load_source",
    "relabel",
]

# Imported when first used: PyTorch takes seconds, and the command line should not.
_HOMES = {
    "DistilledDataset": ("potstill.data.distilled", "DistilledDataset"),
    "PotstillError": ("potstill.errors", "PotstillError"),
    "Recipe": ("potstill.methods.recipe", "Recipe"),
    "Run": ("potstill.runs", "Run"),
    "SourceDataset": ("potstill.data.datasets", "SourceDataset"),
    "compare": ("potstill.comparing", "compare"),
    "distill": ("potstill.methods.distilling", "distill"),
    "evaluate": ("potstill.evaluation.protocol", "evaluate"),
    "load_recipe": ("potstill.recipes", "load"),
    "load_source": ("potstill.data.datasets", "load"),
    "relabel": ("potstill.evaluation.relabel", "relabel"),
    "Teacher": ("potstill.teacher", "Teacher"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
