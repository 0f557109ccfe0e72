"""ZCA that no file holds: left out, fitted again on the source, and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from potstill import recipes, runs, storage
from potstill.config import DataRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import ZCA, RefittedZCA, fit
from potstill.data.source import SourceDataset
from potstill.data.transforms import probe_image
from potstill.data.whitening_cache import WhiteningCache
from potstill.errors import ArtefactError
from potstill.recipes import reading

COLOURS = DataRecipe(preprocess="zca")
MADE = ["distill", "quickstart/digits-rcig", "--set", "method.variant=random"]
MADE += ["--set", "data.preprocess=zca"]
LEFT_OUT = [*MADE, "--set", "data.zca_stored=false"]


@pytest.fixture(scope="module")
def source() -> SourceDataset:
    """Colours of 8 px that vary more along some axes than along others."""
    generator = np.random.default_rng(0)
    mixing = generator.normal(size=(192, 192)) / 14
    images = (generator.normal(size=(400, 192)) @ mixing * 40 + 128).clip(0, 255)
    pixels = torch.from_numpy(images.astype(np.uint8)).reshape(-1, 3, 8, 8)
    labels = torch.arange(400) % 2
    return SourceDataset.from_tensors(pixels[:300], labels[:300], pixels[300:], labels[300:])


def made(source: SourceDataset, **changes: object) -> DistilledDataset:
    data = COLOURS.model_copy(update=changes)
    preprocess = fit(data, source.train.images)
    header = {
        "method": "random",
        "description": {"title": "Random"},
        "data": data.model_dump(mode="json"),
        "mirror_images": False,
        "evaluation": {"protocol": "rcig-paper"},
        "source": source.document(),
        "versions": {},
        "seed": 0,
        "iterations": 0,
    }
    images = preprocess.apply(source.train.images[:4])
    labels = torch.eye(2).repeat(2, 1) - 0.5
    return DistilledDataset(images, labels, source.class_names, preprocess, header)


@pytest.mark.parametrize("block", [None, 4])
def test_the_set_read_again_and_refitted_is_the_one_that_was_made(
    source: SourceDataset, tmp_path: Path, block: int | None
) -> None:
    whole = made(source, zca_block=block)
    lean = made(source, zca_block=block, zca_stored=False)
    for name, each in (("whole", whole), ("lean", lean)):
        each.save(tmp_path / name)
    loaded = DistilledDataset.load(tmp_path / "lean")
    assert loaded.digest == lean.digest and loaded.header["format_version"] == 5
    assert loaded.images.equal(whole.images) and loaded[0][1].equal(whole.labels[0])
    refitted = loaded.refitted(source)
    assert refitted.digest == lean.digest and refitted.refitted(source) is refitted
    real = source.test.images
    assert refitted.preprocess.apply(real).equal(whole.preprocess.apply(real))
    assert refitted.pixels().equal(whole.pixels()) and lean.pixels().equal(whole.pixels())
    refitted.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "lean").read_bytes()
    size = 192 if block is None else 48
    saved = (tmp_path / "whole").stat().st_size - (tmp_path / "lean").stat().st_size
    # The mean image goes and the probe comes; headers differ by a few words.
    assert abs(saved - 4 * size * (size + 1) // 2) < 200


def test_what_needs_the_matrix_says_how_to_get_it(source: SourceDataset, tmp_path: Path) -> None:
    made(source, zca_stored=False).save(tmp_path / "lean")
    loaded = DistilledDataset.load(tmp_path / "lean")
    assert not loaded.has_pictures and loaded._repr_png_() is None
    assert loaded._repr_html_().startswith("<p>DistilledDataset(")
    for use in (
        loaded.pixels,
        loaded.picture,
        lambda: loaded.preprocess.apply(source.test.images),
        lambda: loaded.export(tmp_path / "png", "png"),
    ):
        with pytest.raises(ArtefactError, match=r"no ZCA matrix .* dataset\.refitted\(source\)"):
            use()


def test_other_data_is_refused_by_its_fingerprint(source: SourceDataset) -> None:
    lean = made(source, zca_stored=False)
    facts, tensors = lean.preprocess.describe(), lean.preprocess.tensors()
    unfitted = type(lean.preprocess).from_parts(facts, tensors)
    loaded = DistilledDataset(lean.images, lean.labels, lean.class_names, unfitted, lean.header)
    other = replace(source, fingerprint="f" * 64)
    with pytest.raises(ArtefactError, match=f"{'f' * 12}.*{source.fingerprint[:12]}; pass that"):
        loaded.refitted(other)
    # The fingerprint alone does not make it the data: here are other images under it.
    changed = replace(source.train, images=source.train.images.flip(-1))
    with pytest.raises(ArtefactError, match="the probe differs by"):
        loaded.refitted(replace(source, train=changed))
    assert loaded.refitted(source).has_pictures


def test_the_probe_tolerates_rounding_and_nothing_more(source: SourceDataset) -> None:
    whole = fit(COLOURS, source.train.images)
    assert isinstance(whole, ZCA)
    lean = RefittedZCA.of(whole)

    def with_matrix(whitening: torch.Tensor) -> ZCA:
        parts = (whole.mean, whole.std, whole.pixel_mean)
        return ZCA(*parts, whitening, whole.regularisation, whole.blocks)

    assert lean.refitted(with_matrix(whole.whitening * (1 + 5e-4))).fitted is not None
    with pytest.raises(ArtefactError, match=r"differs by 0\.2 %"):
        lean.refitted(with_matrix(whole.whitening * (1 + 2e-3)))
    smaller = fit(COLOURS, source.train.images[:, :, :4, :4])
    assert isinstance(smaller, ZCA)
    with pytest.raises(ArtefactError, match="not the one"):
        lean.refitted(smaller)


def test_the_probe_is_the_one_that_the_format_states() -> None:
    stated = [(1640531527 * k * k % 2**31) >> 23 for k in range(1, 3 * 64 * 64 + 1)]
    assert probe_image((3, 64, 64)).flatten().tolist() == stated


@pytest.mark.parametrize(
    ("change", "tensor"), [({"stored": True}, "probe"), ({}, "whitening"), ({"block": 3}, "probe")]
)
def test_parts_that_do_not_fit_are_refused(
    source: SourceDataset, change: dict[str, object], tensor: str
) -> None:
    lean = made(source, zca_stored=False).preprocess
    tensors = {tensor: lean.tensors()["probe"]}
    with pytest.raises(ArtefactError, match="missing or do not fit"):
        RefittedZCA.from_parts({**lean.describe(), **change}, tensors)


def test_the_setting_is_of_zca_alone_and_absent_where_it_says_nothing() -> None:
    assert "zca_stored" not in COLOURS.model_dump(mode="json")
    document = DataRecipe(preprocess="zca", zca_stored=False).model_dump(mode="json")
    assert document["zca_stored"] is False
    assert not DataRecipe.model_validate(document).zca_stored
    with pytest.raises(ValueError, match=r"set data\.preprocess to zca"):
        DataRecipe(zca_stored=False)
    plain = recipes.load("quickstart/digits-rcig", ["data.preprocess=zca"])
    lean = recipes.changed(plain, {"data.zca_stored": False})
    assert recipes.differing(plain, lean) == {"data.zca_stored": True}
    assert "zca_stored: true" in reading.commented(plain)
    assert "zca_stored: false" in reading.commented(lean)


def test_it_is_fitted_again_once_where_there_is_a_cache(
    source: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(source, zca_stored=False).save(tmp_path / "lean")
    loaded, cache = DistilledDataset.load(tmp_path / "lean"), WhiteningCache(tmp_path / "cache")
    first = loaded.refitted(source, cache=cache)
    monkeypatch.setattr("potstill.data.statistics.covariance", None)
    assert loaded.refitted(source, cache=cache).pixels().equal(first.pixels())


def test_commands_fit_it_again_by_themselves(
    answer: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POTSTILL_CACHE", str(tmp_path / "cache"))
    said = {}
    for name, words in (("whole", MADE), ("lean", LEFT_OUT)):
        path = answer(*words, "--out", tmp_path / name).strip()
        lines = answer("evaluate", path, "--networks", 1, "--steps", 5).splitlines()
        said[name] = next(line for line in lines if line.startswith("accuracy"))
        answer("show", path, "--png", tmp_path / f"{name}.png")
    assert said["lean"] == said["whole"]
    assert (tmp_path / "lean.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    answer("report", tmp_path / "lean", "--out", tmp_path / "lean.html")
    assert "holds no ZCA matrix" in (tmp_path / "lean.html").read_text("utf-8")
    lean = tmp_path / "lean" / runs.DISTILLED
    assert "refitted from the source" in answer("info", lean)
    document, tensors = storage.decode(lean, storage.DISTILLED_SET)
    assert len(document["results"]) == 1 and set(tensors) == {
        "images",
        "labels",
        "preprocess.probe",
    }
