"""potstill distils an image dataset into a handful of images a network can be trained on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.api.importing import import_set
    from potstill.api.making import check_folder, distill, load_source, train_teacher
    from potstill.api.measuring import attack, continual, diversity, evaluate, relabel, scores
    from potstill.api.sharing import keep, write_report
    from potstill.audits.several import together
    from potstill.bars import progress_bar
    from potstill.comparing import compare
    from potstill.data.distilled import DistilledDataset
    from potstill.data.source import SourceDataset
    from potstill.errors import PotstillError
    from potstill.evaluation.protocol import PROTOCOLS
    from potstill.evaluation.protocol import register as register_protocol
    from potstill.frames import frame
    from potstill.methods import register as register_method
    from potstill.methods.recipe import Recipe
    from potstill.recipes import load as load_recipe
    from potstill.runs import Run
    from potstill.teacher import Teacher

__version__ = "0.2.0"

# Imported when first used: PyTorch takes seconds, and the command line should not.
_HOMES = {
    "PROTOCOLS": ("potstill.evaluation.protocol", "PROTOCOLS"),
    "DistilledDataset": ("potstill.data.distilled", "DistilledDataset"),
    "PotstillError": ("potstill.errors", "PotstillError"),
    "Recipe": ("potstill.methods.recipe", "Recipe"),
    "Run": ("potstill.runs", "Run"),
    "SourceDataset": ("potstill.data.source", "SourceDataset"),
    "Teacher": ("potstill.teacher", "Teacher"),
    "attack": ("potstill.api.measuring", "attack"),
    "check_folder": ("potstill.api.making", "check_folder"),
    "compare": ("potstill.comparing", "compare"),
    "continual": ("potstill.api.measuring", "continual"),
    "distill": ("potstill.api.making", "distill"),
    "diversity": ("potstill.api.measuring", "diversity"),
    "evaluate": ("potstill.api.measuring", "evaluate"),
    "frame": ("potstill.frames", "frame"),
    "import_set": ("potstill.api.importing", "import_set"),
    "keep": ("potstill.api.sharing", "keep"),
    "load_recipe": ("potstill.recipes", "load"),
    "load_source": ("potstill.api.making", "load_source"),
    "progress_bar": ("potstill.bars", "progress_bar"),
    "register_method": ("potstill.methods", "register"),
    "register_protocol": ("potstill.evaluation.protocol", "register"),
    "relabel": ("potstill.api.measuring", "relabel"),
    "scores": ("potstill.api.measuring", "scores"),
    "together": ("potstill.audits.several", "together"),
    "train_teacher": ("potstill.api.making", "train_teacher"),
    "write_report": ("potstill.api.sharing", "write_report"),
}

__all__ = [
    "PROTOCOLS",
    "DistilledDataset",
    "PotstillError",
    "Recipe",
    "Run",
    "SourceDataset",
    "Teacher",
    "attack",
    "check_folder",
    "compare",
    "continual",
    "distill",
    "diversity",
    "evaluate",
    "frame",
    "import_set",
    "keep",
    "load_recipe",
    "load_source",
    "progress_bar",
    "register_method",
    "register_protocol",
    "relabel",
    "scores",
    "together",
    "train_teacher",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
