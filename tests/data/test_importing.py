from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from potstill.config import DataRecipe, EvaluationRecipe, NetworkRecipe
from potstill.data import datasets, foreign, importing, plausible, preprocess
from potstill.data.distilled import DistilledDataset
from potstill.data.foreign import Foreign
from potstill.data.importing import Statement, import_set
from potstill.data.source import SourceDataset, Split, centred_one_hot
from potstill.errors import DataError

DIGITS = DataRecipe(dataset="digits")
WHITENED = DataRecipe(dataset="digits", preprocess="zca", zca_regularisation=0.1)


@pytest.fixture(scope="module")
def digits():
    return datasets.load(DIGITS, None)


@pytest.fixture(scope="module")
def chosen(digits):
    """Three real images of each class: uint8, and their classes."""
    rows = torch.cat([(digits.train.labels == c).nonzero().flatten()[:3] for c in range(10)])
    return digits.train.images[rows], digits.train.labels[rows]


def tensors(images, labels, names=None) -> Foreign:
    return Foreign(images, labels, names, "n, c, h, w")


def stated(data=DIGITS) -> tuple[DataRecipe, NetworkRecipe, EvaluationRecipe]:
    return data, NetworkRecipe(), EvaluationRecipe()


def brought(images, labels, space, digits, data=DIGITS, kind=None, **options) -> DistilledDataset:
    options = {"source": digits, "fitted_on": digits, **options}
    return import_set(tensors(images, labels), Statement(space, kind), *stated(data), **options)


def verdicts(dataset) -> dict[str, str]:
    return {check["check"]: check["verdict"] for check in dataset.header["import"]["checks"]}


def test_true_statements_about_the_same_images_give_the_same_set(digits, chosen):
    pixels, labels = chosen
    standardise = preprocess.fit(DIGITS, digits.train.images)
    zca = preprocess.fit(WHITENED, digits.train.images)
    sets = {
        "0..255": brought(pixels, labels, "pixels", digits),
        "0..255 as floats": brought(pixels.float(), labels, "pixels", digits),
        "0..1": brought(pixels.float() / 255, labels, "pixels", digits),
        "standardised": brought(standardise.apply(pixels), labels, "standardised", digits),
        "zca": brought(zca.apply(pixels), labels, "zca", digits, WHITENED),
    }
    for name, dataset in sets.items():
        assert set(verdicts(dataset).values()) == {"ok"}, (name, verdicts(dataset))
        assert dataset.pixels().sub(pixels.float() / 255).abs().max() < 1e-4, name
        assert dataset.hard_labels().equal(labels)
        kept = "pixels" if name.startswith("0..") else "network"
        assert dataset.space == kept
        space = zca if name == "zca" else standardise
        assert dataset.images.sub(space.apply(pixels)).abs().max() < 1e-4
    for name in ("0..255 as floats", "0..1"):
        assert sets[name].images.equal(sets["0..255"].images)


@pytest.mark.parametrize(
    ("said", "is_really", "remedy"),
    [
        ("pixels", "standardised", "--space standardised"),
        ("standardised", "pixels", "--space pixels"),
        ("standardised", "0..1", "--space pixels"),
        ("standardised", "0..255", "--space pixels"),
        ("zca", "0..1", "--space pixels"),
        ("zca", "standardised", "--fit-on"),
        ("pixels", "zca", "--space zca"),
    ],
)
def test_false_statements_are_refused(said, is_really, remedy, digits, chosen):
    pixels, labels = chosen
    images = {
        "pixels": pixels,
        "0..1": pixels.float() / 255,
        "0..255": pixels.float(),
        "standardised": preprocess.fit(DIGITS, digits.train.images).apply(pixels),
        "zca": preprocess.fit(WHITENED, digits.train.images).apply(pixels),
    }[is_really]
    data = WHITENED if said == "zca" else DIGITS
    with pytest.raises(DataError, match=remedy) as error:
        brought(images, labels, said, digits, data)
    assert "\n" not in str(error.value)


def test_what_is_odd_but_possible_is_a_warning(digits, chosen):
    pixels, labels = chosen
    whitened = preprocess.fit(WHITENED, digits.train.images).apply(pixels)
    assert verdicts(brought(whitened, labels, "standardised", digits))["pixels once undone"] == (
        "warning"
    )
    faint = 0.4 + pixels.float() / 255 / 10
    seen = verdicts(brought(faint, labels, "pixels", digits))
    assert seen["contrast beside real images"] == "warning"
    unbalanced = brought(pixels[:27], labels[:27], "pixels", digits)
    assert verdicts(unbalanced)["images a class"] == "warning"
    checks = {c["check"]: c["value"] for c in unbalanced.header["import"]["checks"]}
    assert checks["classes without images"] == "9"


