from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from potstill.data.distilled import DistilledDataset
from potstill.errors import DataError, NetworkError, RecipeError, RunError
from potstill.methods.distilling import distill
from potstill.methods.dwa import groups, synthesise
from potstill.methods.dwa.distil import GROUPS
from potstill.methods.dwa.groups import Group, Inverter, Task
from potstill.methods.recipe import parse
from potstill.methods.squeeze import TEACHER
from potstill.runs import Run, read_record
from tests.methods.dwa.problems import recipe, source, teacher


def test_a_plan_covers_every_class_once_for_every_index() -> None:
    plan = groups.plan(3, 10, 4)
    assert [group.classes for group in plan[:3]] == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9)]
    covered = [(group.index, label) for group in plan for label in group.classes]
    assert sorted(covered) == [(index, label) for index in range(3) for label in range(10)]
    assert len({group.name for group in plan}) == len(plan) == 9


def test_real_images_are_of_their_class_and_never_repeat() -> None:
    rows = groups.real_rows(source(), 20, seed=1)
    assert rows.shape == (10, 20)
    for label in range(10):
        assert (source().train.labels[rows[label]] == label).all()
        assert len(set(rows[label].tolist())) == 20
    assert not torch.equal(rows, groups.real_rows(source(), 20, seed=2))


def test_more_images_per_class_keep_the_first_ones() -> None:
    assert torch.equal(groups.real_rows(source(), 5, 0), groups.real_rows(source(), 9, 0)[:, :5])


@pytest.mark.parametrize("changes", [{}, {"adjustment": "random"}, {"variant": "sre2l"}], ids=str)
def test_the_first_images_of_more_per_class_are_the_set_of_fewer(changes: dict[str, Any]) -> None:
    """To the byte, and so are the units that runs of several sizes share."""
    settings = recipe(class_batch=5, **changes)
    more, fewer = (
        distill(settings.model_copy(update={"images_per_class": n}), source(), teacher=teacher())
        for n in (3, 2)
    )
    first = more.first(2)
    assert torch.equal(first.images, fewer.images) and torch.equal(first.labels, fewer.labels)
    assert not torch.equal(more.images[:1], more.images[2:3])


