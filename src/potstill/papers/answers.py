"""Which recipe answers a row of a table, and the evaluation that does."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from potstill import recipes
from potstill.config import NetworkRecipe, PaperRow
from potstill.methods.recipe import Recipe
from potstill.papers import dwa, rcig
from potstill.papers.asking import Paper, Quantity, TrainedOn, plainly
from potstill.papers.rows import Row

PAPERS: dict[str, Paper] = {"rcig": rcig.PAPER, "dwa": dwa.PAPER}

LASTING = {"dc": 300, "dc-mnist": 1000, "dsa": 1000, "cafe": 600, "datadam-as-run": 1800}
"""Epochs of the protocols that have one number for all images, for sets that state none."""


@dataclass(frozen=True)
class Measurement:
    """A distilled set, by its recipe and what is set in it, and what is measured of it.

    Two are equal if they measure the same, be it for different rows.

    Attributes:
        row: the row that it answers.
        recipe: the name of a shipped one.
        quantity: what is measured; see :data:`~potstill.papers.asking.Quantity`.
        network: the network that is trained on the set.
        protocol: the protocol that it is trained under.
        epochs: epochs that the recipe asks for; None if it leaves them to the protocol.
        networks: number of networks to train.
        assignments: ``key=value``, set in the recipe.
        attack: see :class:`~potstill.papers.asking.Asked`, as ``trained_on`` and ``classes``.
        chunked: whether every start is distilled from another part of the training images.
    """

    row: Row = field(compare=False)
    recipe: str
    quantity: Quantity
    network: NetworkRecipe
    protocol: str
    epochs: int | None = None
    networks: int = 5
    assignments: tuple[str, ...] = ()
    attack: str = ""
    trained_on: TrainedOn = "distilled"
    classes: int = 0
    chunked: bool = False

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """What all measurements of one distilled set have in common."""
        return self.recipe, self.assignments

    @property
    def paper_epochs(self) -> int | None:
        """Epochs that its networks are trained for; None if the protocol counts none."""
        by_data = PAPERS[self.row.paper].epochs.get(self.protocol, {})
        return self.epochs or by_data.get(self.row.dataset) or LASTING.get(self.protocol)

    def load(self, seed: int = 0) -> Recipe:
        """The recipe with its assignments and this seed; start k of a chunked one is chunk k."""
        chunk = [f"data.train_chunk={seed}"] if self.chunked else []
        return recipes.load(self.recipe, [*self.assignments, *chunk, f"seed={seed}"])


def answer(row: Row, assignments: Sequence[str] = ()) -> Measurement | None:
    """What answers the row here, with ``assignments`` set in its recipe; None if nothing does.

    Raises:
        RecipeError: an assignment is impossible.
    """
    return _answer(row, tuple(assignments), recipes.names())


def published(row: Row) -> str:
    """How the paper came by the row's number: which epoch, labelled how; empty if unknown."""
    return PAPERS[row.paper].published(row)


def unanswered(row: Row) -> str:
    """Why nothing here answers the row, in a few words."""
    return PAPERS[row.paper].unanswered.get(row.table) or "another method's, quoted"


@cache
def _answer(row: Row, assignments: tuple[str, ...], shipped: tuple[str, ...]) -> Measurement | None:
    """The answer to :func:`answer` while the shipped recipes are these."""
    asked = PAPERS[row.paper].tables.get(row.table, plainly)(row)
    found = (_naming(key, shipped) for key in asked.sets)
    name = next((name for name in found if name is not None), None)
    if name is None:
        return None
    recipe = recipes.load(name, assignments)
    return Measurement(
        row=row,
        recipe=name,
        quantity=asked.quantity,
        network=_network(row, recipe.network),
        protocol=asked.protocol or recipe.evaluation.protocol,
        epochs=recipe.evaluation.epochs,
        networks=recipe.evaluation.networks,
        assignments=(*asked.assignments, *assignments),
        attack=asked.attack,
        trained_on=asked.trained_on,
        classes=asked.classes,
        chunked=asked.quantity == "membership" and recipe.data.train_images is not None,
    )


def _network(row: Row, own: NetworkRecipe) -> NetworkRecipe:
    """The network that the row evaluates; ``own`` is the one that its recipe names."""
    paper, name = PAPERS[row.paper], row.eval_arch or ""
    settings = paper.networks_on.get(row.dataset, {}).get(name) or paper.networks.get(name)
    if settings is None or row.eval_arch == row.distill_arch:
        return own
    if "name" in settings:
        return NetworkRecipe.model_validate(settings)
    return own.model_copy(update=settings)


def _naming(row: PaperRow, shipped: tuple[str, ...]) -> str | None:
    """The first recipe that names the row."""
    near = _by_table(shipped).get((row.paper, row.table), ())
    return next((name for key, name in near if key.names(row)), None)


@cache
def _by_table(shipped: tuple[str, ...]) -> dict[tuple[str, str], list[tuple[PaperRow, str]]]:
    """What the recipes name, with the recipe that does."""
    found: dict[tuple[str, str], list[tuple[PaperRow, str]]] = defaultdict(list)
    for name in shipped:
        for key in recipes.load(name).paper:
            found[key.paper, key.table].append((key, name))
    return found