# Made with the first mean and std, said to be made with the second.
@pytest.mark.parametrize(
    ("made", "said", "odd"),
    [
        ((0.5, 0.5), (0.1307, 0.3081), {"brightness", "range"}),
        ((0.5, 0.5), (0.2860, 0.3530), {"range"}),
        ((0.2860, 0.3530), (0.1307, 0.3081), {"range"}),
        ((0.1307, 0.3081), (0.2860, 0.3530), {"range"}),
        ((0.2860, 0.3530), (0.5, 0.5), {"brightness", "range"}),
    ],
)
def test_statistics_of_other_data_are_a_warning(made, said, odd, digits, chosen):
    pixels, labels = chosen
    data = DIGITS.model_copy(update={"mean": said[:1], "std": said[1:]})
    images = (pixels.float() / 255 - made[0]) / made[1]
    seen = verdicts(brought(images, labels, "standardised", digits, data, fitted_on=None))
    assert {f"{name} beside real images" for name in odd} == {
        name for name, verdict in seen.items() if verdict == "warning" and "beside" in name
    }


def test_a_shift_of_one_channel_is_seen(digits, chosen):
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    real = (255 * images).to(torch.uint8)
    source = SourceDataset("noise", ("a", "b"), Split(real, torch.arange(40) % 2),
                           digits.test, "unknown")  # fmt: skip
    blue = images.clone()
    blue[:, 2] *= 0.4
    for pixels, verdict in ((images, "ok"), (blue, "warning")):
        seen = {check.check: check for check in plausible.like_real(pixels, source)}
        assert seen["brightness beside real images"].verdict == verdict
        assert seen["range beside real images"].verdict == verdict
    assert re.fullmatch(r"0\.50/0\.5\d/0\.20, real .*", seen["brightness beside real images"].value)


def test_learned_pixels_beyond_the_real_range_are_in_order(digits, chosen):
    pixels, labels = chosen
    standardise = preprocess.fit(DIGITS, digits.train.images)
    learned = 1.3 * (pixels.float() / 255 - 0.3) + 0.3
    dataset = brought(standardise.apply(learned), labels, "standardised", digits)
    assert set(verdicts(dataset).values()) == {"ok"}


def test_statistics_can_be_stated_without_the_data(chosen):
    pixels, labels = chosen
    data = DIGITS.model_copy(update={"mean": (0.5,), "std": (0.25,)})
    names = [f"digit {index}" for index in range(10)]
    dataset = import_set(tensors(pixels, labels), Statement("pixels"), *stated(data),
                         class_names=names)  # fmt: skip
    assert dataset.images.equal((pixels.float() / 255 - 0.5) / 0.25)
    assert dataset.class_names == tuple(names)
    assert dataset.header["source"]["fingerprint"] == "unknown"
    with pytest.raises(DataError, match="--class-names"):
        import_set(tensors(pixels, labels), Statement("pixels"), *stated(data))
    with pytest.raises(DataError, match="--mean and --std, or --fit-on"):
        import_set(tensors(pixels, labels), Statement("pixels"), *stated(), class_names=names)


def test_the_header_says_what_was_stated_and_poses_as_no_method(digits, chosen, tmp_path):
    dataset = brought(*chosen, "pixels", digits, versions={"torch": "2"})
    dataset.save(tmp_path / "set.safetensors")
    header = DistilledDataset.load(tmp_path / "set.safetensors").header
    assert header["method"] == importing.METHOD
    assert DistilledDataset.load(tmp_path / "set.safetensors").data_recipe == DIGITS
    assert "recipe" not in header and header["mirror_images"] is False
    assert header["description"]["title"] == "imported"
    assert header["source"]["fingerprint"] == digits.fingerprint
    assert header["versions"] == {"torch": "2"}
    assert header["import"]["fitted_on"] == "digits"


