from __future__ import annotations

from pathlib import Path

import pytest
import torch

from potstill import storage
from potstill.config import DataRecipe
from potstill.data import statistics, whitening_cache
from potstill.data.preprocess import ZCA, Preprocess, fit
from potstill.data.transforms import Standardise
from potstill.data.whitening_cache import WhiteningCache
from potstill.rng import stream

RECIPE = DataRecipe(preprocess="zca", zca_block=4)


@pytest.fixture
def images() -> torch.Tensor:
    generator = stream(0, "test/images")
    return torch.from_numpy(generator.integers(0, 256, (20, 3, 8, 8))).to(torch.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> WhiteningCache:
    return WhiteningCache(tmp_path / "cache")


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one for each fit."""
    seen: list[int] = []
    real = statistics.covariance

    def counted(*arguments: object) -> torch.Tensor:
        seen.append(1)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(statistics, "covariance", counted)
    return seen


def same(one: Preprocess, other: Preprocess) -> bool:
    a, b = one.tensors(), other.tensors()
    return one.describe() == other.describe() and all(torch.equal(a[name], b[name]) for name in a)


def only(folder: Path) -> Path:
    (path,) = (folder / "cache").iterdir()
    return path


def test_what_a_killed_process_left_there_goes_with_the_next_fit(
    images: torch.Tensor, cache: WhiteningCache, tmp_path: Path
) -> None:
    left = tmp_path / "cache" / f".potstill-{'0' * 32}.tmp"
    left.parent.mkdir()
    left.write_bytes(b"half")
    fit(RECIPE, images, cache=cache)
    assert not left.exists() and only(tmp_path).suffix == ".safetensors"


def test_a_fit_is_found_again_to_the_bit(
    images: torch.Tensor, cache: WhiteningCache, fits: list[int]
) -> None:
    first, again = (fit(RECIPE, images, cache=cache) for _ in range(2))
    assert len(fits) == 1
    assert isinstance(again, ZCA)
    assert torch.equal(again.apply(images), first.apply(images))
    assert same(first, again) and same(again, fit(RECIPE, images))


@pytest.mark.parametrize("change", ["images", "regularisation", "block", "generation", "threads"])
def test_what_a_fit_depends_on_makes_another(
    change: str,
    images: torch.Tensor,
    cache: WhiteningCache,
    fits: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit(RECIPE, images, cache=cache)
    recipe = RECIPE
    if change == "images":
        images = images.clone()
        images[7, 1, 2, 3] ^= 1
    elif change == "generation":
        monkeypatch.setattr(whitening_cache, "GENERATION", 0)
    elif change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 63)
    else:
        update = {"regularisation": {"zca_regularisation": 0.2}, "block": {"zca_block": 8}}
        recipe = RECIPE.model_copy(update=update[change])
    found = fit(recipe, images, cache=cache)
    assert len(fits) == 2
    assert same(found, fit(recipe, images))


def test_a_damaged_file_is_made_again(
    images: torch.Tensor, cache: WhiteningCache, fits: list[int], tmp_path: Path
) -> None:
    fitted = fit(RECIPE, images, cache=cache)
    path = only(tmp_path)
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    for damaged in (b"", b"no file", whole[:1000], whole[:-1], flipped, b"\xff" * len(whole)):
        path.write_bytes(damaged)
        assert same(fit(RECIPE, images, cache=cache), fitted)
        assert path.read_bytes() == whole
    assert len(fits) == 7


def test_a_foreign_file_is_not_trusted(
    images: torch.Tensor, cache: WhiteningCache, fits: list[int], tmp_path: Path
) -> None:
    fitted = fit(RECIPE, images, cache=cache)
    path = only(tmp_path)
    document, tensors = storage.decode(path, storage.WHITENING)
    other = fit(RECIPE.model_copy(update={"zca_block": 8}), images)
    standardise = Standardise(fitted.mean, fitted.std)
    for change, parts, kind in (
        ({"key": {**document["key"], "images": "0" * 64}}, tensors, storage.WHITENING),
        ({"key": None}, tensors, storage.WHITENING),
        ({"preprocess": other.describe()}, other.tensors(), storage.WHITENING),
        ({"preprocess": standardise.describe()}, {}, storage.WHITENING),
        ({"preprocess": []}, tensors, storage.WHITENING),
        ({"format_version": 2}, tensors, storage.WHITENING),
        ({}, {**tensors, "whitening": -tensors["whitening"]}, storage.WHITENING),
        ({}, tensors, storage.TEACHER),
    ):
        storage.save(path, {**document, **change}, parts, kind)
        fits.clear()
        assert same(fit(RECIPE, images, cache=cache), fitted)
        assert len(fits) == 1
    del document["key"]
    storage.save(path, document, tensors, storage.WHITENING)
    fits.clear()
    fit(RECIPE, images, cache=cache)
    assert len(fits) == 1


def test_a_folder_that_cannot_be_written_costs_no_fit(images: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = WhiteningCache(tmp_path / "file" / "below")
    assert same(fit(RECIPE, images, cache=cache), fit(RECIPE, images))
    assert cache.problem is not None and "cannot write" in cache.problem


def test_nothing_is_written_without_a_folder_or_whitening(
    images: torch.Tensor, cache: WhiteningCache, tmp_path: Path
) -> None:
    fit(DataRecipe(), images, cache=cache)
    fit(RECIPE, images, cache=WhiteningCache())
    assert not list(tmp_path.iterdir())
