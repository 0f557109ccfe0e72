"""What a method is: its settings, how it distils, what that costs, and how it describes itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import Field

from potstill.config import NetworkRecipe, Precision, Strict, TeacherRecipe
from potstill.description import Description
from potstill.execution import Executor, Here
from potstill.progress import Progress, silent

if TYPE_CHECKING:
    from potstill.data.distilled import DistilledDataset
    from potstill.data.facts import DatasetInfo
    from potstill.data.source import SourceDataset
    from potstill.data.whitening_cache import WhiteningCache
    from potstill.methods.recipe import Recipe
    from potstill.runs import Run
    from potstill.teacher import Teacher


class MethodSettings(Strict):
    """Base of every method's settings; a subclass names its ``kind``, the method's name."""

    kind: str = Field(description="the method")

    @classmethod
    def defaults(cls, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a recipe of this method has where it is silent, as far as that is the method's own.

        Args:
            given: the ``method`` section of the recipe, not validated yet.

        Returns:
            Sections of a recipe (``data``, ``network``, ``evaluation``) with some of their keys.
        """
        return {}


S = TypeVar("S", bound=MethodSettings)


@dataclass(frozen=True)
class Session:
    """Where a method works: all that depends on the machine and on the caller.

    Attributes:
        run: a folder to log to, checkpoint in and resume from; nothing is written if None.
        device: "cpu" or "cuda".
        progress: told of every step.
        executor: runs independent units of work; here, one after the other, unless it says
            otherwise.
        teacher: a network to invert or to label with, for a method that takes one; trained as
            the recipe says if None.
        whitenings: where the preprocessing is looked for before it is fitted, and stored.
        units: folder of finished units of work, for a method that nests: runs of the same settings
            but for their images per class share them. In the run's own folder if None.
    """

    run: Run | None = None
    device: str = "cpu"
    progress: Progress = silent
    executor: Executor = field(default_factory=Here)
    teacher: Teacher | None = None
    whitenings: WhiteningCache | None = None
    units: Path | None = None


@dataclass(frozen=True)
class Passes:
    """A number of images, each passed forward and backward through a network."""

    network: NetworkRecipe
    images: float
    precision: Precision = "float32"


@dataclass(frozen=True)
class Work:
    """What a recipe asks for, apart from training a teacher.

    Attributes:
        iterations: iterations of the whole run, as its log counts them.
        passes: passes through networks that these cost, all together.
        mirror_images: whether the set is to be trained on with its mirror images.
        groups: parts of the set that each take their share of the iterations, as many as the
            recipe says.
    """

    iterations: int
    passes: tuple[Passes, ...] = ()
    mirror_images: bool = False
    groups: int = 1


@dataclass(frozen=True)
class Method(Generic[S]):
    """A way of distilling, as everything outside its folder sees it.

    Attributes:
        name: ``kind`` in recipes, and the first part of its recipes' names.
        settings: the model of a recipe's ``method`` section.
        distil: makes the set; the caller stores it and ends the run. It raises PotstillError for
            what a user can mend, and KeyboardInterrupt after a checkpoint was written.
        work: what a recipe will take on data of this kind.
        describe: the set in words. The header is that of the set, or empty while there is none.
        recipes: the folder of its shipped recipes, ``NAME.yaml`` each.
        teacher: from settings to the teacher that is trained first, or to None if they want none;
            None for a method without.
        inverts: whether the teacher is inverted, and so has to have batch norms and standardised
            images.
        parallel: whether it has independent units of work, which an executor can share out.
        nests: from settings to whether the first images of each class are, to the byte, the set
            of so many images per class, made of the same units of work; None if they never are.
        cost: the parts of a run's time that count as making the images, which a paper may count.
        memory: settings to lower where a step needs more memory than there is.
    """

    name: str
    settings: type[S]
    distil: Callable[[Recipe, SourceDataset, Session], DistilledDataset]
    work: Callable[[Recipe, DatasetInfo], Work]
    describe: Callable[[Recipe, Mapping[str, Any]], Description]
    recipes: Traversable | None = None
    teacher: Callable[[S], TeacherRecipe | None] | None = None
    inverts: bool = True
    parallel: bool = False
    nests: Callable[[S], bool] | None = None
    cost: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
