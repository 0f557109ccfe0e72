from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any, Literal
from unittest.mock import create_autospec

import pytest

from potstill import papers, recipes, runs
from potstill import reproduce as tables
from potstill.config import NetworkRecipe
from potstill.data.distilled import DistilledDataset
from potstill.data.facts import DATASETS, DatasetInfo
from potstill.errors import NumericalError, RecipeError
from potstill.evaluation import PROTOCOLS
from potstill.evaluation.cache import Cache
from potstill.papers.answers import Measurement, answer
from potstill.reproduce import auditing, bench, costs, plan, table
from potstill.reproduce import workplace as places
from potstill.reproduce.rows import TableRow, select
from potstill.reproduce.workplace import Workplace
from potstill.results import Continual, Membership
from potstill.text import network_text
from tests.report import audit_records

SMALL = (
    "network.depth=1",
    "network.width=2",
    "method.iterations=2",
    "method.target_batch=16",
    "method.pool.size=2",
    "evaluation.networks=1",
)
WHOLE_DIGITS = (
    "data.dataset=digits",
    "data.mean=null",
    "data.std=null",
    "images_per_class=144",
    "network.depth=1",
    "network.width=8",
    "evaluation.epochs=1",
    "evaluation.networks=1",
)
SMALL_DWA = (
    "images_per_class=1",
    "network.width=2",
    "method.iterations=2",
    "method.teacher.epochs=1",
    "method.teacher.network.width=2",
    "evaluation.networks=1",
    "evaluation.epochs=1",
)
RCIG, DWA = "quickstart/digits-rcig", "quickstart/digits-dwa"
HOUR = 3600.0
WHOM = ("distilled", "members")
# A table with numbers of each kind.
TABLES = {"membership": "rcig/5", "continual": "dwa/10", "synthesis": "dwa/11"}


def a_row(table: str = "rcig/2", pattern: str | None = None, kind: str = "") -> TableRow:
    """The first row of a table that has a recipe, of a method if ``kind`` names one."""
    found = (row for row in select(table, pattern) if row.measurement is not None)
    return next(row for row in found if row.measurement.recipe.startswith(kind))


def digits(quantity: Any = "accuracy", recipe: str = RCIG, **changes: Any) -> TableRow:
    """A row whose set is one of the digits, of a table with numbers of its kind."""
    assignments = changes.pop("assignments", SMALL if recipe == RCIG else SMALL_DWA)
    loaded = recipes.load(recipe, assignments)
    kind = loaded.method.kind
    own = quantity not in TABLES
    row = (a_row(f"{kind}/1", kind=kind) if own else a_row(TABLES[quantity])).row
    network = answer(row).network if quantity == "continual" else loaded.network
    wanted = loaded.evaluation
    facts = {"epochs": wanted.epochs, "networks": wanted.networks, "assignments": assignments}
    return TableRow(
        row, Measurement(row, recipe, quantity, network, wanted.protocol, **(facts | changes))
    )


def workplace(out: Path, **options: Any) -> Workplace:
    return Workplace(out, **({"data_root": None, "device": "cpu"} | options))


def results_in(folder: Path) -> list[dict[str, Any]]:
    """What the set in the folder of a run has kept of its evaluations."""
    return list(DistilledDataset.load(folder / runs.DISTILLED).header["results"])


def quiet(*_: Any, **__: Any) -> None:
    pass


def run(rows: list[TableRow], place: Workplace, *, seeds: int = 1, **options: Any):
    return tables.reproduce(
        rows,
        place,
        seeds=seeds,
        **({"budget": 1000 * HOUR, "say": quiet, "progress": quiet} | options),
    )


# Rows


def test_every_number_of_the_papers_is_a_row():
    rows = select("all")
    assert tuple(one.row for one in rows) == papers.rows()
    kinds = Counter(
        (f"{one.row.paper}/{one.row.table}", one.measurement.quantity)
        for one in rows
        if one.measurement and one.measurement.recipe.startswith(("rcig", "dwa"))
    )
    assert kinds["rcig/1", "accuracy"] == 40 and kinds["rcig/2", "accuracy"] == 18
    assert kinds["rcig/3", "accuracy"] == 12 and kinds["rcig/8", "accuracy"] == 44
    assert [kinds["rcig/7", kind] for kind in ("iterations", "step", "hours")] == [22, 22, 22]
    assert kinds["rcig/5", "membership"] == kinds["rcig/6", "membership"] == 18
    dwa = {name: n for (name, kind), n in kinds.items() if name[0] == "d" and kind == "accuracy"}
    assert sum(dwa.values()) == 146
    assert kinds["dwa/10", "continual"] == 10 and kinds["dwa/11", "synthesis"] == 2


