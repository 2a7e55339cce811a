"""The reference problem P0: known errors after 4,000 iterations, and what the loss of messages does to them.

16 nodes on a ring with weights 1/3, f_i = a_i/2 |x - c_i|^2 in 5 numbers, exact gradients, x = 0 at first;
error = mean_i |x_i - x*|^2.
"""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet.models.algorithms.d2 import D2
from simnet.models.algorithms.diging import DIGing
from simnet.models.algorithms.dpsgd import DPSGD
from simnet.models.algorithms.gradient_tracking import GradientTracking
from tests.dense import Quadratics

ITERATIONS = 4000
LOSSY = {"link": {"loss": 0.1}, "loss_unit": "message", "policy": "drop"}


def states(problem: Quadratics, algorithm: Any, **sections: Any) -> np.ndarray:
    """x_ND after the last round."""
    record = simnet.run(
        problem.scenario(algorithm, rounds=sections.pop("rounds", ITERATIONS), record={"messages": False}, **sections)
    )
    assert record.outcome == "finished"
    x_ND: np.ndarray = record.final["x"]
    return x_ND


def error(name: str, eta: float = 0.05, **fields: Any) -> float:
    problem = Quadratics.reference()
    return problem.error(states(problem, {"name": name, "eta": eta, **fields}))


@pytest.mark.parametrize("name", ("AllReduceSGD", "DIGing", "AugDGM", "GradientTracking"))
def test_exact_to_rounding(name: str) -> None:
    """Rows 1, 9 and 9b, and 9b with one message in place of two."""
    assert error(name) < 1e-25


@pytest.mark.parametrize("name, eta", (("D2", 0.05), ("D2", 0.1), ("ExactDiffusion", 0.05)))
def test_exact_to_rounding_that_grows_with_the_iterations(name: str, eta: float) -> None:
    """Rows 6 and 7."""
    assert error(name, eta) < 1e-21


@pytest.mark.parametrize(
    "name, eta, known",
    (
        ("DPSGD", 0.05, 1.18),  # row 5
        ("DPSGD", 0.1, 2.11),
        ("DPSGD", 0.01, 0.14),
        ("DPSGDOverlap", 0.05, 1.32),  # row 5b
    ),
)
def test_floor_under_a_constant_step(name: str, eta: float, known: float) -> None:
    assert error(name, eta) == pytest.approx(known, rel=0.01)


def test_five_local_steps() -> None:
    """Row 2, known to two digits. FedAvg, with a server without data, is at the same floor after 100 rounds."""
    problem = Quadratics.reference()
    local = states(problem, {"name": "LocalSGD", "eta": 0.05, "steps": 5}, rounds=ITERATIONS // 5)
    server = states(problem, {"name": "FedAvg", "eta": 0.05, "steps": 5}, graph=nx.star_graph(16), rounds=100)
    assert problem.error(local) == pytest.approx(2.4e-3, rel=0.01)
    assert problem.error(server) == pytest.approx(problem.error(local), rel=1e-9)


# ---- 10 % of the messages lost --------------------------------------------------------------------------------------


class ApartDPSGD(DPSGD):
    """On a graph in several parts."""

    connected = False


class ApartDIGing(DIGing):
    """On a graph in several parts."""

    connected = False


class ApartGradientTracking(GradientTracking):
    """On a graph in several parts."""

    connected = False


class ApartD2(D2):
    """On a graph in several parts."""

    connected = False


KNOWN_MEDIANS = (
    ("DPSGD", ApartDPSGD, 2.31),
    ("DIGing", ApartDIGing, 6.2e-2),
    ("GradientTracking", ApartGradientTracking, 6.2e-2),
    ("D2", ApartD2, 1.3e-1),
)


@pytest.mark.parametrize("name, apart, known", KNOWN_MEDIANS)
def test_median_of_twenty_rings_that_lose_messages(name: str, apart: type[Any], known: float) -> None:
    """Twenty rings side by side in one run: their losses are as independent as those of twenty seeds."""
    problem = Quadratics.reference(copies=20)
    rings = nx.disjoint_union_all([nx.cycle_graph(16)] * 20)
    x_ND = states(problem, apart(eta=0.1), graph=rings, network=LOSSY)
    errors = ((x_ND - Quadratics.reference().optimum) ** 2).sum(1).reshape(20, 16).mean(1)
    assert len(np.unique(errors)) == 20
    assert known / 2 < np.median(errors) < known * 2


@pytest.mark.slow
@pytest.mark.parametrize("name, apart, known", KNOWN_MEDIANS)
def test_median_of_twenty_seeds_that_lose_messages(name: str, apart: type[Any], known: float) -> None:
    problem = Quadratics.reference()
    errors = [problem.error(states(problem, {"name": name, "eta": 0.1}, seed=s, network=LOSSY)) for s in range(20)]
    assert len(np.unique(errors)) == 20
    assert known / 2 < np.median(errors) < known * 2


@pytest.mark.parametrize("name", ("D2", "GradientTracking"))
def test_exactness_survives_loss_only_with_retransmission(name: str) -> None:
    problem = Quadratics.reference()
    again = {**LOSSY, "policy": "retry"}
    assert problem.error(states(problem, {"name": name, "eta": 0.05}, network=again, rounds=1500)) < 1e-5
    assert problem.error(states(problem, {"name": name, "eta": 0.05}, network=LOSSY, rounds=1500)) > 1e-4