@settings(max_examples=30)
@given(
    classes=st.integers(2, 6),
    seed=st.integers(0, 2**31),
    form=st.sampled_from(["hard", "one-hot", "probabilities", "logits", "centred"]),
)
def test_labels_keep_their_order_in_every_form(classes, seed, form):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2 * classes, classes, generator=generator)
    hard = logits.argmax(1)
    given_labels, kind, expected = {
        "hard": (hard, None, centred_one_hot(hard, classes)),
        "one-hot": (F.one_hot(hard, classes).float(), None, centred_one_hot(hard, classes)),
        "probabilities": (logits.softmax(1), None, logits.softmax(1) - 1 / classes),
        "logits": (logits, "logits", logits.softmax(1) - 1 / classes),
        "centred": (logits - logits.mean(1, keepdim=True), "centred", None),
    }[form]
    images = torch.randint(0, 256, (2 * classes, 1, 4, 4), generator=generator).to(torch.uint8)
    images[0, 0, 0, 0] = 255
    data = DataRecipe(mean=(0.5,), std=(0.5,))
    dataset = import_set(
        tensors(images, given_labels),
        Statement("pixels", kind),
        *stated(data),
        class_names=[str(index) for index in range(classes)],
    )
    assert dataset.labels.sub(given_labels if expected is None else expected).abs().max() < 1e-6
    assert dataset.hard_labels().equal(hard)


@pytest.mark.parametrize(
    ("labels", "stated", "reason"),
    [
        (torch.tensor([1, 2, 3]), None, "count classes from 0"),
        (torch.tensor([-1, 0, 1]), None, "count classes from 0"),
        (torch.tensor([0, 1, 2]), "logits", "state --label-kind hard"),
        (torch.eye(3, 4), None, "4 columns and there are 3 classes"),
        (torch.randn(3, 3), None, "state --label-kind logits"),
        (torch.full((3, 3), 1 / 3), "logits", "are probabilities"),
        (torch.full((3, 3), 1 / 3), "hard", "are probabilities"),
        (torch.randn(3, 3), "probabilities", "no probabilities"),
    ],
)
def test_labels_that_cannot_be_so_are_refused(labels, stated, reason):
    with pytest.raises(DataError, match=reason):
        plausible.label_kind(labels, 3, stated)


def test_centred_labels_said_to_be_logits_are_a_warning():
    labels = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1) - 1 / 3
    for kind, verdict in (("logits", "warning"), ("centred", "ok")):
        assert plausible.label_kind(labels, 3, kind)[1].verdict == verdict
    assert plausible.label_kind(9 * labels, 3, "logits")[1].verdict == "ok"


def test_numbers_that_are_not_finite_and_other_shapes_are_refused(digits, chosen):
    pixels, labels = chosen
    broken = pixels.float()
    broken[3, 0, 2, 2] = float("nan")
    with pytest.raises(DataError, match=r"1 of 1920 numbers of the images are not finite"):
        brought(broken, labels, "pixels", digits)
    larger = F.interpolate(pixels.float(), 16).to(torch.uint8)
    with pytest.raises(DataError, match=r"16x16, 1 channel, .* state --resolution 16 if the real"):
        brought(larger, labels, "pixels", digits)
    with pytest.raises(DataError, match="none is above 1"):
        brought((pixels > 128).to(torch.uint8), labels, "pixels", digits)


def test_files_of_every_kind_are_read_alike(chosen, tmp_path):
    pixels, labels = chosen
    torch.save({"image_syn": torch.nn.Parameter(pixels.float()), "label_syn": labels},
               tmp_path / "a.pt")  # fmt: skip
    torch.save((pixels.float(), labels), tmp_path / "b.pt")
    torch.save(pixels.double(), tmp_path / "c.pt")
    torch.save(labels[:, None], tmp_path / "c-labels.pt")
    np.savez(tmp_path / "d.npz", x=pixels.float().movedim(1, 3).numpy(), y=labels.numpy())
    np.save(tmp_path / "e.npy", pixels[:, 0].numpy().astype(np.uint16))
    np.save(tmp_path / "e-labels.npy", labels.numpy().astype(np.float32))
    np.savez(tmp_path / "f.npz", x=pixels.numpy().astype(">f4"), y=labels.numpy().astype(">i8"))
    np.save(tmp_path / "g.npy", pixels[:, 0].numpy().astype(">u2"))
    for name, beside, layout in (
        ("a.pt", None, "n, c, h, w"),
        ("b.pt", None, "n, c, h, w"),
        ("c.pt", "c-labels.pt", "n, c, h, w"),
        ("d.npz", None, "n, h, w, c"),
        ("e.npy", "e-labels.npy", "n, h, w"),
        ("f.npz", None, "n, c, h, w"),
        ("g.npy", "e-labels.npy", "n, h, w"),
    ):
        read = foreign.read(tmp_path / name, None if beside is None else tmp_path / beside)
        assert read.images.float().equal(pixels.float()), name
        assert read.labels.equal(labels), name
        assert read.layout == layout, name


