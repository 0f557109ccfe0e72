"""The whole of RCIG on the embedded digits: every variant, determinism, resuming."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset
from potstill.errors import DataError, NumericalError, RecipeError
from potstill.methods.distilling import distill
from potstill.methods.rcig.coreset import Coreset
from potstill.methods.recipe import Recipe, override, parse
from potstill.runs import Run

SMALL = {
    "name": "test",
    "network": {"depth": 2, "width": 4},
    "method": {
        "iterations": 6,
        "target_batch": 32,
        "pool": {"size": 3, "max_steps": 8, "steps_per_visit": [1, 3]},
    },
    "checkpoint_every": 2,
    "log_every": 1,
}

# A few steps at fixed rates: the search is tested where it stands.
ADAM = (
    "method.solver.name=adam",
    "method.solver.tune=false",
    "method.solver.inner_steps=4",
    "method.solver.inverse_steps=4",
)


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(parse({}, source="test").data, None)


def recipe(*assignments: str) -> Recipe:
    return parse(override(SMALL, assignments), source="test")


def same(a: DistilledDataset, b: DistilledDataset) -> bool:
    return torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["method.solver.name=adam"],
        [*ADAM, "method.clip_implicit=true"],
        ["method.variant=frepo", "method.outer_loss=mse"],
        ["method.variant=cig", *ADAM],
        ["method.variant=rig", *ADAM],
        ["method.variant=vig", *ADAM],
        ["method.flip=true"],
        ["method.start=noise"],
        ["method.label_margin=true"],
        ["method.learn_labels=false"],
        ["method.softplus_beta=null"],
        ["network.normalisation=batch"],
        ["images_per_class=3", "method.subset=5"],
        ["images_per_class=3", "method.subset=5", *ADAM],
        ["images_per_class=2", "method.subset=5", "method.flip=true"],
        ["data.preprocess=zca"],
        ["method.target_precision=float32", "method.kernel_dtype=float32"],
    ],
    ids=lambda a: " ".join(a) or "default",
)
def test_every_setting_runs_and_moves_the_images(
    assignments: list[str], digits: SourceDataset
) -> None:
    wanted = recipe(*assignments)
    result = distill(wanted, digits)
    start = distill(recipe(*assignments, "method.iterations=0"), digits)
    assert len(result) == 10 * wanted.images_per_class
    assert not torch.equal(result.images, start.images)
    assert torch.equal(result.labels, start.labels) is not wanted.method.learn_labels
    assert result.header["iterations"] == 6


def test_random_is_real_images_with_hard_labels(digits: SourceDataset) -> None:
    result = distill(recipe("method.variant=random", "images_per_class=2"), digits)
    pixels = result.pixels().mul(255).round().byte()
    for image, label in zip(pixels, result.hard_labels(), strict=True):
        real = digits.train.images[digits.train.labels == label]
        assert (real == image).flatten(1).all(1).any()
    assert torch.allclose(result.labels.sum(1), torch.zeros(20), atol=1e-6)


def test_the_loss_falls_on_real_digits(digits: SourceDataset) -> None:
    seen: list[dict[str, float]] = []
    distill(
        recipe("method.iterations=40", "network.width=8", "method.target_batch=256"),
        digits,
        progress=lambda stage, done, total, **metrics: seen.append(metrics),
    )
    first = sum(m["loss"] for m in seen[:5]) / 5
    last = sum(m["loss"] for m in seen[-5:]) / 5
    assert last < 0.7 * first


def test_same_seed_same_bytes_other_seed_other_set(digits: SourceDataset) -> None:
    assert same(distill(recipe(), digits), distill(recipe(), digits))
    assert not same(distill(recipe(), digits), distill(recipe("seed=1"), digits))


@pytest.mark.parametrize(
    "assignments",
    [
        [],
        ["method.solver.name=adam", "method.solver.inner_steps=3"],
        ["method.flip=true", "network.normalisation=batch"],
        ["images_per_class=2", "method.subset=6", *ADAM],
    ],
    ids=lambda a: " ".join(a) or "default",
)
def test_resuming_gives_the_same_bytes(
    assignments: list[str], digits: SourceDataset, tmp_path: Path
) -> None:
    wanted = recipe(*assignments)
    with Run.create(tmp_path / "whole", wanted) as run:
        distill(wanted, digits, run)

    class Killed(Exception):
        pass

    def die_in_the_fifth(stage: str, iteration: int, total: int, **_: float) -> None:
        if iteration == 5:
            raise Killed

    with pytest.raises(Killed), Run.create(tmp_path / "cut", wanted) as run:
        distill(wanted, digits, run, progress=die_in_the_fifth)
    assert not (tmp_path / "cut" / "distilled.safetensors").exists()
    done: list[int] = []
    with Run.create(tmp_path / "cut", wanted, resume=True) as run:
        distill(wanted, digits, run, progress=lambda stage, i, total, **_: done.append(i))
    assert done == [5, 6]
    whole, cut = (tmp_path / n / "distilled.safetensors" for n in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_ctrl_c_saves_and_resumes(digits: SourceDataset, tmp_path: Path) -> None:
    import signal

    def interrupt(stage: str, iteration: int, total: int, **_: float) -> None:
        if iteration == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), Run.create(tmp_path, recipe()) as run:
        distill(recipe(), digits, run, progress=interrupt)
    with Run.create(tmp_path, recipe(), resume=True) as run:
        checkpoint = run.load_checkpoint()
        assert checkpoint is not None and checkpoint[0] == 3


def test_nan_stops_with_the_iteration_and_keeps_the_checkpoint(
    digits: SourceDataset, tmp_path: Path
) -> None:
    wanted = recipe("method.temperature_learning_rate=1e30", "method.iterations=50")
    with (
        pytest.raises(NumericalError, match=r"iteration \d+"),
        Run.create(tmp_path, wanted) as run,
    ):
        distill(wanted, digits, run)


def test_too_few_images(digits: SourceDataset) -> None:
    with pytest.raises(DataError, match="class 0 has"):
        distill(recipe("images_per_class=1000"), digits)


def test_a_subset_under_batch_norm_is_refused(digits: SourceDataset) -> None:
    wanted = recipe("method.subset=4", "network.normalisation=batch")
    with pytest.raises(RecipeError, match="biased"):
        distill(wanted, digits)


def test_the_artefact_says_where_it_comes_from(digits: SourceDataset) -> None:
    header: dict[str, Any] = distill(recipe("seed=3"), digits).header
    assert header["method"] == "rcig" and header["seed"] == 3
    assert header["recipe"]["network"]["width"] == 4
    assert header["source"]["fingerprint"] == digits.fingerprint
    assert header["evaluation"]["protocol"] == "rcig-paper"


@pytest.mark.parametrize(("given", "kept"), [("/home/me/pets", "pets"), ("our/pets", "our/pets")])
def test_no_path_of_a_machine_enters_the_artefact(
    given: str, kept: str, digits: SourceDataset
) -> None:
    wanted = recipe("method.variant=random", f"data.folder={given}")
    assert distill(wanted, digits).header["recipe"]["data"]["folder"] == kept


def test_an_update_that_overflows_is_not_checkpointed(
    digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflow(self: Coreset, gradient: object) -> None:
        self.images[0] = torch.inf

    wanted = recipe("checkpoint_every=1")
    with (
        pytest.raises(NumericalError, match="last checkpoint is kept"),
        Run.create(tmp_path, wanted) as run,
    ):
        monkeypatch.setattr(Coreset, "update", overflow)
        distill(wanted, digits, run)
    assert not (tmp_path / "checkpoint.safetensors").exists()