def test_a_row_without_a_recipe_says_why():
    for one in select("all"):
        assert (one.measurement is None) == bool(one.why)
    quoted = select("rcig/2", "mnist-ipc1 KIP*")
    assert [one.why for one in quoted] == ["another method's, quoted"]


def test_a_sweep_is_a_row_for_each_combination():
    settings = ["method.solver.name=adam"]
    sweeps = ["method.solver.inner_steps=0,2", "method.solver.inverse_steps = 5,20,30"]
    own = select("rcig/2", "rcig/mnist-ipc1", settings, sweeps)
    solvers = [one.measurement.load().method.solver for one in own]
    assert [(each.inner_steps, each.inverse_steps) for each in solvers] == [
        (inner, inverse) for inner in (0, 2) for inverse in (5, 20, 30)
    ]
    assert len({one.measurement.key for one in own}) == 6
    assert own[0].settings.endswith("inner_steps=0 method.solver.inverse_steps=5")
    rows = select("rcig/2", "mnist-ipc1", (), ["images_per_class=1,2"])
    quoted = [one.name for one in rows if one.measurement is None]
    assert len(quoted) == len({*quoted}) > 0
    for wrong in ("method.subset", "method.subset=", "=1,2", "method.subset=1,,2"):
        with pytest.raises(RecipeError, match="a sweep is key=value,value"):
            select("rcig/2", None, (), [wrong])


def test_keys_that_go_together_have_the_same_value():
    """DWA's Figure 3: one weight for both terms, and the variances' alone."""
    recipe, weights = "dwa/cifar100-ipc10-resnet18", (0.01, 0.11, 0.23)
    listed = ",".join(map(str, weights))
    coupled = select("dwa/1", recipe, (), [f"method.mean_weight+method.variance_weight={listed}"])
    apart = select("dwa/1", recipe, (), [f"method.variance_weight={listed}"])
    for rows, means in ((coupled, weights), (apart, [0.01] * 3)):
        found = [one.measurement.load().method for one in rows]
        assert [(each.mean_weight, each.variance_weight) for each in found] == list(
            zip(means, weights, strict=True)
        )
    grid = ["method.adjustment_steps=1,12", "method.adjustment_size=0.005,0.015,0.045"]
    assert len({one.measurement.key for one in select("dwa/1", recipe, (), grid)}) == 6
    with pytest.raises(RecipeError, match="a sweep is key=value,value"):
        select("dwa/1", None, (), ["method.mean_weight+=1"])


def test_figure_5_is_the_accuracy_and_the_memory_of_other_subsets():
    rows = select("rcig/fig5")
    asked = [one.measurement for one in rows]
    assert [one.quantity for one in asked] == ["accuracy", "memory"] * 2
    assert [one.load().method.subset for one in asked] == [200, 200, 5000, 5000]
    assert {one.recipe for one in asked} == {"rcig/cifar100-ipc50"}
    assert {one.load().method.iterations for one in asked} == {4000}


def test_a_run_says_how_much_memory_it_took(tmp_path):
    (entry,) = run([digits("memory")], workplace(tmp_path))
    assert entry.state == "done" and entry.number.how == "peak on cpu"
    # PyTorch alone takes a tenth of a gigabyte.
    assert 0.1 < entry.number.values[0] < 50
    folder = workplace(tmp_path).folder(digits("memory").measurement, 0)
    record = json.loads((folder / runs.RECORD).read_text())
    assert record["peak_memory"] == round(entry.number.values[0] * 1e9)


def test_a_pattern_chooses_by_name_or_recipe():
    found = {(one.row.dataset, one.row.images_per_class) for one in select("all", "MNIST-ipc1")}
    assert found == {("mnist", 1)}
    assert {one.row.method for one in select("rcig/1", "*RCIG*")} == {"RCIG (+ Lin + Reparam)"}
    assert {one.row.method for one in select("rcig/2", "rcig  convnet")} == {"RCIG"}
    (only,) = select("rcig/2", "mnist-ipc1 rcig*")
    assert only.name == "mnist-ipc1 RCIG convnet"
    named = select("all", "rcig/cub200-ipc10")
    assert {one.measurement.recipe for one in named} == {"rcig/cub200-ipc10"}
    globbed = {one.measurement.recipe for one in select("all", "rcig/MNIST-ipc1*")}
    assert {"rcig/mnist-ipc1", "rcig/mnist-ipc10"} < globbed
    assert all(name.startswith("rcig/mnist-ipc1") for name in globbed)
    with pytest.raises(RecipeError, match=r"try \*mnist-ip\*"):
        select("all", "mnist-ip")
    with pytest.raises(RecipeError, match=r"no row of rcig/2 fits 'zzz'; try \*zzz\*, or leave"):
        select("rcig/2", "zzz")
    with pytest.raises(RecipeError, match=r"no table 'rcig/99'; use one of rcig/1, .*or all"):
        select("rcig/99")


