"""Run folders: whole, unfinished, damaged, and no runs at all."""

from __future__ import annotations

import fcntl
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from potstill import papers
from potstill.data.distilled import DistilledDataset
from potstill.errors import ArtefactError, PotstillError, RunError
from potstill.papers import departures
from potstill.report import write
from potstill.runs import records
from tests.report import audit_records, synthetic


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    run = records.read(synthetic.finished_run(tmp_path / "digits"))
    assert (run.label, run.status, run.iteration) == ("digits", "finished", 200)
    assert run.recipe == synthetic.recipe()
    assert run.series["loss"].iterations == tuple(range(1, 201))
    assert len(run.series) == 9
    assert run.dataset is not None and len(run.dataset) == 10
    assert run.timing.total == pytest.approx(70)
    assert run.missing == ()


def test_a_result_in_header_and_record_counts_once(tmp_path: Path) -> None:
    run = records.read(synthetic.finished_run(tmp_path / "digits"))
    assert len(run.results) == 1
    assert run.headline is not None
    assert run.headline.accuracy.mean == pytest.approx(0.82)
    assert run.headline.baseline is not None and len(run.headline.baseline.values) == 5


def test_headline_is_the_newest_result_of_the_recipes_protocol_and_network(tmp_path: Path) -> None:
    of = synthetic.recipe()
    old, new, wide, augmented = (synthetic.result(of, [v]) for v in (0.1, 0.2, 0.3, 0.4))
    wide["network"] = wide["network"] | {"width": 64}
    augmented["protocol"] = "rcig-paper-augmented"
    record = synthetic.record("finished", 200, [old, new, wide, augmented])
    run = records.read(synthetic.write_run(tmp_path / "run", of, record=record))
    assert run.headline is not None and run.headline.accuracy.mean == 0.2
    others = synthetic.record("finished", 200, [wide, augmented])
    run = records.read(synthetic.write_run(tmp_path / "other", of, record=others))
    assert run.headline is not None and run.headline.accuracy.mean == 0.4


def test_a_recipe_alone_is_a_run_that_has_left_nothing(tmp_path: Path) -> None:
    run = records.read(synthetic.write_run(tmp_path / "run", synthetic.recipe()))
    assert (run.status, run.iteration, run.results, run.dataset) == ("not recorded", 0, (), None)
    text = " ".join(run.missing)
    assert "no record" in text and "logged" in text and "no distilled set" in text


def test_without_a_record_the_log_says_how_far_the_run_is(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.recipe(), lines=synthetic.metrics(7))
    assert records.read(folder).iteration == 7


def test_a_torn_last_line_of_the_log_is_passed_over(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.recipe(), lines=synthetic.metrics(3))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 4, "lo')
    assert records.read(folder).series["loss"].iterations == (1, 2, 3)


def test_null_and_not_finite_values_become_gaps(tmp_path: Path) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.recipe())
    (folder / "metrics.jsonl").write_text(
        '{"iteration": 1, "seconds": 1, "loss": null}\n'
        '{"iteration": 2, "seconds": 2, "loss": Infinity}\n'
        '{"iteration": 3, "seconds": 3, "loss": 0.5}\n'
    )
    first, second, third = records.read(folder).series["loss"].values
    assert math.isnan(first) and math.isnan(second) and third == 0.5


def test_labels_tell_folders_of_one_name_apart(tmp_path: Path) -> None:
    folders = [
        synthetic.write_run(tmp_path / parent / "run", synthetic.recipe()) for parent in "ab"
    ]
    assert [run.label for run in records.read_all(folders)] == ["a/run", "b/run"]
    assert [run.label for run in records.read_all([folders[0]] * 2)] == ["run", "run"]


def _one_line(error: PotstillError) -> str:
    text = str(error)
    assert text and "\n" not in text
    return text