def test_runs_of_several_sizes_share_their_groups(tmp_path: Path) -> None:
    made = {}
    for n in (2, 3, 1):
        settings = recipe().model_copy(update={"images_per_class": n})
        with Run.create(tmp_path / str(n), settings) as run:
            made[n] = distill(settings, source(), run, teacher=teacher(), units=tmp_path / "units")
        kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "units").iterdir()}
        if n == 2:
            before = kept
    assert sorted(kept) == [f"{index:05d}-000.safetensors" for index in range(3)]
    assert kept.items() > before.items()  # nothing was made twice
    assert torch.equal(made[3].first(2).images, made[2].images)
    assert torch.equal(made[1].images, made[3].first(1).images)
    assert len((tmp_path / "1" / "metrics.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "1" / GROUPS).exists()


def test_too_few_real_images() -> None:
    with pytest.raises(DataError, match=r"class 0 has .* ask for fewer"):
        groups.real_rows(source(), 5000, 0)


def test_a_set_has_pixels_classes_in_order_and_its_history() -> None:
    dataset = distill(recipe(), source(), teacher=teacher())
    assert dataset.space == "pixels"
    assert len(dataset) == 20
    assert dataset.hard_labels().tolist() == [label for label in range(10) for _ in range(2)]
    assert dataset.header["method"] == "dwa"
    assert dataset.header["evaluation"]["protocol"] == "dwa-paper"
    assert dataset.header["evaluation"]["network"]["normalisation"] == "batch"
    assert dataset.header["teacher"]["digest"] == teacher().digest
    assert dataset.header["teacher"]["accuracy"] == 0.5


def test_the_teacher_is_left_to_the_byte() -> None:
    one = teacher()
    before = {n: v.numpy().tobytes() for n, v in one.network.state_dict().items()}
    distill(recipe(), source(), teacher=one)
    assert {n: v.numpy().tobytes() for n, v in one.network.state_dict().items()} == before


def digest(**changes: object) -> str:
    return distill(recipe(**changes), source(), teacher=teacher()).digest


def test_settings_change_the_images() -> None:
    images = {
        name: distill(recipe(**changes), source(), teacher=teacher()).pixels()
        for name, changes in {
            "directed": {"adjustment_size": 1.0},
            "random": {"adjustment": "random", "adjustment_size": 1.0},
            "none": {"adjustment": "none"},
            "noise": {"adjustment": "none", "start": "noise"},
            "unadjusted": {"statistics": "unadjusted", "adjustment_size": 1.0},
            "rise": {"adjustment_rise": 2.0},
            "view": {"adjustment_view": "first", "adjustment_size": 1.0},
            "length": {"adjustment": "random", "random_size": 3.0},
            "forward": {"roll": "forward", "adjustment_size": 1.0},
            "jpeg": {"storage": "jpeg", "adjustment_size": 1.0},
        }.items()
    }
    for name, one in images.items():
        for other, two in images.items():
            assert (name == other) == torch.equal(one, two), (name, other)


def test_a_random_adjustment_may_have_a_length_of_its_own() -> None:
    def length(**changes: object) -> float:
        group = Group(0, 0, tuple(range(10)))
        settings = recipe(adjustment="random", **changes)
        task = Task(group, source().train.images[groups.real_rows(source(), 1, 0)[:, 0]])
        inverter = Inverter(settings, teacher().network, teacher().preprocess)
        return inverter(task, lambda _: None).adjustment

    assert length(random_size=0.5) == pytest.approx(0.5)
    assert length() <= 0.015 + 1e-6
    with pytest.raises(RecipeError, match="set adjustment to random"):
        recipe(random_size=0.5)


def test_the_climb_sees_the_view_of_the_first_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, torch.Tensor] = {}
    climb, look = groups.directed_adjustment, synthesise.view

    def climbing(network: nn.Module, images: torch.Tensor, *rest: Any, **options: Any) -> Any:
        seen["climb"] = images
        return climb(network, images, *rest, **options)

    def looking(*given: Any) -> torch.Tensor:
        return seen.setdefault("first", look(*given))

    monkeypatch.setattr(groups, "directed_adjustment", climbing)
    monkeypatch.setattr(synthesise, "view", looking)
    for which in ("plain", "first"):
        settings = recipe(adjustment_view=which, class_batch=10)
        settings = settings.model_copy(update={"images_per_class": 1})
        distill(settings, source(), teacher=teacher())
        assert torch.equal(seen["climb"], seen.pop("first")) == (which == "first")


def test_jpeg_is_what_the_authors_files_hold(tmp_path: Path) -> None:
    """Truncated, saved by Pillow's own settings, and read again."""
    network, standardise = teacher().network, teacher().preprocess
    group = Group(0, 0, tuple(range(10)))
    task = Task(group, source().train.images[groups.real_rows(source(), 1, 0)[:, 0]])
    ends: list[torch.Tensor] = []

    class Keeping(Inverter):
        def _pixels(self, images: torch.Tensor) -> torch.Tensor:
            ends.append(images)
            return super()._pixels(images)

    settings = recipe(storage="jpeg")
    stored = Keeping(settings, network, standardise)(task, lambda _: None).images
    for number, image in enumerate(standardise.invert(ends[0].contiguous()).clamp(0, 1).numpy()):
        path = tmp_path / f"{number}.jpg"
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(path)
        assert np.array_equal(np.asarray(Image.open(path)), stored[number, 0].numpy())
    set_ = distill(settings, source(), teacher=teacher())
    assert ["Stored", "as JPEG", "quality 75, 4:2:0"] in set_.header["description"]["facts"]


def test_groups_do_not_depend_on_their_order() -> None:
    """One class batch at a time, first and last first: the bytes of a group are its own."""
    settings = recipe(class_batch=5)
    plan = groups.plan(2, 10, 5)
    rows = groups.real_rows(source(), 2, 0)
    tasks = [Task(g, source().train.images[rows[list(g.classes), g.index]]) for g in plan]
    inverter = Inverter(settings, teacher().network, teacher().preprocess)
    forwards = {t.group: inverter(t, lambda _: None).images for t in tasks}
    backwards = {t.group: inverter(t, lambda _: None).images for t in reversed(tasks)}
    assert all(torch.equal(forwards[group], backwards[group]) for group in plan)
    assert not torch.equal(forwards[plan[0]], forwards[plan[2]])


def test_groups_do_not_depend_on_the_number_of_workers(tmp_path: Path) -> None:
    settings = recipe()
    here, there = tmp_path / "here", tmp_path / "there"
    with Run.create(here, settings) as run:
        distill(settings, source(), run, teacher=teacher())
    told: list[tuple[str, int, int]] = []
    with Run.create(there, settings) as run:
        distill(
            settings,
            source(),
            run,
            teacher=teacher(),
            workers=2,
            progress=lambda stage, done, total, **_: told.append((stage, done, total)),
        )
    assert (here / "distilled.safetensors").read_bytes() == (
        there / "distilled.safetensors"
    ).read_bytes()
    assert told[-1] == ("synthesis iteration", 6, 6)
    lines = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (here, there)]
    assert len(lines[0]) == len(lines[1]) == 6  # iterations 1, 2 and 3 of both groups


