"""Run folders and caches with files that nobody wrote: one line, or as good as no file."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from pydantic import BaseModel

from potstill import hardware, runs
from potstill.audits.attacks import ATTACKS, FALSE_POSITIVE_RATES
from potstill.audits.targets import Target
from potstill.data import datasets, image_folder
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import Standardise
from potstill.errors import ArtefactError, DataError, PotstillError, RunError
from potstill.evaluation.cache import Cache
from potstill.methods.recipe import parse
from potstill.report import write
from potstill.reproduce import Workplace, select, survey
from potstill.runs import Run, records
from potstill.runs.log import read_log
from tests.data.test_distilled import sample
from tests.hostile.mutations import deep, mutated
from tests.hostile.test_files import bound, fifo, zeros
from tests.hostile.test_headers import require_line, set_at
from tests.report import audit_records, synthetic


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose record has a result and an audit of every kind."""
    folder = synthetic.finished_run(tmp_path_factory.mktemp("audited") / "run")
    document = json.loads((folder / runs.RECORD).read_text())
    dataset = DistilledDataset.load(folder / runs.DISTILLED)
    best = {"mean": 0.5, "std": 0.0, "values": [0.5], "epochs": [3]}
    result = synthetic.result(synthetic.recipe(), [0.4], [0.2]) | {
        **{"seed": 3, "epochs": 5, "labels": "hard", "teacher": {"digest": "0"}},
        **{"strategy": ["flip"], "warnings": ["few"], "best_on_test": best},
    }
    audits = [
        audit_records.membership(),
        audit_records.scores(),
        audit_records.continual(),
        synthetic.diversity(),
        {"kind": "later", "anything": [1]},
    ]
    document["results"] = synthetic.stamped([result], dataset.digest)
    document["audits"] = synthetic.stamped(audits, dataset.digest)
    (folder / runs.RECORD).write_text(json.dumps(document))
    return folder


@pytest.fixture
def run_folder(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "run"))


def resume(folder: Path) -> object:
    return Run.create(folder, synthetic.recipe(), resume=True).close()


def record_an_audit(folder: Path) -> object:
    return runs.record_audit(folder, {"kind": "a"})


def of_a_table(folder: Path) -> object:
    """What a table says of a row whose run lies there."""
    row = next(row for row in select("rcig/2") if row.measurement is not None)
    place = Workplace(folder.parent / "tables", data_root=None, device="cpu")
    assert row.measurement is not None
    shutil.copytree(folder, place.folder(row.measurement, 0))
    (standing,) = survey([row], place, seeds=1, budget=0)
    if standing.state == "failed":
        raise RunError(standing.why)
    return standing


READERS: dict[str, Callable[[Path], object]] = {
    "read": records.read,
    "resume": resume,
    "audit": record_an_audit,
    "table": of_a_table,
}
RECORDS: dict[str, bytes | tuple[str, Any]] = {
    "truncated": b'{"format": 1, "status": "finish',
    "empty": b"",
    "list": b"[]",
    "not UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 100_000,
    "a number of 5,000 digits": b"1" * 5000,
    "NaN": b'{"format": 1, "iteration": NaN}',
    "infinity": b'{"format": 1, "iteration": 1e999}',
    "deep value": ("machine.cpu", deep(400)),
    "half a surrogate": ("machine.cpu", "\ud800"),
    "format": ("format", 2),
    "no status": ("status", KeyError),
    "status": ("status", "asleep"),
    "iteration": ("iteration", "200"),
    "negative": ("iteration", -1),
    "bool": ("iteration", True),
    "fraction": ("iteration", 1.5),
    "seconds": ("seconds", 3),
    "part": ("seconds.parts.pool", "long"),
    "total": ("seconds.total", None),
    "machine": ("machine", ["x"]),
    "in machine": ("machine.cores", {"a": 1}),
    "versions": ("versions.torch", 2),
    "results": ("results", {}),
    "result": ("results.0.accuracy.values", ["0.5"]),
    "no values": ("results.0.accuracy.values", []),
    "audits": ("audits", 7),
    "audit": ("audits", ["x"]),
    "members": ("audits.0.members", None),
    "curve": ("audits.0.distilled.curve", []),
    "score": ("audits.1.hlr.value", "high"),
    "task": ("audits.2.tasks.0.accuracy", 1),
    "places": ("audits.3.embedding.x", [1.0]),
}


