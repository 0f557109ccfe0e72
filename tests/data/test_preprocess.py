from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.config import DataRecipe
from potstill.data import statistics
from potstill.data.blocks import Blocks, Tiling
from potstill.data.preprocess import ZCA, Preprocess, Standardise, fit
from potstill.errors import ArtefactError, DataError
from potstill.rng import stream
from tests.reference import zca as reference


def natural(n: int, c: int, h: int, w: int, seed: int = 0) -> torch.Tensor:
    """Smooth random images (n, c, h, w) uint8: neighbouring pixels are correlated."""
    noise = stream(seed, "test/images").normal(size=(n, c, h, w)).cumsum(2).cumsum(3)
    scaled = 255 * (noise - noise.min()) / (noise.max() - noise.min())
    return torch.from_numpy(scaled.round().astype(np.uint8))


def recipe(**changes: object) -> DataRecipe:
    return DataRecipe.model_validate({"preprocess": "zca", **changes})


def white_of(fitted: ZCA) -> np.ndarray:
    return fitted.whitening.double().numpy()


shapes = st.tuples(
    st.integers(2, 40), st.sampled_from([1, 3]), st.integers(2, 6), st.integers(2, 6)
)


@pytest.fixture(params=["one chunk", "many chunks"])
def chunked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "many chunks":
        monkeypatch.setattr(statistics, "_CHUNK_NUMBERS", 500)


@settings(deadline=None, max_examples=40)
@given(shapes, st.integers(0, 3))
def test_standardise_has_mean_0_and_deviation_1_per_channel(
    shape: tuple[int, ...], seed: int
) -> None:
    images = natural(*shape, seed)
    fitted = fit(DataRecipe(), images)
    white = fitted.apply(images).double()
    assert white.mean((0, 2, 3)).abs().max() < 1e-5
    assert (white.var((0, 2, 3), correction=0).sqrt() - 1).abs().max() < 1e-5
    assert (fitted.invert(white) - images / 255).abs().max() < 1e-6


def test_given_statistics_are_used_as_they_are() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.full((2, 3, 4, 4), 51, dtype=torch.uint8)
    fitted = fit(DataRecipe(mean=mean, std=std), images)
    expected = [(0.2 - m) / s for m, s in zip(mean, std, strict=True)]
    np.testing.assert_allclose(fitted.apply(images)[1, :, 3, 3], expected, rtol=1e-6)
    assert fitted.describe() == {"kind": "standardise", "mean": list(mean), "std": list(std)}


@pytest.mark.usefixtures("chunked")
def test_channel_statistics_are_those_of_numpy_in_float64() -> None:
    images = natural(37, 3, 5, 5)
    pixels = images.numpy() / 255.0
    mean, std = statistics.channel_statistics(images)
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-14)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-13)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("shape", [(60, 3, 4, 4), (30, 1, 6, 5), (5, 3, 4, 4)])
def test_zca_is_that_of_the_dense_reference(shape: tuple[int, ...]) -> None:
    images = natural(*shape)
    expected = reference.fit(images.numpy(), 0.1)
    fitted = fit(recipe(), images)
    assert isinstance(fitted, ZCA)
    np.testing.assert_allclose(fitted.whitening, expected["whitening"], atol=2e-6)
    np.testing.assert_allclose(
        fitted.apply(images), reference.apply(expected, images.numpy()), atol=2e-5
    )
    identity = white_of(fitted) @ expected["inverse"]
    np.testing.assert_allclose(identity, np.eye(len(identity)), atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from([1e-3, 0.1, 1.0]), st.integers(0, 3))
def test_zca_shrinks_each_eigenvalue_to_s_over_s_plus_r_mean(
    shape: tuple[int, ...], regularisation: float, seed: int
) -> None:
    images = natural(*shape, seed)
    values = np.linalg.eigvalsh(reference.fit(images.numpy(), regularisation)["covariance"])
    fitted = fit(recipe(zca_regularisation=regularisation), images)
    white = fitted.apply(images).double().flatten(1)
    found = torch.linalg.eigvalsh(white.T @ white / len(white))
    np.testing.assert_allclose(
        found, values / (values + regularisation * values.mean()), atol=1e-3 * regularisation**0.5
    )


