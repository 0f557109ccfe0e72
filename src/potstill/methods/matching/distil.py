"""The matching methods from recipe to distilled set, resumable between two networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from potstill import hardware, rng
from potstill.data import siamese
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Preprocess, fit
from potstill.data.siamese import Draw, Strategy
from potstill.data.source import SourceDataset, centred_one_hot
from potstill.errors import NetworkError, NumericalError
from potstill.methods.coresets.choose import members
from potstill.methods.loop import iterate
from potstill.methods.matching.descent import momentum_step
from potstill.methods.matching.draws import fresh_network, real_rows, siamese_draws
from potstill.methods.matching.losses import Matched
from potstill.methods.matching.parts import parts_of
from potstill.methods.matching.settings import MatchingSettings, TrainedSettings
from potstill.methods.matching.starts import start
from potstill.methods.method import Session
from potstill.methods.product import product
from potstill.methods.recipe import Recipe, method_of
from potstill.networks import zoo
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
    settings = method_of(recipe, MatchingSettings)
    preprocess = fit(recipe.data, source.train.images)
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
        evaluation={"strategy": list(matcher.strategy)} if matcher.strategy else None,
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
        _require_usable(self.build(), self.settings.kind)
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
        momentum_step(
            self.images, self._velocity, matched.gradient, settings.learning_rate, settings.momentum
        )

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
        batch = self.settings.real_batch
        for rows in real_rows(self._members, batch, self.recipe.seed, self.iteration, update):
            yield self._preprocess.apply(self.source.train.images[rows]).to(self.device)

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

        return epoch

    def metrics(self) -> dict[str, float]:
        """Means over the steps of the images."""
        return {"loss": fmean(self._losses), "image_gradient_norm": fmean(self._norms)}

    def _training_loss(self) -> Loss:
        matcher = self._matcher
        images, classes, purpose = matcher.images, matcher.classes, self._purpose()

        def loss(network: nn.Module, rows: Tensor, epoch: int, step: int) -> Tensor:
            places = rows.to(images.device)
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
        blocks = matched.gradient.view(len(matched.terms), -1)
        finite = matched.terms.isfinite() & blocks.isfinite().all(1)
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


def _require_usable(network: nn.Module, method: str) -> None:
    """Features of each image by itself: what the loss compares, and chunks do not change."""
    if not zoo.has_features(network):
        raise NetworkError(
            f"{method} looks at what a network's last layer sees, which networks of other "
            "libraries and of your own do not tell; take one of potstill's, such as convnet"
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise NetworkError(
            "batch norm ties the images of a batch together, real and distilled apart; set "
            "network.normalisation to instance"
        )