def put(folder: Path, content: bytes | tuple[str, Any]) -> None:
    path = folder / runs.RECORD
    if isinstance(content, tuple):
        document = set_at(json.loads(path.read_text()), *content)
        content = json.dumps(document).encode()
    path.write_bytes(content)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("damage", RECORDS)
def test_a_record_that_nobody_wrote_is_refused_by_all_who_read_it(
    run_folder: Path, damage: str, reader: str
) -> None:
    put(run_folder, RECORDS[damage])
    with pytest.raises(RunError, match=runs.RECORD) as caught:
        READERS[reader](run_folder)
    require_line(caught.value)


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_record_is_read_by_all(run_folder: Path, reader: str) -> None:
    READERS[reader](run_folder)
    run = records.read(run_folder)
    audits = (run.membership, run.scores, run.continual, run.diversity)
    assert [len(found) for found in audits] == [1] * 4 and len(run.results) == 2


def test_a_record_larger_than_any_is_not_read(run_folder: Path) -> None:
    os.truncate(run_folder / runs.RECORD, 1 << 42)
    with pytest.raises(RunError, match="has more than 67,108,864 bytes"):
        records.read(run_folder)


def test_the_commands_answer_with_a_line(
    run_folder: Path, tmp_path: Path, fails: Callable[..., str]
) -> None:
    put(run_folder, RECORDS["deep"])
    out = tmp_path / "page.html"
    assert "nested too deep" in fails("report", run_folder, "--out", out)
    words = ["distill", run_folder / "recipe.yaml", "--out", run_folder, "--resume"]
    assert "nested too deep" in fails(*words, "--device", "cpu")


def test_a_mutated_record_is_refused_or_good_for_every_use(
    run_folder: Path, tmp_path: Path
) -> None:
    random, outcomes = Random("record"), {"used": 0, "refused": 0}
    path = run_folder / runs.RECORD
    document = json.loads(path.read_text())
    for number in range(200):
        path.write_text(json.dumps(mutated(document, random)))
        try:
            run = records.read(run_folder)
            resume(run_folder)
            record_an_audit(run_folder)
            assert run.seconds_per_image is None or run.seconds_per_image >= 0
            outcomes["used"] += 1
            if number % 100 == 0:
                write([run_folder], tmp_path / "page.html")
        except PotstillError as error:
            require_line(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 40


def test_an_audit_that_is_not_finite_is_not_kept(run_folder: Path) -> None:
    before = (run_folder / runs.RECORD).read_bytes()
    with pytest.raises(RunError, match="not finite"):
        runs.record_audit(run_folder, {"kind": "a", "value": float("nan")})
    assert (run_folder / runs.RECORD).read_bytes() == before


# The log

LINES = b'{"iteration": 1, "loss": 0.5}\n{"iteration": 2, "seconds": 1, "loss": null}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"[1]",
        b"1",
        b'"x"',
        b"{}",
        b'{"iteration": "3"}',
        b'{"iteration": true}',
        b'{"iteration": -3}',
        b'{"iteration": 3.5}',
        b'{"iteration": 1e400}',
        b'{"iteration": 3, "loss": "0.5"}',
        b'{"iteration": 3, "loss": [1]}',
        b'{"iteration": 3, "loss": true}',
        b'{"iteration": 3, "seconds": "x"}',
        b'{"iteration": 3, "a": ' + b"[" * 100_000,
        b'{"iteration": ' + b"9" * 5000 + b"}",
        b'{"iteration": 3, "\\ud800": 1}',
        b'{"iteration": 3, "\xff": 1}',
        b'{"iteration": 3}{"iteration": 4}',
        b"\0" * 4096,
        b" " * (1 << 21) + b"{}",
    ],
)
def test_a_line_that_nobody_logged_is_named(run_folder: Path, line: bytes) -> None:
    path = run_folder / runs.METRICS
    for after in (b"\n", LINES):
        path.write_bytes(LINES + line + (after if after == b"\n" else b"\n" + after))
        for reader in (records.read, resume):
            with pytest.raises(RunError, match=r"metrics.jsonl, line \d: not a JSON") as caught:
                reader(run_folder)
            require_line(caught.value)
        assert path.read_bytes().startswith(LINES + line)  # nothing is lost