def test_one_set_serves_several_rows():
    rows = select("rcig", "rcig/mnist-ipc10")
    assert {one.row.table for one in rows} == {"1", "2", "7", "8"}
    ((key, asked),) = table.by_set(rows).items()
    assert key == ("rcig/mnist-ipc10", ())
    assert sum(one.quantity == "accuracy" for one in asked) == 2


# Costs


class Ones(costs.Stopwatch):
    """Every network learns from an image in a second."""

    def __init__(self) -> None:
        pass

    def unit(self, network: Any, shape: Any, precision: Any = "float32") -> float:
        return 1.0


def small(channels: Literal[1, 3]) -> DatasetInfo:
    """The digits, with so many channels."""
    return dataclasses.replace(DATASETS["digits"], channels=channels)


def test_a_recipe_may_ask_for_another_size():
    recipe = recipes.load("rcig/cifar10-ipc1", ["data.resolution=16", "data.channels=1"])
    shape = costs.shape_of(recipe)
    assert (shape.channels, shape.resolution, shape.training) == (1, 16, 50_000)
    for name in recipes.names():
        recipe = recipes.load(name)
        block, side = recipe.data.zca_block, costs.shape_of(recipe).resolution
        assert block is None or side % block == 0


def test_an_rcig_iteration_is_counted_in_images():
    recipe = recipes.load("rcig/cifar10-ipc10")
    images = 2 * 100
    expected = 1.5 * 1024 + images * (1.5 * 32 + 8) + 5 * images
    assert costs.distilling(recipe, Ones()) == recipe.method.iterations * expected
    assert costs.distilling(recipes.load("rcig/cifar10-ipc10-random"), Ones()) == 0
    subset = recipes.load("rcig/cifar100-ipc50")
    expected = 1.5 * 1024 + 5000 * (1.5 * 32 + 8) + 5 * 2000
    assert costs.distilling(subset, Ones()) == subset.method.iterations * expected


def test_a_dwa_set_is_counted_in_images():
    recipe = recipes.load("dwa/cifar100-ipc10-resnet18")
    assert costs.distilling(recipe, Ones()) == 10 * 100 * (1000 + 12)
    assert costs.teaching(recipe, Ones()) == 200 * 50_000
    imagenet = recipes.load("dwa/imagenet1k-ipc50-resnet18")
    assert costs.teaching(imagenet, Ones()) == 0
    assert costs.distilling(imagenet, Ones()) == 50 * 10 * (2000 + 15) * 100


def test_an_evaluation_is_counted_in_images():
    recipe = recipes.load("rcig/mnist-ipc1")
    found = costs.evaluating(recipe, recipe.network, PROTOCOLS["rcig-paper"], Ones(), best=False)
    assert found == pytest.approx(5 * (1000 * 10 + 10_000 / 3))
    dwa = recipes.load("dwa/cifar10-ipc10-resnet18")
    found = [
        costs.evaluating(dwa, dwa.network, PROTOCOLS["dwa-paper"], Ones(), best=best)
        for best in (False, True)
    ]
    assert found[0] == pytest.approx(5 * (400 * 100 * 4 / 3 + 10_000 / 3))
    assert found[1] - found[0] == pytest.approx(5 * 40 * 10_000 / 3)


def test_operations_are_those_of_the_layers():
    # 3x3 on 8x8 px from 1 to 4 channels, its activation and mean, 64 features to 10 outputs.
    forward = 2 * (9 * 64 * 4 + 64 * 10)
    outputs = 64 * 4 + 64 * 4 + 16 * 4 + 10
    found = costs.operations(NetworkRecipe(depth=1, width=4), 1, 8)
    assert found == pytest.approx(3 * forward + costs._OUTPUT * outputs)
    resnet = NetworkRecipe(name="resnet18", normalisation="batch")
    assert 3 * 2 * 0.5e9 < costs.operations(resnet, 3, 32) < 3 * 2 * 0.9e9