@settings(deadline=None, max_examples=40)
@given(shapes, st.sampled_from([0.01, 0.1]), st.integers(0, 3))
def test_zca_round_trips_both_ways(
    shape: tuple[int, ...], regularisation: float, seed: int
) -> None:
    fitted = fit(recipe(zca_regularisation=regularisation), natural(*shape, seed))
    other = natural(*shape, seed + 1)
    assert (fitted.invert(fitted.apply(other)) - other / 255).abs().max() < 1e-4
    distilled = torch.from_numpy(stream(seed, "test/noise").normal(size=shape)).float()
    again = fitted.apply(fitted.invert(distilled))
    assert (again - distilled).abs().max() < 1e-3


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("count", [60, 20])
def test_phases_share_one_whitening_of_their_averaged_covariance(count: int) -> None:
    images = natural(count, 3, 8, 12)
    fitted = fit(recipe(zca_block=4), images)
    assert isinstance(fitted, ZCA)
    whole = reference.fit(images.numpy(), 0.1)
    mean, std = whole["mean"][:, None, None], whole["std"][:, None, None]
    centred = (images.numpy() / 255 - mean) / std - whole["pixel_mean"]
    rows = np.stack([block for image in centred for block in reference.phases(image, 4)])
    assert rows.shape == (count * 6, 48)
    # 20 images are fewer than the 48 dimensions, their 120 rows are not: 28 directions stay.
    expected = reference.matrix(rows.T @ rows / len(rows), 0.1, count)
    np.testing.assert_allclose(white_of(fitted), expected, atol=2e-6)
    kept = np.isclose(np.linalg.eigvalsh(white_of(fitted)), 1, atol=1e-6).sum()
    assert kept == max(0, 48 - count)
    white = fitted.apply(images)
    found = [block for image in white.numpy() for block in reference.phases(image, 4)]
    np.testing.assert_allclose(np.stack(found), rows @ expected, atol=2e-5)
    assert (fitted.invert(white) - images / 255).abs().max() < 1e-5


def test_the_blocks_of_sets_made_before_are_contiguous() -> None:
    images = natural(60, 3, 8, 12)
    fitted = fit(recipe(zca_block=4), images)
    described = fitted.describe()
    assert described.pop("tiling") == "phases"
    earlier = Preprocess.from_parts(described, fitted.tensors())
    assert earlier.describe() == described
    whole = reference.fit(images.numpy(), 0.1)
    mean, std = whole["mean"][:, None, None], whole["std"][:, None, None]
    centred = (images.numpy() / 255 - mean) / std - whole["pixel_mean"]
    rows = np.stack([block for image in centred for block in reference.blocks(image, 4)])
    white = earlier.apply(images)
    found = [block for image in white.numpy() for block in reference.blocks(image, 4)]
    np.testing.assert_allclose(np.stack(found), rows @ white_of(fitted), atol=2e-5)
    assert (earlier.invert(white) - images / 255).abs().max() < 1e-5
    assert (white - fitted.apply(images)).abs().max() > 0.1


@settings(deadline=None, max_examples=40)
@given(
    st.tuples(st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 5),
    st.sampled_from(["phases", "contiguous"]),
)
def test_blocks_are_cut_and_joined(shape: tuple[int, ...], side: int, tiling: Tiling) -> None:
    count, channels, down, across = shape
    images = torch.arange(count * channels * down * across * side * side).reshape(
        count, channels, down * side, across * side
    )
    cut = Blocks(side, tiling).cut(images)
    slow = reference.phases if tiling == "phases" else reference.blocks
    expected = [block for image in images.numpy() for block in slow(image, side)]
    np.testing.assert_array_equal(cut, np.stack(expected))
    assert torch.equal(Blocks(side, tiling).join(cut, images.shape), images)


