"""What a run's checkpoint says of where it comes from, and what a resume makes of it.

Same recipe, data and surroundings, same bytes: another recipe or other data are refused, other
surroundings are taken up as far as this process can (its number of threads) and else noted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from potstill.config import EVERY_KEY, flat
from potstill.data.inventory import Inventory
from potstill.errors import RunError
from potstill.methods import recipe as recipes
from potstill.methods.recipe import Recipe
from potstill.quoting import differences, listed
from potstill.surroundings import Surroundings


class Origin(BaseModel):
    """Everything that decides the bytes of a run.

    Attributes:
        recipe: as JSON has it; empty where no recipe is at work.
        source: the data.
        surroundings: versions, device and threads, and others in which a part was done.
    """

    model_config = ConfigDict(frozen=True)

    recipe: dict[str, Any]
    source: Inventory
    surroundings: Surroundings


def require_same_recipe(path: Path, stored: Recipe, recipe: Recipe) -> None:
    """Refuse to go on in ``path`` with another recipe; what it says about itself may differ.

    Raises:
        RunError: the settings in which they differ.
    """
    there, here = (
        flat(r.model_dump(mode="json", exclude={*recipes.DESCRIPTIVE}, context=EVERY_KEY))
        for r in (stored, recipe)
    )
    differing = differences(there, here)
    if differing:
        raise RunError(
            f"{path}: recipe differs in: {listed(differing)}; use another --out or the same recipe"
        )
