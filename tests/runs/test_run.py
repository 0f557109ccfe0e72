from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from potstill import checkpoints, runs, storage
from potstill.errors import RunError
from potstill.methods.recipe import Recipe, parse, read_yaml
from potstill.runs import Run
from tests.memory import PeakMemory
from tests.report import synthetic

RECIPE = Recipe(name="test")


def other_recipe(**changes: Any) -> Recipe:
    return parse({**RECIPE.model_dump(mode="json"), **changes}, source="test")


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / runs.METRICS).read_text().splitlines()]


def one_line(caught: pytest.ExceptionInfo[RunError]) -> str:
    message = str(caught.value)
    assert "\n" not in message
    return message


# Checkpoints: state in, the same state out


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, types and strides included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return alike and one.stride() == other.stride() and torch.equal(one, other)
    if isinstance(one, dict):
        # The order counts: an optimiser goes through its state in it.
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    return bool(one == other)


def round_trip(path: Path, state: Any) -> Any:
    checkpoints.write(path, state, {})
    return checkpoints.read(path)[0]


DTYPES = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)
TENSORS = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=4),
    st.sampled_from(DTYPES),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
STATES = st.recursive(
    LEAVES | TENSORS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


@given(state=STATES)
def test_any_state_comes_back_the_same(tmp_path_factory, state):
    assert same(round_trip(tmp_path_factory.mktemp("state") / "c.safetensors", state), state)


def test_awkward_numbers_come_back_the_same(tmp_path):
    state = [0.1 + 0.2, -0.0, 5e-324, math.inf, -math.inf, 2**200, True, 1, 1.0]
    assert same(round_trip(tmp_path / "c.safetensors", state), state)
    assert math.isnan(round_trip(tmp_path / "c.safetensors", math.nan))


def test_the_header_comes_back_the_same(tmp_path):
    header = {"seconds": 0.1, "parts": {"z": 1.5, "a": math.inf}, "list": [1, None, "x"]}
    checkpoints.write(tmp_path / "c.safetensors", 0, header)
    assert same(checkpoints.read(tmp_path / "c.safetensors")[1], header)


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        checkpoints.write(tmp_path / name, {"x": torch.ones(8), "n": [3, 0.1]}, {"iteration": 5})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_keys_that_look_like_our_tags_are_kept(tmp_path):
    state = {"tensor": "0", "items": {"items": 1, "stride": [1]}, "float": "nan", "": torch.ones(2)}
    assert same(round_trip(tmp_path / "c.safetensors", state), state)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(2, 4, 5, 1).permute(0, 3, 1, 2),
        torch.randn(3, 4).t(),
    ],
    ids=["channels_last", "one channel, channels_last", "transposed"],
)
def test_dense_strides_are_kept(tmp_path, tensor):
    back = round_trip(tmp_path / "c.safetensors", {"x": tensor})["x"]
    assert back.stride() == tensor.stride()
    assert torch.equal(back, tensor)


def test_views_are_stored_without_what_they_are_views_of(tmp_path):
    base = torch.arange(1_000_000.0)
    state = {"part": base[::500_000], "same": base[:2], "expanded": base[:1].expand(3)}
    path = tmp_path / "c.safetensors"
    back = round_trip(path, state)
    assert back["part"].tolist() == [0.0, 500_000.0]
    assert back["same"].tolist() == [0.0, 1.0]
    assert back["expanded"].tolist() == [0.0, 0.0, 0.0]
    assert path.stat().st_size < 10_000


def test_a_restored_tensor_is_not_tied_to_the_file(tmp_path):
    path = tmp_path / "c.safetensors"
    back = round_trip(path, {"x": torch.ones(4)})["x"]
    path.write_bytes(b"\0" * path.stat().st_size)
    back += 1
    assert back.tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("state", "where"),
    [
        ({"a": {1: 2}}, "state.a"),
        ({"a": [{"b": {3}}]}, r"state\.a\.0\.b"),
        ({"a": np.ones(2)}, "ndarray"),
        ({"a": np.float64(1)}, "float64"),
    ],
)
def test_what_json_and_tensors_cannot_hold_is_refused(tmp_path, state, where):
    with pytest.raises(TypeError, match=where):
        checkpoints.write(tmp_path / "c.safetensors", state, {})
    assert not list(tmp_path.iterdir())


