"""The matching methods from recipe to distilled set, resumable between two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import hardware, rng
from potstill.data import siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess, fit
from potstill.data.siamese import Draw, Strategy
from potstill.data.source import SourceDataset, centred_one_hot, members
from potstill.errors import NetworkError, NumericalError
from potstill.methods.loop import iterate
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.matching.losses import Matched, parts_of_batch
from potstill.methods.matching.parts import Parts, parts_of
from potstill.methods.matching.settings import CAFESettings, MatchingSettings, TrainedSettings
from potstill.methods.matching.starts import start
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.recipe import Recipe, method_of
from potstill.networks import zoo
from potstill.networks.convnet import ConvNet
from potstill.networks.functional import couples_batch
from potstill.train import EpochTraining, Loss, Optimisation, in_favoured_layout


def distil(recipe: Recipe, source: SourceDataset, session: Session) -> DistilledDataset:
    """Distil ``source`` as ``recipe`` says.

    Raises:
        DataError: a class has no images, or fewer than a start from real ones takes.
        NetworkError: the network gives no features, or ties the images of a batch together.
        NumericalError: a number left the finite ones; the newest checkpoint stands.
        RecipeError: there is no schedule for so many images per class.
        KeyboardInterrupt: after a checkpoint was written.
    """
    hardware.prepare()
    settings, device = method_of(recipe, MatchingSettings), torch.device(session.device)
    preprocess = fit(recipe.data, source.train.images, device=device, cache=session.whitenings)
    matcher = Matcher(recipe, source, preprocess, session)
    iterate(matcher, settings.iterations, recipe, session)
    return product(
        recipe,
        source,
        matcher.images,
        centred_one_hot(matcher.classes.cpu(), source.classes),
        preprocess,
        iterations=matcher.iteration,
        teacher=matcher.teacher,
        evaluation=matcher.evaluation(),
    )


class Matcher:
    """The state of one run, and the step that advances it: one network.

    Attributes:
        images: S, (C ipc, c, h, h) float32, network space, ordered by class.
        classes: (C ipc,) int64, of the images.
        strategy: operations that views are drawn from.
        teacher: the network whose features a coreset was chosen by, to start from; or None.
        iteration: networks seen.
    """

    def __init__(
        self, recipe: Recipe, source: SourceDataset, preprocess: Preprocess, session: Session
    ) -> None:
        self.recipe, self.settings = recipe, method_of(recipe, MatchingSettings)
        self.source, self.device = source, torch.device(session.device)
        self._preprocess = preprocess
        self._members = members(source)
        self.parts = parts_of(self.settings, recipe.images_per_class)
        _require_usable(self.build(), self.settings.kind, self.parts)
        self.strategy = self._strategy()
        images, self.teacher = start(recipe, source, preprocess, session)
        self.images = images.to(self.device)
        self.classes = torch.arange(source.classes, device=self.device).repeat_interleave(
            recipe.images_per_class
        )
        self._velocity = torch.zeros_like(self.images)
        self.iteration = 0

    def step(self) -> dict[str, float]:
        """A fresh network, and all that the schedule does under it."""
        visit = NetworkVisit(self)
        self.parts.schedule(visit)
        self.iteration += 1
        return visit.metrics()

    def move(self, matched: Matched) -> None:
        """One step of the images along a gradient."""
        settings = self.settings
        halved = sum(milestone <= self.iteration for milestone in settings.milestones)
        rate = settings.learning_rate / 2**halved
        momentum_step(self.images, self._velocity, matched.gradient, rate, settings.momentum)

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

    def evaluation(self) -> dict[str, Any]:
        """What protocols have to know of the set.

        Where the recipe's network has batch norm, networks that are trained on the set have
        instance norm: so few images give no statistics. The authors' programs do the same.
        """
        found: dict[str, Any] = {"strategy": list(self.strategy)} if self.strategy else {}
        if self.recipe.network.normalisation == "batch":
            network = self.recipe.network.model_copy(update={"normalisation": "instance"})
            found["network"] = network.model_dump(mode="json")
        return found

    def build(self) -> nn.Module:
        """A network of the recipe's on its device, not initialised."""
        source = self.source
        network = zoo.build(
            self.recipe.network,
            channels=source.channels,
            resolution=source.resolution,
            classes=source.classes,
        )
        return network.to(self.device)

    def real(self, update: int = 0) -> Iterator[Tensor]:
        """B_c for each class, preprocessed when it is needed."""
        return self._drawn(self.settings.real_batch, update, "real")

    def query(self, batch: int, update: int, epoch: int) -> Iterator[Tensor]:
        """Fresh training images of each class, as many as ``batch``, preprocessed."""
        return self._drawn(batch, update, f"query/{epoch}")

    def _drawn(self, batch: int, update: int, purpose: str) -> Iterator[Tensor]:
        seed, k = self.recipe.seed, self.iteration
        for rows in real_rows(self._members, batch, seed, k, update, purpose=purpose):
            yield self._preprocess.apply(hardware.sent(self.source.train.images[rows], self.device))

    def draws(self, update: int = 0) -> list[Draw] | None:
        """A view for each class; None if images are taken as they are."""
        if not self.strategy:
            return None
        side, seed = self.source.resolution, self.recipe.seed
        return siamese_draws(self._members, self.strategy, side, seed, self.iteration, update)

    def _strategy(self) -> Strategy:
        named = self.settings.strategy
        if named is None:
            return siamese.usual_strategy(self.source.name)
        return siamese.strategy_of(named) if named else ()


