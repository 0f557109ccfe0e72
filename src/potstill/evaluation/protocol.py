"""What a distilled set is worth: fresh networks trained on it, tested on real images.

The protocols are those of RCIG's Appendix C and of its authors' published runs, which
differ; every result names the one it comes from. A result is the accuracy of the
networks after the last step: the test set chooses nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from potstill import rng
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess
from potstill.data.source import SourceDataset, Split, centred_one_hot, sample_per_class
from potstill.errors import ArtefactError, DataError, RecipeError
from potstill.evaluation.augment import augment
from potstill.networks import zoo
from potstill.networks.init import initialise
from potstill.train import (
    Progress,
    Schedule,
    Training,
    favour_layout,
    in_favoured_layout,
    train,
)

# A set of this many images gets the short training.
_TINY = 10
_TEST_BATCH = 1000
# Activations of so many images stay in a processor's cache, a third faster than 1000.
_TEST_BATCH_CPU = 100


@dataclass(frozen=True)
class Protocol:
    """How networks are trained on a distilled set. Pairs: for 10 images in all, for more."""

    name: str
    augmented: bool
    steps: tuple[int, int] = (1000, 2000)
    schedule_length: tuple[int, int] = (1000, 2000)
    """The cosine ends here; steps beyond it are taken at its last rate."""
    learning_rate: float = 1e-4
    warmup: int = 500
    largest_full_batch: int = 256
    """Larger sets are trained on in batches of this size; mirror images do not count."""

    def training(self, images: int) -> Training:
        """What to do with a set of so many images, mirror images left out."""
        which = 0 if images == _TINY else 1
        return Training(
            steps=self.steps[which],
            schedule=Schedule(self.schedule_length[which], self.learning_rate, self.warmup),
            batch_size=None if images <= self.largest_full_batch else self.largest_full_batch,
            augment=augment if self.augmented else None,
        )


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol("rcig-paper", augmented=False),
        Protocol("rcig-paper-augmented", augmented=True),
        Protocol("rcig-as-run", augmented=False, steps=(2500, 5000)),
        Protocol("rcig-as-run-augmented", augmented=True),
    )
}


def evaluate(
    dataset: DistilledDataset,
    source: SourceDataset,
    *,
    protocol: str | Protocol | None = None,
    networks: int | None = None,
    network: NetworkRecipe | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    baseline: bool = False,
    batched: bool | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train fresh networks on ``dataset`` and test them on ``source``'s test images.

    The test images pass through the preprocessing that the artefact carries. The
    networks have ReLUs, whatever activation the set was distilled with. Network i
    starts from stream "evaluation/network" at step i, for the set and the baseline.

    Args:
        dataset: the distilled set.
        source: the real data it stands for.
        protocol: a name from ``PROTOCOLS``, or a protocol; the artefact's if None.
        networks: how many; the artefact's number if None.
        network: which; the one the set was distilled for if None.
        seed: of everything that is drawn.
        device: where to train and test.
        baseline: also score random real images, as many per class as distilled ones,
            others for each network, with hard labels and under the same protocol.
        batched: see :func:`potstill.train.train`.
        progress: called with (steps done, steps in all).

    Returns:
        A JSON document: protocol, dataset, images, images_per_class, network, steps,
        accuracy {mean, std, values}, seconds, seed, source_fingerprint,
        artefact_digest; baseline {kind, mean, std, values} if asked for; warnings if
        there are any. Accuracies are fractions, ``std`` is the sample deviation.

    Raises:
        ArtefactError: the set does not say what it was made for, and nothing was passed.
        DataError: set and source differ in classes or in the images' shape, there are no
            test images, or fewer distilled images than classes to compare a baseline with.
        NetworkError: the network does not fit the images.
        RecipeError: unknown protocol, or no network asked for.
        NumericalError: a training left the finite numbers.
    """
    start = time.perf_counter()
    chosen = _protocol(_made_for(dataset, "protocol") if protocol is None else protocol)
    recipe = _network_recipe(_made_for(dataset, "network")) if network is None else network
    count = int(_made_for(dataset, "networks")) if networks is None else networks
    if count < 1:
        raise RecipeError(f"cannot evaluate {count} networks; ask for at least 1")
    _check_fit(dataset, source, baseline)

    flip = bool(dataset.header["recipe"].get("method", {}).get("flip", False))
    training = chosen.training(len(dataset))
    rounds = 2 if baseline else 1

    def score(images: Tensor, labels: Tensor, done: int) -> dict[str, Any]:
        def report(step: int, total: int) -> None:
            if progress is not None:
                progress(done * total + step, rounds * total)

        nets = _fresh_networks(recipe, source, count, seed, device)
        if flip:
            images, labels = with_mirror_images(images, labels)
        train(
            nets,
            images,
            labels,
            training,
            seed=seed,
            purpose="evaluation",
            batched=batched,
            progress=report,
        )
        return summary(accuracies(nets, source.test, dataset.preprocess))

    result: dict[str, Any] = {
        "protocol": chosen.name,
        "dataset": source.name,
        "images": len(dataset),
        "images_per_class": dataset.images_per_class,
        "network": recipe.model_dump(mode="json"),
        "steps": training.steps,
        "accuracy": score(dataset.images, dataset.labels, 0),
        "seed": seed,
        "source_fingerprint": source.fingerprint,
        "artefact_digest": dataset.digest,
    }
    if baseline:
        images, labels = random_real_sets(dataset, source, count, seed)
        result["baseline"] = {"kind": "random real images", **score(images, labels, 1)}
    warnings = _warnings(dataset, source)
    if warnings:
        result["warnings"] = warnings
    result["seconds"] = time.perf_counter() - start
    return result