def test_no_runs_or_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        records.read_all([])
    _one_line(caught.value)
    with pytest.raises(RunError) as caught:
        records.read(tmp_path / "absent")
    assert "absent" in _one_line(caught.value)
    with pytest.raises(RunError) as caught:
        records.read(tmp_path)
    assert "recipe.yaml" in _one_line(caught.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("recipe.yaml", b"unknown: 1\n"),
        ("recipe.yaml", b"\xff\xfe"),
        ("record.json", b"{"),
        ("record.json", b"[]"),
        ("record.json", b'{"format": 1, "status": "asleep", "iteration": 3}'),
        ("record.json", b'{"format": 1, "status": "running", "iteration": 3, "results": [{}]}'),
        (
            "record.json",
            b'{"format": 1, "status": "running", "iteration": 3, "audits": [{"kind": '
            b'"diversity", "distance": {}, "embedding": {"class_names": [], "x": [1], "y": [], '
            b'"classes": [], "real": []}}]}',
        ),
        ("metrics.jsonl", b'{"iteration": 1}\nnot json\n{"iteration": 3}\n'),
        ("metrics.jsonl", b"[1]\n[2]\n"),
        ("metrics.jsonl", b"\xff\xfe\n"),
    ],
)
def test_unreadable_files_are_named_in_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    folder = synthetic.write_run(tmp_path / "run", synthetic.recipe())
    (folder / name).write_bytes(content)
    with pytest.raises(RunError) as caught:
        records.read(folder)
    assert name in _one_line(caught.value)


def test_a_damaged_distilled_set_is_an_artefact_error(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "run")
    path = folder / "distilled.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtefactError) as caught:
        records.read(folder)
    _one_line(caught.value)


def test_unknown_keys_of_a_record_are_passed_over(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "run")
    document = json.loads((folder / "record.json").read_text())
    document["later"] = document["results"][0]["later"] = {"more": 1}
    (folder / "record.json").write_text(json.dumps(document))
    assert len(records.read(folder).results) == 1


def test_audits_are_read_and_those_of_other_kinds_passed_over(tmp_path: Path) -> None:
    (audit,) = records.read(synthetic.dwa_run(tmp_path / "run")).diversity
    assert audit.relative == 0.75 and audit.distance.classes == (2.0, 4.0, None)
    assert audit.embedding is not None and audit.embedding.real.count(False) == 15


def _of_two_sets(folder: Path) -> Path:
    """A run with a result and an audit of its set, and two and one of the set before."""
    of = synthetic.recipe()
    before = {"artefact_digest": "2" * 64}
    results = [synthetic.result(of, [seed / 10]) | {"seed": seed} for seed in (1, 2, 3)]
    document = synthetic.record("finished", 200, [r | before for r in results[:2]] + results[2:])
    document["audits"] = [
        {**synthetic.diversity(1.0), **before},
        {**synthetic.diversity(2.0), "artefact_digest": synthetic.OWN},
    ]
    dataset = synthetic.distilled(of, *synthetic.digits(), synthetic.DIGITS)
    return synthetic.write_run(folder, of, record=document, dataset=dataset)


def test_what_was_measured_on_another_set_is_left_out_and_counted(tmp_path: Path) -> None:
    run = records.read(_of_two_sets(tmp_path / "run"))
    assert [result.accuracy.mean for result in run.results] == [0.3]
    assert [audit.distance.mean for audit in run.diversity] == [2.0]
    assert "2 results and 1 audit are not shown" in " ".join(run.missing)


@pytest.mark.parametrize("audit", ["scores", "membership", "continual"])
def test_every_kind_of_audit_is_left_out_if_it_is_of_another_set(
    tmp_path: Path, audit: str
) -> None:
    folder = audit_records.audited_run(tmp_path / "run", getattr(audit_records, audit)())
    assert len(getattr(records.read(folder), audit)) == 1
    document = json.loads((folder / "record.json").read_text())
    document["audits"][0]["artefact_digest"] = "2" * 64
    (folder / "record.json").write_text(json.dumps(document))
    run = records.read(folder)
    assert getattr(run, audit) == ()
    assert "1 audit is not shown" in " ".join(run.missing)


def test_without_a_set_everything_is_shown(tmp_path: Path) -> None:
    folder = _of_two_sets(tmp_path / "run")
    (folder / "distilled.safetensors").unlink()
    run = records.read(folder)
    assert len(run.results) == 3 and len(run.diversity) == 2
    assert "not shown" not in " ".join(run.missing)


