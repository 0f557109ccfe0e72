"""A folder of somebody's photographs, with all that such folders have, from folder to page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import potstill
from potstill import cli, pictures
from potstill.data import image_folder
from potstill.data.survey import whitening_bytes
from potstill.errors import DataError

CLASSES = ("Hündin", "猫")


def photo(width: int = 14, height: int = 10, seed: int = 0) -> Image.Image:
    draw = np.random.default_rng(seed)
    return Image.fromarray(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))


def fill(folder: Path) -> None:
    """An image of every mode and format, and what else lies beside images."""
    folder.mkdir(parents=True)
    turned = Image.Exif()
    turned[0x0112] = 6
    sixteen = np.random.default_rng(0).integers(0, 1 << 16, (12, 12), dtype=np.uint16)
    photo().save(folder / "Schöner Tag.jpg")
    photo().save(folder / "turned.JPG", exif=turned)
    photo().convert("CMYK").save(folder / "print.jpe", "JPEG")
    photo().save(folder / "saved.jfif", "JPEG")
    photo().save(folder / "no ending", "PNG")
    photo().convert("L").save(folder / "gray.png")
    photo().convert("RGBA").save(folder / "alpha.png")
    photo().quantize(16).save(folder / "palette.png")
    Image.fromarray(sixteen).save(folder / "sixteen.png")
    photo().convert("1").save(folder / "drawing.bmp")
    photo().save(folder / "写真.webp", lossless=True)
    photo().save(folder / "scan.TIFF")
    still, other = photo(), photo(seed=1)
    still.save(folder / "moving.gif", save_all=True, append_images=[other])
    (folder / "deeper").mkdir()
    photo().save(folder / "deeper" / "one.ppm")
    (folder / ".hidden.jpg").write_bytes(b"hidden")
    (folder / "README").write_text("no image")
    (folder / "notes.txt").write_text("no image")
    (folder / "phone.HEIC").write_bytes(b"not read")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in CLASSES:
            fill(tmp_path / "photos" / split / name)
    (tmp_path / "photos" / "train" / "Thumbs.db").write_bytes(b"")
    return tmp_path / "photos"


def test_from_the_folder_to_a_page(
    photos: Path, answer: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    where = [f"data.folder={photos}", "data.dataset=image_folder", "data.resolution=8"]
    small = ["method.iterations=1", "method.target_batch=4", "method.pool.size=1"]
    small += ["network.width=2", "network.depth=1"]
    sets = [word for each in (*where, *small) for word in ("--set", each)]
    out = photos.parent / "run"
    assert cli.run(["distill", "quickstart/digits-rcig", *sets, "--out", str(out)]) == 0
    told = capsys.readouterr().err
    assert (
        "photos: 28 training and 28 test images of 2 classes (Hündin 14 + 14, 猫 14 + 14)" in told
    )
    assert "4 turned upright by EXIF" in told
    artefact, root = out / "distilled.safetensors", ["--data-root", photos.parent]
    quick = ["--protocol", "hard-label", "--epochs", "1", "--networks", "1"]
    answer("evaluate", artefact, *root, *quick)
    answer("show", artefact, "--png", out / "set.png")
    answer("report", out, "--out", out / "page.html")
    assert "猫" in (out / "page.html").read_text(encoding="utf-8")


def test_a_check_says_what_was_read_and_what_was_not(photos: Path) -> None:
    survey = potstill.check_folder(photos, resolution=8)
    assert survey.classes == dict.fromkeys(CLASSES, (14, 14))
    assert survey.skipped == {
        **dict.fromkeys((".heic", ".txt", "hidden", "without ending or image"), 4),
        "beside the class folders": 1,
    }
    assert survey.formats == dict.fromkeys(("TIFF", "BMP", "GIF", "WEBP", "PPM"), 4) | {
        "JPEG": 16,
        "PNG": 20,
    }
    assert set(survey.modes) == {"1", "CMYK", "I;16", "L", "P", "RGB", "RGBA"}
    assert survey.sizes == {(14, 10): 52, (12, 12): 4} and survey.turned == 4
    source = potstill.load_source(
        potstill.load_recipe(
            {"data": {"dataset": "image_folder", "folder": str(photos), "resolution": 8}}
        )
    )
    unit = source.train.images.double() / 255
    assert survey.mean == pytest.approx(unit.mean((0, 2, 3)).tolist())
    assert survey.std == pytest.approx(unit.std((0, 2, 3), correction=0).tolist())
    assert survey.shape == (3, 8, 8) and survey.problem is None
    assert "statistics: mean 0." in str(survey)


def test_a_gif_and_a_file_without_an_ending_are_the_picture_in_them(photos: Path) -> None:
    names, split = image_folder.read_classes(photos / "train", resolution=8)
    assert names == tuple(sorted(CLASSES)) and len(split) == 28
    inside = sorted(
        path.relative_to(photos / "train" / CLASSES[0]).as_posix()
        for path in (photos / "train" / CLASSES[0]).rglob("*")
        if path.is_file() and path.name not in ("README", "notes.txt", "phone.HEIC", ".hidden.jpg")
    )
    plain = split.images[inside.index("deeper/one.ppm")]
    assert (split.images[inside.index("no ending")] == plain).all()
    still = split.images[inside.index("moving.gif")].int() - plain.int()
    assert still.abs().max() < 32  # of 256 colours
    assert (split.images[inside.index("写真.webp")] == plain).all()


def test_every_broken_file_is_named_at_once(
    photos: Path, answer: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = [photos / "train" / CLASSES[0] / f"broken {number}.jpg" for number in range(5)]
    for path in broken:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"cannot read 5 of 61 images: .* and 2 more; replace") as e:
        image_folder.read(photos, resolution=8, channels=None)
    assert "\n" not in str(e.value)
    assert [path for path, _ in potstill.check_folder(photos, resolution=8).broken] == broken
    capsys.readouterr()
    assert cli.run(["data", "check", str(photos), "--resolution", "8"]) == 2
    told = capsys.readouterr().out
    assert all(f"cannot be read: {path} (" in told for path in broken)
    assert "statistics" not in told


def test_a_check_sees_all_images_where_sizes_differ(photos: Path) -> None:
    survey = potstill.check_folder(photos)
    assert survey.problem is not None and "not square; set data.resolution" in survey.problem
    assert sum(survey.formats.values()) == 56 and survey.shape is None
    missing = potstill.check_folder(photos / "train")
    assert missing.problem is not None and "has no train/" in missing.problem
    with pytest.raises(DataError, match="does not exist"):
        potstill.check_folder(photos / "none")


def test_a_check_on_the_command_line(photos: Path, answer: Callable[..., str]) -> None:
    told = answer("data", "check", photos, "--resolution", "8")
    assert "become: RGB images of 8x8" in told
    assert "data.preprocess=zca: about" in told and "adds 0.1 MB" in told
    document = json.loads(answer("data", "check", photos, "--resolution", "8", "--json"))
    assert document["classes"]["猫"] == [14, 14] and document["sizes"]["14x10"] == 52


def test_what_zca_adds_to_a_file(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (40, 1, 8, 8), dtype=np.uint8)
    source = potstill.SourceDataset.from_tensors(images, np.arange(40) % 2)
    sizes = {}
    for kind, data in (
        ("plain", {}),
        ("whole", {"preprocess": "zca"}),
        ("blocks", {"preprocess": "zca", "zca_block": 4}),
    ):
        made = potstill.distill({"data": data, "method": {"kind": "coreset"}}, source)
        made.save(tmp_path / kind)
        sizes[kind] = (tmp_path / kind).stat().st_size
    for kind, block in (("whole", None), ("blocks", 4)):
        added = sizes[kind] - sizes["plain"]
        assert added == pytest.approx(whitening_bytes((1, 8, 8), block), abs=600)
    assert whitening_bytes((3, 32, 32)) == pytest.approx(19e6, rel=0.01)
    assert whitening_bytes((3, 64, 64)) == pytest.approx(302e6, rel=0.01)


def test_progress_is_told_of_every_image(photos: Path) -> None:
    ticks = []
    potstill.check_folder(photos, resolution=8, progress=lambda *tick: ticks.append(tick))
    assert ticks == [("reading images", done, 56) for done in range(1, 57)]


def test_a_name_that_no_font_has_is_drawn_as_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_system_fonts", lambda: ())
    pictures._font_file.cache_clear()
    try:
        assert pictures.legend(["cat", "猫", "Ελλάς"]) == {1: "猫"}
        images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
        images[1] = 255
        made = {}
        for other in ("猫", "1"):
            source = potstill.SourceDataset.from_tensors(images, [0, 1], class_names=["0", other])
            made[other] = potstill.distill({"method": {"kind": "coreset"}}, source)
        left = [np.asarray(made[name].picture())[:, -80:] for name in made]
        assert np.array_equal(*left)
        assert np.asarray(made["猫"].picture()).min() < 60
        assert "(1: 猫)" in made["猫"]._repr_html_()
        assert "(1" not in made["1"]._repr_html_()
    finally:
        pictures._font_file.cache_clear()


def test_a_font_of_the_system_is_taken_where_it_has_the_characters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mono = str(Path(pictures._OWN).with_name("DejaVuSansMono.ttf"))
    monkeypatch.setattr(pictures, "_system_fonts", lambda: ("/no/font.ttf", mono))
    known = pictures._characters(mono) - pictures._characters(pictures._OWN)
    pictures._font_file.cache_clear()
    try:
        if known:
            assert pictures._font_file(chr(min(known))) == mono
        monkeypatch.setattr(
            pictures,
            "_characters",
            lambda file: frozenset(map(ord, "猫")) if file == mono else frozenset(),
        )
        assert pictures._font_file("猫 猫") == mono
    finally:
        pictures._font_file.cache_clear()
