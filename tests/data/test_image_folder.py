from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from potstill.config import DataRecipe
from potstill.data import pixels
from potstill.data.datasets import load
from potstill.data.pixels import Fit
from potstill.errors import DataError
from potstill.rng import stream

GRAY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4


def colour(seed: int, height: int = 8, width: int = 8) -> np.ndarray:
    return stream(seed, "test/colour").integers(0, 256, (height, width, 3)).astype(np.uint8)


def put(path: Path, content: np.ndarray | Image.Image, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = content if isinstance(content, Image.Image) else Image.fromarray(content)
    image.save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """pets/{train,test}/{cat,dog}, 3 and 1 images of 8x8 RGB each."""
    number = 0
    for split, count in (("train", 3), ("test", 1)):
        for name in ("dog", "cat"):
            for index in range(count):
                put(tmp_path / "pets" / split / name / f"{index}.png", colour(number))
                number += 1
    return tmp_path / "pets"


def recipe(**changes: Any) -> DataRecipe:
    return DataRecipe(dataset="image_folder", **{"folder": "pets", **changes})


def refusal(data: DataRecipe, root: Path | None, **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        load(data, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_and_files_come_in_sorted_order(folder: Path) -> None:
    source = load(recipe(), folder.parent)
    assert source.name == "pets"
    assert source.class_names == ("cat", "dog")
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test.labels.tolist() == [0, 1]
    expected = [colour(seed).transpose(2, 0, 1) for seed in (3, 4, 5, 0, 1, 2)]
    assert np.array_equal(source.train.images.numpy(), np.stack(expected))
    assert np.array_equal(source.test.images[0].numpy(), colour(7).transpose(2, 0, 1))
    assert source.train.images.is_contiguous()


def test_the_order_holds_over_many_tasks(tmp_path: Path) -> None:
    for index in range(300):
        put(tmp_path / "pets/train/a" / f"{index:03}.png", np.full((4, 4), index % 251, np.uint8))
    source = load(recipe(), tmp_path, require_test=False)
    assert source.train.images[:, 0, 0, 0].tolist() == [index % 251 for index in range(300)]
    assert source.test.images.shape == (0, 1, 4, 4)
    assert source.test.labels.shape == (0,)


def test_val_stands_for_test_and_other_files_are_passed_over(folder: Path) -> None:
    before = load(recipe(), folder.parent)
    (folder / "test").rename(folder / "val")
    (folder / "train/cat/notes.txt").write_text("x")
    (folder / "train/cat/._0.png").write_bytes(b"not an image")
    (folder / "train/.cache").mkdir()
    (folder / "README.md").write_text("x")
    assert load(recipe(), folder.parent).fingerprint == before.fingerprint


def test_images_below_a_class_folder_are_found(folder: Path) -> None:
    before = load(recipe(), folder.parent)
    (folder / "train/cat/images").mkdir()
    for path in list((folder / "train/cat").glob("*.png")):
        path.rename(folder / "train/cat/images" / path.name.replace("png", "PNG"))
    assert load(recipe(), folder.parent).fingerprint == before.fingerprint


def test_where_a_folder_is_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    print_ = load(recipe(), folder.parent).fingerprint
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir()
    assert load(recipe(folder=str(folder)), elsewhere).fingerprint == print_
    assert load(recipe(folder=str(folder)), None).fingerprint == print_
    monkeypatch.chdir(folder.parent)
    assert load(recipe(), None).fingerprint == print_
    assert str(elsewhere / "pets") in refusal(recipe(), elsewhere)
    assert "data root" in refusal(recipe(), folder.parent / "none")


def test_named_folders_have_their_size_and_lie_under_the_root(folder: Path) -> None:
    folder.rename(folder.with_name("cub200"))
    source = load(DataRecipe(dataset="cub200"), folder.parent)
    assert (source.name, source.resolution) == ("cub200", 32)
    assert load(DataRecipe(dataset="cub200", resolution=16), folder.parent).resolution == 16
    assert "pass --data-root" in refusal(DataRecipe(dataset="imagenette"), None)
    assert "imagenette does not exist" in refusal(DataRecipe(dataset="imagenette"), folder.parent)


def test_a_training_set_alone(folder: Path) -> None:
    with_test = load(recipe(), folder.parent, require_test=False)
    assert len(with_test.test) == 2
    for path in (folder / "test").rglob("*.png"):
        path.unlink()
    assert "holds no images" in refusal(recipe(), folder.parent, require_test=False)
    (folder / "test").rename(folder / "later")
    assert "has no test/ or val/" in refusal(recipe(), folder.parent)
    assert len(load(recipe(), folder.parent, require_test=False).train) == 6


def test_what_is_missing_or_differs_is_named(folder: Path) -> None:
    root = folder.parent
    assert "needs data.folder" in refusal(recipe(folder=None), root)
    assert f"{root / 'none'} does not exist" in refusal(recipe(folder="none"), root)
    put(folder / "test/eel/0.png", colour(0))
    message = refusal(recipe(), root)
    assert str(folder) in message and "(only in test: eel)" in message
    (folder / "train/bee").mkdir()
    assert f"{folder / 'train/bee'} holds no images" in refusal(recipe(), root)
    put(folder / "train/bee/0.png", colour(0))
    assert "(only in train: bee; only in test: eel)" in refusal(recipe(), root)
    (folder / "train").rename(folder / "training")
    assert "has no train/ in it" in refusal(recipe(), root)
    (folder / "train").mkdir()
    put(folder / "train/0.png", colour(0))
    assert f"{folder / 'train'} has no class folders" in refusal(recipe(), root)


@pytest.mark.parametrize("content", [b"", b"no image at all", None])
def test_a_file_that_cannot_be_read_is_named(folder: Path, content: bytes | None) -> None:
    broken = put(folder / "train/dog/1.jpg", colour(0, 64, 64))
    broken.write_bytes(broken.read_bytes()[:700] if content is None else content)
    for data in (recipe(), recipe(resolution=4)):
        message = refusal(data, folder.parent)
        assert message.startswith(f"cannot read image {broken} (")
        assert message.endswith("replace or remove the file")


def test_the_first_broken_file_in_order_is_named(folder: Path) -> None:
    for name in ("cat/2.png", "dog/0.png"):
        (folder / "train" / name).write_bytes(b"broken")
    for _ in range(3):
        assert "cat/2.png" in refusal(recipe(), folder.parent).replace("\\", "/")


def test_sizes_must_agree_unless_a_resolution_is_given(folder: Path) -> None:
    odd = put(folder / "test/dog/0.png", colour(0, 10, 12))
    first = folder / "train/cat/0.png"
    assert refusal(recipe(), folder.parent) == (
        f"{odd} is 12x10 but {first} is 8x8; set data.resolution to resize all images"
    )
    source = load(recipe(resolution=6), folder.parent)
    assert source.train.images.shape == (6, 3, 6, 6)
    put(first, colour(0, 8, 9))
    assert "is 9x8, not square; set data.resolution" in refusal(recipe(), folder.parent)


def gray_folder(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        put(path, GRAY)


def test_channels_default_to_what_the_images_have(folder: Path) -> None:
    assert load(recipe(), folder.parent).channels == 3
    gray_folder(folder)
    source = load(recipe(), folder.parent)
    assert source.channels == 1
    assert np.array_equal(source.train.images[0, 0].numpy(), GRAY)
    message = refusal(recipe(channels=3), folder.parent)
    assert f"every image in {folder} is grayscale" in message and "set data.channels=1" in message


def test_one_colour_image_makes_all_of_them_colour(folder: Path) -> None:
    gray_folder(folder)
    put(folder / "test/dog/0.png", colour(1))
    for channels in (None, 3):
        source = load(recipe(channels=channels), folder.parent)
        assert source.channels == 3
        assert np.array_equal(source.train.images[0].numpy(), np.stack([GRAY] * 3))
        assert np.array_equal(source.test.images[1].numpy(), colour(1).transpose(2, 0, 1))
    assert load(recipe(channels=1), folder.parent).channels == 1


def test_one_channel_of_colour_images_is_their_luma(folder: Path) -> None:
    source = load(recipe(channels=1), folder.parent)
    expected = np.asarray(Image.fromarray(colour(3)).convert("L"))
    assert np.array_equal(source.train.images[0, 0].numpy(), expected)


RGB = colour(5)
MODES = {
    "1": (Image.fromarray(GRAY > 100), np.where(GRAY > 100, 255, 0)[None]),
    "L": (Image.fromarray(GRAY), GRAY[None]),
    "LA": (Image.fromarray(GRAY).convert("LA"), GRAY[None]),
    "I;16": (Image.fromarray(GRAY.astype(np.uint16) * 257), GRAY[None]),
    "I": (Image.fromarray(GRAY.astype(np.int32) * 256 + 200), GRAY[None]),
    "P gray": (Image.fromarray(GRAY).convert("P"), GRAY[None]),
    "P": (Image.fromarray(RGB).quantize(256), RGB.transpose(2, 0, 1)),
    "RGB": (Image.fromarray(RGB), RGB.transpose(2, 0, 1)),
    "RGBA": (Image.fromarray(RGB).convert("RGBA"), RGB.transpose(2, 0, 1)),
    "CMYK": (Image.fromarray(RGB).convert("CMYK"), RGB.transpose(2, 0, 1)),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_becomes_gray_or_rgb(tmp_path: Path, mode: str) -> None:
    image, expected = MODES[mode]
    path = put(tmp_path / ("a.tif" if mode in ("CMYK", "I") else "a.png"), image)
    with Image.open(path) as stored:
        assert stored.mode == mode.split()[0]
    found, _ = pixels.read(path, Fit(), None)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected)
    assert pixels.read(path, Fit(), 1)[0].shape == (1, 8, 8)
    assert pixels.read(path, Fit(4), None)[0].shape == (len(expected), 4, 4)


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    image = np.zeros((2, 2, 4), np.uint8)
    image[0, 0] = (10, 20, 30, 255)
    image[1, 1] = (0, 0, 0, 128)
    found, _ = pixels.read(put(tmp_path / "a.png", image), Fit(), None)
    assert found[:, 0, 0].tolist() == [10, 20, 30]
    assert found[:, 0, 1].tolist() == [255, 255, 255]
    assert found[:, 1, 1].tolist() == [127, 127, 127]


@pytest.mark.parametrize("values", [np.full((4, 4), 0.5, np.float32), np.full((4, 4), 1 << 20)])
def test_pixels_without_a_scale_are_refused(folder: Path, values: np.ndarray) -> None:
    image = values if values.dtype == np.float32 else values.astype(np.int32)
    put(folder / "train/cat/0.tif", image)
    assert "convert it to 8 or 16 bits" in refusal(recipe(), folder.parent)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    path = put(tmp_path / "a.png", RGB, exif=exif)
    expected = np.rot90(RGB, -1).transpose(2, 0, 1)
    assert np.array_equal(pixels.read(path, Fit(), None)[0], expected)


@settings(deadline=None, max_examples=30)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(4, 24))
def test_the_central_square_is_what_is_resized(height: int, width: int, side: int) -> None:
    row, column = np.mgrid[:height, :width]
    square = min(height, width)
    left, top = (width - square) / 2, (height - square) / 2
    # A plane, 0 to 200 across the square, stays a plane under bilinear resampling.
    ramp = 200 * ((column + 0.5 - left) + (row + 0.5 - top)) / (2 * square)
    image = Image.fromarray(np.clip(ramp.round(), 0, 255).astype(np.uint8))
    cut = Fit(side).box(image.size)
    found = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box=cut), float)
    y, x = np.mgrid[:side, :side]
    expected = 200 * (x + y + 1) / (2 * side)
    inner = slice(1, -1)
    tolerance = 1.5 + 200 / square
    assert np.abs(found - expected)[inner, inner].max() <= tolerance


def test_a_large_jpeg_decoded_at_a_fraction_is_the_same_picture(tmp_path: Path) -> None:
    y, x = np.mgrid[:300, :400] / 400
    picture = 127.5 + 60 * np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))], -1)
    path = put(tmp_path / "a.jpg", picture.round().astype(np.uint8), quality=95)
    found = pixels.read(path, Fit(32), None)[0].astype(int)
    with Image.open(path) as image:
        whole = image.resize((32, 32), Image.Resampling.BILINEAR, box=(50, 0, 350, 300))
    assert np.abs(found - np.asarray(whole, int).transpose(2, 0, 1)).max() <= 4


