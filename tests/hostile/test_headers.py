"""Sealed files that somebody wrote to do harm: refused in a line, or good for every use."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from potstill import checkpoints, storage
from potstill.audits.diversity import diversity
from potstill.data.blocks import Blocks
from potstill.data.distilled import DistilledDataset
from potstill.data.preprocess import ZCA
from potstill.errors import ArtefactError, NumericalError, PotstillError, RunError
from potstill.evaluation import labelled_views
from potstill.evaluation.labelling import ViewSettings
from potstill.evaluation.protocol import made_for, network_made_for
from potstill.methods.describing import description_of, recipe_of
from potstill.methods.distilling import distill
from potstill.methods.dwa import groups
from potstill.methods.dwa.groups import Group
from potstill.methods.loop import iterate
from potstill.methods.method import Session
from potstill.methods.rcig.distil import Distiller
from potstill.methods.recipe import dump, parse
from potstill.quoting import differences
from potstill.recipes import load as shipped
from potstill.runs import Run
from potstill.surroundings import present
from potstill.teacher import Teacher
from tests.data.test_distilled import result, sample
from tests.hostile.mutations import deep, mutated
from tests.methods.dwa import problems

VIEWS = ViewSettings("padded", 1, True, "mixup", 0.8, 4).document()
TEACHER = {"digest": "00", "accuracy": 0.5, "network": {}, "epochs": 3, "settings": {"epochs": 3}}
Document = dict[str, Any]
Tensors = dict[str, Tensor]


def sealed(path: Path, document: Document, tensors: Tensors, kind: storage.Kind) -> Path:
    """A file whose digests fit whatever it says, as nobody's honest code would write it."""
    content = {key: value for key, value in document.items() if key != "digest"}
    try:
        digest = storage._digests(content, tensors)
    except (ArtefactError, TypeError):  # what has no JSON, and tensors that NumPy does not have
        digest = {}
    text = json.dumps({**content, "digest": digest}, sort_keys=True, separators=(",", ":"))
    text = text.replace('"DEEP"', "[" * 50_000 + "]" * 50_000)
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    path.write_bytes(safetensors.torch.save(whole, {kind.key: text}))
    return path


def new_set() -> DistilledDataset:
    """Format 3: it describes itself, and has soft labels and a result."""
    base, recipe = sample(), shipped("quickstart/digits-rcig").model_dump(mode="json")
    header = {
        **base.header,
        "recipe": recipe,
        "data": recipe["data"],
        "mirror_images": False,
        "description": {"title": "RCIG", "facts": [["a", "b", ""]], "panels": []},
        "evaluation": {"protocol": "hard-label", "network": {"width": 8}, "networks": 2},
        "source": {"name": "x", "fingerprint": "00", "classes": 2, "channels": 3, "resolution": 4},
        "teacher": TEACHER,
        "import": {"space": "pixels", "checks": [{"check": "a", "value": "b", "verdict": "ok"}]},
    }
    parts = base.images, base.labels, base.class_names, base.preprocess
    relabelling = {"protocol": "x", "seed": 1, "teacher": TEACHER, "teacher_mode": "eval"}
    plain = DistilledDataset(*parts, header)
    soft = plain.with_soft_labels(torch.zeros(2, 6, 2), {**relabelling, "views": VIEWS})
    return soft.with_result(result())


def old_set() -> DistilledDataset:
    """Format 1: its recipe says all."""
    base = sample(zca=False)
    header = {
        **base.header,
        "method": "imported",
        "recipe": shipped("quickstart/digits-dwa").model_dump(mode="json"),
        "import": {"label_kind": "hard", "checks": [{"check": "a", "value": "b", "verdict": "ok"}]},
    }
    parts = base.images, base.labels, base.class_names, base.preprocess
    return DistilledDataset(*parts, header).with_result(result())


def phased_set() -> DistilledDataset:
    """Format 4: it is whitened in phases of 2 x 2 pixels."""
    base, set_ = sample(zca=False), new_set()
    mean, std = base.preprocess.mean, base.preprocess.std
    images, blocks = base.images.repeat(1, 1, 2, 2), Blocks(4)
    zca = ZCA(mean, std, torch.zeros(3, 8, 8), 2 * torch.eye(48), 0.1, blocks)
    header = {key: value for key, value in set_.header.items() if key != "relabelling"}
    return DistilledDataset(images, base.labels, base.class_names, zca, header)


