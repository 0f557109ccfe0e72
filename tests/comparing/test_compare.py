"""Methods and sets side by side, end to end on the embedded digits."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import potstill
from potstill import cli, comparison, evaluation, recipes, runs
from potstill.comparing import asked, compare
from potstill.comparing.lineup import line_up
from potstill.comparison import OWN, RANDOM, Comparison
from potstill.data import datasets
from potstill.data.distilled import DistilledDataset
from potstill.evaluation.protocol import evaluate
from potstill.methods.distilling import distill
from potstill.methods.recipe import parse
from potstill.reproduce import costs
from tests.hostile import kills
from tests.hostile.kills import Moment

NETWORK = {"depth": 2, "width": 4, "growth": 1, "normalisation": "instance"}
HERDING = {
    "network": NETWORK,
    "method": {
        "kind": "coreset",
        "algorithm": "herding",
        "teacher": {"network": NETWORK, "epochs": 1},
    },
    "evaluation": {"protocol": "dc", "networks": 2, "epochs": 2},
}
DM = {
    "network": {**NETWORK, "width": 3},
    "method": {"kind": "dm", "iterations": 3, "real_batch": 8},
    "evaluation": {"protocol": "dsa", "networks": 2, "epochs": 2},
    "checkpoint_every": 1,
}


@pytest.fixture(autouse=True)
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is timed for estimates, which takes a second."""
    monkeypatch.setattr(costs.Stopwatch, "_pace", lambda _watch, _precision: 1e-10)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two recipes."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def write(folder: Path) -> None:
    for name, document in (("herding-ipc1", HERDING), ("dm-ipc1", DM)):
        (folder / f"{name}.yaml").write_text(json.dumps(document))


def words(*more: str) -> list[str]:
    named = ["compare", "herding-ipc1.yaml", "dm-ipc1.yaml", "--out", "out", "--device", "cpu"]
    return [*named, *more]


def rows(folder: Path) -> list[tuple[Any, ...]]:
    """What a comparison found, without the times that it took."""
    found = comparison.read(folder)
    return [
        (row.method, row.images_per_class, row.asked, row.seeds, row.accuracy.values, row.shown)
        for row in found.rows
    ]


def results(folder: Path) -> dict[str, int]:
    """How many results lie in each set below a folder."""
    return {
        str(path.relative_to(folder)): len(DistilledDataset.load(path).results)
        for path in sorted(folder.rglob(runs.DISTILLED))
    }


def test_methods_are_made_scored_and_set_side_by_side(here: Path, capsys) -> None:
    command = words("--seeds", "0,1", "--images-per-class", "1,2", "--protocol", "own,hl:100")
    assert cli.run(command) == 0
    printed = capsys.readouterr().out
    assert "Digits, 1 image per class, each method's own protocol" in printed
    assert "protocol hl:100, ConvNet, depth 2, width 4" in printed

    found = comparison.read(here / "out")
    assert found.complete and len(found.files) == 8
    for per_class in (1, 2):
        alike = [r for r in found.rows if (r.images_per_class, r.asked) == (per_class, "hl:100")]
        assert [row.method for row in alike] == ["Herding", "DM", RANDOM]
        assert {(row.shown, row.networks, row.network.width) for row in alike} == {(100, 2, 4)}
        assert {row.seeds for row in alike} == {(0, 1)}
        assert alike[2].beside == ("Herding", "DM")
        assert found.beside(alike[0]) == found.beside(alike[1]) == alike[2]
        own = [row for row in found.rows if (row.images_per_class, row.asked) == (per_class, OWN)]
        assert [(row.method, row.protocol) for row in own] == [
            ("Herding", "dc"),
            ("DM", "dsa"),
            (RANDOM, "dc"),
            (RANDOM, "dsa"),
        ]
        assert found.beside(own[0]) == own[2] and found.beside(own[1]) == own[3]
    assert any("protocols or networks differ" in note for note in found.notes)

    table = list(csv.DictReader((here / "out" / comparison.TABLE).read_text().splitlines()))
    assert len(table) == len(found.rows)
    first, random = found.rows[0], found.beside(found.rows[0])
    assert random is not None and first.bytes is not None
    assert float(table[0]["accuracy"]) == pytest.approx(first.accuracy.mean, abs=1e-6)
    gain = first.accuracy.mean - random.accuracy.mean
    assert float(table[0]["over_random"]) == pytest.approx(gain, abs=2e-6)
    for name in ("comparison.png", "comparison.svg", "comparison-bytes.png"):
        assert (here / "out" / name).stat().st_size > 1000

    before = results(here / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (here / "out" / "sets").rglob("*.*")}
    assert cli.run(command) == 0
    assert results(here / "out") == before and set(before.values()) == {2}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


