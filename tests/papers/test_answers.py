"""Which recipe and which evaluation answer a row of a paper's table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import torch
import yaml
from torch import nn
from torchvision.ops import StochasticDepth

from potstill import methods, papers, recipes
from potstill.config import NetworkRecipe, PaperRow
from potstill.description import Description
from potstill.errors import RecipeError
from potstill.evaluation import PROTOCOLS
from potstill.methods.method import Method, MethodSettings, Work
from potstill.networks import zoo
from potstill.papers import ACCURACY
from potstill.papers.answers import LASTING, PAPERS, answer, published
from potstill.papers.departures import paper_recipe
from potstill.papers.rcig import TRANSFER

INSTANCE = NetworkRecipe(growth=1, normalisation="instance")


class Settings(MethodSettings):
    kind: Literal["stranger"] = "stranger"
    steps: int = 100


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[None]:
    """A method of somebody else's, with recipes that name rows of both papers."""
    shared = {"table": "1", "dataset": "cifar10", "images_per_class": 10, "method": "MTT"}
    small = {"dataset": "cifar10", "images_per_class": 10, "method": "MTT"}
    private = {"dataset": "mnist", "images_per_class": 50, "method": "FRePo"}
    convnet = {"distill_arch": "convnet-128", "eval_arch": "convnet-128"}
    named = {
        "cifar10-ipc10": [
            {"paper": "rcig", "table": "2", **small},
            {"paper": "rcig", "table": "3", **small, "distill_arch": "Conv-IN"},
            {"paper": "dwa", **shared, **convnet},
        ],
        "privacy-mnist": [{"paper": "rcig", "table": "5", **private}],
    }
    for name, keys in named.items():
        document = {
            "data": {"dataset": keys[0]["dataset"]},
            "images_per_class": keys[0]["images_per_class"],
            "network": INSTANCE.model_dump(mode="json"),
            "method": {"kind": "stranger"},
            "evaluation": {"protocol": "dsa", "networks": 20},
            "paper": keys,
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(document))
    method = Method(
        name="stranger",
        settings=Settings,
        distil=lambda *_: None,  # type: ignore[arg-type,return-value]
        work=lambda *_: Work(100),
        describe=lambda *_: Description(title="Stranger"),
        recipes=tmp_path,
    )
    methods.register(method)
    yield
    del methods._registered["stranger"]


def test_a_rows_recipe_is_for_its_data_and_size() -> None:
    for row in papers.rows():
        found = answer(row)
        if found is None:
            continue
        recipe = found.load()
        assert recipe.data.dataset == row.dataset, row.name
        whole = row.method == "Full Dataset"  # of which there are as many whatever the row says
        assert whole or recipe.images_per_class == row.images_per_class, row.name
        assert found.protocol in {*PROTOCOLS, TRANSFER}, row.name


def test_recipes_that_name_a_row_answer_it() -> None:
    for name in recipes.names():
        for key in recipes.load(name).paper:
            named = [row for row in papers.rows(paper=key.paper) if key.names(row)]
            assert named, (name, key)
            for row in named:
                found = answer(row)
                assert found is not None and found.recipe == name


def test_epochs_of_a_paper_are_those_of_the_protocol_here() -> None:
    for paper in PAPERS.values():
        for name, by_data in paper.epochs.items():
            for dataset, epochs in by_data.items():
                side = {"tiny_imagenet": 64, "imagenet1k": 224}.get(dataset, 32)
                work = PROTOCOLS[name].work(10, 3, side, epochs=None, mirrored=False)
                assert work.shown == 10 * epochs
    lasting = {name: getattr(one, "lasting", None) for name, one in PROTOCOLS.items()}
    assert {name: number for name, number in lasting.items() if number} == LASTING