def test_folders_are_read_as_imagenets_scripts_read_them(tmp_path: Path) -> None:
    """Training images squeezed whole; test images by Resize(32) and CenterCrop(28)."""
    y, x = np.mgrid[:60, :90] / 60
    picture = (
        127.5 + 60 * np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))], -1)
    ).round()
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            put(tmp_path / "pets" / split / name / "0.png", picture.astype(np.uint8))
    found = load(recipe(resolution=28, train_squashed=True, test_resize=32), tmp_path)
    image = Image.fromarray(picture.astype(np.uint8))
    squashed = np.asarray(image.resize((28, 28), Image.Resampling.BILINEAR))
    assert np.array_equal(found.train.images[0].permute(1, 2, 0).numpy(), squashed)
    resized = np.asarray(image.resize((48, 32), Image.Resampling.BILINEAR), int)
    middle = found.test.images[0].permute(1, 2, 0).numpy()
    assert np.abs(middle - resized[2:30, 10:38]).max() <= 2
    plain = load(recipe(resolution=28), tmp_path)
    assert np.abs(plain.test.images[0].permute(1, 2, 0).numpy() - resized[2:30, 10:38]).max() > 8
    assert plain.fingerprint != found.fingerprint


def test_what_cannot_be_cut_out_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"the middle of 8 px is cut out .* data\.resolution"):
        load(recipe(resolution=8, test_resize=7), folder.parent)
    with pytest.raises(DataError, match=r"the middle of no px"):
        load(recipe(test_resize=8), folder.parent)
    with pytest.raises(DataError, match="are for folders of images, not for digits"):
        load(DataRecipe(train_squashed=True), None)


def test_a_folder_can_be_whitened_and_scored_like_any_other_set(folder: Path) -> None:
    from potstill.data import preprocess

    data = recipe(preprocess="zca")
    source = load(data, folder.parent)
    fitted = preprocess.fit(data, source.train.images)
    assert torch.isfinite(fitted.apply(source.test.images)).all()