@pytest.mark.parametrize("torn", [b'{"iteration": 3, "lo', b"{", b"\0" * 4096, b"\xff"])
def test_a_torn_last_line_is_no_line(run_folder: Path, torn: bytes) -> None:
    path = run_folder / runs.METRICS
    path.write_bytes(LINES + torn)
    assert records.read(run_folder).series["loss"].iterations == (1, 2)
    resume(run_folder)
    assert path.read_bytes() == LINES


def test_a_last_line_that_lacks_its_end_alone_is_whole(run_folder: Path) -> None:
    path = run_folder / runs.METRICS
    path.write_bytes(LINES.rstrip())
    assert records.read(run_folder).series["loss"].iterations == (1, 2)
    resume(run_folder)
    assert path.read_bytes() == LINES  # so that the next line is one of its own


def test_a_log_larger_than_memory_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / runs.METRICS
    path.write_bytes(LINES)
    monkeypatch.setattr(hardware, "memory", lambda: 8 * len(LINES))
    assert len(list(read_log(path))) == 2
    monkeypatch.setattr(hardware, "memory", lambda: 8 * len(LINES) - 8)
    with pytest.raises(RunError, match="that this machine has memory for"):
        list(read_log(path))


# What is no file


@pytest.mark.parametrize("make", [fifo, bound, zeros])
@pytest.mark.parametrize("name", [runs.RECORD, runs.METRICS])
def test_what_is_no_file_in_a_run_is_refused(
    run_folder: Path, name: str, make: Callable[[Path], None]
) -> None:
    (run_folder / name).unlink()
    make(run_folder / name)
    signal.alarm(20)  # a reader that waits for a writer would wait for ever
    try:
        for reader in (records.read, resume):
            with pytest.raises(RunError, match=f"{name}: it is no regular file; "):
                reader(run_folder)
    finally:
        signal.alarm(0)


def test_a_log_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    fifo(tmp_path / runs.METRICS)
    signal.alarm(20)
    try:
        with Run.create(tmp_path, synthetic.recipe()) as run, pytest.raises(RunError):
            run.log(1, {"loss": 0.5})
    finally:
        signal.alarm(0)


def test_published_data_is_in_files(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        fifo(raw / name)
    data = parse({"data": {"dataset": "mnist"}}, source="test").data
    signal.alarm(20)
    try:
        with pytest.raises(DataError, match="-ubyte is no regular file"):
            datasets.load(data, tmp_path)
    finally:
        signal.alarm(0)


# Caches


class Kept(BaseModel):
    accuracy: float


KEY = {"what": "x"}


def cached(folder: Path) -> Path:
    Cache(folder).put(KEY, {"accuracy": 0.5, "accuracies": [0.5]})
    (path,) = folder.glob("*.json")
    return path


def found(folder: Path) -> tuple[Kept | None, list[float] | None]:
    cache = Cache(folder)
    return cache.get(KEY, Kept), cache.numbers(KEY, "accuracies", 1)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b'{"key": {"what": "x"}}',
     b'{"key": {"what": "x"}, "value": {"accuracy": "0.5", "accuracies": ["0.5"]}}',
     b'{"key": {"what": "x"}, "value": {"accuracy": NaN, "accuracies": [NaN]}}',
     b'{"key": {"what": "x"}, "value": {"accuracy": 1e999, "accuracies": [1e999]}}',
     b'{"key": {"what": "x"}, "value": {"accuracy": null, "accuracies": [true]}}'],
)  # fmt: skip
def test_a_damaged_cache_is_as_good_as_none_and_made_again(tmp_path: Path, content: bytes) -> None:
    path = cached(tmp_path)
    assert found(tmp_path) == (Kept(accuracy=0.5), [0.5])
    path.write_bytes(content)
    assert found(tmp_path) == (None, None)
    cached(tmp_path)
    assert found(tmp_path) == (Kept(accuracy=0.5), [0.5])