def test_one_network_is_timed_in_each_precision_and_kept(tmp_path, monkeypatch):
    timed = []

    def step(_device: Any, precision: str) -> float:
        timed.append(precision)
        return 0.25

    monkeypatch.setattr(costs, "_timed_step", step)
    small_one, large = NetworkRecipe(depth=1, width=1), NetworkRecipe(depth=1, width=8)
    for _ in range(2):
        watch = costs.Stopwatch(Cache(tmp_path / "new"), "cpu")
        assert watch.unit(costs._TIMED, DATASETS["cifar10"]) == pytest.approx(0.25)
        assert 0 < watch.unit(small_one, small(1)) < watch.unit(large, small(1)) < 0.25
        watch.unit(small_one, small(3), "bfloat16")
    assert timed == ["float32", "bfloat16"]


def test_a_step_takes_time():
    assert 0 < costs.Stopwatch(Cache(), "cpu").unit(NetworkRecipe(depth=1, width=1), small(1)) < 1


# Work


def test_a_row_is_run_once_and_found_again(tmp_path, monkeypatch):
    rows = [digits(), digits("step"), digits("hours"), digits("iterations")]
    said: list[str] = []
    found = run(rows, workplace(tmp_path), say=said.append)
    assert [entry.state for entry in found] == ["done"] * 3 + ["setting"]
    assert len(said) == 1 and said[0].startswith(f"1 of 1: {RCIG} --set network.depth=1")
    accuracy, step, hours, iterations = found
    folder = workplace(tmp_path).folder(rows[0].measurement, 0)
    record = runs.read_record(folder)
    (result,) = results_in(folder)
    assert accuracy.number.values == tuple(result["accuracy"]["values"])
    assert accuracy.ours == (100 * result["accuracy"]["mean"], None)
    assert accuracy.difference == pytest.approx(accuracy.ours[0] - rows[0].row.value)
    assert "data set digits (the paper's mnist)" in accuracy.departures
    assert step.number.values[0] == record["seconds"]["total"] / 2
    assert hours.number.values[0] == record["seconds"]["total"] / 3600
    assert iterations.number.values == (2.0,)

    monkeypatch.setattr(bench, "distill", None)
    monkeypatch.setattr(places.evaluation, "evaluate", None)
    assert run(rows, workplace(tmp_path), say=said.append) == found and len(said) == 1


def test_starts_are_pooled_and_added(tmp_path):
    one = digits()
    first = run([one], workplace(tmp_path))[0]
    listed = tables.survey([one], workplace(tmp_path), seeds=2, budget=HOUR)[0]
    assert (listed.state, listed.starts, listed.number) == ("begun", 1, first.number)
    both = run([one], workplace(tmp_path), seeds=2)[0]
    assert both.starts == 2 and both.number.values[:1] == first.number.values
    assert len(set(both.number.values)) == len(both.number.values) == 2
    assert both.ours[1] is not None


def test_a_stopped_reproduction_goes_on(tmp_path):
    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if stage.endswith(": evaluation step"):
            raise KeyboardInterrupt

    one = digits()
    with pytest.raises(KeyboardInterrupt):
        run([one], workplace(tmp_path), progress=stop)
    folder = workplace(tmp_path).folder(one.measurement, 0)
    before = (folder / runs.DISTILLED).read_bytes()
    (listed,) = tables.survey([one], workplace(tmp_path), seeds=1, budget=HOUR)
    assert listed.state == "begun" and listed.number is None
    stages: list[str] = []
    (done,) = run([one], workplace(tmp_path), progress=lambda stage, *_, **__: stages.append(stage))
    assert done.state == "done" and set(stages) == {
        f"{network_text(one.measurement.network)}: evaluation step"
    }
    assert len((folder / runs.DISTILLED).read_bytes()) > len(before)


def test_a_stopped_reproduction_does_not_go_on_with_other_data(tmp_path, monkeypatch):
    def stop(stage: str, done: int, total: int, **_: float) -> None:
        if stage.endswith("iteration") and done == 2:
            raise KeyboardInterrupt

    one = digits(assignments=(*SMALL, "checkpoint_every=1"))
    with pytest.raises(KeyboardInterrupt):
        run([one], workplace(tmp_path), progress=stop)
    source = workplace(tmp_path).source(one.measurement.load().data)
    renamed = dataclasses.replace(source, class_names=("zero", *source.class_names[1:]))
    monkeypatch.setattr(Workplace, "source", lambda *_: renamed)
    (failed,) = run([one], workplace(tmp_path))
    assert failed.state == "failed"
    assert "is of other data: class '0' was removed, class 'zero' was added" in failed.why


