"""On a real card: the sets that a processor makes, in memory that does not grow with the set."""

from __future__ import annotations

import pytest
import torch

from potstill.config import DataRecipe
from potstill.data import datasets
from potstill.evaluation.protocol import evaluate
from potstill.methods.distilling import distill
from potstill.solvers import cg, cg_on_device
from tests.devices.problems import SETTINGS, recipe_for

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card"),
]


@pytest.fixture(scope="module")
def digits():
    return datasets.load(DataRecipe(), None)


def exact(method):
    """The same in float32 throughout: what is left is the order of sums."""
    precision = {"dwa": {"precision": "float32"}, "rcig": {"target_precision": "float32"}}
    return recipe_for({**method, **precision.get(method.get("kind", "rcig"), {})})


@pytest.mark.parametrize("method", SETTINGS, ids=str)
def test_a_card_makes_the_set_that_a_processor_makes(method, digits, monkeypatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    recipe = exact(method)
    there, here = (distill(recipe, digits, device=device) for device in ("cuda", "cpu"))
    moved = (here.images - here.preprocess.apply(digits.train.images).mean()).std()
    assert (there.images - here.images).abs().mean() < 1e-2 * moved
    assert (there.labels - here.labels).abs().max() < 1e-2


def test_a_graph_holds_a_solve() -> None:
    """Captured once, replayed for other right sides; the host is asked for nothing meanwhile."""
    matrix = torch.diag(torch.linspace(1, 5, 30, device="cuda")) + 0.1
    rhs = torch.randn(30, 2, device="cuda", generator=torch.Generator("cuda").manual_seed(0))

    def solved() -> cg_on_device.Iterate:
        iterate = cg_on_device.begin(matrix.__matmul__, rhs)
        for _ in range(12):
            iterate = cg_on_device.advance(iterate, matrix.__matmul__)
        return iterate

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        solved()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        iterate = solved()
    rhs.mul_(2).add_(0.5)
    graph.replay()
    plain = cg.solve(matrix.cpu().__matmul__, rhs.cpu(), max_steps=12)
    found = iterate.solution()
    assert (found.status, found.steps) == (plain.status, plain.steps)
    torch.testing.assert_close(found.value.cpu(), plain.value, rtol=1e-3, atol=1e-4)


def test_a_card_trains_students_in_bfloat16_as_well_as_a_processor_in_float32(digits) -> None:
    made = distill(recipe_for({}), digits)
    options = {"protocol": "hard-label", "networks": 3, "epochs": 40}
    there, here = (evaluate(made, digits, device=device, **options) for device in ("cuda", "cpu"))
    assert (there.precision, here.precision) == ("bfloat16", None)
    assert there.accuracy.mean == pytest.approx(here.accuracy.mean, abs=0.05)


def test_a_card_scores_as_a_processor_scores(digits) -> None:
    made = distill(recipe_for({}), digits)
    there, here = (
        evaluate(made, digits, protocol="rcig-paper", networks=1, device=device)
        for device in ("cuda", "cpu")
    )
    assert there.accuracy.mean == pytest.approx(here.accuracy.mean, abs=0.02)


def test_the_memory_of_a_step_does_not_grow_with_the_set(digits) -> None:
    peaks = []
    for per_class in (20, 100):
        method = {"subset": 50, "target_batch": 64}
        recipe = recipe_for(method).model_copy(update={"images_per_class": per_class})
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        distill(recipe, digits, device="cuda")
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 2 * peaks[0]


def test_a_card_makes_the_same_bytes_twice(digits) -> None:
    first, second = (distill(recipe_for({}), digits, device="cuda") for _ in range(2))
    assert torch.equal(first.images, second.images)