@torch.no_grad()
def accuracies(networks: Sequence[nn.Module], test: Split, preprocess: Preprocess) -> list[float]:
    """The fraction of ``test`` that each network, put in evaluation mode, gets right."""
    device = next(networks[0].parameters()).device
    correct = torch.zeros(len(networks), dtype=torch.int64, device=device)
    for network in networks:
        favour_layout(network.eval())
    size = _TEST_BATCH_CPU if device.type == "cpu" else _TEST_BATCH
    for first in range(0, len(test.labels), size):
        part = slice(first, first + size)
        images = in_favoured_layout(preprocess.apply(test.images[part]).to(device))
        labels = test.labels[part].to(device)
        for index, network in enumerate(networks):
            correct[index] += (network(images).argmax(1) == labels).sum()
    return [hits / len(test.labels) for hits in correct.tolist()]


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Mean, sample standard deviation (0 for a single value) and the values themselves."""
    mean = math.fsum(values) / len(values)
    squares = math.fsum((value - mean) ** 2 for value in values)
    std = math.sqrt(squares / (len(values) - 1)) if len(values) > 1 else 0.0
    return {"mean": mean, "std": std, "values": list(values)}


def with_mirror_images(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """(..., n, c, h, w), (..., n, C) -> (..., 2n, c, h, w), (..., 2n, C): the flip trick."""
    return torch.cat([images, images.flip(-1)], -4), torch.cat([labels, labels], -2)


def _made_for(dataset: DistilledDataset, key: str) -> Any:
    """An entry of the evaluation that the artefact was made for."""
    if key not in dataset.header["evaluation"]:
        raise ArtefactError(f"the distilled set does not say which {key} it was made for; pass one")
    return dataset.header["evaluation"][key]


def _network_recipe(document: Any) -> NetworkRecipe:
    try:
        return NetworkRecipe.model_validate(document)
    except ValidationError:
        raise ArtefactError(
            f"the distilled set was made for a network this version does not know ({document}); "
            "pass another"
        ) from None


def _protocol(protocol: str | Protocol) -> Protocol:
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise RecipeError(f"unknown protocol {protocol!r}; use one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[protocol]


def _fresh_networks(
    recipe: NetworkRecipe,
    source: SourceDataset,
    count: int,
    seed: int,
    device: str | torch.device,
) -> list[nn.Module]:
    networks = []
    for index in range(count):
        network = zoo.build(
            recipe,
            channels=source.channels,
            resolution=source.resolution,
            classes=source.classes,
        )
        initialise(network, seed, "evaluation/network", index)
        networks.append(network.to(device))
    return networks


def random_real_sets(
    dataset: DistilledDataset, source: SourceDataset, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """``count`` draws: images (count, n, c, h, w) in network space, labels (count, n, C)."""
    images, labels = [], []
    for index in range(count):
        chosen = sample_per_class(
            source.train,
            source.classes,
            dataset.images_per_class,
            rng.stream(seed, "evaluation/baseline", index),
        )
        images.append(dataset.preprocess.apply(source.train.images[chosen]))
        labels.append(centred_one_hot(source.train.labels[chosen], source.classes))
    return torch.stack(images), torch.stack(labels)


def _check_fit(dataset: DistilledDataset, source: SourceDataset, baseline: bool) -> None:
    if not len(source.test.labels):
        raise DataError(f"{source.name} has no test images; add a test folder to it")
    if baseline and not dataset.images_per_class:
        raise DataError(
            f"{len(dataset)} images of {source.classes} classes are not one per class, so that "
            "random images cannot be compared with them; leave out the baseline"
        )
    if dataset.labels.shape[1] != source.classes:
        raise DataError(
            f"the distilled set has {dataset.labels.shape[1]} classes and {source.name} has "
            f"{source.classes}; evaluate on the data it was distilled from"
        )
    shapes = tuple(dataset.images.shape[1:]), tuple(source.test.images.shape[1:])
    if shapes[0] != shapes[1]:
        raise DataError(
            f"distilled images are {_words(shapes[0])} and {source.name}'s "
            f"are {_words(shapes[1])}; evaluate on the data it was distilled from"
        )


def _words(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}x{shape[2]} with {shape[0]} channel{'s' if shape[0] != 1 else ''}"


def _warnings(dataset: DistilledDataset, source: SourceDataset) -> list[str]:
    recorded = str(dataset.header["source"].get("fingerprint", "unknown"))
    if recorded == source.fingerprint:
        return []
    return [
        f"the set was distilled from data with fingerprint {recorded[:12]} and is evaluated on "
        f"{source.name} with {source.fingerprint[:12]}: the same name need not mean the same data"
    ]
