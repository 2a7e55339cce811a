"""SAVIC: against Local SGD, against distributed scaled SGD in matrices, and the exact statements of its theory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import simnet
from simnet.errors import InputError, ScenarioError
from simnet.models.algorithms.savic import SAVIC
from simnet.models.problems.quadratic import Quadratic
from simnet.models.scalings.shipped import OASIS, AdaHessian, Adam, RMSProp
from simnet.record import Record


def run(algorithm: Any, problem: Any, rounds: int, nodes: int = 10, **over: Any) -> Record:
    return simnet.run(
        {
            "network": {"nodes": nodes, "graph": "complete"}, "nodes": {"step": 0.01}, "problem": problem,
            "algorithm": algorithm, "rounds": rounds, "execution": {"device": "cpu", "dtype": "float64"}, **over,
        }
    )  # fmt: skip


DIGITS = {"name": "Softmax", "data": "digits", "batch": 16}


# ---- exact ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "clients"), [(1, None), (4, None), (3, 2)])
def test_without_scaling_it_is_local_sgd_bit_for_bit(steps: int, clients: int | None) -> None:
    ours = run(SAVIC(eta=0.3, H=steps, clients=clients), DIGITS, 8, nodes=6)
    local = run({"name": "LocalSGD", "eta": 0.3, "steps": steps, "clients": clients}, DIGITS, 8, nodes=6)
    np.testing.assert_array_equal(ours.final["x"], local.final["x"])
    assert ours.summary["log_hash"] == local.summary["log_hash"]


@pytest.mark.parametrize("scaling", [RMSProp(beta=0.9, alpha=1e-2), Adam(beta=0.9, alpha=1e-2), OASIS(beta=0.9)])
def test_one_local_step_is_distributed_scaled_sgd(scaling: Any) -> None:
    problem = Quadratic(6, 0, dim=8, condition=20.0)
    x = torch.zeros(8, dtype=torch.float64)
    problem.prepare("cpu", torch.float64)
    hessian = problem.gradients(torch.ones(6, 8, dtype=torch.float64), torch.arange(6)) - problem.gradients(
        torch.zeros(6, 8, dtype=torch.float64), torch.arange(6)
    )

    def statistic(g: torch.Tensor) -> torch.Tensor:
        return hessian.mean(0) if isinstance(scaling, OASIS) else g

    def gradient(at: torch.Tensor) -> torch.Tensor:
        return problem.gradients(at.repeat(6, 1), torch.arange(6)).mean(0)

    d = scaling.first(statistic(gradient(x)))
    for k in range(12):
        g = gradient(x)
        x = x - 0.05 * g / scaling.positive(d)
        d = scaling.update(d, statistic(g), k)
    record = run(SAVIC(eta=0.05, scaling=scaling), Quadratic(6, 0, dim=8, condition=20.0), 12, nodes=6)
    np.testing.assert_allclose(record.final["x"], x.repeat(6, 1).numpy(), atol=1e-12, rtol=0)


def test_adams_beta_is_its_bias_correction() -> None:
    rng, adam = np.random.default_rng(0), Adam(beta=0.97)
    d, v = torch.full((5,), 7.0, dtype=torch.float64), np.zeros(5)
    for k in range(40):
        h = rng.normal(size=5)
        d = adam.update(d, torch.from_numpy(h), k)
        v = 0.97 * v + 0.03 * h**2
        np.testing.assert_allclose(d.numpy() ** 2, v / (1 - 0.97 ** (k + 1)), rtol=1e-12)
    assert adam.beta_at(0) == 0.0


@pytest.mark.parametrize("scaling", [Adam(alpha=1e-2), AdaHessian()])
@pytest.mark.parametrize(
    "options",
    [{}, {"scope": "local_sync"}, {"scope": "local_step"}, {"stat": "fresh"}, {"beta1": 0.9},
     {"beta1": 0.9, "momentum": "keep"}, {"beta1": 0.9, "momentum": "reset"}, {"clients": 2}, {"refresh": 2},
     {"averaging": "gossip"}, {"H": [1, 2, 3, 2]}],
    ids=str,
)  # fmt: skip
def test_executors_and_the_node_run_agree(scaling: Any, options: dict[str, Any]) -> None:
    algorithm = SAVIC(**{"eta": 0.02, "H": 2, "scaling": scaling, **options})
    whole, single, apart = (
        run(algorithm, DIGITS, 4, nodes=4, execution={"device": "cpu", "dtype": "float64", **each})
        for each in ({}, {"executor": "one_by_one"}, {"node_run": True})
    )
    assert whole.summary["log_hash"] == single.summary["log_hash"] == apart.summary["log_hash"]
    np.testing.assert_allclose(single.final["x"], whole.final["x"], atol=1e-9)
    np.testing.assert_array_equal(apart.final["x"], single.final["x"])


@pytest.mark.parametrize(
    ("options", "vectors"),
    [({}, 1), ({"scaling": Adam()}, 2), ({"scaling": OASIS()}, 2), ({"scaling": Adam(), "beta1": 0.9}, 3),
     ({"beta1": 0.9}, 2), ({"beta1": 0.9, "momentum": "keep"}, 1), ({"scaling": Adam(), "scope": "local_sync"}, 1),
     ({"scaling": Adam(), "scope": "local_step"}, 1), ({"scaling": Adam(), "beta1": 0.9, "momentum": "reset"}, 2)],
    ids=str,
)  # fmt: skip
def test_bytes_of_a_round_are_those_of_the_table(options: dict[str, Any], vectors: int) -> None:
    one, two = (run(SAVIC(eta=0.01, H=2, **options), DIGITS, r, nodes=5).summary["wire_bytes"] for r in (1, 2))
    assert two - one == vectors * 2 * 4 * 650 * 4  # up and down, four nodes beside the server, float32


def test_the_second_vector_is_amortised_by_refreshing_seldom() -> None:
    sent = [run(SAVIC(scaling=Adam(), refresh=3), DIGITS, r, nodes=5).summary["wire_bytes"] for r in range(1, 7)]
    assert np.diff(sent).tolist() == [20_800, 41_600, 20_800, 20_800, 41_600]


def test_hessian_vector_products_are_charged() -> None:
    nodes = {"step": {"gradient": 1.0, "hvp": 10.0}}
    oasis = simnet.run(
        {"network": {"nodes": 4, "graph": "complete"}, "nodes": nodes, "problem": DIGITS, "rounds": 4,
         "algorithm": SAVIC(H=3, scaling=OASIS(warm_up=2))}
    )  # fmt: skip
    np.testing.assert_allclose(oasis.nodes["compute_s"], 2 * 10 + 4 * (3 + 10))


# ---- the reproductions that are exact -------------------------------------------------------------------------------


def badly_scaled(kappa: float, apart: float = 0.0) -> tuple[Quadratic, float]:
    """R1 and R2: Hessians diag(a), a log-spaced on [1, kappa] and shuffled; with `apart`, each node's own. The problem,
    and |x*|^2.
    """
    rng = np.random.default_rng(3)
    a = rng.permutation(np.logspace(0, np.log10(kappa), 100))
    b = rng.normal(size=100) + rng.normal(size=(10, 100))
    a_nd = a * np.exp(rng.uniform(-apart, apart, (10, 100)))
    return Quadratic.from_arrays(a_nd, b), float((((a_nd * b).sum(0) / a_nd.sum(0)) ** 2).sum())


@pytest.mark.parametrize(("kappa", "rounds"), [(10, 11), (100, 102), (1000, 1006)])
def test_scaling_makes_the_rounds_independent_of_the_condition(kappa: float, rounds: int) -> None:
    def needed(algorithm: Any, most: int) -> int:
        problem, start = badly_scaled(kappa)
        distance = run(algorithm, problem, most, evaluate_every=1).rounds["distance_to_optimum"]
        assert (distance <= 1e-6 * start).any()
        return int(np.argmax(distance <= 1e-6 * start)) + 1

    assert needed(SAVIC(eta=0.5, H=5, scaling=OASIS(beta=0.999, warm_up=1)), 5) == 2
    if kappa < 1000:
        assert needed(SAVIC(eta=1 / kappa, H=5), rounds + 20) == pytest.approx(rounds, rel=0.1)


def test_local_scalings_stop_at_another_point_and_global_ones_do_not() -> None:
    def bias(rounds: int, **options: Any) -> float:
        problem, size = badly_scaled(100, apart=0.5)
        record = run(SAVIC(scaling=OASIS(beta=0.999, warm_up=1), **options), problem, rounds)
        return float(record.summary["distance_to_optimum"]) / size

    assert bias(800, eta=0.1, H=1) < 1e-12
    coarse, fine = bias(400, eta=0.1, H=5), bias(800, eta=0.05, H=5)
    assert 3 < coarse / fine < 4.5
    local = [bias(400, eta=g, H=h, scope="local_sync") for g, h in ((0.1, 1), (0.05, 5), (0.1, 10))]
    assert max(local) / min(local) < 1.01 and min(local) > 100 * 1e-12


# ---- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"scaling": {"name": "adam", "alpha": 0.0}}, "alpha = 0; above 0"),
        ({"scaling": {"name": "adam", "beta": 1.0}}, "beta = 1; at least 0 and below 1"),
        ({"H": 0}, "algorithm.H = 0"),
        ({"beta1": 1.0}, "algorithm.beta1 = 1.0"),
        ({"eta": 0.0}, "algorithm.eta"),
        ({"scaling": "adm"}, "did you mean 'adam'"),
    ],
)
def test_bad_parameters_are_refused_by_field(params: dict[str, Any], words: str) -> None:
    with pytest.raises((InputError, ScenarioError)) as caught:
        run({"name": "SAVIC", **params}, DIGITS, 1)
    assert words in str(caught.value)