def test_one_failure_does_not_stop_the_others(tmp_path, monkeypatch):
    other = digits(assignments=(*SMALL, "method.iterations=1"))
    evaluate = places.evaluation.evaluate

    def failing(dataset: Any, *arguments: Any, **options: Any) -> Any:
        if dataset.header["iterations"] == 1:
            raise NumericalError("the loss is not finite; lower the rate")
        return evaluate(dataset, *arguments, **options)

    monkeypatch.setattr(places.evaluation, "evaluate", failing)
    said: list[str] = []
    bad, good = run([other, digits()], workplace(tmp_path), say=said.append)
    assert good.state == "done"
    assert (bad.state, bad.why) == ("failed", "the loss is not finite; lower the rate")
    assert any("failed: the loss is not finite" in words for words in said)


def test_what_is_too_dear_or_has_no_data_is_left_out(tmp_path):
    (dear,) = run([digits()], workplace(tmp_path), budget=0.0)
    assert dear.state == "costly" and dear.why.endswith("more than the budget of 0.0 s")
    assert dear.number is None and not list(tmp_path.glob("quickstart"))
    (missing,) = run([a_row("rcig/2", "mnist-ipc1 rcig*")], workplace(tmp_path))
    assert missing.state == "no data" and "pass --data-root" in missing.why
    (missing,) = run([a_row("rcig/2", "tiny*")], workplace(tmp_path, data_root=tmp_path))
    assert missing.state == "no data" and "tiny_imagenet is not under the data root" in missing.why


def audited(out: Path, one: TableRow, *audits: dict[str, Any], start: int = 0) -> Path:
    """The row's run, with these audits of its set."""
    folder = workplace(out).folder(one.measurement, start)
    digest = DistilledDataset.load(folder / runs.DISTILLED).digest
    for audit in audits:
        runs.record_audit(folder, {"artefact_digest": digest, **audit})
    return folder


def attack(**changes: Any) -> dict[str, Any]:
    """An audit of the row's set as the paper's, but for ``changes``."""
    document = audit_records.membership(
        network=digits().measurement.network.model_dump(mode="json")
    )
    del document["artefact_digest"]
    return document | changes


def lessons(**changes: Any) -> dict[str, Any]:
    network = NetworkRecipe(growth=1, normalisation="batch").model_dump(mode="json")
    document = audit_records.continual(network=network)
    del document["artefact_digest"]
    return document | changes


@pytest.fixture
def without_audits(monkeypatch):
    """Audits are left to commands."""
    monkeypatch.setattr(Workplace, "audit", lambda *_arguments: None)


def test_audits_are_made_as_the_papers_and_once(tmp_path, monkeypatch):
    def made(model, document):
        return lambda dataset, *_a, **_o: model.model_validate(
            {**document, "artefact_digest": dataset.digest}
        )

    attacked = create_autospec(auditing.membership, side_effect=made(Membership, attack()))
    learned = create_autospec(auditing.continual, side_effect=made(Continual, lessons()))
    monkeypatch.setattr(auditing, "membership", attacked)
    monkeypatch.setattr(auditing, "continual", learned)
    wanted = [
        digits("membership", attack="rf", trained_on=whom) for whom in ("distilled", "members")
    ]
    wanted += [digits("continual", classes=4)]
    for _ in range(2):
        assert {entry.state for entry in run(wanted, workplace(tmp_path))} == {"done"}
    attacked.assert_called_once()
    learned.assert_called_once()
    asked = attacked.call_args.kwargs
    # Steps, networks, folds and students are the library's own, which are the paper's.
    assert asked["baselines"] and not {"steps", "networks", "folds", "students"} & asked.keys()
    assert asked["network"] == wanted[0].measurement.load().network
    assert learned.call_args.kwargs["tasks"] == 5
    assert learned.call_args.kwargs["network"] == NetworkRecipe(growth=1, normalisation="batch")
    assert learned.call_args.kwargs["teacher"] is None


def test_an_audit_reaches_the_run_with_what_it_lacks(tmp_path, monkeypatch):
    small = {"steps": (2,), "networks": 1, "folds": 2}
    for name, value in small.items():
        monkeypatch.setitem(auditing.membership.__kwdefaults__, name, value)
    told = []
    one = digits("membership", attack="rf")
    place = workplace(tmp_path, caches=lambda name: Cache(tmp_path / "cache" / name))
    (entry,) = run([one], place, progress=lambda stage, *_, **__: told.append(stage))
    assert entry.state == "begun" and len(entry.number.values) == 1
    assert "attack: steps 2 (the paper's 16,000)" in entry.departures
    assert {*told} == {"iteration", "training step"}
    assert len([*(tmp_path / "cache" / "attacks").iterdir()]) == 4


