"""Averages that go from host to host: closed forms of their times, bytes, and equality of the tiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simnet
from simnet.errors import ProgramError
from simnet.models.problems.quadratic import Quadratic
from simnet.record import Record

LATENCY, BANDWIDTH, NUMBERS = 0.125, 1000.0, 2400  # 9,600 bytes


def run(pattern: str, n: int, *, algorithm: Any = "AllReduceSGD", rounds: int = 1, **dotted: Any) -> Record:
    scenario = {
        "name": "collective",
        "network": {"nodes": n, "graph": "complete", "link": {"bandwidth": BANDWIDTH, "latency": LATENCY}},
        "nodes": {"step": "0 s"},
        "problem": {"name": "Quadratic", "dim": NUMBERS},
        "algorithm": algorithm,
        "collective": {"pattern": pattern},
        "rounds": rounds,
        "execution": {"dtype": "float64"},
    }
    return simnet.run(scenario, set=dotted)


@pytest.mark.parametrize("tier", ["arrays", "events", "processes"])
@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_a_ring_takes_twice_n_less_one_steps_of_an_nth(tier: str, n: int) -> None:
    record = run("ring", n, **{"execution.tier": tier})
    steps = 2 * (n - 1)
    assert record.summary["sim_time_s"] == pytest.approx(steps * (LATENCY + 4 * NUMBERS / n / BANDWIDTH), rel=1e-12)
    assert record.summary["wire_bytes"] == steps * n * (4 * NUMBERS // n)
    assert record.summary["messages"] == steps * n


@pytest.mark.parametrize("tier", ["arrays", "events"])
@pytest.mark.parametrize(("n", "depth"), [(2, 1), (3, 1), (7, 2), (15, 3)])
def test_a_full_tree_climbs_and_comes_down(tier: str, n: int, depth: int) -> None:
    record = run("tree", n, **{"execution.tier": tier})
    one = 4 * NUMBERS / BANDWIDTH
    children = 1 if n == 2 else 2  # a serial port serves them one after another on the way down
    expected = depth * (LATENCY + one) + depth * (LATENCY + children * one)
    assert record.summary["sim_time_s"] == pytest.approx(expected, rel=1e-12)
    assert record.summary["messages"] == 2 * (n - 1)


@pytest.mark.parametrize("tier", ["arrays", "events"])
def test_groups_go_through_their_leaders(tier: str) -> None:
    record = run("hierarchical", 12, **{"execution.tier": tier, "collective.group": 4})
    one, leaders = 4 * NUMBERS / BANDWIDTH, 3
    ring = 2 * (leaders - 1) * (LATENCY + one / leaders)
    assert record.summary["sim_time_s"] == pytest.approx(LATENCY + one + ring + LATENCY + 3 * one, rel=1e-12)
    assert record.summary["messages"] == 9 + 2 * 2 * 3 + 9


def test_the_server_serves_one_after_another() -> None:
    record = run("server", 5)
    one = 4 * NUMBERS / BANDWIDTH
    assert record.summary["sim_time_s"] == pytest.approx(LATENCY + one + LATENCY + 4 * one, rel=1e-12)


@pytest.mark.parametrize("pattern", ["server", "ring", "tree", "hierarchical"])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_every_pattern_gives_the_mean(pattern: str, n: int) -> None:
    a, c = np.ones((n, 1)), np.arange(3.0 * n).reshape(n, 3)
    record = simnet.run(
        {
            "network": {"nodes": n, "graph": "ring"},
            "nodes": {"step": "1 ms"},
            "problem": Quadratic.from_arrays(a, c),
            "algorithm": {"name": "AllReduceSGD", "eta": 1.0},
            "collective": {"pattern": pattern},
            "rounds": 1,
            "execution": {"dtype": "float64"},
        }
    )
    np.testing.assert_allclose(record.final["x"], np.tile(c.mean(0), (n, 1)), rtol=1e-15)


CUTS = [{}, {"stop.sim_time": 0.3}, {"stop.sim_time": 0.4}, {"stop.bytes": 30_000}]


@pytest.mark.parametrize("cut", CUTS, ids=str)
@pytest.mark.parametrize("pattern", ["ring", "tree", "hierarchical"])
@pytest.mark.parametrize("algorithm", ["LocalSGD", "DelayedLocalSGD"])
def test_tiers_agree_with_loss_jitter_and_cuts(pattern: str, algorithm: str, cut: dict[str, Any]) -> None:
    dotted = {
        "network.nodes": 7, "network.graph": "ring", "network.link.loss": 0.2, "network.link.latency": 0.004,
        "network.link.bandwidth": 2e5, "network.loss_unit": "message", "nodes.step": "3 ms", "problem.dim": 30,
        "nodes.jitter": {"law": "lognormal", "spread": 0.4}, "evaluate_every": 1, **cut,
    }  # fmt: skip
    found = {
        tier: run(pattern, 7, algorithm=algorithm, rounds=6, **{**dotted, "execution.tier": tier})
        for tier in ("auto", "events", "processes")
    }
    reference = found["processes"]
    assert found["events"].summary["log_hash"] == reference.summary["log_hash"]
    for record in found.values():
        assert record.outcome == reference.outcome
        assert record.summary["bytes_by_kind"] == reference.summary["bytes_by_kind"]
        np.testing.assert_allclose(record.rounds["sim_time_s"], reference.rounds["sim_time_s"], atol=1e-9, rtol=0)
        np.testing.assert_array_equal(record.rounds["wire_bytes"], reference.rounds["wire_bytes"])
        np.testing.assert_allclose(record.final["x"], reference.final["x"], rtol=1e-12, atol=1e-15)
        for column in ("compute_s", "exposed_comm_s", "idle_s"):
            np.testing.assert_allclose(record.nodes[column], reference.nodes[column], atol=1e-9, rtol=0)


def test_a_pattern_gives_its_mean_to_those_who_made_it() -> None:
    sampled = {"name": "LocalSGD", "clients": 2, "deliver": "next"}
    with pytest.raises(ProgramError, match="use pattern server"):
        run("ring", 5, algorithm=sampled, rounds=3)
