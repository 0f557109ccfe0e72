"""What a resume compares: for every method, the same bytes, or one line that says why not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from potstill import checkpoints, cli, runs, surroundings
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.data.source import SourceDataset, Split, fingerprint
from potstill.errors import PotstillError, PotstillWarning, RunError
from potstill.methods.distilling import distill
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.recipe import Recipe, parse
from potstill.methods.squeeze import CHECKPOINT, TEACHER, squeeze
from potstill.progress import silent
from potstill.runs import Run

COMMON = {"network": {"depth": 2, "width": 4}, "checkpoint_every": 2, "log_every": 1}
POOL = {"size": 2, "max_steps": 8, "steps_per_visit": [1, 3]}
NETWORK = {"depth": 2, "width": 4, "growth": 1, "normalisation": "batch"}
METHODS: dict[str, dict[str, Any]] = {
    "rcig": {"iterations": 5, "target_batch": 32, "pool": POOL},
    "dm": {"iterations": 5, "real_batch": 8},
    "dwa": {"iterations": 2, "class_batch": 5, "teacher": {"network": NETWORK, "epochs": 2}},
}
STAGE = {"rcig": "iteration", "dm": "iteration", "dwa": "synthesis iteration"}

every_method = pytest.mark.parametrize("method", METHODS)


def recipe(method: str, **changes: Any) -> Recipe:
    # DWA's teacher needs standardised images; the others' may be whitened.
    data = {"preprocess": "standardise" if method == "dwa" else "zca"}
    document = {**COMMON, "data": data, "method": {"kind": method, **METHODS[method], **changes}}
    return parse(document, source="test")


@pytest.fixture(scope="module")
def digits() -> SourceDataset:
    return datasets.load(parse({}, source="test").data, None)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


def changed(source: SourceDataset, keep: torch.Tensor, classes: int = 10) -> SourceDataset:
    """Some of the training images, of the first so many classes."""
    kept = keep & (source.train.labels < classes)
    seen = source.test.labels < classes
    train = Split(source.train.images[kept], source.train.labels[kept])
    test = Split(source.test.images[seen], source.test.labels[seen])
    names = source.class_names[:classes]
    return SourceDataset(source.name, names, train, test, fingerprint(train, test))


class Stop(Exception):
    pass


def stopping(stage: str, at: int) -> Callable[..., None]:
    def progress(name: str, done: int, total: int, **_: float) -> None:
        if name == stage and done >= at:
            raise Stop

    return progress


def begun(out: Path, method: str, source: SourceDataset, **options: Any) -> None:
    """A run of which a part is done, and kept: two iterations, or a teacher and a group."""
    at = 3 if method != "dwa" else 4
    asked = recipe(method)
    with pytest.raises(Stop), Run.create(out, asked) as run:
        distill(asked, source, run, progress=stopping(STAGE[method], at), **options)


def resume(out: Path, method: str, source: SourceDataset, **options: Any) -> DistilledDataset:
    asked = recipe(method)
    with Run.create(out, asked, resume=True) as run:
        return distill(asked, source, run, **options)


def refused(out: Path, method: str, source: SourceDataset, **options: Any) -> str:
    """The line with which going on is refused; what was kept is not touched."""
    kept = {path: path.read_bytes() for path in out.rglob("*.safetensors")}
    with pytest.raises(RunError) as caught:
        resume(out, method, source, **options)
    assert {path: path.read_bytes() for path in out.rglob("*.safetensors")} == kept
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Other data


@every_method
def test_other_data_are_refused_by_what_differs(
    method: str, digits: SourceDataset, tmp_path: Path
) -> None:
    begun(tmp_path, method, digits)
    everything = torch.ones(len(digits.train), dtype=torch.bool)
    fewer = everything.clone()
    fewer[(digits.train.labels == 3).nonzero()[-2:]] = False
    images = digits.train.images.clone()
    images[5, 0, 0, 0] ^= 255
    altered = replace(digits, train=Split(images, digits.train.labels))
    altered = replace(altered, fingerprint=fingerprint(altered.train, altered.test))
    renamed = replace(digits, class_names=("zero", *digits.class_names[1:]))
    had = int((digits.train.labels == 3).sum())
    for source, words in (
        (changed(digits, everything, classes=9), "class '9' was removed"),
        (changed(digits, fewer), f"class '3' has {had - 2} training images and had {had}"),
        (altered, "images were altered or exchanged, as many of each class"),
        (renamed, "class '0' was removed, class 'zero' was added"),
    ):
        message = refused(tmp_path, method, source)
        assert message == (
            f"{tmp_path} is of other data: {words}; restore the data as they were, or use another "
            "--out"
        )
    resume(tmp_path, method, digits)
    assert refused(tmp_path, method, altered).endswith("as they were, or use another --out")


def test_a_teachers_training_is_refused_other_data(digits: SourceDataset, tmp_path: Path) -> None:
    asked = recipe("dwa")
    # SIGINT is what makes it keep a checkpoint.
    interrupted(asked, digits, tmp_path)
    nine = changed(digits, torch.ones(len(digits.train), dtype=torch.bool), classes=9)
    for name in (CHECKPOINT, TEACHER):
        with pytest.raises(RunError, match=rf"{name} is of other data: class '9' was removed; "):
            squeeze(asked, nine, folder=tmp_path)
        squeeze(asked, digits, folder=tmp_path)


def interrupted(asked: Recipe, source: SourceDataset, folder: Path, **options: Any) -> None:
    import signal

    def interrupt(stage: str, done: int, epochs: int, **_: float) -> None:
        if done == 1:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        squeeze(asked, source, folder=folder, progress=interrupt, **options)


def test_a_removed_folder_is_called_a_removed_class(
    tmp_path: Path, fails: Callable[..., str], answer: Callable[..., str]
) -> None:
    """From the command line, for a folder of images."""
    from PIL import Image

    data, out = tmp_path / "data", tmp_path / "run"
    for split, each in (("train", 4), ("test", 1)):
        for place, name in enumerate(("cat", "dog", "owl")):
            (data / split / name).mkdir(parents=True)
            for number in range(each):
                colour = (40 * place + 9 * number, 80 - number, 7 * number)
                Image.new("RGB", (8, 8), colour).save(data / split / name / f"{number}.png")
    words = ["distill", "quickstart/digits-rcig", "--out", out, "--device", "cpu"]
    settings = {
        "data.dataset": "image_folder",
        "data.folder": data,
        "data.preprocess": "standardise",
        "network.depth": 1,
        "network.width": 4,
        "images_per_class": 1,
        "method.iterations": 4,
        "method.target_batch": 4,
        "checkpoint_every": 2,
    }
    words += [word for item in settings.items() for word in ("--set", "{}={}".format(*item))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs.Run, "finish", killed_before_the_end(runs.Run.finish))
        with pytest.raises(Stop):
            cli.run([str(word) for word in words])
    shutil.move(data / "train" / "dog", tmp_path / "dog")
    shutil.move(data / "test" / "dog", tmp_path / "no dog")
    assert fails(*words, "--resume") == (
        f"error: {out} is of other data: class 'dog' was removed; restore the data as they were, "
        "or use another --out"
    )
    shutil.move(tmp_path / "dog", data / "train" / "dog")
    shutil.move(tmp_path / "no dog", data / "test" / "dog")
    answer(*words, "--resume")


def killed_before_the_end(finish: Callable[..., None]) -> Callable[..., None]:
    def dies(self: Run, status: Any = "finished") -> None:
        if status == "finished":
            raise Stop
        finish(self, status)

    return dies


def test_a_recipe_that_was_edited_where_it_lies_is_refused(
    digits: SourceDataset, tmp_path: Path
) -> None:
    """Another whitening is another run, whatever the folder's recipe says by now."""
    begun(tmp_path, "rcig", digits)
    path = tmp_path / runs.RECIPE
    document = yaml.safe_load(path.read_text())
    document["data"]["zca_regularisation"] = 0.5
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(RunError) as caught:
        Run.create(tmp_path, parse(document, source="test"), resume=True)
    assert str(caught.value) == (
        f"{tmp_path / runs.CHECKPOINT}: recipe differs in: data.zca_regularisation (0.1 there, 0.5 "
        "here); use another --out or the same recipe"
    )