@pytest.mark.usefixtures("without_audits")
def test_every_start_of_a_privacy_row_is_distilled_from_another_chunk(tmp_path):
    """Their networks are one number, which says how many sets it lacks of the paper's five."""
    settings = (*SMALL, "data.train_images=200")
    one = digits("membership", attack="rf", assignments=settings, chunked=True)
    run([one], workplace(tmp_path), seeds=2)
    place = workplace(tmp_path)
    found = [place.run(one.measurement, seed) for seed in range(2)]
    assert [each.data.train_chunk for each in found] == [0, 1]
    assert len({each.dataset.header["source"]["fingerprint"] for each in found}) == 2
    for seed in range(2):
        audited(tmp_path, one, attack(seed=seed), start=seed)
    (entry,) = run([one], workplace(tmp_path), seeds=2)
    assert entry.state == "done" and entry.starts == 2
    assert len(entry.number.values) == 2 * len(
        attack()["distilled"]["curve"][-1]["auc"]["rf"]["values"]
    )
    assert "attack: sets 2 (the paper's 5)" in entry.departures
    assert not any("train chunk" in phrase for phrase in entry.departures)


def test_audits_add_to_what_a_set_costs(tmp_path):
    both = [digits("membership", attack="rf"), digits("continual", classes=4)]
    place = workplace(tmp_path)
    alone = [plan.seconds([one.measurement], place, 0) for one in both]
    distilled = costs.distilling(both[0].measurement.load(), place.stopwatch)
    assert min(alone) > distilled
    together = plan.seconds([one.measurement for one in both], place, 0)
    assert together == pytest.approx(sum(alone) - distilled)
    # Another number of the same audit costs nothing more.
    again = [*(one.measurement for one in both), digits("membership", attack="knn").measurement]
    assert plan.seconds(again, place, 0) == together


@pytest.mark.usefixtures("without_audits")
def test_numbers_of_audits_are_taken_up(tmp_path):
    wanted = [
        digits("membership", attack="rf", trained_on=whom) for whom in ("distilled", "members")
    ]
    wanted += [digits("membership", attack="accuracy"), digits("continual", classes=4)]
    found = run(wanted, workplace(tmp_path))
    assert [entry.state for entry in found] == ["begun"] * 4
    whole = attack()
    del whole["baselines"]
    audited(tmp_path, wanted[0], lessons(), whole)
    distilled, real, accuracy, learned = run(wanted, workplace(tmp_path))
    assert real.state == "begun" and real.number is None
    assert {distilled.state, accuracy.state, learned.state} == {"done"}
    last = whole["distilled"]["curve"][-1]
    assert distilled.number.values == tuple(last["auc"]["rf"]["values"])
    assert accuracy.number.values == tuple(last["accuracy"]["values"])
    assert learned.number.values == pytest.approx((0.8, 0.82))
    assert "evaluation: protocol rcig-paper (the paper's dwa-paper)" in learned.departures


@pytest.mark.parametrize(
    ("changes", "phrase"),
    [
        ({"networks": 1}, "attack: networks 1 (the paper's 5)"),
        ({"network": {"width": 3, "depth": 1}}, "attack: network width 3 (the set's own 2)"),
        (
            {"training": audit_records.TRAINING | {"augmented": False}},
            "attack: augmented no (the paper's yes)",
        ),
    ],
)
@pytest.mark.usefixtures("without_audits")
def test_a_smaller_attack_is_shown_and_is_not_the_rows(changes, phrase, tmp_path):
    one = digits("membership", attack="rf")
    run([one], workplace(tmp_path))
    audited(tmp_path, one, attack(**changes))
    (entry,) = run([one], workplace(tmp_path))
    assert entry.state == "begun" and entry.number is not None
    assert any(found.startswith(phrase) for found in entry.departures)
    # The whole one counts, be it older or newer than a smaller one.
    audited(tmp_path, one, attack(), attack(**changes, seed=1))
    (entry,) = run([one], workplace(tmp_path))
    assert entry.state == "done"
    assert not any(found.startswith(phrase) for found in entry.departures)


