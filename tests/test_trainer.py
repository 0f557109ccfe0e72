from __future__ import annotations

import pytest
import torch
from torch import Tensor

from potstill.errors import NumericalError
from potstill.train import Trainer

STEPS, NETWORKS = 120, 3
TARGETS = torch.arange(12.0, dtype=torch.float64).view(NETWORKS, 4)


class Fit:
    """NETWORKS independent rows of numbers, drawn to TARGETS from wherever they stand."""

    def __init__(self, steps: int = STEPS) -> None:
        self.rows = torch.zeros(NETWORKS, 4, dtype=torch.float64, requires_grad=True)
        self.trainer = Trainer(
            torch.optim.Adam([self.rows], fused=True),
            lambda step: 0.1 / (1 + step),
            steps=steps,
            networks=NETWORKS,
            name_loss=lambda *place: f"the loss {place}",
        )

    def loss(self, step: int) -> Tensor:
        return ((self.rows - TARGETS) ** 2).sum(1) * (1 + step / STEPS)


def test_rounds_follow_each_other_as_steps_of_one():
    halves, whole = Fit(STEPS // 2), Fit()
    parts = [
        halves.trainer.run_round(lambda step, first=first: halves.loss(first + step))
        for first in (0, STEPS // 2)
    ]
    assert torch.equal(torch.cat(parts), whole.trainer.run_round(whole.loss))
    assert torch.equal(halves.rows, whole.rows)
    assert (halves.trainer.round, halves.trainer.step) == (2, 0)


def test_losses_are_those_before_each_step():
    fit, seen = Fit(), []

    def loss(step: int) -> Tensor:
        seen.append(fit.loss(step).detach().clone())
        return fit.loss(step)

    assert torch.equal(fit.trainer.run_round(loss), torch.stack(seen))


@pytest.mark.parametrize("stop", [1, 77, STEPS])
def test_networks_side_by_side_stopped_anywhere_end_in_the_same_bits(stop):
    whole, first, second = Fit(), Fit(), Fit()
    losses = whole.trainer.run_round(whole.loss)

    def progress(stage: str, done: int, total: int, **_: float) -> None:
        assert (stage, total) == ("training step", STEPS)
        if done == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.trainer.run_round(first.loss, progress)
    second.rows.data.copy_(first.rows)
    second.trainer.restore(first.trainer.state())
    assert torch.equal(second.trainer.run_round(second.loss), losses)
    assert torch.equal(second.rows, whole.rows)


@pytest.mark.parametrize(("wrong", "noticed"), [(10, 50), (50, 100), (110, STEPS)])
def test_a_loss_that_is_not_finite_is_noticed_within_fifty_steps(wrong, noticed):
    fit, seen = Fit(), []
    spoilt = torch.tensor([1.0, 1.0, torch.nan])
    with pytest.raises(NumericalError, match=rf"the loss \(0, {wrong}, 2\) is not finite; lower"):
        fit.trainer.run_round(
            lambda step: fit.loss(step) * (spoilt if step == wrong else 1),
            lambda stage, done, total, **_: seen.append(done),
        )
    assert seen[-1] == noticed - 1
    with pytest.raises(NumericalError):
        fit.trainer.state()
