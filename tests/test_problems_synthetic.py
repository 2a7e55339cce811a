"""Sphere, Rosenbrock and Ackley: values by another formula, derivatives by autograd, noise of the chosen variance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.errors import InputError
from simnet.models.problems.synthetic import Ackley, Rosenbrock, Sphere, Synthetic
from simnet.models.splits.shipped import whole

KINDS = (Sphere, Rosenbrock, Ackley)


def prepared(problem: Synthetic, kernels: Any = "closed", dtype: torch.dtype = torch.float64) -> Synthetic:
    problem.prepare("cpu", dtype, kernels)
    return problem


def by_hand(kind: type[Synthetic], x: np.ndarray) -> float:
    d = len(x)
    if kind is Sphere:
        return float(x @ x) / d
    if kind is Rosenbrock:
        return sum(100 * (x[j + 1] - x[j] ** 2) ** 2 + (1 - x[j]) ** 2 for j in range(d - 1)) / d
    r = np.sqrt(sum(x**2) / d)
    return float(-20 * np.exp(-0.2 * r) - np.exp(sum(np.cos(2 * np.pi * x)) / d) + 20 + np.e)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_closed_forms_are_those_of_autograd(kind: type[Synthetic], noise: float) -> None:
    rng = np.random.default_rng(1)
    x, v = (torch.from_numpy(rng.normal(size=(4, 6))) for _ in range(2))
    nodes, samples = torch.arange(4), torch.from_numpy(rng.integers(0, 4096, (4, 3))) if noise else None
    closed, automatic = (prepared(kind(4, 3, dim=6, noise=noise), kernels) for kernels in ("closed", "vmap"))
    for name, operands in (("losses", (x,)), ("gradients", (x,)), ("hvps", (x, v))):
        a, b = (getattr(problem, name)(*operands, nodes, samples) for problem in (closed, automatic))
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(closed.objective_gradient(x[0]), automatic.gradients(x, nodes)[0], rtol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [2, 5, 40])
def test_values_are_those_of_the_formula_and_the_optimum_is_one(kind: type[Synthetic], dim: int) -> None:
    problem = prepared(kind(2, dim=dim))
    x = np.random.default_rng(dim).normal(size=dim)
    assert float(problem.objective(torch.from_numpy(x))) == pytest.approx(by_hand(kind, x), rel=1e-12)
    found = problem.optimum()
    assert found is not None
    best, value = found
    assert float(value) == 0.0 and float(problem.objective(best)) == pytest.approx(0.0, abs=1e-14)
    assert float(problem.objective_gradient(best).abs().max()) < 1e-14
    for shift in (1e-3, -1e-3):
        assert float(problem.objective(best + shift)) > 0


def test_the_first_point_fills_its_cube() -> None:
    point = Rosenbrock(3, 4, dim=2000, start=0.4).initial_point("x")
    assert 0.399 < np.abs(point).max() <= 0.4 and abs(point.mean()) < 0.02
    assert not np.array_equal(point, Rosenbrock(3, 5, dim=2000, start=0.4).initial_point("x"))
    assert (Sphere(3, start=0.0).initial_point("x") == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_the_chosen_variance_and_no_mean(kind: type[Synthetic]) -> None:
    problem = prepared(kind(1, 2, dim=30, noise=2.7))
    x = torch.zeros(4096, 30, dtype=torch.float64)
    rows, nodes = torch.arange(4096)[:, None], torch.zeros(4096, dtype=torch.int64)
    noise = problem.gradients(x, nodes, rows) - problem.gradients(x[:1], nodes[:1])
    assert float(noise.square().sum(1).mean()) == pytest.approx(2.7, rel=1e-9)
    assert float(noise.mean(0).abs().max()) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_descent_finds_the_optimum_from_near_by(kind: type[Synthetic]) -> None:
    record = simnet.run(
        {
            "network": {"nodes": 3, "graph": "complete"}, "rounds": 400, "evaluate_every": 200,
            "problem": {"name": kind.__name__, "dim": 20, "start": 0.2},
            "algorithm": {"name": "AllReduceSGD", "eta": {Sphere: 8.0, Rosenbrock: 0.03, Ackley: 0.02}[kind]},
        }
    )  # fmt: skip
    assert record.rounds["objective"][-1] < 0.3 * by_hand(kind, kind(3, dim=20, start=0.2).initial_point("x"))
    assert record.rounds["objective_gap"][-1] == pytest.approx(record.rounds["objective"][-1])


def test_shared_data_are_whole_at_every_node() -> None:
    for rows in whole(np.arange(7), 3):
        assert rows.tolist() == list(range(7))


def test_bad_parameters_are_refused() -> None:
    for make, said in ((lambda: Sphere(2, dim=0), "Sphere: dim = 0"), (lambda: Rosenbrock(2, dim=1), "at least 2"),
                       (lambda: Ackley(2, start=-1.0), "Ackley: start = -1"),
                       (lambda: Ackley(2, noise=-1.0), "Ackley: noise = -1")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            make()
