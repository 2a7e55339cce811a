"""Group run = node run, and every tier and executor that applies, over scenarios that hypothesis makes up.

Between the events tier and node runs the whole event log is equal, byte for byte; between the arrays tier and the
others clocks agree to 1e-9 (the same sums in another order). Values agree to 1e-12 relative in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.errors import ScenarioError
from simnet.record import Record
from tests.programs import PROGRAMS, Masked, Matches, Tuples, base, go, tiny_data

EXACT_COLUMNS = ("round", "wire_bytes", "messages")
SECONDS = ("compute_s", "exposed_comm_s", "idle_s", "finish_s")


def check_equal(a: Record, b: Record, exact_clocks: bool, label: str) -> None:
    """The same bytes and messages, the same clocks, the same values, and the same end."""
    assert a.outcome == b.outcome, f"{label}: {a.outcome} / {b.outcome}"
    assert a.summary.get("never_returned") == b.summary.get("never_returned"), label
    if "nodes" in a.rounds:
        np.testing.assert_array_equal(a.rounds["nodes"], b.rounds["nodes"], err_msg=label)
    for name in EXACT_COLUMNS:
        np.testing.assert_array_equal(a.rounds[name], b.rounds[name], err_msg=f"{label} {name}")
    assert a.summary["bytes_by_kind"] == b.summary["bytes_by_kind"], label
    for name in ("wire_bytes", "messages", "lost_messages", "nominal_bits"):
        assert a.summary[name] == b.summary[name], (label, name)
    for name, column in a.links.items():
        np.testing.assert_array_equal(column, b.links[name], err_msg=f"{label} links {name}")
    tolerance = {"rtol": 0, "atol": 0 if exact_clocks else 1e-9}
    np.testing.assert_allclose(a.rounds["sim_time_s"], b.rounds["sim_time_s"], err_msg=label, **tolerance)
    for name in SECONDS:
        np.testing.assert_allclose(a.nodes[name], b.nodes[name], err_msg=f"{label} {name}", **tolerance)
    np.testing.assert_array_equal(a.nodes["reports"], b.nodes["reports"], err_msg=label)
    if exact_clocks:
        assert a.summary["log_hash"] == b.summary["log_hash"], label
    for name, column in a.messages.items():
        if column.dtype.kind not in "biuf":  # names of hosts
            np.testing.assert_array_equal(column, b.messages[name], err_msg=f"{label} messages {name}")
            continue
        close = {"rtol": 0, "atol": 0 if exact_clocks else 1e-9}
        np.testing.assert_allclose(column, b.messages[name], err_msg=f"{label} messages {name}", **close)
    assert a.final.keys() == b.final.keys()
    for name, x in a.final.items():
        scale = float(np.abs(x).max())
        np.testing.assert_allclose(b.final[name], x, rtol=0, atol=1e-12 * scale + 1e-300, err_msg=f"{label} {name}")


def check_all(scenario: dict[str, Any], chunk_rows: int | None = None) -> Record:
    """Every tier and executor against the events tier, one by one."""
    reference = go(scenario, "events", "one_by_one")
    ends = (
        "finished",
        "simulated time limit",
        "bytes limit",
        *(("starved",) if "absence" in scenario["nodes"] else ()),
    )
    assert reference.outcome.partition(":")[0] in ends
    check_equal(reference, go(scenario, "processes", "one_by_one"), True, "node run")
    check_equal(reference, go(scenario, "events", "batched", execution__chunk_rows=chunk_rows), True, "events batched")
    try:
        check_equal(reference, go(scenario, "compiled", execution__chunk_rows=chunk_rows), True, "compiled")
    except ScenarioError as error:  # the compiled walk knows exchanges, work and waiting
        assert "compiled tier cannot run this exactly" in str(error)
    for executor in ("batched", "one_by_one"):
        fast = go(scenario, "auto", executor, execution__chunk_rows=chunk_rows)
        check_equal(reference, fast, fast.summary["tier"] != "arrays", f"{fast.summary['tier']} {executor}")
    return reference


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    """A program, a network and its losses, profiles and a smooth problem; at most 20 rounds."""
    program = draw(st.sampled_from(PROGRAMS))
    policy = draw(st.sampled_from(("retry", "drop", "symmetric")))
    n = draw(st.integers(2, 7))
    undirected = ["ring", "star", "complete", "path", "erdos_renyi"]
    graph = draw(st.sampled_from([*undirected, "exponential"] if policy != "symmetric" else undirected))
    options: dict[str, Any] = {
        "eta": draw(st.sampled_from((0.05, 0.3))),
        "missing": draw(st.sampled_from(("self", "zero", "stale", "value"))),
        "deadline_s": draw(st.sampled_from((None, 0.0071, 0.0123, 0.0234))),
    }
    if program is Masked:
        options["by_value"] = draw(st.booleans())
    if program is Matches:
        varying = ("random_matching", "one_peer_exponential")
        options["over"] = draw(st.sampled_from(varying[:1] if policy == "symmetric" else varying))
    step = draw(st.sampled_from(("10 ms", {"gradient": "8 ms", "loss": "3 ms", "hvp": "5 ms"})))
    jitter = draw(st.sampled_from((0.0, 0.4, {"law": "lognormal", "spread": 0.7}, {"law": "pareto", "spread": 0.5})))
    nodes: dict[str, Any] = {"step": step, "jitter": jitter}
    if draw(st.booleans()):
        nodes["straggler"] = {"probability": 0.2, "slowdown": 4}
    problem: dict[str, Any] = {"name": "Quadratic", "dim": draw(st.sampled_from((1, 3, n)))}
    if draw(st.integers(0, 3)) == 0:
        problem = {"name": "Softmax", "data": tiny_data(), "batch": draw(st.sampled_from(("full", 4))), "l2": 0.01}
    if program is not Tuples and draw(st.integers(0, 4)) == 0:
        nodes["groups"] = [{"count": 1, "oracle": "zo", "estimator": {"rv": 2, "nu": 0.01}}]
    network = {
        "nodes": n,
        "graph": graph,
        "link": {
            "bandwidth": draw(st.sampled_from((2e4, 1e6))),
            "latency": draw(st.sampled_from((0.0, 0.0013, 0.006))),
            "loss": draw(st.sampled_from((0.0, 0.25))),
        },
        "policy": policy,
        "loss_unit": draw(st.sampled_from(("packet", "message"))),
        "ports": draw(st.sampled_from(("serial", "parallel"))),
        "receive_ports": draw(st.sampled_from(("parallel", "parallel", "serial"))),
        "header_bytes": draw(st.sampled_from((0, 40))),
    }
    scenario = base(
        program(**options), seed=draw(st.integers(0, 5)), network=network, nodes=nodes, problem=problem,
        rounds=draw(st.integers(1, 20)), evaluate_every=draw(st.sampled_from((1, 4))),
    )  # fmt: skip
    stop = draw(st.sampled_from((None, None, {"sim_time": 0.0733}, {"bytes": 2000})))
    if stop is not None:
        scenario["stop"] = stop
    directed = graph == "exponential" or options.get("over") == "one_peer_exponential"
    scenario["mixing"] = "row_stochastic" if directed else draw(st.sampled_from(("metropolis", "lazy")))
    return scenario


@settings(max_examples=90)
@given(scenario=scenarios(), chunk_rows=st.sampled_from((None, 1, 3)))
def test_all_tiers_and_executors_agree(scenario: dict[str, Any], chunk_rows: int | None) -> None:
    check_all(scenario, chunk_rows)


@st.composite
def comings_and_goings(draw: st.DrawFn, n: int) -> dict[str, Any]:
    """Absences given and drawn, for good or for a while, and slow periods."""

    def intervals(most: int) -> list[list[Any]]:
        ticks = sorted(draw(st.lists(st.integers(0, 60), min_size=2, max_size=2 * most, unique=True)))
        spans: list[list[Any]] = [[a * 0.0041, b * 0.0041] for a, b in zip(ticks[::2], ticks[1::2], strict=False)]
        if draw(st.integers(0, 2)) == 0:
            spans[-1][1] = "never"
        return spans

    hosts = draw(st.permutations(range(n)))
    some = max(1, n // 2)
    absence: list[dict[str, Any]] = [{"nodes": [h], "away": intervals(3)} for h in hosts[: draw(st.integers(0, some))]]
    if draw(st.booleans()):
        law = {"law": "poisson", "every": draw(st.sampled_from((0.02, 0.1))), "for": 0.013}
        absence.append({"nodes": hosts[some:], **law, **draw(st.sampled_from(({}, {"until": 0.08})))})
    slow = [{"nodes": hosts[::2], "periods": intervals(2), "factor": draw(st.sampled_from((1.7, 3.0)))}]
    return {"absence": absence, "slow": draw(st.sampled_from((slow, [])))}


@settings(max_examples=45)
@given(data=st.data(), scenario=scenarios(), chunk_rows=st.sampled_from((None, 2)))
def test_all_tiers_and_executors_agree_on_who_is_away(
    data: st.DataObject, scenario: dict[str, Any], chunk_rows: int | None
) -> None:
    scenario["nodes"] |= data.draw(comings_and_goings(scenario["network"]["nodes"]))
    check_all(scenario, chunk_rows)