def test_a_checkpoint_that_does_not_say_its_data_is_refused(
    digits: SourceDataset, tmp_path: Path
) -> None:
    begun(tmp_path, "dm", digits)
    state, header = checkpoints.read(tmp_path / runs.CHECKPOINT)
    del header["origin"]
    checkpoints.write(tmp_path / runs.CHECKPOINT, state, header)
    assert "was written by an earlier potstill" in refused(tmp_path, "dm", digits)


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": None},
        {"recipe": {"seed": "x"}},
        {"source": {}},
        {"source": {"fingerprint": "\n" * 9, "shape": None, "classes": {"\x1b[2J\n": [1, 2]}}},
        {"surroundings": {"device": "cpu", "processor": "", "threads": 0, "versions": {}}},
        {"surroundings": {"device": "cpu", "processor": "", "threads": 10**9, "versions": {}}},
    ],
)
def test_a_forged_origin_is_refused_in_a_line(
    digits: SourceDataset, tmp_path: Path, changes: dict[str, Any]
) -> None:
    begun(tmp_path, "dm", digits)
    state, header = checkpoints.read(tmp_path / runs.CHECKPOINT)
    header["origin"] |= changes
    checkpoints.write(tmp_path / runs.CHECKPOINT, state, header)
    with pytest.raises(PotstillError) as caught:
        resume(tmp_path, "dm", digits)
    assert str(caught.value).isprintable()