@pytest.mark.usefixtures("chunked")
@pytest.mark.parametrize("block", [None, 4])
def test_moments_are_those_of_float64(block: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_PANEL", 20)
    images = natural(50, 3, 8, 8)
    _, std = statistics.channel_statistics(images)
    pixels = images.double() / 255
    centred = (pixels - pixels.mean(0)) / std.view(-1, 1, 1)
    rows = Blocks(block).cut(centred)
    found = statistics.covariance(images, std, Blocks(block))
    np.testing.assert_allclose(found, rows.T @ rows / len(rows), rtol=1e-12, atol=1e-13)
    shuffled = images[torch.randperm(50, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(statistics.covariance(shuffled, std, Blocks(block)), found)


def test_float32_products_of_the_largest_pixels_are_exact() -> None:
    rows = torch.full((statistics._EXACT_ROWS, 2), -128.0)
    rows[1::2, 1] = 127
    total = torch.zeros(2, 2, dtype=torch.float64)
    statistics._add_products(total, rows)
    assert torch.equal(total, rows.double().T @ rows.double())
    assert total[0, 0] == 2**24  # one more row, and the sum need not be exact


@pytest.mark.parametrize("shape", [(100, 3, 4, 4), (5, 3, 4, 4), (100, 3, 12, 12)])
def test_whitening_in_float32_is_within_its_bound_of_float64(shape: tuple[int, ...]) -> None:
    images = natural(*shape)
    expected = reference.fit(images.numpy(), 0.1)
    exact = reference.apply(expected, images.numpy()).reshape(len(images), -1)
    rows, whitening = exact @ expected["inverse"], expected["whitening"]
    mean, std = expected["mean"][:, None, None], expected["std"][:, None, None]
    sizes = (images.numpy() / 255 + mean) / std + np.abs(expected["pixel_mean"])
    terms = rows.shape[1] ** 0.5 * np.abs(rows) + 4 * sizes.reshape(rows.shape)
    bound = 2.0**-24 * (terms @ np.abs(whitening))
    found = fit(recipe(), images).apply(images).flatten(1).double().numpy()
    assert (np.abs(found - exact) <= bound).all()
    # A bound that says something: ten bits of the products, as TF32 has them, are beyond it.
    short = (torch.from_numpy(rows).float().view(torch.int32) & ~0x1FFF).view(torch.float32)
    assert (np.abs(short.double().numpy() @ whitening - exact) > bound).any()


def test_pixels_are_whitened_where_they_are() -> None:
    images = natural(9, 3, 4, 4)
    for changes in ({"preprocess": "standardise"}, {}, {"zca_block": 4}):
        fitted = fit(recipe(**changes), images)
        assert fitted.apply(images.to("meta")).device.type == "meta"
        assert fitted.apply(images).device.type == "cpu"


def test_a_matrix_is_brought_to_a_device_once() -> None:
    fitted = fit(recipe(), natural(9, 3, 4, 4))
    assert isinstance(fitted, ZCA)
    first = fitted._on(torch.device("meta"))
    assert fitted._on(torch.device("meta"))[1] is first[1]
    assert fitted._on(torch.device("cpu"))[1] is fitted.whitening


def test_one_block_is_the_whole_image() -> None:
    images = natural(30, 3, 4, 4)
    blocked, whole = fit(recipe(zca_block=4), images), fit(recipe(), images)
    torch.testing.assert_close(blocked.apply(images), whole.apply(images))


@pytest.mark.parametrize("changes", [{"preprocess": "standardise"}, {}, {"zca_block": 4}])
def test_floats_with_white_at_one_are_the_same_pixels(changes: dict[str, object]) -> None:
    images = natural(9, 3, 4, 8)
    fitted = fit(recipe(**changes), images)
    torch.testing.assert_close(fitted.apply(images.double() / 255), fitted.apply(images))
    assert fitted.apply(images).dtype == torch.float32
    assert fitted.apply(images[:0]).shape == (0, 3, 4, 8)


@pytest.mark.parametrize("changes", [{"preprocess": "standardise"}, {}, {"zca_block": 4}])
def test_parts_restore_the_preprocessing_to_the_bit(changes: dict[str, object]) -> None:
    images = natural(12, 3, 8, 8)
    fitted = fit(recipe(**changes), images)
    description = json.loads(json.dumps(fitted.describe()))
    again = Preprocess.from_parts(description, fitted.tensors())
    assert type(again) is type(fitted)
    assert again.describe() == fitted.describe()
    assert torch.equal(again.apply(images), fitted.apply(images))
    assert torch.equal(again.invert(images.float()), fitted.invert(images.float()))


def test_float64_network_space_and_strided_images_are_taken() -> None:
    images = natural(6, 3, 4, 4)
    fitted = fit(recipe(), images)
    strided = images.to(memory_format=torch.channels_last)
    assert torch.equal(fitted.apply(strided), fitted.apply(images))
    assert torch.equal(fit(recipe(), strided).apply(images), fitted.apply(images))
    assert fitted.invert(fitted.apply(images).double()).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 4, 5, dtype=torch.uint8), "ZCA is for (3, 4, 4)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "pass (n, channels, height, width)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.int64), "pass uint8, or floats"),
    ],
)
def test_apply_refuses_other_images(images: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError) as caught:
        fit(recipe(), natural(9, 3, 4, 4)).apply(images)
    assert words in str(caught.value)


