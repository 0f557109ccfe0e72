from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_digits

from potstill.config import DataRecipe
from potstill.data.datasets import (
    Split,
    fingerprint,
    load,
    names,
    sample_per_class,
)
from potstill.errors import DataError
from potstill.rng import stream


def refusal(recipe: DataRecipe, root: Path | None, **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        load(recipe, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_idx(folder: Path, classes: int = 10, train: int = 40, test: int = 20) -> None:
    """The four files of MNIST, smaller."""
    folder.mkdir(parents=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = stream(0, f"test/{part}").integers(0, 256, (count, 28, 28)).astype(np.uint8)
        header = struct.pack(">IIII", 0x803, count, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
        labels = bytes(index % classes for index in range(count))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + labels
        )


@pytest.fixture
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """A CIFAR-10 of 20 + 10 images under tmp_path; its training images (20, 3, 32, 32)."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pixels = stream(0, "test/cifar").integers(0, 256, (30, 3072)).astype(np.uint8)
    contents: dict[str, Any] = {
        "a": {"data": pixels[:20], "labels": list(range(10)) * 2},
        "b": {"data": pixels[20:], "labels": list(range(10))},
        "batches.meta": {"label_names": [f"class {i}" for i in range(10)]},
    }
    sums = {}
    for name, content in contents.items():
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.md5(data).hexdigest()
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "train_list", [["a", sums["a"]]])
    monkeypatch.setattr(kind, "test_list", [["b", sums["b"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": sums["batches.meta"]})
    return pixels[:20].reshape(-1, 3, 32, 32)


def test_digits_are_embedded_and_split_in_a_fixed_way() -> None:
    source = load(DataRecipe(), None)
    assert (source.name, source.channels, source.resolution, source.classes) == ("digits", 1, 8, 10)
    assert source.class_names == tuple("0123456789")
    assert len(source.train) + len(source.test) == 1797
    assert source.train.images.dtype == torch.uint8
    assert source.train.labels.dtype == torch.int64

    # The obvious loop: of each class, every fifth image is a test image.
    document = load_digits()
    seen = [0] * 10
    for row, (pixels, label) in enumerate(zip(document.images, document.target, strict=True)):
        seen[label] += 1
        test = seen[label] % 5 == 0
        split = source.test if test else source.train
        place = (
            sum(number // 5 for number in seen)
            if test
            else row + 1 - sum(number // 5 for number in seen)
        )
        assert int(split.labels[place - 1]) == label
        assert torch.equal(
            split.images[place - 1, 0], torch.tensor(pixels * 255 / 16).round().byte()
        )


def test_digits_are_the_same_everywhere() -> None:
    assert load(DataRecipe(), None).fingerprint == (
        "87ceaa971c94616dbe9ba2e806d7ba06d7226604db6d37e0e58ba207b9a81bf1"
    )


def test_fingerprint_is_what_the_specification_says() -> None:
    train = Split(torch.tensor([[[[7]]], [[[8]]]], dtype=torch.uint8), torch.tensor([0, 1]))
    test = Split(torch.empty(0, 1, 1, 1, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))
    expected = hashlib.sha256(
        b"train.images uint8 2x1x1x1\n\x07\x08"
        b"train.labels int64 2\n" + struct.pack("<qq", 0, 1) + b"test.images uint8 0x1x1x1\n"
        b"test.labels int64 0\n"
    ).hexdigest()
    assert fingerprint(train, test) == expected


def test_a_pixel_or_a_label_changes_the_fingerprint() -> None:
    source = load(DataRecipe(), None)
    for split in (source.train, source.test):
        for tensor in (split.images, split.labels):
            tensor.view(-1)[5] += 1
            assert fingerprint(source.train, source.test) != source.fingerprint
            tensor.view(-1)[5] -= 1
    assert fingerprint(source.train, source.test) == source.fingerprint


def test_resolution_resizes_with_antialiasing() -> None:
    plain, large = load(DataRecipe(), None), load(DataRecipe(resolution=16), None)
    small = load(DataRecipe(resolution=4), None)
    assert large.resolution == 16 and small.resolution == 4
    assert large.fingerprint != plain.fingerprint
    for source in (large, small):
        side = source.resolution
        for row in (0, 77):
            image = Image.fromarray(plain.train.images[row, 0].numpy())
            expected = np.asarray(image.resize((side, side), Image.Resampling.BILINEAR), int)
            found = source.train.images[row, 0].numpy().astype(int)
            assert np.abs(found - expected).max() <= 1


def test_three_channels_of_a_gray_set_are_refused() -> None:
    message = refusal(DataRecipe(channels=3), None)
    assert message == "digits is grayscale; the recipe asks for 3 channels; set data.channels=1"
    assert load(DataRecipe(channels=1), None).channels == 1


def test_idx_files_are_read_as_published(tmp_path: Path) -> None:
    write_idx(tmp_path / "MNIST" / "raw")
    source = load(DataRecipe(dataset="mnist"), tmp_path)
    assert source.train.images.shape == (40, 1, 28, 28)
    assert source.test.images.shape == (20, 1, 28, 28)
    assert source.class_names == tuple("0123456789")
    pixels = stream(0, "test/t10k").integers(0, 256, (20, 28, 28))
    assert torch.equal(source.test.images[:, 0], torch.from_numpy(pixels).byte())
    assert source.test.labels.tolist() == [index % 10 for index in range(20)]


def test_cifar_is_read_as_published(tmp_path: Path, cifar: np.ndarray) -> None:
    source = load(DataRecipe(dataset="cifar10", channels=3), tmp_path)
    assert np.array_equal(source.train.images.numpy(), cifar)
    assert source.train.images.is_contiguous()
    assert source.train.labels.tolist() == list(range(10)) * 2
    assert source.class_names[3] == "class 3"
    assert len(source.test) == 10


def test_one_channel_of_a_colour_set_is_its_luma(tmp_path: Path, cifar: np.ndarray) -> None:
    source = load(DataRecipe(dataset="cifar10", channels=1), tmp_path)
    assert source.channels == 1
    for row, image in enumerate(cifar):
        expected = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))
        assert np.array_equal(source.train.images[row, 0].numpy(), expected)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_absent_data_names_root_and_remedy(tmp_path: Path, name: str) -> None:
    message = refusal(DataRecipe(dataset=name), tmp_path)
    assert str(tmp_path) in message
    assert "pass --download to fetch it, or put" in message
    assert "none is given; pass --data-root" in refusal(DataRecipe(dataset=name), None)
    missing = tmp_path / "none"
    message = refusal(DataRecipe(dataset=name), missing)
    assert message.startswith(f"data root {missing} is not a folder")


@pytest.mark.parametrize("damage", ["magic", "cut", "few labels", "wrong labels", "gone", "empty"])
def test_damaged_idx_files_are_one_line(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "MNIST" / "raw"
    write_idx(folder, classes=12 if damage == "wrong labels" else 10)
    images, labels = folder / "train-images-idx3-ubyte", folder / "t10k-labels-idx1-ubyte"
    if damage == "magic":
        images.write_bytes(b"\xff" + images.read_bytes())
    elif damage == "cut":
        images.write_bytes(images.read_bytes()[:-100])
    elif damage == "few labels":
        labels.write_bytes(struct.pack(">II", 0x801, 3) + bytes(3))
    elif damage == "gone":
        labels.unlink()
    elif damage == "empty":
        images.write_bytes(b"")
    message = refusal(DataRecipe(dataset="mnist"), tmp_path)
    assert message.startswith(f"mnist in {tmp_path / 'MNIST'} is incomplete or damaged (")
    assert message.endswith("delete the folder and repeat with --download")


def test_damaged_pickles_are_never_opened(tmp_path: Path, cifar: np.ndarray) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "cifar-10-batches-py" / "a").write_bytes(pickle.dumps(Bomb()))
    message = refusal(DataRecipe(dataset="cifar10"), tmp_path)
    assert "cifar10 in " in message and "incomplete or damaged" in message
    assert not (tmp_path / "exploded").exists()


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server on this machine: its address and its folder."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

    folder = tmp_path / "published"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_fetches_what_is_absent_and_only_that(
    tmp_path: Path,
    mirror: tuple[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, published = mirror
    write_idx(tmp_path / "raw")
    resources = []
    for file in sorted((tmp_path / "raw").iterdir()):
        packed = gzip.compress(file.read_bytes())
        (published / f"{file.name}.gz").write_bytes(packed)
        resources.append((f"{file.name}.gz", hashlib.md5(packed).hexdigest()))
    kind = torchvision.datasets.FashionMNIST
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(kind, "mirrors", [address])
    monkeypatch.setattr(kind, "resources", resources)
    recipe, root = DataRecipe(dataset="fashion_mnist"), tmp_path / "root"
    first = load(recipe, root, download=True)
    assert len(first.train) == 40 and first.class_names[1] == "Trouser"
    assert capsys.readouterr().out == ""
    for file in published.iterdir():
        file.unlink()
    assert load(recipe, root, download=True).fingerprint == first.fingerprint
    message = refusal(recipe, tmp_path / "other", download=True)
    assert "can be neither read from" in message and "check the connection" in message


def test_unknown_names_and_stray_folders_are_refused() -> None:
    assert f"choose one of {', '.join(names())}" in refusal(DataRecipe(dataset="imagenet"), None)
    assert "is for image_folder, not for digits" in refusal(DataRecipe(folder="x"), None)


def test_sample_per_class_is_class_major_without_repetition() -> None:
    labels = torch.tensor([2, 0, 1, 0, 2, 1, 0, 2, 2, 1])
    split = Split(torch.zeros(10, 1, 4, 4, dtype=torch.uint8), labels)
    indices = sample_per_class(split, 3, 2, stream(0, "test/sample"))
    assert labels[indices].tolist() == [0, 0, 1, 1, 2, 2]
    assert len(set(indices.tolist())) == 6
    again = sample_per_class(split, 3, 2, stream(0, "test/sample"))
    assert torch.equal(indices, again)
    everything = sample_per_class(split, 3, 3, stream(0, "test/sample"))
    assert sorted(everything[:3].tolist()) == [1, 3, 6]
    with pytest.raises(DataError) as caught:
        sample_per_class(split, 3, 4, stream(0, "test/sample"))
    assert str(caught.value) == (
        "class 0 has 3 images, fewer than the 4 asked for; ask for fewer images per class"
    )


def test_sample_per_class_is_uniform() -> None:
    split = Split(torch.zeros(5, 1, 1, 1, dtype=torch.uint8), torch.zeros(5, dtype=torch.int64))
    counts = torch.zeros(5)
    for step in range(600):
        counts[sample_per_class(split, 1, 2, stream(0, "test/uniform", step))] += 1
    assert counts.sum() == 1200
    assert (counts - 240).abs().max() < 60  # five standard deviations of a count


def test_some_training_images_are_balanced_and_the_same_for_every_recipe() -> None:
    whole, part = load(DataRecipe(), None), load(DataRecipe(train_images=200), None)
    assert torch.bincount(part.train.labels).tolist() == [20] * 10
    assert torch.equal(part.test.images, whole.test.images)
    assert part.fingerprint == fingerprint(part.train, whole.test) != whole.fingerprint
    # They are images of the whole set, each once and in its order.
    places = {image.numpy().tobytes(): row for row, image in enumerate(whole.train.images)}
    rows = [places[image.numpy().tobytes()] for image in part.train.images]
    assert rows == sorted({*rows})
    assert torch.equal(whole.train.labels[rows], part.train.labels)
    draws = stream(0, "data/subset")
    drawn = sample_per_class(whole.train, 10, 20, draws)
    assert sorted(drawn.tolist()) == rows
    # Resizing changes images and not which they are.
    larger = load(DataRecipe(train_images=200, resolution=16), None)
    assert torch.equal(larger.train.labels, part.train.labels)
    assert larger.train.images.shape == (200, 1, 16, 16)


def test_chunks_of_the_training_images_share_none() -> None:
    whole = load(DataRecipe(), None)
    parts = [load(DataRecipe(train_images=350, train_chunk=chunk), None) for chunk in range(4)]
    assert parts[0].fingerprint == load(DataRecipe(train_images=350), None).fingerprint
    places = {image.numpy().tobytes(): row for row, image in enumerate(whole.train.images)}
    rows = [[places[image.numpy().tobytes()] for image in part.train.images] for part in parts]
    assert all(each == sorted(each) for each in rows)
    assert len({row for each in rows for row in each}) == 4 * 350
    for each, part in zip(rows, parts, strict=True):
        assert torch.bincount(part.train.labels).tolist() == [35] * 10
        assert torch.equal(whole.train.labels[each], part.train.labels)
        assert torch.equal(part.test.images, whole.test.images)
    message = refusal(DataRecipe(train_images=350, train_chunk=4), None)
    assert message.endswith("set data.train_chunk to 3 at most")
    with pytest.raises(ValueError, match=r"set data\.train_images too"):
        DataRecipe(train_chunk=1)


def test_training_images_that_cannot_be_are_refused() -> None:
    assert "multiple of 10" in refusal(DataRecipe(train_images=205), None)
    smallest = int(torch.bincount(load(DataRecipe(), None).train.labels).min())
    most = load(DataRecipe(train_images=10 * smallest), None)
    assert len(most.train) == 10 * smallest
    message = refusal(DataRecipe(train_images=10 * smallest + 10), None)
    assert message.endswith(f"set it to {10 * smallest} at most")
    with pytest.raises(ValueError, match="train_images"):
        DataRecipe(train_images=0)


def test_an_image_folder_gives_some_of_its_images(tmp_path: Path) -> None:
    for split, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = stream(index, f"test/{split}/{name}").integers(0, 256, (8, 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    recipe = DataRecipe(dataset="image_folder", folder=str(tmp_path), train_images=4)
    source = load(recipe, None)
    assert source.train.labels.tolist() == [0, 0, 1, 1] and len(source.test) == 4