@pytest.mark.usefixtures("without_audits")
def test_an_attack_that_stopped_early_is_not_the_rows(tmp_path):
    one = digits("membership", attack="rf")
    run([one], workplace(tmp_path))
    early = attack()
    early["distilled"]["curve"] = early["distilled"]["curve"][:-1]
    audited(tmp_path, one, early)
    (entry,) = run([one], workplace(tmp_path))
    assert entry.state == "begun" and entry.number.how == "after 1,000 steps"
    assert "attack: steps 1,000 (the paper's 16,000)" in entry.departures


@pytest.mark.parametrize(
    ("changes", "phrase", "counts"),
    [
        ({"network": audit_records.NETWORK}, "network width 16 (the paper's 128)", False),
        ({"protocol": "hard-label"}, "protocol hard-label (the paper's dwa-paper)", False),
        ({"epochs": 3}, "epochs 3 (the paper's 400)", False),
        ({"networks": 0}, "networks 0 (the paper's 5)", False),
        ({"networks": 2}, "networks 2 (the paper's 5)", True),
        ({"order": "given"}, "order given (the paper's random)", True),
        ({"tasks": audit_records.continual()["tasks"][:2]}, "tasks 2 (the paper's 5)", True),
    ],
)
@pytest.mark.usefixtures("without_audits")
def test_classes_learned_otherwise_are_shown_and_count_if_as_much(
    changes, phrase, counts, tmp_path
):
    one = digits("continual", classes=4)
    run([one], workplace(tmp_path))
    audited(tmp_path, one, lessons(**changes))
    (entry,) = run([one], workplace(tmp_path))
    assert entry.state == ("done" if counts else "begun") and entry.number is not None
    assert any(found.endswith(phrase) for found in entry.departures)


@pytest.mark.usefixtures("without_audits")
def test_audits_of_another_set_do_not_count(tmp_path):
    one = digits("membership", attack="rf")
    run([one], workplace(tmp_path))
    audited(tmp_path, one, attack(artefact_digest="2" * 64))
    (entry,) = run([one], workplace(tmp_path))
    assert entry.state == "begun" and entry.number is None


def test_dwa_recipes_share_a_teacher(tmp_path):
    rows = []
    for changed in ("method.iterations=1", "method.iterations=2"):
        how = {"recipe": DWA, "assignments": (*SMALL_DWA, changed)}
        rows += [digits("synthesis", **how), digits(**how)]
    stages: list[str] = []
    found = run(rows, workplace(tmp_path), progress=lambda stage, *_, **__: stages.append(stage))
    assert [entry.state for entry in found] == ["done"] * 4
    assert stages.count("teacher epoch") == 1
    assert len(list((tmp_path / "teachers").iterdir())) == 1
    assert found[1].best is not None and found[0].number.values[0] > 0


def test_dwa_sets_of_several_sizes_share_their_images(tmp_path):
    rows = [
        digits("synthesis", recipe=DWA, assignments=(*SMALL_DWA, f"images_per_class={size}"))
        for size in (1, 3)
    ]
    place = workplace(tmp_path)
    assert [entry.state for entry in run(rows, place)] == ["done"] * 2
    (units,) = (tmp_path / "units").iterdir()
    assert units == place.units_folder(rows[0].measurement.load())
    assert len(list(units.iterdir())) == 3
    one, three = (
        DistilledDataset.load(place.folder(row.measurement, 0) / runs.DISTILLED) for row in rows
    )
    assert one.images.equal(three.first(1).images)
    assert place.units_folder(recipes.load(RCIG)) is None
    other = (*SMALL_DWA, "method.iterations=3")
    assert place.units_folder(recipes.load(DWA, other)) != units


def students() -> TableRow:
    """A row of DWA's Table 1 whose set is a small one of the digits."""
    return digits(recipe=DWA)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"epochs": 2},
        {"artefact_digest": "2" * 64},
        {"artefact_digest": None},
        {"teacher": {"digest": "2" * 64}},
        {"protocol": "dwa-as-run"},
    ],
)
def test_a_result_of_something_else_is_not_the_rows(otherwise, tmp_path, monkeypatch):
    one = students()
    (first,) = run([one], workplace(tmp_path))
    folder = workplace(tmp_path).folder(one.measurement, 0)
    (mine,) = results_in(folder)
    other = mine | {"accuracy": audit_records.summary(0.99), "best_on_test": None} | otherwise
    DistilledDataset.add_result(folder / runs.DISTILLED, other)
    monkeypatch.setattr(places.evaluation, "evaluate", None)
    (again,) = run([one], workplace(tmp_path))
    assert again.state == "done" and again.number == first.number