def parts_of(made: Any, folder: Path) -> tuple[Document, Tensors]:
    path = folder / "valid.safetensors"
    made.save(path)
    kind = storage.TEACHER if isinstance(made, Teacher) else storage.DISTILLED_SET
    return storage.decode(path, kind)


def used(path: Path) -> None:
    """All that other code trusts of a set."""
    dataset = DistilledDataset.load(path)
    header = dataset.header
    assert header["source"]["name"] + header["source"]["fingerprint"] + header["method"] is not None
    assert header["evaluation"]["protocol"] is not None
    assert isinstance(header["seed"] + header["iterations"], int)
    assert all(f"{name} {number}" for name, number in header["versions"].items())
    assert (header.get("recipe", {}).get("name") or "none").encode()
    assert header.get("teacher", {}).get("digest") != "z"
    assert header.get("relabelling", {}).get("teacher") != "z"
    assert description_of(header).title is not None
    recipe_of(header)
    assert all(one.accuracy.values is not None for one in dataset.results)
    assert len(dataset.pixels()) == len(dataset) and dataset.images.isfinite().all()
    assert dataset.mirror_images in (True, False)
    assert dataset.images_per_class >= 0 and " ".join(dataset.class_names).encode() is not None
    dataset.save(path.with_name("again.safetensors"))
    for use in (
        lambda: dataset.data_recipe,
        lambda: network_made_for(dataset),
        lambda: made_for(dataset, "networks") + 1,
        lambda: made_for(dataset, "epochs") + 1,
        lambda: next(labelled_views(dataset, 0)),
    ):
        try:
            use()
        except PotstillError as error:
            require_line(error)


def require_line(error: PotstillError) -> None:
    text = str(error)
    assert "\n" not in text and len(text) < 1000, text[:2000]
    text.encode()


def refusal(use: Callable[[], object], error: type[PotstillError] = ArtefactError) -> str:
    with pytest.raises(error) as caught:
        use()
    require_line(caught.value)
    return str(caught.value)