def test_what_names_no_set_is_shown(tmp_path: Path) -> None:
    of = synthetic.recipe()
    old = synthetic.result(of, [0.5])
    del old["artefact_digest"]
    document = synthetic.record("finished", 200, [old]) | {"audits": [synthetic.diversity()]}
    dataset = synthetic.distilled(of, *synthetic.digits(), synthetic.DIGITS)
    run = records.read(synthetic.write_run(tmp_path / "run", of, record=document, dataset=dataset))
    assert len(run.results) == len(run.diversity) == 1
    assert "not shown" not in " ".join(run.missing)


def test_a_set_relabelled_in_place_is_not_evaluated_yet(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "run")
    path = folder / "distilled.safetensors"
    dataset = DistilledDataset.load(path)
    dataset.with_soft_labels(torch.zeros(2, len(dataset), 10), {"protocol": "dwa-paper"}).save(path)
    run = records.read(folder)
    assert run.results == () and run.headline is None
    text = " ".join(run.missing)
    assert "has not been evaluated" in text and "not shown" not in text
    (before,) = run.earlier
    assert before.accuracy.mean == pytest.approx(0.82)


def test_a_set_of_a_method_that_is_not_known_here_says_what_it_is(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "run", seed=3)
    path = folder / "distilled.safetensors"
    ours = DistilledDataset.load(path)
    path.unlink()
    strange = {"title": "Stranger", "detail": "of another package"}
    stated = {"data": {"dataset": "digits"}, "mirror_images": False, "description": strange}
    header = {**ours.header, **stated, "method": "stranger"}
    del header["format_version"]
    DistilledDataset(ours.images, ours.labels, ours.class_names, ours.preprocess, header).save(path)
    text = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(text.replace("kind: rcig", "kind: stranger"))
    run = records.read(folder)
    of = synthetic.recipe()
    assert run.recipe is None
    assert (run.name, run.seed, run.images_per_class) == ("digits-1", 3, 1)
    assert (run.data, run.network, run.evaluation) == (of.data, of.network, of.evaluation)
    assert run.description.title == "Stranger" and len(run.series) == 9
    assert run.planned is None and run.seconds_per_image is None
    (row,) = papers.rows(paper="rcig", table=2, dataset="mnist", images_per_class=1, method="RCIG")
    assert departures.of_set(row, run) == ("other method",)
    write([folder], tmp_path / "page.html")


def test_a_header_that_names_no_network_or_a_strange_one(tmp_path: Path) -> None:
    run = records.read(synthetic.finished_run(tmp_path / "run"))
    assert run.dataset is not None

    def having(evaluation: dict[str, object]) -> records.RunRecord:
        ours = run.dataset
        assert ours is not None
        header = {**ours.header, "evaluation": evaluation}
        theirs = DistilledDataset(
            ours.images, ours.labels, ours.class_names, ours.preprocess, header
        )
        return replace(run, recipe=None, dataset=theirs)

    assert having({"protocol": "rcig-paper"}).network is None
    for damaged in ({"network": {"name": 3}}, {"networks": -1}):
        with pytest.raises(ArtefactError, match="header field evaluation"):
            having({"protocol": "rcig-paper", **damaged})


def test_a_run_whose_process_was_killed_has_stopped(tmp_path: Path) -> None:
    folder = synthetic.write_run(
        tmp_path / "killed", synthetic.recipe(), record=synthetic.record("running", 20, [])
    )
    assert records.read(folder).status == "running"  # nothing tells
    with open(folder / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert records.read(folder).status == "running"
    assert records.read(folder).status == "stopped"


def test_the_file_of_a_set_stands_for_its_run_or_for_itself(tmp_path: Path) -> None:
    folder = synthetic.finished_run(tmp_path / "run")
    inside = records.read_all([folder / "distilled.safetensors"])[0]
    assert (inside.label, inside.status) == ("run", "finished") and inside.series
    alone = tmp_path / "mine.safetensors"
    alone.write_bytes((folder / "distilled.safetensors").read_bytes())
    run = records.read_all([alone])[0]
    assert (run.label, run.status, run.series) == ("mine.safetensors", "not recorded", {})
    assert run.recipe == inside.recipe and run.dataset is not None
    assert inside.dataset is not None and run.dataset.digest == inside.dataset.digest
    assert len(run.missing) == 1 and "no run's folder" in run.missing[0]
