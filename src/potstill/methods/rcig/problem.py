"""One meta-iteration's bilevel problem, and what every way of solving it shares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from potstill.methods.rcig.outer import outer_loss
from potstill.methods.rcig.settings import RCIGSettings
from potstill.networks.functional import Linearisation
from potstill.networks.jacobian import Jacobian


@dataclass(frozen=True)
class MetaGradient:
    """dL_outer/d(psi), psi = {X_S, y_S, log tau}, and what was seen on the way."""

    images: Tensor
    """(n, c, h, w)"""
    labels: Tensor
    """(n, C)"""
    log_temperature: Tensor
    """scalar"""
    metrics: dict[str, float]


@dataclass(frozen=True)
class Problem:
    """The outer problem at one model of the pool and one target batch.

    Attributes:
        theta: theta_0 (p,).
        images: X_S (n, c, h, w), without mirror images.
        labels: y_S (n, C).
        log_temperature: scalar.
        target_images: X_T (b, c, h, w).
        target_labels: (b,) int64.
        chunk: images processed at a time where memory must stay bounded.
        target_dtype: type of the convolutions on X_T; that of X_T if None.
        draw_rows: a fresh random subset of range(n) for a backward pass, or None
            for all rows (3.6).
        clock: called with a part's name where that part begins.
    """

    settings: RCIGSettings
    jacobian: Jacobian
    theta: Tensor
    images: Tensor
    labels: Tensor
    log_temperature: Tensor
    target_images: Tensor
    target_labels: Tensor
    chunk: int = 64
    target_dtype: torch.dtype | None = None
    draw_rows: Callable[[], Tensor] | None = None
    clock: Callable[[str], None] = field(default=lambda part: None)

    @property
    def regulariser(self) -> float:
        """Lambda = l2_rate n, n counted without mirror images."""
        return self.settings.l2_rate * len(self.images)

    @property
    def kernel_dtype(self) -> torch.dtype:
        """Type of the last layer's kernel and of its solves."""
        return torch.float64 if self.settings.kernel_dtype == "float64" else torch.float32

    def support(self) -> tuple[Tensor, Tensor]:
        """S as the inner problem sees it: (N, c, h, w) and (N, C), N = n or 2 n."""
        return support(self.images, self.labels, flip=self.settings.flip)

    def linearise(self, images: Tensor) -> Linearisation:
        """J_S; its activations are recomputed instead of kept if a subset is drawn."""
        if self.draw_rows is None:
            return self.jacobian.at(self.theta, images)
        return self.jacobian.in_chunks(self.theta, images, self.chunk)

    def rows(self, total: int) -> tuple[Tensor, float]:
        """Rows of S (mirror images included) that a backward pass visits, and its weight."""
        n = len(self.images)
        if self.draw_rows is None:
            return torch.arange(total, device=self.images.device), 1.0
        rows = self.draw_rows()
        mirrored = torch.cat([rows + n * i for i in range(total // n)])
        return mirrored, n / len(rows)

    def pull_back(
        self, tangents: Tensor, cotangents: Tensor, feature_cotangent: Tensor | None = None
    ) -> Tensor:
        """Grad of :meth:`Jacobian.image_gradient` with respect to X_S (n, c, h, w).

        Visits the drawn rows only, weighted so that its mean over all draws is the
        full gradient; folds the mirror images' part back.
        """
        images, _ = self.support()
        rows, weight = self.rows(len(images))
        total = torch.zeros_like(images)
        size = len(rows) if self.jacobian.couples_batch else self.chunk
        for part in rows.split(size):
            total[part] = self.jacobian.image_gradient(
                self.theta,
                images[part],
                tangents,
                cotangents[:, part],
                None if feature_cotangent is None else feature_cotangent[part],
            ).mul_(weight)
        return self.fold(total, mirror=True)

    def fold(self, gradient: Tensor, *, mirror: bool = False) -> Tensor:
        """Sum the mirror images' part of a gradient (N, ...) into the originals' (n, ...)."""
        n = len(self.images)
        if len(gradient) == n:
            return gradient
        return gradient[:n] + (gradient[n:].flip(3) if mirror else gradient[n:])


def support(images: Tensor, labels: Tensor, *, flip: bool) -> tuple[Tensor, Tensor]:
    """S, followed by its mirror images with the same labels if ``flip``."""
    if not flip:
        return images, labels
    return torch.cat([images, images.flip(3)]), torch.cat([labels, labels])


@dataclass(frozen=True)
class TargetPass:
    """The outer loss at f(X_T) = J_T theta."""

    loss: float
    accuracy: float
    gradient: Tensor
    """g_T = J_T^T dL/df, (p,)"""
    log_temperature_gradient: Tensor


def target_pass(problem: Problem, direction: Tensor) -> TargetPass:
    """One forward, one forward-mode and one weights-only reverse product, in chunks.

    Args:
        direction: theta (p,), over all parameters.
    """
    b = len(problem.target_images)
    size = b if problem.jacobian.couples_batch else problem.chunk
    gradient = torch.zeros_like(direction)
    loss = torch.zeros((), dtype=direction.dtype, device=direction.device)
    temperature, correct = loss.clone(), loss.clone()
    for images, classes in zip(
        problem.target_images.split(size), problem.target_labels.split(size), strict=True
    ):
        j = problem.jacobian.at(problem.theta, images, dtype=problem.target_dtype)
        outputs = j.jvp(direction)
        outer = outer_loss(
            problem.settings.outer_loss, outputs, classes, problem.log_temperature, b
        )
        gradient += j.vjp(outer.gradient)
        loss += outer.value
        temperature += outer.log_temperature_gradient
        correct += (outputs.argmax(1) == classes).sum()
        del j  # its activations, before those of the next chunk
    return TargetPass(loss.item(), correct.item() / b, gradient, temperature)