def set_at(document: Document, where: str, value: Any) -> Document:
    result = copy.deepcopy(document)
    *parents, leaf = where.split(".")
    node: Any = result
    for parent in parents:
        node = node[int(parent)] if isinstance(node, list) else node[parent]
    if value is KeyError:
        del node[leaf]
    else:
        node[leaf] = value
    return result


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("extra", "DEEP", "not a JSON object"),
        ("extra", deep(300), "not a JSON object"),
        ("extra", 10**200, "not a JSON object"),
        ("source.name", "\ud800", "not a JSON object"),
        ("\ud800", 1, "not a JSON object"),
        ("source", KeyError, "source: Field required"),
        ("source", [], "source: Input should be an object"),
        ("source.name", 7, "source.name"),
        ("source.fingerprint", KeyError, "source.fingerprint: Field required"),
        ("source.classes", "ten", "source.classes"),
        ("evaluation.protocol", KeyError, "evaluation.protocol: Field required"),
        ("evaluation.protocol", "a\0", "evaluation.protocol"),
        ("evaluation.network", {"width": 10**12}, "evaluation.network.width"),
        ("evaluation.networks", -1, "evaluation.networks"),
        ("evaluation.epochs", "many", "evaluation.epochs"),
        ("method", "x" * 100_000, "method"),
        ("description", KeyError, "recipe"),
        ("description", {"title": 7}, "description.title"),
        ("description.facts", [["x" * 100_000, "b", ""]], "description.facts"),
        ("data", None, "data"),
        ("mirror_images", 1, "mirror_images"),
        ("results", {}, "results"),
        ("results.0.accuracy", 0.5, "results.0.accuracy"),
        ("results.0.accuracy.values", ["NaN"], "results.0.accuracy.values"),
        ("results.0.network", {"depth": -1}, "results.0.network.depth"),
        ("teacher", None, "teacher"),
        ("teacher.epochs", None, "teacher.epochs"),
        ("relabelling.views", None, "relabelling.views"),
        ("relabelling.seed", "1", "relabelling.seed"),
        ("import.checks", [{}], "import.checks.0"),
        ("recipe.name", ["x"], "recipe.name"),
        ("recipe.method", "rcig", "recipe.method"),
        ("versions.torch", 2, "versions.torch"),
        ("iterations", 1.5, "iterations"),
        ("seed", True, "seed"),
        ("class_names", [], "class_names must be a list"),
        ("class_names", "ab", "class_names must be a list"),
        ("class_names", [1, 2], "class name 1 is no text"),
        ("class_names", ["a", "a"], "two classes are called 'a'"),
        ("class_names", ["a", "x" * 100_000], "is no text of at most 255"),
        ("preprocess", [], "unknown preprocessing"),
        ("preprocess.shape", [3, -4, -4], "shape"),
        ("preprocess.shape", [3, 10**9, 10**9], "shape"),
        ("preprocess.mean", [[0.0]] * 3, "mean"),
        ("preprocess.std", [1e-300] * 3, "std"),
        ("preprocess.std", [1.0, 1.0], "equally long"),
        ("preprocess.block", 0, "block"),
        ("preprocess.tiling", "phases", "tiling must be phases, of blocks, or absent"),
        ("preprocess.tiling", "contiguous", "tiling must be phases, of blocks, or absent"),
        ("preprocess.tiling", {"phases": 1}, "tiling"),
        ("preprocess.regularisation", "x", "regularisation"),
        ("images", None, "the header says images None"),
    ],
)
def test_a_set_that_nobody_made_is_refused(tmp_path: Path, where: str, value: Any, words: str):
    document, tensors = parts_of(new_set(), tmp_path)
    if where == "description" and value is KeyError:
        del document["recipe"]
    changed = set_at(document, where, value)
    path = sealed(tmp_path / "a.safetensors", changed, tensors, storage.DISTILLED_SET)
    assert words in refusal(lambda: used(path))


def test_a_safetensors_header_that_is_deep_is_damaged(tmp_path: Path):
    text = b'{"a":' * 50_000
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    assert "damaged safetensors header" in refusal(lambda: DistilledDataset.load(path))


def test_tensors_that_nobody_made_are_refused(tmp_path: Path):
    document, tensors = parts_of(new_set(), tmp_path)
    for shape in ((0, 3, 4, 4), (6, 3, 0, 0), (6, 0, 4, 4)):
        empty = set_at(document, "images", {"shape": list(shape), "space": "network"})
        path = tmp_path / "a.safetensors"
        sealed(path, empty, {**tensors, "images": torch.zeros(shape)}, storage.DISTILLED_SET)
        assert "and no empty ones" in refusal(lambda path=path: used(path))
    whitening = tensors["preprocess.whitening"]
    for wrong, words in (
        (whitening * float("nan"), "not finite"),
        (-whitening, "not positive definite"),
        (torch.ones_like(whitening), "not positive definite"),
    ):
        changed = {**tensors, "preprocess.whitening": wrong}
        sealed(path, document, changed, storage.DISTILLED_SET)
        assert words in refusal(lambda: used(path))


@pytest.mark.parametrize(
    "change",
    [{"padding": -1}, {"padding": 10**9}, {"batch_size": 0}, {"batch_size": 10**12}, {"alpha": 0},
     {"alpha": -1.0}, {"alpha": 1e300}, {"flip": "yes"}, {"crop": "none"}, {"mix": []},
     {"batch_size": "4"}, {"padding": 1.5}, {"draws": "1"}, {"extra": 1}],
)  # fmt: skip
def test_views_that_nobody_draws_are_refused(tmp_path: Path, change: Document):
    document, tensors = parts_of(new_set(), tmp_path)
    document["relabelling"]["views"] |= change
    path = sealed(tmp_path / "a.safetensors", document, tensors, storage.DISTILLED_SET)
    dataset = DistilledDataset.load(path)
    assert "cannot draw" in refusal(lambda: next(labelled_views(dataset, 0)))