@pytest.mark.parametrize("make", [fifo, bound, zeros, lambda path: os.truncate(path, 1 << 42)])
def test_what_is_no_file_of_a_cache_is_passed_over(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    path = cached(tmp_path)
    if make in (fifo, bound, zeros):
        path.unlink()
    make(path)
    signal.alarm(20)
    try:
        assert found(tmp_path) == (None, None)
        cached(tmp_path)
    finally:
        signal.alarm(0)
    assert found(tmp_path) == (Kept(accuracy=0.5), [0.5])


@pytest.mark.parametrize(
    ("where", "value"),
    [("areas.lr", KeyError), ("areas.lr", [0.5]), ("curves.lr", [[0.5]] * 2), ("areas.x", [0.5])],
)
def test_a_cached_target_has_every_attack_on_every_chunk(where: str, value: Any) -> None:
    curve = [0.5] * len(FALSE_POSITIVE_RATES)
    whole = {
        "accuracy": 0.5,
        "member_accuracy": 0.5,
        "areas": {name: [0.5, 0.5] for name in ATTACKS},
        "curves": {name: [curve, curve] for name in ATTACKS},
    }
    assert Target.model_validate(whole).folds == 2
    with pytest.raises(ValueError, match="validation error"):
        Target.model_validate(set_at(whole, where, value))


# What killed processes left


@pytest.mark.parametrize("use", ["cache", "result", "audit"])
def test_temporary_files_of_killed_processes_are_removed(run_folder: Path, use: str) -> None:
    left = run_folder / f".potstill-{'0' * 32}.tmp"
    left.touch()
    if use == "cache":
        Cache(run_folder).put(KEY, {})
    elif use == "result":
        result = synthetic.result(synthetic.recipe(), [0.5])
        DistilledDataset.add_result(run_folder / runs.DISTILLED, result)
    else:
        record_an_audit(run_folder)
    assert not left.exists()


def test_a_cache_looks_for_them_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr("potstill.evaluation.cache.remove_leftovers", looked.append)
    cache = Cache(tmp_path)
    for number in range(3):
        cache.put({"number": number}, {})
    assert looked == [tmp_path]


# Names of folders


def test_class_folders_have_names_that_are_text(tmp_path: Path, fails: Callable[..., str]) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
    os.mkdir(os.fsencode(tmp_path / "train") + b"/b\xff")
    said = "name of folder '.* is not UTF-8; rename it"
    with pytest.raises(DataError, match=said):
        image_folder.read(tmp_path, resolution=8, channels=1)
    with pytest.raises(DataError, match=said):
        image_folder.read_classes(tmp_path / "train", resolution=8)
    assert "rename it" in fails(
        *("import", tmp_path / "train", "--out", tmp_path / "x", "--space", "pixels")
    )


def test_so_has_the_folder_that_names_the_data(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.makedirs(Path(odd) / "train" / "a")
    with pytest.raises(DataError, match="is not UTF-8; rename it"):
        image_folder.read(Path(odd), resolution=8, channels=1)


def test_class_names_are_text() -> None:
    base = sample(zca=False)
    make = partial(DistilledDataset, base.images, base.labels)
    fitted = Standardise(torch.zeros(3).double(), torch.ones(3).double())
    header = {key: value for key, value in base.header.items() if key != "format_version"}
    make(("a", "b"), fitted, header)
    with pytest.raises(ArtefactError, match="is no text"):
        make(("a", "b\udcff"), fitted, header)