def test_standardise_refuses_other_channels_and_invert_refuses_pixels() -> None:
    fitted = fit(DataRecipe(), natural(9, 3, 4, 4))
    with pytest.raises(DataError, match="images have 1 channel, the preprocessing has 3"):
        fitted.apply(natural(2, 1, 4, 4))
    with pytest.raises(DataError, match="uint8 are not in network space"):
        fitted.invert(natural(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("data", "images", "words"),
    [
        (recipe(), torch.rand(4, 1, 4, 4), "cannot fit on float32"),
        (recipe(), natural(4, 1, 4, 4)[:0], "n > 0"),
        (DataRecipe(), torch.full((3, 1, 4, 4), 7, dtype=torch.uint8), "channel 0 .* is constant"),
        (recipe(), natural(1, 1, 4, 4), "all the same"),
        (recipe(zca_block=4), natural(4, 1, 6, 6), "side 4 do not tile 6x6"),
        (recipe(), natural(2, 3, 80, 80), "set data.zca_block"),
        (DataRecipe(zca_block=4), natural(4, 1, 4, 4), "preprocess is standardise"),
        (recipe(mean=(0.5,), std=(0.2,)), natural(4, 1, 4, 4), "ZCA measures its statistics"),
        (
            DataRecipe(mean=(0.5,), std=(0.2,)),
            natural(4, 3, 4, 4),
            "length 1, .* channels .3.; give",
        ),
    ],
)
def test_fit_refuses_in_one_line(data: DataRecipe, images: torch.Tensor, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        fit(data, images)
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit_are_refused() -> None:
    fitted = fit(recipe(), natural(9, 3, 4, 4))
    describe, tensors = fitted.describe(), fitted.tensors()
    wrong = [
        ({**describe, "kind": "pca"}, tensors, "unknown preprocessing 'pca'"),
        ({**describe, "kind": ["zca"]}, tensors, "unknown preprocessing"),
        (describe, {"pixel_mean": tensors["pixel_mean"]}, "expected float32 tensors"),
        (describe, {**tensors, "whitening": tensors["whitening"][:1]}, "expected float32"),
        ({**describe, "block": 3}, tensors, "disagree"),
        ({**describe, "tiling": "phases"}, tensors, "tiling must be phases, of blocks, or absent"),
        ({**describe, "block": 4, "tiling": "contiguous"}, tensors, "tiling must be phases"),
        ({**describe, "block": 4, "tiling": ["phases"]}, tensors, "tiling"),
        ({**describe, "block": 4, "tiling": None}, tensors, "tiling"),
        ({**describe, "std": [1.0, 0.0, 1.0]}, tensors, "std.1: Input should be greater"),
        ({k: v for k, v in describe.items() if k != "shape"}, tensors, "shape"),
        ({**describe, "kind": "standardise"}, tensors, "expected float32 tensors"),
    ]
    for description, parts, words in wrong:
        with pytest.raises(ArtefactError, match=words) as caught:
            Preprocess.from_parts(description, parts)
        assert "\n" not in str(caught.value)


def test_classes_are_final_or_abstract() -> None:
    with pytest.raises(TypeError):
        Preprocess(torch.zeros(1), torch.ones(1))  # type: ignore[abstract]
    for kind in (Standardise, ZCA):
        own = {name for name in vars(kind) if not name.startswith("__")}
        concrete = {
            name
            for name, value in vars(Preprocess).items()
            if callable(value) and not getattr(value, "__isabstractmethod__", False)
        }
        assert not own & concrete
