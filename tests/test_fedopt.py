"""FedAdam, FedYogi and FedAdagrad against ten lines of numpy, and against Local SGD where they coincide with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.errors import ScenarioError
from simnet.models.algorithms.fedopt import FedOpt
from simnet.models.problems.quadratic import Quadratic
from simnet.record import Record

DIGITS = {"name": "Softmax", "data": "digits", "batch": 16}
ALL = ["adam", "yogi", "adagrad"]


def run(algorithm: Any, problem: Any, rounds: int, count: int = 5, **over: Any) -> Record:
    return simnet.run(
        {
            "network": {"nodes": count, "graph": "complete"}, "nodes": {"step": 0.01}, "problem": problem,
            "algorithm": algorithm, "rounds": rounds, "execution": {"device": "cpu", "dtype": "float64"}, **over,
        }
    )  # fmt: skip


def quadratic() -> Quadratic:
    return Quadratic(5, 0, dim=7, condition=20.0)


@pytest.mark.parametrize("kind", ALL)
def test_rounds_are_those_of_the_matrix_form(kind: Any) -> None:
    problem, who = quadratic(), torch.arange(5)
    problem.prepare("cpu", torch.float64)
    x, m, v, tau = np.zeros(7), np.zeros(7), np.full(7, 1e-2**2), 1e-2
    for _ in range(9):
        x_ND = np.repeat(x[None], 5, 0)
        for _ in range(3):
            x_ND -= 0.02 * problem.gradients(torch.from_numpy(x_ND), who).numpy()
        delta = x_ND.mean(0) - x
        m = 0.9 * m + 0.1 * delta
        v = {
            "adam": 0.8 * v + 0.2 * delta**2,
            "yogi": v - 0.2 * delta**2 * np.sign(v - delta**2),
            "adagrad": v + delta**2,
        }[kind]
        x = x + 0.3 * m / (np.sqrt(v) + tau)
    record = run(FedOpt(kind, eta=0.02, server_eta=0.3, steps=3, beta2=0.8, tau=tau), quadratic(), 9)
    np.testing.assert_allclose(record.final["x"], np.repeat(x[None], 5, 0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ALL)
def test_a_server_that_does_not_adapt_is_local_sgd(kind: Any) -> None:
    """With tau far above every change, server_eta / (2 tau) is the server's whole step: 1 here."""
    tau = 1e6
    ours = run(FedOpt(kind, eta=0.02, server_eta=2 * tau, steps=4, beta1=0.0, beta2=1 - 1e-12, tau=tau), quadratic(), 8)
    local = run({"name": "LocalSGD", "eta": 0.02, "steps": 4}, quadratic(), 8)
    np.testing.assert_allclose(ours.final["x"], local.final["x"], atol=1e-9)
    assert ours.summary["log_hash"] == local.summary["log_hash"]


def test_yogi_falls_by_at_most_the_square_and_adam_by_a_share() -> None:
    v, delta = torch.tensor([1.0, 1e-4]), torch.tensor([0.01, 0.1])
    np.testing.assert_allclose(FedOpt("adam").second(v, delta), [0.990001, 1.99e-4], rtol=1e-5)
    np.testing.assert_allclose(FedOpt("yogi").second(v, delta), [0.999999, 2e-4], rtol=1e-5)
    np.testing.assert_allclose(FedOpt("adagrad").second(v, delta), [1.0001, 0.0101], rtol=1e-5)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("pattern", "clients"), [("server", None), ("server", 2), ("ring", None), ("tree", None)]
)  # a ring and a tree give the mean to those who made it
def test_executors_and_the_node_run_agree(kind: Any, pattern: str, clients: int | None) -> None:
    whole, single, apart = (
        run(FedOpt(kind, eta=0.1, steps=2, clients=clients), DIGITS, 4, collective={"pattern": pattern},
            execution={"device": "cpu", "dtype": "float64", **each})
        for each in ({}, {"executor": "one_by_one"}, {"node_run": True})
    )  # fmt: skip
    assert whole.summary["log_hash"] == single.summary["log_hash"] == apart.summary["log_hash"]
    np.testing.assert_allclose(single.final["x"], whole.final["x"], atol=1e-9)
    np.testing.assert_array_equal(apart.final["x"], single.final["x"])
    assert np.ptp(whole.final["x"], axis=0).max() == 0  # everybody has heard of every average
    if clients is None:
        assert whole.summary["wire_bytes"] == 4 * 2 * 4 * 650 * 4


@pytest.mark.parametrize(
    ("params", "field"),
    [({"server": "sgd"}, "algorithm.server"),
     ({"steps": 0}, "algorithm.steps = 0"), ({"beta2": 1.0}, "algorithm.beta2 = 1.0"),
     ({"beta1": -0.1}, "algorithm.beta1 = -0.1"), ({"tau": 0.0}, "algorithm.tau = 0.0"),
     ({"server_eta": 0.0}, "algorithm.server_eta = 0.0")],
    ids=str,
)  # fmt: skip
def test_bad_parameters_are_refused_by_field(params: dict[str, Any], field: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        run({"name": "FedOpt", **params}, DIGITS, 1)
    assert field in str(caught.value)
