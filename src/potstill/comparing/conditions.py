"""What is equal between sets: the protocol, network and number of networks they are scored by.

Under ``own`` every set has what its recipe or its file names. Under a common protocol all have the
same network, number of networks and epochs, and views are those that are usual for the data, not
those that a set was made with. A set's mirror images, which some are made to be trained on with,
are a part of it; where that makes a network see more images than of another set, the table says
so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from potstill import storage
from potstill.comparing.lineup import Wanted
from potstill.comparing.wish import Asked
from potstill.comparison import OWN
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.errors import RecipeError
from potstill.evaluation.plan import EvaluationProtocol
from potstill.evaluation.protocol import named
from potstill.networks.parsing import parse_network
from potstill.results import Evaluation


@dataclass(frozen=True)
class Condition:
    """How one set is scored.

    Attributes:
        asked: the protocol that was asked for; ``own`` or a common one.
        protocol: the protocol.
        network: what is trained.
        networks: how many.
        epochs: epochs that are asked for; None if that is left to the protocol.
    """

    asked: str
    protocol: str
    network: NetworkRecipe
    networks: int
    epochs: int | None

    @property
    def common(self) -> bool:
        """Whether it is the same for all sets."""
        return self.asked != OWN

    @property
    def rules(self) -> EvaluationProtocol:
        """The protocol itself."""
        return named(self.protocol)

    def scored(self, dataset: DistilledDataset) -> DistilledDataset:
        """The set as it is scored: under a common protocol it has no say in epochs and views."""
        if not self.common:
            return dataset
        made_for = {
            "protocol": self.protocol,
            "network": self.network.model_dump(mode="json"),
            "networks": self.networks,
        }
        return dataset.made_for(made_for)

    def key(self, dataset: DistilledDataset) -> dict[str, Any]:
        """All that decides what random real images reach beside the set, but data and seed."""
        scored = self.scored(dataset)
        return {
            "protocol": self.protocol,
            "training": _plain(self.rules.cache_key(scored, self.epochs)),
            "network": self.network.model_dump(mode="json"),
            "networks": self.networks,
            "images": len(dataset),
            "preprocess": storage.content_digest(
                dataset.preprocess.describe(), dataset.preprocess.tensors()
            ),
        }

    def shown(self, dataset: DistilledDataset) -> int:
        """Images that a network learns from, each counted as often as it is shown."""
        scored = self.scored(dataset)
        channels, resolution = dataset.shape[1:3]
        work = self.rules.work(
            len(dataset),
            int(channels),
            int(resolution),
            epochs=self.rules.epochs(scored, self.epochs),
            mirrored=dataset.mirror_images,
        )
        return work.shown

    def found(self, dataset: DistilledDataset, seed: int, teacher: str | None) -> list[Evaluation]:
        """What was measured of the set in this way, newest first; with random images before others.

        Args:
            dataset: the set, with its results.
            seed: seed of the evaluation.
            teacher: digest of who labels under a common protocol that has a teacher.
        """
        scored = self.scored(dataset)
        lasting = self.rules.epochs(scored, self.epochs)
        strategy = self.rules.cache_key(scored, self.epochs).get("strategy")
        fitting = [
            result
            for result in reversed(dataset.results)
            if (result.protocol, result.network, result.seed, result.epochs)
            == (self.protocol, self.network, seed, lasting)
            and len(result.accuracy.values) == self.networks
            and _operations(result.strategy, strategy)
            and self._labelled_alike(result, dataset, teacher)
        ]
        return sorted(fitting, key=lambda result: result.baseline is None)

    def _labelled_alike(
        self, result: Evaluation, dataset: DistilledDataset, teacher: str | None
    ) -> bool:
        if not self.rules.takes_teacher:
            return True
        by = result.teacher.get("digest") if isinstance(result.teacher, Mapping) else None
        if self.common:
            return teacher is not None and by == teacher
        return by == dataset.header.get("teacher", {}).get("digest", by)


def conditions(asked: Asked, sets: Sequence[Wanted], resolution: int) -> dict[str, Condition]:
    """The common conditions by name, in the order asked; those of ``own`` are each set's.

    Raises:
        RecipeError: an unknown protocol or network, epochs under a protocol without, or network
            or epochs without a common protocol.
        NetworkError: timm or torchvision has no such network.
    """
    found: dict[str, Condition] = {}
    common = [name for name in asked.protocols if name != OWN]
    for key in ("network", "epochs"):
        if not common and getattr(asked, key) is not None:
            raise RecipeError(
                f"{key} is for common protocols, and own has each set's; name a protocol"
            )
    for name in common:
        rules = named(name)
        if asked.epochs is not None and not rules.counts_epochs:
            raise RecipeError(f"protocol {name} does not count epochs; leave epochs out")
        found[name] = Condition(
            asked=name,
            protocol=rules.name,
            network=network_of(asked, sets, resolution),
            networks=asked.networks or sets[0].networks,
            epochs=asked.epochs,
        )
    return found


def network_of(asked: Asked, sets: Sequence[Wanted], resolution: int) -> NetworkRecipe:
    """What common protocols train: the network that is named, else the first set's own."""
    if asked.network is None:
        return sets[0].network
    return parse_network(asked.network, resolution=resolution)


def own(one: Wanted, asked: Asked) -> Condition:
    """A set's own condition."""
    return Condition(
        asked=OWN,
        protocol=named(one.protocol).name,
        network=one.network,
        networks=asked.networks or one.networks,
        epochs=one.epochs,
    )


def _operations(found: Sequence[str] | None, wanted: Any) -> bool:
    """Whether views were of these operations; protocols that do not tell them have one kind."""
    return wanted is None or tuple(found or ()) == tuple(wanted)


def _plain(key: Mapping[str, Any]) -> Any:
    return storage.parsed(storage.canonical(dict(key)))