# Threads


@every_method
def test_a_resumed_run_keeps_the_threads_it_was_begun_with(
    method: str, digits: SourceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = torch.get_num_threads()
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    begun(cut, method, digits, threads=here + 1)
    used: set[int] = set()

    def watch(stage: str, done: int, total: int, **_: float) -> None:
        used.add(torch.get_num_threads())

    made = resume(cut, method, digits, progress=watch)
    # DWA's groups have one thread each, and progress is told of within a group and after it.
    assert used == ({1, here + 1} if method == "dwa" else {here + 1})
    assert made.header["surroundings"]["threads"] == here + 1
    assert made.header["surroundings"]["mixed"] == []
    asked = recipe(method)
    with Run.create(whole, asked) as run:
        distill(asked, digits, run, threads=here + 1)
    assert (cut / runs.DISTILLED).read_bytes() == (whole / runs.DISTILLED).read_bytes()
    assert runs.read_record(cut)["machine"]["threads"] == here + 1


@every_method
def test_another_number_of_threads_is_refused(
    method: str, digits: SourceDataset, tmp_path: Path
) -> None:
    begun(tmp_path, method, digits, threads=2)
    said = f"{tmp_path} was begun with 2 threads, and another number gives other bytes; leave out "
    assert refused(tmp_path, method, digits, threads=3).startswith(said)
    resume(tmp_path, method, digits, threads=2)
    assert refused(tmp_path, method, digits, threads=3).startswith(said)


def test_a_teacher_keeps_the_threads_it_was_begun_with(
    digits: SourceDataset, tmp_path: Path
) -> None:
    asked = recipe("dwa")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    interrupted(asked, digits, cut, threads=3)
    for name in (CHECKPOINT, TEACHER):
        with pytest.raises(RunError, match=rf"{name} was begun with 3 threads"):
            squeeze(asked, digits, folder=cut, threads=2)
        squeeze(asked, digits, folder=cut)
    made = squeeze(asked, digits, folder=whole, threads=3)
    assert made.header["surroundings"]["threads"] == 3
    assert made.summary()["surroundings"] == made.header["surroundings"]
    assert (cut / TEACHER).read_bytes() == (whole / TEACHER).read_bytes()


def test_the_command_takes_threads_and_says_how_to_have_them_again(
    tmp_path: Path, answer: Callable[..., str], fails: Callable[..., str]
) -> None:
    from potstill.runs.records import read

    out = tmp_path / "run"
    words = ["distill", "quickstart/digits-rcig", "--out", out, "--device", "cpu"]
    words += ["--set", "method.iterations=2", "--set", "network.width=4"]
    answer(*words, "--threads", "2")
    assert DistilledDataset.load(out / runs.DISTILLED).header["surroundings"]["threads"] == 2
    assert "2 threads" in answer("info", out / runs.DISTILLED)
    command = read(out).command
    assert command is not None and "--threads 2" in command
    assert "was begun with 2 threads" in fails(*words, "--resume", "--threads", "1")


# Other versions and devices


@pytest.fixture
def upgrade(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on another version of PyTorch is at work."""
    plain = surroundings.versions

    def newer() -> None:
        monkeypatch.setattr(surroundings, "versions", lambda: {**plain(), "torch": "99.0"})

    return newer


@every_method
def test_another_version_is_warned_of_once_and_noted(
    method: str, digits: SourceDataset, tmp_path: Path, upgrade: Callable[[], None]
) -> None:
    begun(tmp_path, method, digits)
    before = surroundings.versions()["torch"]
    upgrade()
    with pytest.warns(PotstillWarning) as caught:
        made = resume(tmp_path, method, digits)
    assert made.header["surroundings"]["mixed"] == [f"torch {before} and 99.0"]
    own = [str(one.message) for one in caught if one.category is PotstillWarning]
    assert len(own) == 1 and "\n" not in own[0]
    assert own[0].startswith(f"{tmp_path} is the work of different surroundings (torch {before} ")


def test_a_group_of_another_version_is_noted_without_a_checkpoint(
    digits: SourceDataset, tmp_path: Path, upgrade: Callable[[], None]
) -> None:
    """Groups may come from anywhere: each says where it was made."""
    asked, before = recipe("dwa"), surroundings.versions()["torch"]
    teacher = squeeze(asked, digits)
    with pytest.raises(Stop), Run.create(tmp_path / "there", asked) as run:
        stop = stopping("synthesis iteration", 4)
        distill(asked, digits, run, teacher=teacher, progress=stop)
    upgrade()
    shutil.copytree(tmp_path / "there" / GROUPS, tmp_path / "here" / GROUPS)
    with Run.create(tmp_path / "here", asked) as run, pytest.warns(PotstillWarning):
        made = distill(asked, digits, run, teacher=teacher)
    assert made.header["surroundings"]["mixed"] == [f"torch {before} and 99.0"]


def test_a_teacher_of_two_versions_says_so(
    digits: SourceDataset, tmp_path: Path, upgrade: Callable[[], None]
) -> None:
    asked = recipe("dwa")
    interrupted(asked, digits, tmp_path)
    upgrade()
    with pytest.warns(PotstillWarning):
        made = squeeze(asked, digits, folder=tmp_path)
    assert len(made.header["surroundings"]["mixed"]) == 1


def test_the_command_line_warns_in_one_line(
    digits: SourceDataset,
    tmp_path: Path,
    upgrade: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun(tmp_path / "run", "dm", digits)
    upgrade()
    words = ["distill", str(tmp_path / "run" / runs.RECIPE), "--out", str(tmp_path / "run")]
    assert cli.run([*words, "--resume", "--device", "cpu"]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "surroundings" in line]
    assert len(said) == 1 and said[0].startswith(f"warning: {tmp_path / 'run'} is the work of ")


def test_a_set_says_in_what_it_was_made(digits: SourceDataset) -> None:
    made = distill(recipe("dm"), digits, threads=2, progress=silent).header
    assert made["surroundings"].keys() == {"device", "processor", "threads", "mixed"}
    assert made["surroundings"]["device"] == "cpu" and made["surroundings"]["threads"] == 2
    assert made["surroundings"]["mixed"] == []