class NetworkVisit:
    """Network k and what its schedule has done under it; see :class:`schedules.Visit`."""

    def __init__(self, matcher: Matcher) -> None:
        self._matcher, self._seed = matcher, matcher.recipe.seed
        self._network = fresh_network(matcher.build, self._seed, matcher.iteration)
        self._trained = isinstance(matcher.settings, TrainedSettings)
        self._network.requires_grad_(self._trained)
        self._losses: list[float] = []
        self._norms: list[float] = []
        self._epochs = self._caps = 0
        self._accuracies: list[float] = []

    def move(self) -> None:
        """One step of the images: a batch and a view of each class, the loss, SGD."""
        matcher, update = self._matcher, len(self._losses)
        matched = matcher.parts.loss(
            self._network, matcher.real(update), matcher.images, matcher.draws(update)
        )
        self._require_finite(matched)
        matcher.move(matched)
        self._losses.append(matched.terms.sum().item())
        self._norms.append(matched.gradient.norm().item())

    def training(self) -> Callable[[], None]:
        """Plain SGD on the images as they are, seen through views if the method has some."""
        matcher, settings = self._matcher, self._matcher.settings
        assert isinstance(settings, TrainedSettings)
        self._epochs = 0
        training = EpochTraining(
            self._network,
            len(matcher.images),
            Optimisation(
                "sgd",
                settings.network_learning_rate,
                epochs=1,
                batch_size=settings.network_batch,
                momentum=0.0,
                schedule="constant",
            ),
            self._training_loss(),
            seed=self._seed,
            purpose=self._purpose(),
        )

        def epoch() -> None:
            try:
                training.run_epoch()
            except NumericalError:
                raise NumericalError(
                    f"{self._place()}: the network's loss on the images is not finite; the last "
                    "checkpoint is kept; lower method.learning_rate or method.network_learning_rate"
                ) from None
            self._epochs += 1

        return epoch

    @torch.no_grad()
    def accuracy(self) -> float:
        """The mean over the classes of the share of fresh training images that is right.

        As CAFE's authors ran it, a C-th of the answer before is added to each.
        """
        matcher, settings = self._matcher, self._matcher.settings
        assert isinstance(settings, CAFESettings)
        query = matcher.query(settings.query_batch, len(self._losses), self._epochs)
        found = fmean(self._share(batch, label) for label, batch in enumerate(query))
        if settings.carry_accuracy and self._accuracies:
            found += self._accuracies[-1] / matcher.source.classes
        self._accuracies.append(found)
        return found

    def capped(self) -> None:
        """Counted in the log."""
        self._caps += 1

    def metrics(self) -> dict[str, float]:
        """Means over the steps of the images; of queried networks, how they went."""
        found = {"loss": fmean(self._losses), "image_gradient_norm": fmean(self._norms)}
        if self._accuracies:
            found |= {
                "updates": len(self._losses),
                "epochs": len(self._accuracies) - len(self._losses),
                "caps": self._caps,
                "query_accuracy": fmean(self._accuracies),
            }
        return found

    def _share(self, images: Tensor, label: int) -> float:
        """The share of the images (n, c, h, w) that the network takes for this class."""
        parts = [self._network(part).argmax(1) == label for part in parts_of_batch(images)]
        return torch.cat(parts).float().mean().item()

    def _training_loss(self) -> Loss:
        matcher = self._matcher
        images, classes, purpose = matcher.images, matcher.classes, self._purpose()

        def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
            places = hardware.sent(rows, images.device)
            seen = images[places]
            if matcher.strategy:
                generator = rng.stream(self._seed, f"{purpose}/draw/{epoch}", step)
                drawn = siamese.draw(matcher.strategy, seen.shape[-1], generator, len(seen))
                seen = siamese.apply(seen, drawn)
            return F.cross_entropy(network(in_favoured_layout(seen)), classes[places])

        return loss

    def _purpose(self) -> str:
        """What the streams of a training begin with: network, and steps of the images before."""
        return f"matching/training/{self._matcher.iteration}/{len(self._losses)}"

    def _require_finite(self, matched: Matched) -> None:
        # An image at a time: a gradient of colour images may lie in channels-last layout.
        images = matched.gradient.isfinite().flatten(1).all(1)
        finite = matched.terms.isfinite() & images.view(len(matched.terms), -1).all(1)
        wrong = (~finite).nonzero()
        if len(wrong):
            name = self._matcher.source.class_names[int(wrong[0])]
            raise NumericalError(
                f"{self._place()}: the loss of class {name} is not finite; the last checkpoint is "
                "kept; lower method.learning_rate"
            )

    def _place(self) -> str:
        """Which iteration, and after the first step of the images under it which step."""
        step = f", step {len(self._losses) + 1}" if self._losses else ""
        return f"iteration {self._matcher.iteration + 1}{step}"


def _require_usable(network: nn.Module, method: str, parts: Parts) -> None:
    """What the loss compares, of each image by itself where chunks are not to change it."""
    if not zoo.has_features(network):
        raise NetworkError(
            f"{method} looks at what a network's last layer sees, which networks of other "
            "libraries and of your own do not tell; take one of potstill's, such as convnet"
        )
    if parts.maps and not isinstance(network, ConvNet):
        raise NetworkError(
            f"{method} looks into the blocks of a ConvNet, which this network has not; set "
            "network.name to convnet"
        )
    if couples_batch(network) and not parts.couples:
        raise NetworkError(
            f"batch norm ties the images of a batch together, which {method} takes one by one; "
            "set network.normalisation to instance"
        )