def test_departures_are_of_the_result_that_counts(tmp_path):
    one = students()
    (first,) = run([one], workplace(tmp_path))
    assert "evaluation: epochs 1 (the paper's 400)" in first.departures
    folder = workplace(tmp_path).folder(one.measurement, 0)
    (mine,) = results_in(folder)
    DistilledDataset.add_result(folder / runs.DISTILLED, mine | {"seed": 1, "epochs": 200})
    (again,) = run([one], workplace(tmp_path))
    assert again.departures == first.departures


def test_labels_of_another_teacher_are_not_taken(tmp_path):
    """The row is scored with its own teacher, whatever labels the set was given meanwhile."""
    one = students()
    run([one], workplace(tmp_path))
    folder = workplace(tmp_path).folder(one.measurement, 0)
    dataset = DistilledDataset.load(folder / runs.DISTILLED)
    soft = dataset.labels[None].half()
    dataset.with_soft_labels(soft, {"teacher": {"digest": "2" * 64}}).save(folder / runs.DISTILLED)
    (again,) = run([one], workplace(tmp_path))
    *_, result = results_in(folder)
    assert again.state == "done" and result["labels"] == "on the fly"
    assert result["artefact_digest"] != dataset.digest


def test_a_damaged_run_fails_its_row_alone(tmp_path):
    other = digits(assignments=(*SMALL, "method.iterations=1"))
    run([other], workplace(tmp_path))
    record = workplace(tmp_path).folder(other.measurement, 0) / runs.RECORD
    for damage, reason in (("{", "no JSON"), ('{"format": 1}', "status")):
        record.write_text(damage)
        bad, good = run([other, digits()], workplace(tmp_path))
        assert bad.state == "failed" and str(record) in bad.why and reason in bad.why
        assert good.state == "done"


def test_a_damaged_start_leaves_the_others(tmp_path):
    one = digits()
    (both,) = run([one], workplace(tmp_path), seeds=2)
    artefact = workplace(tmp_path).folder(one.measurement, 1) / runs.DISTILLED
    artefact.write_bytes(artefact.read_bytes()[:-1])
    (entry,) = run([one], workplace(tmp_path), seeds=2)
    assert entry.state == "failed" and "truncated" in entry.why
    assert entry.starts == 1 and entry.number.values == both.number.values[:1]


def test_a_begun_runs_own_pace_counts(tmp_path):
    one, place = digits(), workplace(tmp_path)
    run([one], place)
    folder = place.folder(one.measurement, 0)
    record = runs.read_record(folder)
    record |= {"status": "stopped", "iteration": 1}
    record["seconds"]["total"] = 1000.0
    (folder / runs.RECORD).write_text(json.dumps(record))
    left = plan.seconds([one.measurement], place, 0)
    assert 1000 <= left < 1100


def test_a_row_of_the_whole_data_set_is_a_training_on_it(tmp_path):
    """The recipe for MNIST, on the digits, for two epochs: all that the row takes but time."""
    (one,) = select("rcig/2", "mnist-ipc10 Full Dataset convnet", WHOLE_DIGITS)
    (entry,) = run([one], workplace(tmp_path))
    assert (entry.state, entry.why) == ("done", "") and entry.number.how == "dsa"
    assert entry.ours[0] > 20, "better than a guess"
    (result,) = results_in(workplace(tmp_path).folder(one.measurement, 0))
    assert (result["images"], result["steps"]) == (1442, 2 * 6)
    assert result["price"]["images"] == 1442 * 64 and result["price"]["storage_ratio"] >= 1


def test_the_whole_data_set_is_the_same_for_any_number_of_images():
    rows = select("rcig/2", "* Full Dataset convnet")
    assert len(rows) == 16 and all(one.measurement for one in rows)
    assert len({one.measurement.key for one in rows}) == 6, "a set for each data set"


def test_a_document_is_json_with_the_papers_row(tmp_path):
    one = digits()
    (entry,) = run([one], workplace(tmp_path))
    document = json.loads(json.dumps(entry.document()))
    assert document["row"]["value"] == one.row.value
    assert document["ours"]["starts"] == 1 and document["recipe"] == RCIG
    assert document["difference"] == pytest.approx(entry.ours[0] - one.row.value)
    (quoted,) = tables.survey(select("rcig/2", "mnist-ipc1 KIP*"), workplace(tmp_path), seeds=1,
                              budget=0)  # fmt: skip
    assert quoted.document()["recipe"] is None and quoted.state == "no recipe"
