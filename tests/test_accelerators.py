"""Nodes that are several accelerators behind one port: an ideal split and their own ring, in closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simnet
from simnet.analysis.table import summary
from simnet.errors import ScenarioError
from simnet.profile import Profiles

D, STEP, ROUNDS = 1000, 0.8, 5


def scenario(nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "network": {"nodes": 4, "graph": "ring", "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}},
        "nodes": nodes,
        "problem": {"name": "Declared", "parameters": D, "flop_per_sample": "2 GFLOP"},
        "algorithm": "DPSGD",
        "rounds": ROUNDS,
    }
    return given | more


def compute_seconds(nodes: dict[str, Any], **more: Any) -> np.ndarray:
    found: np.ndarray = simnet.estimate(scenario(nodes, **more)).nodes["compute_s"]
    return found


def ring(k: int, numbers: int, bandwidth: float, latency: float, bytes_each: int = 4) -> float:
    return 2 * (k - 1) * (latency + numbers * bytes_each / (k * bandwidth))


@given(k=st.integers(1, 64), flop=st.floats(1e6, 1e15), speed=st.floats(1e6, 1e15))
def test_one_accelerator_changes_nothing_and_k_share_evenly(k: int, flop: float, speed: float) -> None:
    alone = Profiles.of({"compute": speed}, 1)
    shared = Profiles.of({"compute": speed, "accelerators": k}, 1)
    base, who = alone.base_seconds("gradient", flop), np.zeros(1, np.int64)
    assert shared.base_seconds("gradient", flop) == base
    assert alone.accelerators.share(base, 1e9, who) == base
    assert shared.accelerators.share(base, 1e9, who) == base / k


@pytest.mark.parametrize("cost", [{"step": STEP}, {"compute": 2e9 / STEP}])
def test_a_call_is_shared_whether_priced_by_step_or_by_flop(cost: dict[str, Any]) -> None:
    np.testing.assert_allclose(compute_seconds({**cost, "accelerators": 8}), ROUNDS * STEP / 8, rtol=1e-12)


def test_their_own_average_takes_a_rings_time() -> None:
    nodes = {"step": STEP, "accelerators": 8, "inner": {"bandwidth": "1 MB/s", "latency": "10 us"}}
    each = STEP / 8 + ring(8, D, 1e6, 1e-5)
    np.testing.assert_allclose(compute_seconds(nodes), ROUNDS * each, rtol=1e-12)
    half = compute_seconds(nodes, network={"nodes": 4, "graph": "ring", "wire_dtype": "float16"},
                           problem={"name": "Declared", "parameters": D, "dtype": "float16"})  # fmt: skip
    np.testing.assert_allclose(half, ROUNDS * (STEP / 8 + ring(8, D, 1e6, 1e-5, 2)), rtol=1e-12)


def test_groups_have_accelerators_of_their_own() -> None:
    inner = {"bandwidth": "1 MB/s", "latency": "1 ms"}
    groups = [{"nodes": [1], "accelerators": 1}, {"nodes": [3], "accelerators": 4, "inner": inner}]
    nodes = {"step": STEP, "accelerators": 2, "groups": groups}
    expected = np.array([STEP / 2, STEP, STEP / 2, STEP / 4 + ring(4, D, 1e6, 1e-3)])
    np.testing.assert_allclose(compute_seconds(nodes), ROUNDS * expected, rtol=1e-12)


def test_a_zo_node_averages_its_losses_alone() -> None:
    nodes = {"step": {"loss": 0.01}, "accelerators": 4, "oracle": "zo", "estimator": {"rv": 3},
             "inner": {"bandwidth": "1 kB/s", "latency": "1 ms"}}  # fmt: skip
    np.testing.assert_allclose(compute_seconds(nodes), ROUNDS * (6 * 0.01 / 4 + ring(4, 6, 1e3, 1e-3)), rtol=1e-12)


def test_the_network_sees_one_host_with_one_port() -> None:
    one, eight = (simnet.estimate(scenario({"step": STEP, "accelerators": k})) for k in (1, 8))
    assert one.summary["wire_bytes"] == eight.summary["wire_bytes"]
    saved = one.summary["sim_time_s"] - eight.summary["sim_time_s"]
    assert saved == pytest.approx(ROUNDS * STEP * 7 / 8, rel=1e-9)


def test_tiers_agree() -> None:
    nodes = {"step": STEP, "jitter": 0.3, "accelerators": 8, "inner": {"bandwidth": "1 MB/s"}}
    arrays, events, processes = (
        simnet.estimate(scenario(nodes), set={"execution.tier": tier}) for tier in ("arrays", "events", "processes")
    )
    assert events.summary["log_hash"] == processes.summary["log_hash"]
    np.testing.assert_allclose(arrays.rounds["sim_time_s"], events.rounds["sim_time_s"], rtol=0, atol=1e-9)


def test_the_record_says_so() -> None:
    record = simnet.estimate(scenario({"step": STEP, "groups": [{"count": 1, "accelerators": 8}]}))
    assert record.header["accelerators_per_node"] == [1, 8] and record.header["inner_average"] is False
    said = summary(record)
    assert "accelerators per node" in said and "1 to 8" in said and "take no time" in said
    assert "accelerators" not in summary(simnet.estimate(scenario({"step": STEP})))


@pytest.mark.parametrize(
    ("nodes", "field"),
    [
        ({"accelerators": 0}, "nodes.accelerators"),
        ({"accelerators": -2}, "nodes.accelerators"),
        ({"accelerators": 2.5}, "nodes.accelerators"),
        ({"inner": {"bandwidth": "1 GB/s"}}, "nodes.inner"),
        ({"accelerators": 1, "inner": {"bandwidth": "1 GB/s"}}, "nodes.inner"),
        ({"accelerators": 8, "inner": {"latency": "1 us"}}, "nodes.inner.bandwidth"),
        ({"accelerators": 8, "inner": {"bandwidth": 0}}, "nodes.inner.bandwidth"),
        ({"accelerators": 8, "inner": {"bandwidth": "1 GB/s", "latency": "-1 us"}}, "nodes.inner.latency"),
        ({"groups": [{"count": 1, "inner": {"bandwidth": "1 GB/s"}}]}, "nodes.groups.0.inner"),
        ({"groups": [{"count": 1, "accelerators": 0}]}, "nodes.groups.0.accelerators"),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(nodes: dict[str, Any], field: str) -> None:
    with pytest.raises(ScenarioError, match=field.replace(".", r"\.")):
        simnet.estimate(scenario({"step": STEP, **nodes}))


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_profiles_refuse_what_is_no_number_of_accelerators(count: float) -> None:
    with pytest.raises(ScenarioError, match="accelerators"):
        Profiles.of({"compute": 1e9, "accelerators": count}, 2)