def test_a_row_is_what_the_plain_functions_give(here: Path) -> None:
    found = compare(
        ["dm-ipc1.yaml"], out="out", seeds=[3], protocols=["own", "dsa"], network="convnet:none",
        networks=1, epochs=2,
    )  # fmt: skip
    recipe = recipes.load("dm-ipc1.yaml", ["seed=3"])
    source = datasets.load(recipe.data, None)
    dataset = distill(recipe, source)
    own = evaluate(dataset, source, networks=1, seed=3, baseline=True)
    network = found.rows[-1].network
    common = evaluate(
        dataset, source, protocol="dsa", network=network, networks=1, epochs=2, seed=3,
        baseline=True,
    )  # fmt: skip
    assert (network.width, network.normalisation) == (128, "none")
    measured = [result.accuracy.values for result in (own, common)]
    assert [row.accuracy.values for row in found.rows if not row.random] == measured
    beside = [result.baseline.values for result in (own, common) if result.baseline]
    assert [row.accuracy.values for row in found.rows if row.random] == beside


def test_views_and_epochs_of_a_common_protocol_are_the_same_for_all(here: Path) -> None:
    """A set made with views and epochs of its own has no say in how others' rival is scored."""
    document = {**DM, "method": {**DM["method"], "strategy": ["crop"]}}
    (here / "crop.yaml").write_text(json.dumps(document))
    found = compare(["dm-ipc1.yaml", "crop.yaml"], out="out", protocols=["dsa"], epochs=3)
    shown = {row.shown for row in found.rows}
    assert shown == {40} and {row.epochs for row in found.rows} == {3}
    strategies = {
        result.strategy
        for path in (here / "out").rglob(runs.DISTILLED)
        for result in DistilledDataset.load(path).results
    }
    assert len(strategies) == 1 and strategies != {("crop",)}
    assert sum(row.random for row in found.rows) == 1