def test_a_stopped_run_goes_on_with_the_next_group(tmp_path: Path) -> None:
    settings = recipe(class_batch=5)
    whole = distill(settings, source(), teacher=teacher())

    class Stop(Exception):
        pass

    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if done > 4:  # in the second of four groups
            raise Stop

    with pytest.raises(Stop), Run.create(tmp_path / "run", settings) as run:
        distill(settings, source(), run, teacher=teacher(), progress=stop)
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "run" / GROUPS).iterdir()}
    assert list(kept) == ["00000-000.safetensors"]
    with Run.create(tmp_path / "run", settings, resume=True) as run:
        distill(settings, source(), run, teacher=teacher())
    assert DistilledDataset.load(tmp_path / "run" / "distilled.safetensors").digest == whole.digest
    name = "00000-000.safetensors"
    assert (tmp_path / "run" / GROUPS / name).stat().st_mtime_ns == kept[name]
    iterations = [
        line.split(",")[0] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert len(iterations) == len(set(iterations)) == 4 * 3


def test_groups_of_another_teacher_are_refused(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", recipe()) as run:
        distill(recipe(), source(), run, teacher=teacher())
    other = teacher()
    other.network.head.bias.data += 1  # type: ignore[union-attr,operator]
    with (
        Run.create(tmp_path / "run", recipe(), resume=True) as run,
        pytest.raises(RunError, match="another teacher"),
    ):
        distill(recipe(), source(), run, teacher=other)


def test_a_damaged_group_is_refused(tmp_path: Path) -> None:
    group = Group(0, 0, tuple(range(10)))
    with Run.create(tmp_path / "run", recipe()) as run:
        distill(recipe(), source(), run, teacher=teacher())
    path = tmp_path / "run" / GROUPS / f"{group.name}.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RunError, match="damaged"):
        groups.read(path.parent, group, {}, (1, 8, 8))


def test_whitened_data_are_refused() -> None:
    document = recipe().model_dump(mode="json")
    document["data"]["preprocess"] = "zca"
    with pytest.raises(DataError, match="standardise"):
        distill(parse(document, source="test"), source())


def test_a_teacher_without_batch_norm_is_refused() -> None:
    settings = recipe(teacher={"network": {"depth": 2, "width": 4}, "epochs": 1})
    with pytest.raises(NetworkError, match="batch norm"):
        distill(settings, source())


def test_a_teacher_of_other_data_is_refused() -> None:
    one = teacher()
    one.header["source"]["resolution"] = 16
    with pytest.raises(DataError, match="resolution 16"):
        distill(recipe(), source(), teacher=one)


def test_a_run_keeps_its_own_teacher(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", recipe()) as run:
        distill(recipe(), source(), run, teacher=teacher())
    before = (tmp_path / "run" / TEACHER).read_bytes()
    other = teacher()
    other.network.head.bias.data += 1  # type: ignore[union-attr,operator]
    (tmp_path / "run" / "distilled.safetensors").unlink()
    with (
        Run.create(tmp_path / "run", recipe(), resume=True) as run,
        pytest.raises(RunError, match="is another teacher"),
    ):
        distill(recipe(), source(), run, teacher=other)
    assert (tmp_path / "run" / TEACHER).read_bytes() == before


def test_a_teacher_of_other_classes_is_refused() -> None:
    one = dataclasses.replace(teacher(), class_names=tuple("abcdefghij"))
    with pytest.raises(DataError, match=r"classes 10 \(a, b"):
        distill(recipe(), source(), teacher=one)


def test_groups_of_other_images_are_refused(tmp_path: Path) -> None:
    group = Group(0, 0, tuple(range(10)))
    with Run.create(tmp_path / "run", recipe()) as run:
        distill(recipe(), source(), run, teacher=teacher())
    folder = tmp_path / "run" / GROUPS
    assert groups.read(folder, group, {"source": source().fingerprint}, (1, 8, 8)) is not None
    with pytest.raises(RunError, match="another source"):
        groups.read(folder, group, {"source": "of other images"}, (1, 8, 8))


def test_the_time_of_a_stopped_teacher_counts(tmp_path: Path) -> None:
    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if stage == "teacher epoch":
            time.sleep(0.2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run.create(tmp_path / "run", recipe()) as run:
        distill(recipe(), source(), run, progress=stop)
    with Run.create(tmp_path / "run", recipe(), resume=True) as run:
        distill(recipe(), source(), run)
    record = read_record(tmp_path / "run")
    assert record["seconds"]["parts"]["teacher"] >= 0.2
    assert record["seconds"]["total"] >= 0.2