@given(data=st.data())
def test_an_altered_byte_never_passes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("altered") / "c.safetensors"
    checkpoints.write(path, {"x": torch.ones(8), "n": 3}, {"iteration": 5})
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        state, header = checkpoints.read(path)
    except RunError:
        return
    # JSON leaves a writer some freedom: spaces, escapes. The content may not differ.
    assert same(state, {"x": torch.ones(8), "n": 3})
    assert header == {"iteration": 5}


@given(data=st.data())
def test_a_truncated_file_never_passes(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("truncated") / "c.safetensors"
    checkpoints.write(path, {"x": torch.ones(8)}, {})
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(RunError, match="is truncated") as caught:
        checkpoints.read(path)
    assert "delete it" in one_line(caught)


def test_other_files_and_formats_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    path.write_bytes(safetensors.torch.save({"x": torch.ones(2)}))
    with pytest.raises(RunError, match=r"no checkpoint.* delete it"):
        checkpoints.read(path)
    storage.save(path, {"format_version": 1, "results": []}, {}, storage.TEACHER)
    with pytest.raises(RunError, match=r"is a teacher, no checkpoint; .* delete it"):
        checkpoints.read(path)
    with pytest.raises(RunError, match="cannot read"):
        checkpoints.read(tmp_path / "absent")
    monkeypatch.setattr(storage, "CHECKPOINT", replace(storage.CHECKPOINT, newest=3))
    checkpoints.write(path, {}, {})
    monkeypatch.undo()
    with pytest.raises(RunError, match=r"format 3, this one reads 2.*; upgrade"):
        checkpoints.read(path)


def test_a_checkpoint_of_format_1_says_what_to_do(tmp_path):
    document = '{"format": 1, "header": {"iteration": 5}, "state": {"items": {"n": 3}}}'
    digest = hashlib.sha256(document.encode()).hexdigest()
    envelope = json.dumps({"digest": digest, "document": document})
    path = tmp_path / "c.safetensors"
    path.write_bytes(safetensors.torch.save({}, {"potstill": envelope}))
    with pytest.raises(RunError, match=r"\(format 1\); finish .* start again with") as caught:
        checkpoints.read(path)
    assert "another --out" in one_line(caught)


def test_writing_and_reading_hold_the_state_once(tmp_path):
    laid_out = torch.randn(10, 3, 20, 20).to(memory_format=torch.channels_last)
    state = {"pool": [torch.randn(250_000) for _ in range(8)], "images": laid_out}
    size = 4 * (8 * 250_000 + laid_out.numel())
    path = tmp_path / "c.safetensors"
    with PeakMemory():  # under which PyTorch imports much when a tensor is first made
        checkpoints.write(path, {"x": torch.ones(1)}, {})
    for work in (lambda: checkpoints.write(path, state, {}), lambda: checkpoints.read(path)):
        tracemalloc.start()
        with PeakMemory() as memory:
            found = work()
        beside = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        whole = 0 if found is None else size
        assert memory.peak + beside <= whole + size / 8
    assert same(found[0], state)


# A run's folder


def test_a_new_run_says_what_it_was_asked_and_where_it_runs(tmp_path):
    out = tmp_path / "a" / "b"
    with Run.create(out, RECIPE) as run:
        record = runs.read_record(out)
        assert record["status"] == "running"
        assert run.load_checkpoint() is None
        assert not run.finished
    assert parse(read_yaml(out / runs.RECIPE), source="stored") == RECIPE
    assert record["format"] == 1
    assert record["iteration"] == 0
    assert record["machine"]["cores"] >= 1
    assert record["machine"]["cpu"]
    assert record["machine"]["device"] == "cpu"
    assert torch.__version__.startswith(record["versions"]["torch"])


def test_a_checkpoint_brings_back_state_and_time(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        with run.part("solve"):
            pass
        spent = run.seconds
        run.save_checkpoint(4, {"x": torch.arange(3), "rate": 0.1})
        before = runs.read_record(tmp_path)
    assert before["status"] == "running"
    assert before["iteration"] == 4
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        loaded = run.load_checkpoint()
        assert loaded is not None
        iteration, state = loaded
        assert iteration == run.iteration == 4
        assert same(state, {"x": torch.arange(3), "rate": 0.1})
        assert run.load_checkpoint() is None
        assert run.seconds >= spent
        run.finish()
    after = runs.read_record(tmp_path)
    assert set(after["seconds"]["parts"]) == {"solve"}


def test_parts_add_up_over_processes(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        run._parts["solve"] = 1000.0
        run.save_checkpoint(1, {})
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        with run.part("solve"):
            pass
        run.finish()
    assert runs.read_record(tmp_path)["seconds"]["parts"]["solve"] >= 1000


def test_the_log_is_one_json_object_a_line(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        run.log(10, {"loss": 1.5, "gradient": torch.tensor(0.25)})
        run.log(20, {"loss": math.nan})
        assert run.iteration == 20
    first, second = lines(tmp_path)
    assert {**first, "seconds": 0} == {"iteration": 10, "seconds": 0, "loss": 1.5, "gradient": 0.25}
    assert second["loss"] is None
    assert first["seconds"] <= second["seconds"]


def test_resuming_forgets_what_is_newer_than_the_checkpoint(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        for step in (1, 2, 3):
            run.log(step, {"loss": float(step)})
            if step == 2:
                run.save_checkpoint(step, {})
    with (tmp_path / runs.METRICS).open("a") as file:
        file.write('{"iteration": 4, "lo')
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert [line["iteration"] for line in lines(tmp_path)] == [1, 2]
        run.log(3, {"loss": 30.0})
    assert [line["loss"] for line in lines(tmp_path)] == [1.0, 2.0, 30.0]


def test_tensorboard_shows_each_step_once_after_resuming(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with Run.create(tmp_path, RECIPE) as run:
        for step in (1, 2, 3):
            run.log(step, {"loss": float(step)})
            if step == 2:
                run.save_checkpoint(step, {})
    # TensorBoard reads its files in the order of the seconds in their names.
    for file in (tmp_path / runs.TENSORBOARD).iterdir():
        file.rename(file.with_name(re.sub(r"tfevents\.\d+", "tfevents.0000000001", file.name)))
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        run.log(3, {"loss": 30.0})
    board = EventAccumulator(str(tmp_path / runs.TENSORBOARD))
    board.Reload()
    assert [(event.step, event.value) for event in board.Scalars("loss")] == [
        (1, 1.0),
        (2, 2.0),
        (3, 30.0),
    ]


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        run.log(1, {"loss": 1.0})
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert run.load_checkpoint() is None
        assert lines(tmp_path) == []


def test_resuming_an_empty_folder_starts_a_run(tmp_path):
    with Run.create(tmp_path / "new", RECIPE, resume=True) as run:
        assert run.load_checkpoint() is None
    assert (tmp_path / "new" / runs.RECIPE).exists()


def test_a_finished_run_stays_finished(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        run.log(5, {"loss": 1.0})
        run.save_checkpoint(5, {"n": 1})
        run.artefact.write_bytes(b"result")
        run.finish()
    record = runs.read_record(tmp_path)
    assert (record["status"], record["iteration"]) == ("finished", 5)
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert run.finished and run.load_checkpoint() is None
    assert runs.read_record(tmp_path) == record
    (tmp_path / runs.CHECKPOINT).write_bytes(b"of an earlier version")
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert run.finished
    (tmp_path / runs.CHECKPOINT).unlink()
    (tmp_path / runs.DISTILLED).unlink()
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert not run.finished


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_a_run_that_is_left_unfinished_is_marked_as_stopped(tmp_path, error):
    def leave() -> None:
        with Run.create(tmp_path, RECIPE):
            if error:
                raise error

    if error:
        with pytest.raises(error):
            leave()
    else:
        leave()
    assert runs.read_record(tmp_path)["status"] == "stopped"


# Folders that cannot be used


def test_a_taken_folder_needs_resume(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    with pytest.raises(RunError, match="use --resume"):
        Run.create(tmp_path, RECIPE)


def test_another_recipe_is_refused_by_key(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    changed = other_recipe(seed=1, method={"iterations": 7, "solver": {"tolerance": 0.5}})
    with pytest.raises(RunError, match="use another --out or the same recipe") as caught:
        Run.create(tmp_path, changed, resume=True)
    message = one_line(caught)
    assert "recipe differs in: " in message
    assert "method.iterations (15000 there, 7 here)" in message
    assert "method.solver.tolerance" in message
    assert "seed (0 there, 1 here)" in message
    many = other_recipe(seed=1, images_per_class=2, log_every=1, checkpoint_every=1)
    with pytest.raises(RunError, match="and 1 more"):
        Run.create(tmp_path, many, resume=True)


def test_another_description_is_the_same_recipe(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    Run.create(tmp_path, other_recipe(name="x", description="y"), resume=True).close()


def test_a_damaged_folder_is_refused_and_not_kept_locked(tmp_path):
    with Run.create(tmp_path, RECIPE) as run:
        run.save_checkpoint(3, {"x": torch.ones(5)})
    path = tmp_path / runs.CHECKPOINT
    intact = path.read_bytes()
    path.write_bytes(intact[:-1])
    with pytest.raises(RunError, match="is truncated"):
        Run.create(tmp_path, RECIPE, resume=True)
    path.write_bytes(intact)
    (tmp_path / runs.RECORD).write_text("{")
    with pytest.raises(RunError, match=r"record\.json is damaged"):
        Run.create(tmp_path, RECIPE, resume=True)
    (tmp_path / runs.RECORD).unlink()
    (tmp_path / runs.RECIPE).rename(tmp_path / "moved")
    with pytest.raises(RunError, match=r"has no recipe\.yaml"):
        Run.create(tmp_path, RECIPE, resume=True)
    (tmp_path / "moved").rename(tmp_path / runs.RECIPE)
    with Run.create(tmp_path, RECIPE, resume=True) as run:
        assert run.iteration == 3


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path):
    with Run.create(tmp_path, RECIPE):
        with pytest.raises(RunError, match="another process is at work"):
            Run.create(tmp_path, RECIPE, resume=True)
        with pytest.raises(RunError, match="another process is at work"):
            runs.record_audit(tmp_path, {})
    Run.create(tmp_path, RECIPE, resume=True).close()


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="give --out a folder"):
        Run.create(tmp_path / "file", RECIPE)
    with pytest.raises(RunError, match="cannot write"):
        Run.create(tmp_path / "file" / "below", RECIPE)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot write"):
        Run.create(tmp_path / "out", RECIPE)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_under_the_log_is_a_run_error(tmp_path):
    (tmp_path / runs.METRICS).symlink_to("/dev/full")
    with Run.create(tmp_path, RECIPE) as run:
        with pytest.raises(RunError, match=os.strerror(errno.ENOSPC)) as caught:
            run.log(1, {"loss": 1.0})
        assert "--resume" in one_line(caught)


def test_a_failed_checkpoint_leaves_the_last_one(tmp_path, monkeypatch):
    with Run.create(tmp_path, RECIPE) as run:
        run.save_checkpoint(1, {"n": 1})

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(RunError, match=os.strerror(errno.ENOSPC)):
            run.save_checkpoint(2, {"n": 2})
        monkeypatch.undo()
    assert checkpoints.read(tmp_path / runs.CHECKPOINT)[0] == {"n": 1}
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_recipe_that_says_of_itself_what_it_did_not_is_the_same(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    more = RECIPE.model_copy(update={"departures": {"seed": 5}, "description": "more"})
    Run.create(tmp_path, more, resume=True).close()


def test_the_first_failure_is_the_one_reported(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise RunError("the disk is full")

    with pytest.raises(ZeroDivisionError), Run.create(tmp_path, RECIPE):
        monkeypatch.setattr(runs.run, "atomic_write", full)
        raise ZeroDivisionError
    monkeypatch.undo()
    Run.create(tmp_path, RECIPE, resume=True).close()


# Records


def test_audits_are_appended_to_a_finished_run(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    before = runs.read_record(tmp_path)
    runs.record_audit(tmp_path, {"kind": "a"})
    runs.record_audit(tmp_path, {"kind": "b"})
    assert runs.read_record(tmp_path) == {**before, "audits": [{"kind": "a"}, {"kind": "b"}]}


def test_what_an_older_record_says_of_evaluations_stays(tmp_path):
    Run.create(tmp_path, RECIPE).close()
    assert "results" not in runs.read_record(tmp_path)
    result = synthetic.result(RECIPE, [0.5])
    old = runs.read_record(tmp_path) | {"results": [result]}
    (tmp_path / runs.RECORD).write_text(json.dumps(old))
    Run.create(tmp_path, RECIPE, resume=True).close()
    runs.record_audit(tmp_path, {"kind": "a"})
    after = runs.read_record(tmp_path)
    assert (after["results"], after["audits"]) == ([result], [{"kind": "a"}])


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "is .* a run's folder"), ("[1", "no JSON"), ("[]", "format 1"), ('{"format": 2}', "1")],
)
def test_records_that_cannot_be_read_are_refused(tmp_path, content, reason):
    if content is not None:
        (tmp_path / runs.RECORD).write_text(content)
    with pytest.raises(RunError, match=reason):
        runs.read_record(tmp_path)