def test_files_that_hold_something_else_are_refused(tmp_path):
    images, labels = torch.zeros(4, 3, 8, 8), torch.arange(4)
    torch.save({"weights": images}, tmp_path / "names.pt")
    torch.save([images, labels, labels], tmp_path / "three.pt")
    torch.save(images, tmp_path / "alone.pt")
    torch.save((images, labels[:3]), tmp_path / "short.pt")
    torch.save((images, labels + 0.5), tmp_path / "halves.pt")
    torch.save((images[..., :6], labels), tmp_path / "oblong.pt")
    torch.save((torch.zeros(4, 5, 8, 8), labels), tmp_path / "channels.pt")
    torch.save((torch.full((4, 1, 8, 8), 300), labels), tmp_path / "wide.pt")
    torch.save(images, tmp_path / "cut.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:200])
    (tmp_path / "set.csv").write_text("1,2")
    for name, reason in (
        ("names.pt", "holds weights; name its tensors images and labels"),
        ("three.pt", "holds a list"),
        ("alone.pt", "pass --labels FILE"),
        ("short.pt", "there are 4 images"),
        ("halves.pt", "no whole numbers"),
        ("oblong.pt", "8x6, not square"),
        ("channels.pt", "1 or 3 channels"),
        ("wide.pt", "from 300 to 300"),
        ("cut.pt", "damaged"),
        ("set.csv", "neither a folder nor one of"),
        ("absent.pt", "No such file"),
    ):
        with pytest.raises(DataError, match=reason) as error:
            foreign.read(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_do_not_hold_every_number_are_refused(tmp_path):
    images, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    quantised = torch.quantize_per_tensor(images, 0.1, 0, torch.quint8)
    for name, pair, reason in (
        ("sparse.pt", (images.to_sparse(), labels), "images .* are sparse; save tensor.to_dense"),
        ("rows.pt", (images, labels.to_sparse()), "labels .* are sparse"),
        ("levels.pt", (quantised, labels), r"quantised; save tensor.dequantize\(\)"),
        ("meta.pt", (images.to("meta"), labels), "without numbers"),
    ):
        torch.save(pair, tmp_path / name)
        with pytest.raises(DataError, match=reason) as error:
            foreign.read(tmp_path / name)
        assert "\n" not in str(error.value)


class _Trap:
    def __reduce__(self):
        return (print, ("sprung",))


def test_nothing_is_unpickled(tmp_path, capsys):
    torch.save({"images": _Trap()}, tmp_path / "trap.pt")
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(_Trap(), protocol=2))
    np.savez(tmp_path / "trap.npz", images=np.array([_Trap()], dtype=object))
    for name in ("trap.pt", "bare.pt", "trap.npz"):
        with pytest.raises(DataError) as error:
            foreign.read(tmp_path / name)
        assert "weights_only" not in str(error.value)
    assert "sprung" not in capsys.readouterr().out


def write_folder(root, folders, pixels, labels):
    for index, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        (root / folders[int(label)]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(root / folders[int(label)] / f"{index:03}.png")


@pytest.mark.parametrize(
    ("folders", "how", "verdict"),
    [
        ([str(c) for c in range(10)], "by name", "ok"),
        ([f"new{c}" for c in range(10)], "by number", "ok"),
        ([f"n{c:02}-{'abcdefghij'[c]}" for c in range(10)], "sorted order", "warning"),
    ],
)
def test_class_folders_find_their_classes(folders, how, verdict, digits, chosen, tmp_path):
    pixels, labels = chosen
    write_folder(tmp_path, folders, pixels, labels)
    read = foreign.read(tmp_path)
    dataset = import_set(read, Statement("pixels"), *stated(), source=digits, fitted_on=digits)
    assert dataset.pixels().mul(255).round().to(torch.uint8).equal(pixels)
    assert dataset.hard_labels().equal(labels)
    (check,) = (c for c in dataset.header["import"]["checks"] if c["check"] == "class folders")
    assert how in check["value"]
    assert check["verdict"] == verdict


def test_numbered_folders_are_not_sorted_as_text(chosen, tmp_path):
    pixels, _ = chosen
    labels = torch.arange(12)
    write_folder(tmp_path, [str(c) for c in range(12)], pixels[:12], labels)
    data = DataRecipe(mean=(0.5,), std=(0.5,))
    names = [chr(ord("a") + index) for index in range(12)]
    dataset = import_set(foreign.read(tmp_path), Statement("pixels"), *stated(data),
                         class_names=names)  # fmt: skip
    kept = dataset.pixels().mul(255).round().to(torch.uint8)
    for place, label in enumerate(dataset.hard_labels().tolist()):
        assert kept[place].equal(pixels[label])
