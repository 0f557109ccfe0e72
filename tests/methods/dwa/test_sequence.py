"""A term that keeps groups apart from earlier ones: its formula, its gradient, groups in turn."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from potstill.audits.diversity import diversity
from potstill.data.distilled import DistilledDataset
from potstill.errors import NetworkError
from potstill.execution import Here
from potstill.methods.distilling import distill
from potstill.methods.dwa.bn_statistics import MeasuredNetwork
from potstill.methods.dwa.distil import GROUPS, distil
from potstill.methods.dwa.sequence import Apart
from potstill.methods.method import Session
from potstill.methods.recipe import Recipe
from potstill.runs import Run
from tests.methods.dwa.problems import recipe, source, teacher


def in_sequence(weight: float = 2.0, images_per_class: int = 3, **changes: object) -> Recipe:
    settings = recipe(sequence_weight=weight, class_batch=5, **changes)
    return settings.model_copy(update={"images_per_class": images_per_class})


def random(*shape: int) -> Tensor:
    torch.manual_seed(len(shape))
    return torch.randn(shape, dtype=torch.float64)


def by_loops(features: Tensor, real: Tensor, earlier: Tensor) -> Tensor:
    """The formula as it is written."""
    pairs = [(i, group[i]) for group in earlier for i in range(len(real))]
    unit = sum((real[i] - one).square().sum() for i, one in pairs) / len(pairs)
    near = [torch.exp(-(features[i] - one).square().sum() / unit) for i, one in pairs]
    return sum(near) / len(pairs)


def test_the_term_is_that_of_the_loops_and_so_is_its_gradient() -> None:
    features, real, earlier = random(4, 6).requires_grad_(), random(4, 6) + 1, random(3, 4, 6)
    term = Apart(real, earlier)
    torch.testing.assert_close(term(features), by_loops(features, real, earlier))
    ours, theirs = (
        torch.autograd.grad(value, features)[0]
        for value in (term(features), by_loops(features, real, earlier))
    )
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(term, (features,))


def test_the_term_is_1_for_a_repetition_and_small_far_away() -> None:
    real, earlier = random(4, 6) + 1, random(1, 4, 6)
    term = Apart(real, earlier)
    assert term(earlier[0]).item() == 1
    assert term(earlier[0] + 1e3).item() == 0
    assert Apart(real[:1], earlier[:, :1])(real[:1]).item() == pytest.approx(math.exp(-1))
    assert Apart(real, earlier[:0])(real).item() == 0
    assert Apart(real, real[None])(real).isfinite()


def test_features_are_what_the_last_linear_layer_sees() -> None:
    network = teacher().network.double()
    images = random(3, 1, 8, 8)
    measured = MeasuredNetwork(network, features=True)
    outputs, _ = measured(images)
    torch.testing.assert_close(measured.features, network.features(images))  # type: ignore[operator]
    torch.testing.assert_close(measured.module.head(measured.features), outputs)  # type: ignore[operator]
    with pytest.raises(NetworkError, match="no linear layer"):
        MeasuredNetwork(nn.Sequential(nn.BatchNorm2d(1)), features=True)


def test_the_first_group_is_the_one_without_the_term_and_later_ones_move_away() -> None:
    plain, apart = (
        distill(in_sequence(weight, iterations=20), source(), teacher=teacher())
        for weight in (0.0, 100.0)
    )
    assert torch.equal(plain.first(1).images, apart.first(1).images)
    assert not torch.equal(plain.images, apart.images)
    ours, theirs = (diversity(one, teacher()).distance.mean for one in (apart, plain))
    assert ours > 1.02 * theirs
    assert "in sequence at 100" in apart.header["description"]["detail"]


class Backwards:
    """Works on the last unit first, as processes may."""

    def map(self, work: Any, units: Sequence[Any], tell: Any) -> Generator[Any]:
        return Here().map(work, units[::-1], tell)


def test_a_set_in_sequence_begins_with_the_smaller_one_whatever_is_done_first() -> None:
    whole = distill(in_sequence(), source(), teacher=teacher())
    session = Session(teacher=teacher(), executor=Backwards())
    smaller = distil(in_sequence(images_per_class=2), source(), session)
    assert torch.equal(whole.first(2).images, smaller.images)


def test_a_sequence_that_was_stopped_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    whole = distill(in_sequence(), source(), teacher=teacher())

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if done > 10:  # in the fourth of six groups
            raise Stop

    with pytest.raises(Stop), Run.create(tmp_path / "run", in_sequence()) as run:
        distill(in_sequence(), source(), run, teacher=teacher(), progress=stop)
    kept = sorted(path.name for path in (tmp_path / "run" / GROUPS).iterdir())
    assert len(kept) == 3
    # One that is made again is what it was, so that those after it are right.
    (tmp_path / "run" / GROUPS / kept[0]).unlink()
    with Run.create(tmp_path / "run", in_sequence(), resume=True) as run:
        distill(in_sequence(), source(), run, teacher=teacher())
    assert DistilledDataset.load(tmp_path / "run" / "distilled.safetensors").digest == whole.digest
    assert "sequence_term" in (tmp_path / "run" / "metrics.jsonl").read_text()
