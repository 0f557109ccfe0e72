"""Distribution matching from recipe to distilled set, resumable between two networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from potstill import hardware, rng
from potstill.data import siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess, fit
from potstill.data.siamese import Draw, Strategy
from potstill.data.source import SourceDataset, centred_one_hot
from potstill.errors import DataError, NetworkError, NumericalError
from potstill.methods.loop import iterate
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.matching.losses import distribution_matching
from potstill.methods.matching.settings import DMSettings
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.recipe import Recipe, method_of
from potstill.networks import zoo
from potstill.networks.zoo import ForeignNetwork


def distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Raises:
        DataError: a class has no images, or fewer than a start from real ones takes.
        NetworkError: the network gives no features, or ties the images of a batch together.
        NumericalError: a number left the finite ones; the newest checkpoint stands.
        KeyboardInterrupt: after a checkpoint was written.
    """
    hardware.prepare()
    settings, device = method_of(recipe, DMSettings), torch.device(session.device)
    preprocess = fit(recipe.data, source.train.images, device=device, cache=session.whitenings)
    matcher = Matcher(recipe, source, preprocess, device)
    iterate(matcher, settings.iterations, recipe, session)
    classes = torch.arange(source.classes).repeat_interleave(recipe.images_per_class)
    return product(
        recipe,
        source,
        matcher.images,
        centred_one_hot(classes, source.classes),
        preprocess,
        iterations=matcher.iteration,
        evaluation={"strategy": list(matcher.strategy)} if matcher.strategy else None,
    )


class Matcher:
    """The state of one run, and the step that advances it.

    Attributes:
        images: S, (C ipc, c, h, h) float32, network space, ordered by class.
        strategy: operations that views are drawn from.
        iteration: networks seen.
    """

    def __init__(
        self, recipe: Recipe, source: SourceDataset, preprocess: Preprocess, device: torch.device
    ) -> None:
        self._recipe, self._settings = recipe, method_of(recipe, DMSettings)
        self._source, self._preprocess, self._device = source, preprocess, device
        self._members = members(source)
        _require_usable(self._build())
        self.strategy = self._strategy()
        self.images = self._start().to(device)
        self._velocity = torch.zeros_like(self.images)
        self.iteration = 0

    def step(self) -> dict[str, float]:
        """A fresh network, a batch and a view of each class, one step of the images."""
        settings, k = self._settings, self.iteration
        network = fresh_network(self._build, self._recipe.seed, k).requires_grad_(False)
        features: Any = network.features
        synthetic = self.images.detach().requires_grad_()
        terms = distribution_matching(features, self._real(k), synthetic, self._draws(k))
        self._require_finite(terms)
        torch.autograd.backward(terms.sum())
        gradient = synthetic.grad
        assert gradient is not None
        momentum_step(
            self.images, self._velocity, gradient, settings.learning_rate, settings.momentum
        )
        self.iteration += 1
        return {
            "loss": terms.detach().sum().item(),
            "image_gradient_norm": gradient.norm().item(),
        }

    def state(self) -> dict[str, Tensor]:
        """All that :meth:`restore` needs: nothing else outlives a network."""
        if not self.images.isfinite().all():
            raise NumericalError(
                f"iteration {self.iteration}: the images are not finite after the step; the last "
                "checkpoint is kept; lower method.learning_rate"
            )
        return {"images": self.images, "velocity": self._velocity}

    def restore(self, iteration: int, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state` gave after ``iteration`` iterations."""
        self.iteration = iteration
        self.images.copy_(state["images"])
        self._velocity.copy_(state["velocity"])

    def _build(self) -> nn.Module:
        source = self._source
        network = zoo.build(
            self._recipe.network,
            channels=source.channels,
            resolution=source.resolution,
            classes=source.classes,
        )
        return network.to(self._device)

    def _strategy(self) -> Strategy:
        named = self._settings.strategy
        if named is None:
            return siamese.usual_strategy(self._source.name)
        return siamese.strategy_of(named) if named else ()

    def _real(self, network: int) -> Iterator[Tensor]:
        """B_c for each class, preprocessed when it is needed."""
        pixels = self._source.train.images
        batch = self._settings.real_batch
        for rows in real_rows(self._members, batch, self._recipe.seed, network):
            yield self._preprocess.apply(pixels[rows].to(self._device))

    def _draws(self, network: int) -> list[Draw] | None:
        """A view for each class; None if images are taken as they are."""
        if not self.strategy:
            return None
        side = self._source.resolution
        return siamese_draws(self._members, self.strategy, side, self._recipe.seed, network)

    def _start(self) -> Tensor:
        """Real images of each class without replacement, or standard normal noise."""
        source, per_class, seed = self._source, self._recipe.images_per_class, self._recipe.seed
        if self._settings.start == "noise":
            shape = (per_class, source.channels, source.resolution, source.resolution)
            return torch.cat(
                [
                    rng.normal(shape, rng.stream(seed, f"matching/start/{name}"))
                    for name in self._members
                ]
            )
        for name, rows in self._members.items():
            if len(rows) < per_class:
                raise DataError(
                    f"class {name} has {len(rows)} images, fewer than the {per_class} asked for; "
                    "ask for fewer images per class, or set method.start to noise"
                )
        chosen = [
            rows[
                torch.from_numpy(
                    rng.stream(seed, f"matching/start/{name}").choice(
                        len(rows), per_class, replace=False
                    )
                )
            ]
            for name, rows in self._members.items()
        ]
        return self._preprocess.apply(source.train.images[torch.cat(chosen)])

    def _require_finite(self, terms: Tensor) -> None:
        wrong = (~terms.detach().isfinite()).nonzero()
        if len(wrong):
            name = self._source.class_names[int(wrong[0])]
            raise NumericalError(
                f"iteration {self.iteration + 1}: the loss of class {name} is not finite; the last "
                "checkpoint is kept; lower method.learning_rate"
            )


def members(source: SourceDataset) -> dict[str, Tensor]:
    """The rows of each class among the training images, (N_c,) int64, by its name.

    Raises:
        DataError: a class has no images.
    """
    found = {}
    for label, name in enumerate(source.class_names):
        found[name] = (source.train.labels == label).nonzero().flatten()
        if not len(found[name]):
            raise DataError(f"class {name} has no training images; add some, or remove the class")
    return found


def _require_usable(network: nn.Module) -> None:
    """Features of each image by itself: what the loss compares, and chunks do not change."""
    if isinstance(network, ForeignNetwork) or not hasattr(network, "features"):
        raise NetworkError(
            "dm matches what a network's last layer sees, which networks of other libraries and "
            "of your own do not tell; take one of potstill's, such as convnet"
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise NetworkError(
            "batch norm ties the images of a batch together, real and distilled apart; set "
            "network.normalisation to instance"
        )