def test_table_3_evaluates_the_networks_it_names() -> None:
    found = {
        (row.distill_arch, row.eval_arch): answer(row)
        for row in papers.rows(paper="rcig", table=3, method="RCIG")
    }
    plain, batch = found["Conv-NN", "ResNet-DN"], found["Conv-BN", "VGG-BN"]
    assert plain is not None and batch is not None
    assert plain.network == NetworkRecipe(name="resnet18_rcig", normalisation="none")
    assert batch.network == NetworkRecipe(name="vgg11_rcig", normalisation="batch")
    assert batch.load().network.normalisation == "batch" and plain.assignments == ()
    assert plain.protocol == batch.protocol == TRANSFER
    training = PROTOCOLS[plain.protocol].training(100)  # type: ignore[attr-defined]
    assert training.augment is not None and training.schedule(500) == pytest.approx(3e-4)
    for name in ("Conv-DN", "Conv-NN"):
        own = found["Conv-BN", name]
        assert own is not None and own.network == NetworkRecipe()
        assert own.protocol == own.load().evaluation.protocol != TRANSFER


def test_imagenets_students_are_torchvisions_own() -> None:
    """With dropout and stochastic depth, and ShuffleNetV2 at half its width."""
    found = {row.eval_arch: answer(row) for row in papers.rows(paper="dwa", table=5, method="DWA")}
    names = {arch: one.network.name for arch, one in found.items() if one is not None}
    assert names == {
        "mobilenet_v2": "torchvision:mobilenet_v2",
        "shufflenet_v2": "torchvision:shufflenet_v2_x0_5",
        "efficientnet_b0": "torchvision:efficientnet_b0",
    }
    for one in found.values():
        assert one is not None
        with torch.device("meta"):
            network = zoo.build(one.network, channels=3, resolution=224, classes=1000)
        random = [m for m in network.modules() if isinstance(m, nn.Dropout | StochasticDepth)]
        assert bool(random) == (one.network.name.endswith(("mobilenet_v2", "efficientnet_b0")))
    small = papers.rows(paper="dwa", table=4, eval_arch="mobilenet_v2", method="DWA")[0]
    on_cifar = answer(small)
    assert on_cifar is not None and on_cifar.network.name == "mobilenet_v2"


def test_what_is_known_of_how_a_number_was_taken() -> None:
    def said(**filters: str | int) -> set[str]:
        return {published(row) for row in papers.rows(paper="dwa", metric=ACCURACY, **filters)}

    tenth = "best of every 10th epoch and the last on the test set, labeller in {} mode"
    assert said(dataset="cifar100", table=3) == {tenth.format("training")}
    assert said(dataset="imagenet1k", method="DWA") == {tenth.format("evaluation")}
    assert said(dataset="tiny_imagenet", method="DWA") == {
        "best of all epochs on the test set, labeller in evaluation mode"
    }
    assert said(method="MTT") == {""}
    assert said(dataset="imagenet1k", method="SRe2L") == {""}
    assert {published(row) for row in papers.rows(paper="rcig")} == {""}


def test_baselines_of_attacks_are_those_of_rcigs_set() -> None:
    real, subset = (
        answer(papers.rows(paper="rcig", table=6, method=method)[1])
        for method in ("Real", "Subset")
    )
    assert real is not None and subset is not None
    assert real.recipe == subset.recipe == "rcig/privacy-fashion-mnist"
    assert (real.trained_on, subset.trained_on) == ("members", "random")
    assert real.attack == subset.attack == "threshold"


def test_table_10_changes_the_size_of_a_set() -> None:
    row = papers.rows(paper="dwa", table=10, method="SRe2L", remark="first 40 classes")[0]
    found = answer(row, ["seed=3"])
    assert found is not None and found.recipe == "dwa/cifar100-ipc10-resnet18-sre2l"
    assert found.assignments == ("images_per_class=20", "seed=3") and found.classes == 40
    assert found.network == NetworkRecipe(growth=1, normalisation="batch")


def test_settings_reach_recipe_network_and_protocol() -> None:
    (row,) = papers.rows(paper="rcig", table=2, dataset="mnist", images_per_class=1, method="RCIG")
    one = answer(row)
    changed = answer(row, ["network.width=7", "evaluation.protocol=rcig-as-run"])
    assert one is not None and changed is not None
    assert one.network.width == 128 and changed.network.width == 7
    assert changed.protocol == "rcig-as-run"
    with pytest.raises(RecipeError, match="unknown key"):
        answer(row, ["nosuch=1"])


def test_a_paper_is_the_recipe_without_its_departures() -> None:
    (row,) = papers.rows(paper="rcig", table=2, dataset="mnist", images_per_class=1, method="RCIG")
    paper, ours = paper_recipe(row), recipes.load("rcig/mnist-ipc1")
    assert paper is not None
    assert recipes.differing(paper, ours) == {
        "method.solver.name": "adam",
        "method.target_precision": "float32",
    }


