"""ZCA from the command line: fitted once, kept in the cache folder, applied on the device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from potstill import cli
from potstill.config import DataRecipe
from potstill.data import datasets, statistics
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import fit
from potstill.methods.rcig import source
from potstill.methods.rcig.source import TargetImages

RANDOM = ["distill", "quickstart/digits-rcig", "--set", "method.variant=random"]
ZCA = [*RANDOM, "--set", "data.preprocess=zca"]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Where each fit was computed."""
    seen: list[torch.device] = []
    real = statistics.covariance

    def seeing(*arguments: object) -> torch.Tensor:
        seen.append(arguments[-1])  # type: ignore[arg-type]
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(statistics, "covariance", seeing)
    return seen


def test_zca_is_fitted_once_for_all_runs_on_the_data(
    answer: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fits: list[torch.device],
) -> None:
    paths = [Path(answer(*ZCA, "--out", tmp_path / name).strip()) for name in ("a", "b")]
    assert fits == [torch.device("cpu")]
    first, second = (DistilledDataset.load(path) for path in paths)
    assert first.digest == second.digest
    answer(*ZCA, "--out", tmp_path / "c", "--cache", tmp_path / "cache")
    assert len(fits) == 2 and len(list((tmp_path / "cache" / "whitenings").iterdir())) == 1
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    answer(*ZCA, "--out", tmp_path / "d", "--seed", "1")
    assert len(fits) == 2
    answer(*ZCA, "--out", tmp_path / "e", "--set", "data.zca_block=4")
    assert len(fits) == 3


def test_a_cache_that_cannot_be_written_is_a_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    words = ["--out", str(tmp_path / "run"), "--cache", str(tmp_path / "file")]
    assert cli.run([*RANDOM, *words]) == 0
    assert "warning" not in capsys.readouterr().err
    words[1] = str(tmp_path / "white")
    assert cli.run([*ZCA, *words]) == 0
    assert "warning: the fitted ZCA is not kept for the next time" in capsys.readouterr().err


@pytest.mark.parametrize("ready", [True, False])
def test_a_batch_is_whitened_on_the_device(ready: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ready:
        monkeypatch.setattr(source, "CACHE_BYTES", 0)
    digits = datasets.load(DataRecipe(), None)
    fitted = fit(DataRecipe(preprocess="zca"), digits.train.images)
    seen: list[torch.device] = []
    real = type(fitted)._forward

    def seeing(self: object, images: torch.Tensor) -> torch.Tensor:
        seen.append(images.device)
        return real(self, images)  # type: ignore[arg-type]

    monkeypatch.setattr(type(fitted), "_forward", seeing)
    images, _ = TargetImages(digits, fitted, 0, torch.device("meta")).batch(8, 0)
    assert images.device.type == "meta" and {device.type for device in seen} == {"meta"}