def test_blocks_are_what_the_format_says_they_are(tmp_path: Path):
    document, tensors = parts_of(phased_set(), tmp_path)
    assert document["format_version"] == 4
    path = tmp_path / "a.safetensors"
    for version in (1, 2, 3):
        older = {**document, "format_version": version}
        sealed(path, older, tensors, storage.DISTILLED_SET)
        assert f"format {version} does not go" in refusal(lambda: DistilledDataset.load(path))
    del document["preprocess"]["tiling"]
    sealed(path, document, tensors, storage.DISTILLED_SET)
    assert "format 4 does not go" in refusal(lambda: DistilledDataset.load(path))
    sealed(path, {**document, "format_version": 3}, tensors, storage.DISTILLED_SET)
    earlier = DistilledDataset.load(path)
    assert isinstance(earlier.preprocess, ZCA) and earlier.preprocess.blocks.tiling == "contiguous"
    used(path)


@pytest.mark.parametrize("make", [new_set, old_set, phased_set])
def test_a_mutated_set_is_refused_or_good_for_every_use(
    tmp_path: Path, make: Callable[[], DistilledDataset]
):
    random = Random(make.__name__)
    document, tensors = parts_of(make(), tmp_path)
    path, outcomes = tmp_path / "a.safetensors", {"used": 0, "refused": 0}
    for _ in range(300):
        sealed(path, mutated(document, random), tensors, storage.DISTILLED_SET)
        try:
            used(path)
            outcomes["used"] += 1
        except PotstillError as error:
            require_line(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("network.width", 16_000, "size mismatch"),
        ("network.width", 10**9, "width"),
        ("network", {"name": "os:system"}, "no network 'os:system'"),
        ("network", {"module": 7}, "network.module"),
        ("network", {"pretrained": 7}, "network.pretrained"),
        ("network", {"name": "nosuch"}, "unknown network"),
        ("source.resolution", 10**9, "source.resolution"),
        ("source.channels", "1", "source.channels"),
        ("results", [{}], "results.0.accuracy"),
        ("results", [{"accuracy": "high"}], "results.0.accuracy"),
        ("class_names", None, "class_names"),
        ("class_names", ["x"] * 10, "two classes"),
        ("preprocess", None, "unknown preprocessing"),
        ("teacher", [], "teacher"),
        ("epochs", -1, "epochs"),
    ],
)
def test_a_teacher_that_nobody_trained_is_refused(
    tmp_path: Path, where: str, value: Any, words: str
):
    document, tensors = parts_of(problems.teacher(), tmp_path)
    changed = set_at(document, where, value)
    path = sealed(tmp_path / "a.safetensors", changed, tensors, storage.TEACHER)
    assert words in refusal(lambda: Teacher.load(path), PotstillError)