@pytest.mark.usefixtures("stranger")
def test_a_strangers_recipes_answer_rows_of_either_paper() -> None:
    def of(**filters: str | int):
        found = {row.eval_arch: answer(row) for row in papers.rows(**filters)}
        assert {one.recipe.split("/")[0] for one in found.values() if one} == {"stranger"}
        return found

    main = of(paper="rcig", table=2, dataset="cifar10", images_per_class=10, method="MTT")
    assert main["convnet"].network == INSTANCE and main["convnet"].networks == 20
    students = of(paper="rcig", table=3, method="MTT")
    assert {one.protocol for one in students.values()} == {"dsa"}
    assert {name: one.network for name, one in students.items()} == {
        "Conv-DN": INSTANCE,
        "Conv-NN": NetworkRecipe(growth=1, normalisation="none"),
        "ResNet-DN": NetworkRecipe(name="resnet18_rcig", normalisation="none"),
        "ResNet-BN": NetworkRecipe(name="resnet18_rcig", normalisation="batch"),
        "VGG-BN": NetworkRecipe(name="vgg11_rcig", normalisation="batch"),
        "AlexNet": NetworkRecipe(name="alexnet_rcig", normalisation="none"),
    }
    attacked = papers.rows(paper="rcig", table=5, method="FRePo", metric="attack_auc_rf")[0]
    found = answer(attacked)
    assert found is not None
    assert (found.recipe, found.trained_on, found.attack) == (
        "stranger/privacy-mnist",
        "distilled",
        "rf",
    )
    other = of(paper="dwa", table=1, dataset="cifar10", images_per_class=10, method="MTT")
    assert other["convnet-128"].network == INSTANCE and other["convnet-128"].protocol == "dsa"


def test_nobody_answers_a_strangers_rows_when_it_is_gone() -> None:
    (row,) = papers.rows(paper="dwa", table=1, dataset="cifar10", images_per_class=10, method="MTT")
    assert answer(row) is None


def key(**changes: object) -> PaperRow:
    fields = {
        "paper": "rcig",
        "table": "2",
        "dataset": "cifar100",
        "images_per_class": 1,
        "method": "RCIG",
    }
    return PaperRow.model_validate({**fields, **changes})


def test_a_row_is_found_by_what_a_recipe_names() -> None:
    def printed(row: papers.Row | None) -> tuple[float, float | None] | None:
        return None if row is None else (row.value, row.std)

    assert printed(papers.find(key())) == (39.3, 0.4)
    assert printed(papers.find(key(table="1", method="VIG"))) == (17.79, 0.13)
    assert papers.find(key(method="nobody's")) is None
    dwa = {"paper": "dwa", "table": "4", "images_per_class": 10, "method": "DWA"}
    assert papers.find(key(**dwa)) is None
    assert papers.find(key(**dwa, eval_arch="vgg16")) is None
    one = key(**dwa, distill_arch="resnet18", eval_arch="vgg16")
    assert printed(papers.find(one)) == (30.0, 0.5)
    assert papers.find(one, papers.SECONDS) is None
    cost = key(**{**dwa, "table": "11", "images_per_class": 1}, distill_arch="resnet18")
    assert printed(papers.find(cost, papers.SECONDS)) == (125.12, None)
    assert papers.find(cost) is None


def test_the_numbers_are_those_printed() -> None:
    assert len(papers.rows()) == 589
    assert {row.paper for row in papers.rows()} == {"rcig", "dwa"}
    assert len(papers.rows(paper="rcig", table="2")) == 116
    assert papers.rows(paper="rcig", table="99") == ()
    (hours,) = papers.rows(
        table=7, dataset="mnist", images_per_class=1, metric="total_hours_rtx_a6000"
    )
    assert (hours.value, hours.std) == (0.67, 0.01)
    (iterations,) = papers.rows(
        table=7, dataset="mnist", images_per_class=1, metric="training_iterations"
    )
    assert iterations.std is None
    attacked = papers.rows(paper="rcig", table=5)[0]
    assert (attacked.images_per_class, attacked.remark) == (50, "500 images from 10k")
    assert attacked.document()["distill_arch"] == ""