def test_a_dry_run_says_the_cost_and_writes_nothing(here: Path, capsys) -> None:
    before = sorted(here.rglob("*"))
    assert cli.run(words("--seeds", "0-1", "--protocol", "own,dsa", "--dry-run")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("teacher of herding" in line for line in lines) == 2
    assert sum(" make " in line for line in lines) == 4
    assert sum(" score " in line for line in lines) == 8
    assert sum("dsa, with random real images" in line for line in lines) == 2
    assert lines[-1].startswith("in all about ")
    assert sorted(here.rglob("*")) == before

    assert cli.run(words()) == 0
    capsys.readouterr()
    assert cli.run(words("--dry-run")) == 0
    assert capsys.readouterr().out == "nothing is left to do\n"


def test_a_budget_begins_only_what_fits_and_says_what_is_missing(here: Path, capsys) -> None:
    assert cli.run(words("--budget", "0")) == 0
    printed = capsys.readouterr()
    assert "2 missing:" in printed.out and "of the budget are left" in printed.out
    assert not results(here / "out")
    found = comparison.read(here / "out")
    assert [one.failed for one in found.missing] == [False, False] and not found.rows
    assert cli.run(words("--budget", "10")) == 0
    assert comparison.read(here / "out").complete


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    write(folder)
    compare([str(folder / f"{name}-ipc1.yaml") for name in ("herding", "dm")], out=folder / "out")
    return rows(folder / "out")


@pytest.mark.parametrize(
    "number", [1, 9, *(pytest.param(n, marks=pytest.mark.long) for n in (4, 6, 11, 13))]
)
def test_a_killed_comparison_goes_on_to_the_same_result(
    here: Path, undisturbed: list[tuple[Any, ...]], number: int
) -> None:
    log = here / "log"
    process = kills.start(words("--threads", "1"), log, Moment(number, "before the rename"))
    process.join()
    assert process.exitcode != 0
    assert cli.run(words()) == 0
    assert rows(here / "out") == undisturbed
    assert set(results(here / "out").values()) == {1}
    assert not list((here / "out").rglob("*.tmp"))


def test_ctrl_c_leaves_a_table_and_the_rest_for_later(
    here: Path, undisturbed: list[tuple[Any, ...]], monkeypatch, capsys
) -> None:
    seen = []

    def stop(stage: str, done: int, total: int, **values: float) -> None:
        seen.append(stage)
        if "own" in stage and "herding" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare(["herding-ipc1.yaml", "dm-ipc1.yaml"], out="out", progress=stop)
    found = comparison.read(here / "out")
    assert "Herding" in {one.method for one in found.missing}
    assert not any(one.failed for one in found.missing)
    assert cli.run(words()) == 0
    assert rows(here / "out") == undisturbed


@pytest.mark.long
def test_several_workers_find_the_same(here: Path, undisturbed: list[tuple[Any, ...]]) -> None:
    found = compare(["herding-ipc1.yaml", "dm-ipc1.yaml"], out="out", workers=2)
    assert found.complete and rows(here / "out") == undisturbed


def test_a_file_says_what_options_say(here: Path) -> None:
    (here / "all.yaml").write_text(
        "methods: [herding-ipc1.yaml, dm-ipc1.yaml]\n"
        "images_per_class: 2\nseeds: [0, 1]\nprotocols: [own, dsa]\nepochs: 2\n"
    )
    written = asked({"methods": ["all.yaml"]})
    given = {"methods": ["herding-ipc1.yaml", "dm-ipc1.yaml"], "images_per_class": (2,)}
    assert written == asked({**given, "seeds": (0, 1), "protocols": ("own", "dsa"), "epochs": 2})
    assert asked({"methods": ["all.yaml"], "seeds": (5,)}).seeds == (5,)


def test_the_recipe_for_the_images_per_class_is_taken_where_there_is_one() -> None:
    wish = asked({"methods": ["dm/mnist-ipc1-cpu"], "images_per_class": (1, 10, 7)})
    one, ten, seven = line_up(wish, Path("out"))
    assert [one.name, ten.name, seven.name] == ["dm/mnist-cpu"] * 3
    assert ten.recipe == recipes.load("dm/mnist-ipc10-cpu")
    assert seven.recipe is not None and one.recipe is not None
    assert seven.recipe.images_per_class == 7 and seven.recipe.method == one.recipe.method
    assert len({one.path, ten.path, seven.path}) == 3


def test_methods_of_one_kind_have_names_of_their_own() -> None:
    named = ["dm/mnist-ipc1", "dm/mnist-ipc1-cpu", "coreset/mnist-ipc1-random-cpu"]
    methods = [one.method for one in line_up(asked({"methods": named}), Path("out"))]
    assert methods == [
        "DM, dm/mnist",
        "DM, dm/mnist-cpu",
        "Random real images, coreset/mnist-random-cpu",
    ]


def test_given_sets_take_the_place_of_those_that_would_be_made(here: Path) -> None:
    assert cli.run(["distill", "dm-ipc1.yaml", "--seed", "1", "--out", "mine"]) == 0
    found = compare(["dm-ipc1.yaml", "mine"], out="out", seeds=[0, 1])
    assert list(results(here / "out").values()) == [1]
    assert results(here / "mine") == {runs.DISTILLED: 1}
    assert {row.method: row.seeds for row in found.rows} == {"DM": (0, 1), RANDOM: (0, 1)}
    alone = compare([here / "mine" / runs.DISTILLED], out="other")
    assert [row.method for row in alone.rows] == ["DM", RANDOM] and alone.rows[0].seeds == (1,)


def test_a_set_that_fails_does_not_stop_the_others(here: Path, capsys) -> None:
    wild = {**DM, "method": {**DM["method"], "learning_rate": 1e30}}
    (here / "wild.yaml").write_text(json.dumps(wild))
    named = ["compare", "wild.yaml", "dm-ipc1.yaml", "--protocol", "dsa", "--epochs", "2"]
    assert cli.run([*named, "--device", "cpu", "--out", "out"]) == 2
    printed = capsys.readouterr()
    assert "failed: " in printed.err and "lower method.learning_rate" in printed.out
    found = comparison.read(here / "out")
    assert [one.failed for one in found.missing] == [True]
    assert [row.random for row in found.rows] == [False, True]


def test_a_teacher_is_trained_once_from_a_recipe_or_given(here: Path) -> None:
    protocols = ["sl:60", "sl-kd:60"]
    trained = compare(["dm-ipc1.yaml"], out="out", protocols=protocols, teacher="herding-ipc1.yaml")
    (file,) = (here / "out" / "teachers").rglob("teacher.safetensors")
    assert trained.teacher is not None and [row.asked for row in trained.rows] == [
        "sl:60", "sl:60", "sl-kd:60", "sl-kd:60",
    ]  # fmt: skip
    given = compare(["dm-ipc1.yaml"], out="given", protocols=protocols, teacher=file)
    assert given.teacher == trained.teacher
    assert rows(here / "given") == rows(here / "out")
    alone = compare(["dm-ipc1.yaml"], out="given", protocols=["sl:60"], teacher=file)
    assert [row.bytes for row in alone.rows] == [row.bytes for row in given.rows[:2]]


def test_the_page_shows_a_comparison(here: Path, capsys) -> None:
    assert cli.run(words("--protocol", "own,dsa", "--epochs", "2")) == 0
    assert cli.run(["report", "out", "--out", "page.html"]) == 0
    page = (here / "page.html").read_text()
    assert '<h2 id="comparison-1">Side by side on Digits</h2>' in page
    assert "Distilled sets of Digits, side by side" in page
    found = comparison.read(here / "out")
    for row in found.rows:
        assert f"{100 * row.accuracy.mean:.1f}" in page
    assert page.count("<svg") == 2 and "http" not in page.replace("http-equiv", "")
    (run,) = (here / "out" / "sets" / "dm-ipc1").iterdir()
    assert cli.run(["report", "out", str(run), "--out", "both.html"]) == 0
    both = (here / "both.html").read_text()
    assert "Side by side on Digits" in both and "At a glance" in both
    (here / "out" / comparison.DOCUMENT).write_text("{")
    capsys.readouterr()
    assert cli.run(["report", "out", "--out", "page.html"]) == 2
    assert "repeat potstill compare" in capsys.readouterr().err


def test_a_comparison_reads_back_as_it_was_written(here: Path) -> None:
    found = compare(["dm-ipc1.yaml"], out="out", networks=1)
    assert comparison.read(here / "out") == found
    again = potstill.compare(["dm-ipc1.yaml"], out="out", networks=1, device="cpu", progress=True)
    assert isinstance(again, Comparison) and again == found
    assert "own" not in evaluation.PROTOCOLS


@pytest.mark.parametrize(
    "more, message",
    [
        (["--protocol", "dx"], "unknown protocol 'dx'"),
        (["--protocol", "sl-kd"], "protocol sl-kd has a teacher that labels; name one with"),
        (["--protocol", "hl", "--epochs", "3"], "protocol hl does not count epochs"),
        (["--seeds", "a"], "--seeds takes numbers such as 0,1,2 or 0-2, not 'a'"),
        (["--images-per-class", "0"], "images_per_class"),
        (["--network", "nonsense", "--protocol", "hl"], "nonsense"),
        (["--network", "convnet"], "network is for common protocols, and own has each set's"),
        (["--protocol", "sl", "--teacher", "no.safetensors"], "no.safetensors"),
        (["--set", "data.dataset=imagenet"], "imagenet"),
        (["nowhere"], "no recipe 'nowhere'"),
        (["other.yaml"], "herding is about digits and other about mnist"),
        (["broken.safetensors"], "broken.safetensors"),
        (["classes.safetensors"], "classes.safetensors is of digits and has another classes"),
        (["all.yaml"], "all.yaml describes a whole comparison; name it alone"),
        (["empty"], "empty holds no distilled set"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_refused_in_a_line(here: Path, fails, more: list[str], message) -> None:
    (here / "other.yaml").write_text(json.dumps({**DM, "data": {"dataset": "mnist"}}))
    (here / "all.yaml").write_text("methods: [dm-ipc1.yaml]\n")
    (here / "broken.safetensors").write_bytes(b"nothing")
    (here / "empty").mkdir()
    if "classes.safetensors" in more:
        of_other_classes(here / "classes.safetensors")
    assert message in fails(*words(), *more)
    assert not (here / "out" / "sets").exists()


def test_a_file_with_an_unknown_key_is_refused_in_a_line(here: Path, fails) -> None:
    (here / "all.yaml").write_text("methods: [dm-ipc1.yaml]\nseed: 3\n")
    assert "all.yaml: unknown key 'seed'; use some of methods" in fails("compare", "all.yaml")


def of_other_classes(path: Path) -> None:
    """A set of the digits whose classes have other names."""
    recipe = parse({"name": "test", **DM}, source="test")
    made = distill(recipe, datasets.load(recipe.data, None))
    names = [f"class {label}" for label in range(10)]
    DistilledDataset(made.images, made.labels, names, made.preprocess, made.header).save(path)
