"""Estimates that are scaled: equal to the whole simulation where rounds are alike, and honest where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import simnet
from simnet import scaling
from simnet.analysis.table import summary
from simnet.errors import InputError

SUMS = ("sim_time_s", "wire_bytes", "nominal_bits", "messages", "compute_s", "exposed_comm_s", "idle_s", "rounds")


def scenario(**more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {
        "network": {"nodes": 12, "graph": "ring", "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}},
        "nodes": {"step": "10 ms"},
        "problem": {"name": "Declared", "parameters": 1000},
        "algorithm": "DPSGD",
        "rounds": 200,
    }
    return given | more


@pytest.mark.parametrize("algorithm", ["DPSGD", "AllReduceSGD", "GradientTracking", "DPSGDOverlap", "FedAvg"])
def test_rounds_that_are_alike_are_scaled_exactly(algorithm: str) -> None:
    graph = {"FedAvg": "star"}.get(algorithm, "ring")
    network = {"nodes": 12, "graph": graph, "link": {"bandwidth": "1 Mbit/s", "latency": "5 ms"}}
    network |= {"ports": "parallel"}  # behind serial ports, who waits for whom settles over many rounds
    given = scenario(algorithm=algorithm, network=network)
    whole = simnet.estimate(given, full=True)
    part = simnet.estimate(given, rounds_simulated=30)
    assert (part.summary["simulated_rounds"], part.summary["scaled_rounds"]) == (30, 170)
    assert "scaled_rounds" not in whole.summary
    for name in SUMS:
        assert part.summary[name] == pytest.approx(whole.summary[name], rel=1e-9), name
    assert part.summary["bytes_by_kind"] == whole.summary["bytes_by_kind"]
    for name in ("compute_s", "exposed_comm_s", "idle_s", "finish_s", "reports", "sent_bytes", "received_bytes"):
        np.testing.assert_allclose(part.nodes[name], whole.nodes[name], rtol=1e-9, atol=1e-9, err_msg=name)
    for name, column in whole.links.items():
        np.testing.assert_array_equal(part.links[name], column, err_msg=name)
    assert part.rounds["round"][-1] == 200 and len(part.rounds["round"]) == 31


@pytest.mark.parametrize("rounds", [7, 1000])
def test_a_ring_all_reduce_takes_its_closed_form(rounds: int) -> None:
    n, d = 50, 10_000
    network = {"nodes": n, "graph": "ring", "link": {"bandwidth": "10 Mbit/s", "latency": "3 ms"}}
    given = scenario(network=network, problem={"name": "Declared", "parameters": d}, algorithm="AllReduceSGD",
                     collective={"pattern": "ring"}, rounds=rounds)  # fmt: skip
    record = simnet.estimate(given)
    a_round = 0.010 + 2 * (n - 1) * (0.003 + 4 * d / (n * 10e6 / 8))
    assert record.summary["sim_time_s"] == pytest.approx(rounds * a_round, rel=1e-9)
    assert record.summary["wire_bytes"] == rounds * 2 * (n - 1) * 4 * d
    assert ("scaled_rounds" in record.summary) == (rounds == 1000)  # 2,450 messages a round


def test_random_rounds_are_simulated_until_they_are_steady_and_the_spread_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scaling, "SMALL", 0)
    monkeypatch.setattr(scaling, "MOST_MESSAGES", {"arrays": 60_000})
    given = scenario(nodes={"step": "10 ms", "jitter": {"law": "exponential", "spread": 1.0}}, rounds=5000)
    part, whole = simnet.estimate(given), simnet.estimate(given, full=True)
    simulated, spread = part.summary["simulated_rounds"], part.summary["scaled_spread"]
    assert 6 < simulated < 5000 and spread > 0
    assert spread <= scaling.STEADY or 3 * simulated * 24 > 60_000
    assert part.summary["sim_time_s"] == pytest.approx(whole.summary["sim_time_s"], rel=0.05)
    assert part.summary["messages"] == whole.summary["messages"] == 120_000
    said = summary(part)
    assert f"{simulated:,} rounds simulated, {5000 - simulated:,} scaled" in said
    assert f"differ by {100 * spread:.2f} %" in said and "all rounds were run" not in said


def test_short_and_stopped_runs_are_simulated_whole() -> None:
    assert "scaled_rounds" not in simnet.estimate(scenario()).summary
    cut = simnet.estimate(scenario(rounds=100_000, stop={"sim_time": "3 s"}))
    assert "scaled_rounds" not in cut.summary and cut.summary["sim_time_s"] == 3.0


UNLIKE: dict[str, dict[str, Any]] = {
    "nodes.absence": {"nodes": {"step": "10 ms", "absence": {"nodes": [3], "away": [["2 s", "4 s"]]}}},
    "nodes.slow": {"nodes": {"step": "10 ms", "slow": {"nodes": [3], "periods": [["2 s", "never"]], "factor": 4}}},
    "ADPSGD": {"algorithm": "ADPSGD"},
    "SwarmSGD": {"algorithm": "SwarmSGD"},
    "GossipLearning": {"algorithm": "GossipLearning"},
}


@pytest.mark.parametrize("what", UNLIKE)
def test_what_comes_later_than_the_first_rounds_is_simulated(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(scaling, "SMALL", 0)
    monkeypatch.setattr(scaling, "MOST_MESSAGES", dict.fromkeys(scaling.MOST_MESSAGES, 500))
    given = scenario(rounds=300) | UNLIKE[what]
    if what.startswith("nodes"):  # else it would be scaled
        assert "scaled_rounds" in simnet.estimate(given | {"nodes": {"step": "10 ms"}}).summary
    record = simnet.estimate(given)
    assert "scaled_rounds" not in record.summary
    assert record.summary["log_hash"] == simnet.estimate(given, full=True).summary["log_hash"]
    assert (record.nodes["reports"] == 300).all()
    with pytest.raises(InputError, match=f"{what}.*leave out rounds_simulated"):
        simnet.estimate(given, rounds_simulated=30)


def test_a_run_that_ends_badly_is_not_scaled() -> None:
    record = simnet.estimate(scenario(), rounds_simulated=200)
    assert "scaled_rounds" not in record.summary  # as many as there are


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"rounds_simulated": 2}, "rounds_simulated = 2"),
        ({"rounds_simulated": 9, "full": True}, "one of the two"),
        ({"rounds_simulated": 9, "set": {"stop.sim_time": "1 s"}}, "leave out rounds_simulated"),
    ],
)
def test_what_cannot_be_scaled_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        simnet.estimate(scenario(), **options)


@pytest.mark.parametrize("pattern", ["ring", "hierarchical"])
def test_a_model_too_large_to_hold_is_estimated_from_a_few_rounds(pattern: str) -> None:
    record = simnet.estimate("seven_billion_parameters", set={"collective.pattern": pattern})
    assert record.summary["scaled_rounds"] > 900 and record.summary["scaled_spread"] < 1e-6
    assert record.summary["host_time_s"] < 10
    if pattern == "ring":
        hop = 5e-6 + 14e9 / (1000 * 100e9 / 8)
        rows = np.arange(1000)
        wraps = (rows // 40 != (rows + 1) % 1000 // 40).any()  # the ring in node order goes back over two links there
        longer = 5e-6 if wraps else 0.0
        step = 8 * 172e12 / 400e12
        expected = 1000 * (step + 2 * 999 * hop)
        assert expected <= record.summary["sim_time_s"] <= expected + 1000 * 2 * 999 * longer