def test_a_mutated_teacher_is_refused_or_good_for_every_use(tmp_path: Path):
    random = Random("teacher")
    document, tensors = parts_of(problems.teacher(), tmp_path)
    path, outcomes = tmp_path / "a.safetensors", {"used": 0, "refused": 0}
    for _ in range(300):
        sealed(path, mutated(document, random), tensors, storage.TEACHER)
        try:
            teacher = Teacher.load(path)
            teacher.save(path.with_name("again.safetensors"))
            assert teacher.channels * teacher.resolution * teacher.classes > 0
            assert teacher.accuracy is None or 0 <= teacher.accuracy <= 1
            assert storage.canonical(teacher.summary())
            outcomes["used"] += 1
        except PotstillError as error:
            require_line(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 10


STATE = {"x": torch.ones(2, 3), "n": [3, float("inf"), None], "text": "a", "deep": {"y": [True]}}


def checkpoint(folder: Path) -> tuple[Path, Document, Tensors]:
    path = folder / "checkpoint.safetensors"
    checkpoints.write(path, STATE, {"iteration": 5, "seconds": 1.5, "parts": {}})
    return path, *storage.decode(path, storage.CHECKPOINT)


@pytest.mark.parametrize(
    "state",
    [
        {"items": 7},
        {"items": [["a"]]},
        {"items": [[["a"], 1]]},
        {"items": [[1, 1]]},
        {"float": "much"},
        {"float": None},
        {"tensor": "0"},
        {"tensor": "7", "stride": [1]},
        {"tensor": [], "stride": [1]},
        {"tensor": "0", "stride": None},
        {"tensor": "0", "stride": [1]},
        {"tensor": "0", "stride": [3, -1]},
        {"tensor": "0", "stride": [0, 0]},
        {"tensor": "0", "stride": [1, 1]},
        {"tensor": "0", "stride": [10**15, 1]},
        {"tensor": "0", "stride": [10**30, 1]},
        {"tensor": "0", "stride": ["3", "1"]},
        {"tensor": "0", "stride": [3.0, 1.0]},
        {"other": 1},
        deep(400),
    ],
)
def test_a_checkpoint_that_nobody_wrote_is_refused(tmp_path: Path, state: Any):
    path, document, tensors = checkpoint(tmp_path)
    sealed(path, {**document, "state": state}, tensors, storage.CHECKPOINT)
    assert "delete it" in refusal(lambda: checkpoints.read(path), RunError)
    for key in ("state", "header"):
        sealed(path, set_at(document, key, KeyError), tensors, storage.CHECKPOINT)
        assert "malformed" in refusal(lambda: checkpoints.read(path), RunError)


def test_a_mutated_checkpoint_is_read_or_refused(tmp_path: Path):
    random = Random("checkpoint")
    path, document, tensors = checkpoint(tmp_path)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        sealed(path, mutated(document, random), tensors, storage.CHECKPOINT)
        try:
            state, header = checkpoints.read(path)
            checkpoints.write(tmp_path / "again.safetensors", state, header)
            outcomes["read"] += 1
            checkpoints.require_like(state, {**STATE, "deep": {}, "n": []})
        except ValueError as error:
            assert str(error).startswith("state")
        except RunError as error:
            require_line(error)
            outcomes["refused"] += 1
    assert min(outcomes.values()) > 50


RECIPE = parse(
    {"images_per_class": 1, "network": {"depth": 2, "width": 4}, "method": {"pool": {"size": 2}}},
    source="test",
)


@pytest.mark.parametrize("key", ["iteration", "seconds", "parts"])
@pytest.mark.parametrize("value", [-1, "x", None, {}, [[]], KeyError])
def test_a_run_is_not_resumed_from_a_header_that_nobody_wrote(tmp_path: Path, key: str, value: Any):
    if (key, value) == ("parts", {}):
        return
    (tmp_path / "recipe.yaml").write_text(dump(RECIPE))
    header = {"iteration": 5, "seconds": 1.5, "parts": {"a": 1.0}}
    checkpoints.write(tmp_path / "checkpoint.safetensors", {}, set_at(header, key, value))
    refusal(lambda: Run.create(tmp_path, RECIPE, resume=True), RunError)


def test_a_method_does_not_go_on_from_a_state_that_is_not_its_own(tmp_path: Path):
    random, source = Random("state"), problems.source()

    def distiller() -> Distiller:
        fitted = problems.preprocess()
        return Distiller(RECIPE, source, fitted, torch.device("cpu"))

    valid = distiller()
    valid.step()
    plain = {**valid.state()}
    (tmp_path / "recipe.yaml").write_text(dump(RECIPE))
    outcomes = {"restored": 0, "refused": 0}
    for number in range(60):
        state = mutated(plain, random)
        if number == 0:
            state = plain
        if number == 1:
            wrong = {"0": {"step": 1, "exp_avg": torch.ones(3), "exp_avg_var": torch.ones(3)}}
            state = {**plain, "coreset": {**plain["coreset"], "optimiser": wrong}}
        try:
            checkpoints.write(
                tmp_path / "checkpoint.safetensors",
                state,
                {"iteration": 1, "seconds": 0.0, "parts": {}},
            )
        except (TypeError, ArtefactError, RecursionError):
            continue
        try:
            with Run.create(tmp_path, RECIPE, resume=True) as run:
                iterate(distiller(), 1, RECIPE, Session(run=run))
            outcomes["restored"] += 1
            assert number != 1
        except RunError as error:
            require_line(error)
            assert number != 0
            outcomes["refused"] += 1
    assert outcomes["refused"] > 20


@pytest.mark.parametrize(
    "change",
    [{"images": torch.zeros(10, 1, 9, 9).byte()}, {"images": torch.zeros(10, 1, 8, 8)},
     {"images": None}, {"history": []}, {"history": [{}]}, {"history": [{"iteration": "x"}]},
     {"adjustment": None}, {"seconds": []}, {"seconds": {"synthesis": "x"}},
     {"surroundings": {"threads": 1}}, None],
)  # fmt: skip
def test_a_group_that_nobody_inverted_is_refused(tmp_path: Path, change: Document | None):
    group = Group(0, 0, tuple(range(10)))
    state: Any = {
        "images": torch.zeros(10, 1, 8, 8, dtype=torch.uint8),
        "classes": list(group.classes),
        "history": [{"iteration": 3, "loss": 1.0}],
        "adjustment": 0.0,
        "seconds": {"synthesis": 1.0},
        "surroundings": present("cpu").model_dump(mode="json"),
    }
    path = tmp_path / f"{group.name}.safetensors"
    checkpoints.write(path, state, {})
    assert groups.read(tmp_path, group, {}, (1, 8, 8)) is not None
    checkpoints.write(path, [] if change is None else {**state, **change}, {})
    refusal(lambda: groups.read(tmp_path, group, {}, (1, 8, 8)), RunError)


def test_an_absurd_learning_rate_is_said_to_be_one():
    for rate in (1e30, 1e300):
        recipe = problems.recipe(learning_rate=rate, iterations=12)
        text = refusal(
            lambda recipe=recipe: distill(recipe, problems.source(), teacher=problems.teacher()),
            NumericalError,
        )
        assert "lower method.learning_rate" in text


@pytest.mark.parametrize(
    "change",
    [{"momentum_buffer": None}, {"momentum_buffer": torch.ones(3)}, {"x": 1}, {}, {"step": -1}],
)
def test_an_optimiser_takes_no_moments_that_no_step_makes(change: Document):
    parameter = torch.ones(2, requires_grad=True)
    optimiser = torch.optim.SGD([parameter], lr=0.1, momentum=0.9)
    checkpoints.load_moments(optimiser, {0: {"momentum_buffer": torch.ones(2)}})
    assert torch.equal(parameter, torch.ones(2))
    with pytest.raises((ValueError, LookupError)):
        checkpoints.load_moments(optimiser, {0: change})
    with pytest.raises(LookupError):
        checkpoints.load_moments(optimiser, {1: {"momentum_buffer": torch.ones(2)}})


def test_a_parameter_without_moments_goes_on_as_in_a_new_optimiser():
    def made() -> tuple[list[Tensor], torch.optim.Optimizer]:
        parameters = [torch.ones(2, requires_grad=True) for _ in range(3)]
        return parameters, torch.optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True)

    (one, two, still), optimiser = made()
    checkpoints.load_moments(optimiser, {0: {"momentum_buffer": torch.ones(2)}})
    one.grad, two.grad = torch.ones(2), torch.full((2,), 3.0)
    optimiser.step()
    assert torch.equal(one, torch.full((2,), 1 - 0.1 * 1.9))
    assert torch.equal(two, torch.full((2,), 1 - 0.1 * 3.0))
    assert torch.equal(still, torch.ones(2))


def test_a_teacher_of_other_than_finite_numbers_sees_nothing():
    teacher = problems.teacher()
    for weights in teacher.network.parameters():
        weights.fill_(float("nan"))
    made = distill(problems.recipe(), problems.source(), teacher=problems.teacher())
    assert "take another teacher" in refusal(lambda: diversity(made, teacher), NumericalError)


def test_differences_are_told_in_words_of_a_line():
    there, here = {"a": "x" * 9000, "b": 10**4000, "c": 1, "d" * 9000: 1}, {"b": [0] * 9000, "c": 1}
    said = differences(there, here)
    assert [each[:3] for each in said] == ["a (", "b (", "ddd"]
    assert all(len(each) < 400 for each in said)
    assert differences({"seed": 1, "x": "a"}, {"seed": 2, "x": "b"}) == [
        "seed (1 there, 2 here)",
        "x (a there, b here)",
    ]
