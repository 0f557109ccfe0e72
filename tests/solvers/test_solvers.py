"""Both solvers, one signature: against a dense solve, and at their limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from potstill.solvers import Status, adam, cg, cg_on_device


def system(size: int, columns: int, seed: int, condition: float = 100.0):
    generator = torch.Generator().manual_seed(seed)
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    spectrum = torch.logspace(0, math.log10(condition), size, dtype=torch.float64)
    matrix = basis * spectrum @ basis.T
    rhs = torch.randn(size, columns, generator=generator, dtype=torch.float64)
    return matrix, rhs


@settings(max_examples=40, deadline=None)
@given(size=st.integers(1, 30), columns=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_cg_solves_within_as_many_steps_as_unknowns(size: int, columns: int, seed: int) -> None:
    matrix, rhs = system(size, columns, seed, condition=10.0)
    solution = cg.solve(lambda x: matrix @ x, rhs, tolerance=1e-10, max_steps=size * columns + 20)
    assert solution.status is Status.CONVERGED
    assert torch.allclose(matrix @ solution.value, rhs, atol=1e-7)


def test_the_exact_inverse_as_preconditioner_needs_one_step() -> None:
    matrix, rhs = system(20, 3, seed=1)
    solution = cg.solve(
        lambda x: matrix @ x,
        rhs,
        preconditioner=lambda r: torch.linalg.solve(matrix, r),
        tolerance=1e-8,
    )
    assert solution.steps == 1 and solution.status is Status.CONVERGED


def test_the_residual_is_the_preconditioned_one() -> None:
    matrix, rhs = system(20, 1, seed=2)
    weights = torch.linspace(0.5, 2, 20, dtype=torch.float64)[:, None]
    solution = cg.solve(
        lambda x: matrix @ x, rhs, preconditioner=lambda r: weights * r, max_steps=5
    )
    r = rhs - matrix @ solution.value
    expected = math.sqrt(float((r * weights * r).sum() / (rhs * weights * rhs).sum()))
    assert solution.residual == pytest.approx(expected, rel=1e-6)
    assert solution.status is Status.STEP_LIMIT and solution.steps == 5


def test_a_start_at_the_solution_takes_no_step() -> None:
    matrix, rhs = system(10, 2, seed=3)
    start = torch.linalg.solve(matrix, rhs)
    solution = cg.solve(lambda x: matrix @ x, rhs, start=start, tolerance=1e-6)
    assert solution.steps == 0
    assert torch.equal(solution.value, start)


def test_zero_right_hand_side() -> None:
    solution = cg.solve(lambda x: 2 * x, torch.zeros(4, 2))
    assert solution.status is Status.CONVERGED and not solution.value.any()


def test_an_indefinite_operator_is_a_breakdown_not_a_vector() -> None:
    solution = cg.solve(lambda x: -x, torch.ones(3))
    assert solution.status is Status.BREAKDOWN


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_a_breakdown(bad: float) -> None:
    assert cg.solve(lambda x: x * bad, torch.ones(3)).status is Status.BREAKDOWN
    assert cg.solve(lambda x: x, torch.full((3,), bad)).status is Status.BREAKDOWN


def test_single_precision_stops_at_its_limit_and_stays_good() -> None:
    matrix, rhs = system(30, 2, seed=4)
    single = matrix.float()
    solution = cg.solve(lambda x: single @ x, rhs.float(), tolerance=1e-12, max_steps=1000)
    assert solution.status in (Status.PRECISION_LIMIT, Status.STEP_LIMIT)
    exact = torch.linalg.solve(matrix, rhs)
    assert (solution.value - exact).norm() < 1e-3 * exact.norm()


def preconditioned(case: str):
    """An operator, b, and options, of a solve that ends in the way that ``case`` names."""
    matrix, rhs = system(20, 2, seed=7)
    weights = torch.linspace(0.5, 2, 20, dtype=torch.float64)[:, None]
    options = {"preconditioner": lambda r: weights * r, "tolerance": 1e-3, "max_steps": 30}
    exact = torch.linalg.solve(matrix, rhs)
    bad = torch.full_like(rhs, math.nan)
    return {
        "converged": (matrix, rhs, options),
        "step limit": (matrix, rhs, options | {"max_steps": 5}),
        "single": (matrix.float(), rhs.float(), {"tolerance": 1e-2}),
        "precision limit": (matrix, rhs, {"tolerance": 0.0, "max_steps": 400}),
        "start": (matrix, rhs, options | {"start": exact + 0.1}),
        "at once": (matrix, rhs, options | {"start": exact}),
        "zero": (matrix, 0 * rhs, options | {"start": exact}),
        "indefinite": (matrix - 3 * torch.eye(20, dtype=torch.float64), rhs, options),
        "not finite": (matrix * math.inf, rhs, options),
        "no right side": (matrix, bad, options | {"start": exact}),
    }[case]


CASES = (
    *("converged", "step limit", "single", "precision limit", "start", "at once", "zero"),
    *("indefinite", "not finite", "no right side"),
)


@pytest.mark.parametrize("look_every", [None, 1, 4])
@pytest.mark.parametrize("case", CASES)
def test_cg_on_a_device_is_cg(case: str, look_every: int | None) -> None:
    matrix, rhs, options = preconditioned(case)
    options = {key: v.to(rhs) if key == "start" else v for key, v in options.items()}
    plain = cg.solve(lambda x: matrix @ x, rhs, **options)
    ours = cg_on_device.solve(lambda x: matrix @ x, rhs, look_every=look_every, **options)
    assert ours.status is plain.status
    if case != "precision limit":  # where it ends is a matter of rounding
        assert ours.steps == plain.steps
        assert ours.residual == pytest.approx(plain.residual, rel=1e-3, nan_ok=True)
    loose = {"rtol": 1e-4, "atol": 1e-5} if rhs.dtype == torch.float32 else {}
    torch.testing.assert_close(ours.value, plain.value, **loose)


def test_every_way_to_end_was_tried() -> None:
    found = {
        cg.solve(matrix.__matmul__, rhs, **options).status
        for matrix, rhs, options in map(preconditioned, CASES)
    }
    assert found == set(Status)


def test_cg_on_a_device_spends_no_products_after_a_look() -> None:
    matrix, rhs, options = preconditioned("converged")
    calls = []

    def operator(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return matrix @ x

    ended = cg_on_device.solve(operator, rhs, look_every=4, **options).steps
    assert ended < 26 and len(calls) == 4 * math.ceil(ended / 4)


def test_cg_on_a_device_asks_the_host_for_nothing() -> None:
    matrix, rhs, options = preconditioned("start")
    start, precondition = options["start"], options["preconditioner"]
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        a, b, at = (fake.from_tensor(x) for x in (matrix, rhs, start))
        iterate = cg_on_device.begin(lambda x: a @ x, b, at, precondition)
        for _ in range(3):
            iterate = cg_on_device.advance(iterate, lambda x: a @ x, precondition)
        assert iterate.value.shape == rhs.shape and iterate.steps.dtype == torch.int64
        for asking in (iterate.solution, lambda: cg.solve(lambda x: a @ x, b)):
            with pytest.raises(DataDependentOutputException):
                asking()


def test_adam_is_the_library_s() -> None:
    """The same iterates as torch.optim.Adam on the same quadratic."""
    matrix, rhs = system(12, 1, seed=5)
    x = torch.zeros_like(rhs, requires_grad=True)
    optimiser = torch.optim.Adam([x], lr=1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = (x * (matrix @ x)).sum() / 2 - (x * rhs).sum()
        losses.append(loss.item())
        loss.backward()
        optimiser.step()
    solution = adam.solve(lambda v: matrix @ v, rhs, learning_rate=1e-2, steps=25)
    assert torch.allclose(solution.value, x.detach(), rtol=1e-10)
    assert solution.losses == pytest.approx(losses)


def test_adam_and_cg_agree() -> None:
    matrix, rhs = system(12, 2, seed=6, condition=5.0)
    conjugate = cg.solve(lambda v: matrix @ v, rhs, tolerance=1e-10)
    slow = adam.solve(lambda v: matrix @ v, rhs, learning_rate=3e-3, steps=6000)
    assert torch.allclose(conjugate.value, slow.value, atol=1e-4)
    assert slow.residual < 1e-4
