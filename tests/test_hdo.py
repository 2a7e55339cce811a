"""HDO against matrix forms of itself: who interacts, momentum by kind of node, phases; and what a hybrid run says.

Legend: N nodes, D parameters.
"""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet import registry
from simnet.errors import ScenarioError, TopologyError
from simnet.models.algorithms.hdo import HDO, HDOReady
from simnet.models.problems.noise import noise_rows
from simnet.models.problems.quadratic import Quadratic
from simnet.models.topologies.varying import RandomMatching
from tests.dense import Array, Quadratics
from tests.programs import base, go, tiny_data
from tests.test_algorithms import close, run
from tests.test_pairs_in_turn import drawn

SEVEN = nx.erdos_renyi_graph(7, 0.5, seed=3)
GRAPHS = {"complete": nx.complete_graph(7), "even": nx.complete_graph(6), "sparse": SEVEN, "star": nx.star_graph(4)}


def paired(graph: nx.Graph, k: int) -> list[tuple[int, int]]:
    """The pairs of exchange k."""
    n = len(graph)
    whole = graph.number_of_edges() == n * (n - 1) // 2
    source, target = RandomMatching(n, seed=0, graph=None if whole else graph).edges(k)
    return [(i, j) for i, j in zip(source.tolist(), target.tolist(), strict=True) if i < j]


def averaged(x: Array, pairs: list[tuple[int, int]]) -> Array:
    x = x.copy()
    for i, j in pairs:
        x[[i, j]] = (x[i] + x[j]) / 2
    return x


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS.keys())
def test_a_round_is_a_step_at_every_node_and_a_random_matching(graph: nx.Graph) -> None:
    problem = Quadratics.drawn(len(graph), 3)
    record = run(problem, "HDO", graph=graph, rounds=20)
    x = problem.start
    for k in range(20):
        assert all(graph.has_edge(*pair) for pair in paired(graph, k))
        x = averaged(x - 0.2 * problem.gradient(x), paired(graph, k))
    assert close(record.final["x"], x)
    if graph.number_of_edges() == len(graph) * (len(graph) - 1) // 2:
        assert record.summary["messages"] == 20 * 2 * (len(graph) // 2)
        assert record.summary["wire_bytes"] == record.summary["messages"] * 4 * 3


def test_pairs_in_turn_are_what_the_description_says() -> None:
    problem = Quadratics.drawn(7, 3)
    record = run(problem, "HDOInTurn", graph=SEVEN, rounds=40)
    x = problem.start
    for t in range(40):
        pair = list(drawn(SEVEN, t))
        x[pair] -= 0.2 * problem.gradient(x)[pair]
        x[pair] = x[pair].mean(0)
    assert close(record.final["x"], x)


FIELDS: dict[str, Any] = {
    "eta": {"fo": 0.2, "zo": 0.05}, "momentum": {"fo": 0.5, "zo": 0.8},
    "warmup": 3, "ramp": 4, "cosine": 10, "period": 2,
}  # fmt: skip
ZO = {"step": "10 ms", "groups": [{"nodes": [1, 4], "oracle": "zo", "estimator": {"name": "coordinate", "nu": 1e-4}}]}


@pytest.mark.parametrize("rules", [("heavy_ball", "ema"), ("ema", "heavy_ball")])
@pytest.mark.parametrize("name", ["HDO", "HDOInTurn"])
def test_each_kind_has_its_own_rate_and_momentum_and_the_phases_are_kept(name: str, rules: tuple[str, str]) -> None:
    """Coordinate differences of a quadratic: the gradient plus nu a/2 in every coordinate."""
    problem, graph, rounds = Quadratics.drawn(6, 3), GRAPHS["even"], 15
    average = dict(zip(("fo", "zo"), rules, strict=True))
    record = simnet.run(problem.scenario({"name": name, **FIELDS, "average": average}, graph=graph, nodes=ZO,
                                         rounds=rounds, execution={"dtype": "float64"}))  # fmt: skip
    zo = np.isin(np.arange(6), [1, 4])[:, None]
    eta, beta = np.where(zo, 0.05, 0.2), np.where(zo, 0.8, 0.5)
    share = np.where(np.where(zo, rules[1] == "ema", rules[0] == "ema"), 1 - beta, 1.0)
    x, m, exchanges = problem.start, np.zeros((6, 3)), 0
    for t in range(rounds):
        rate = (t + 1) / 4 if t < 4 else 0.5 * (1 + math.cos(math.pi * min(1, (t - 4) / 10)))
        g = problem.gradient(x) + zo * 1e-4 * problem.a / 2
        who = np.ones(6, bool) if name == "HDO" else np.isin(np.arange(6), drawn(graph, t))
        m = np.where(who[:, None], beta * m + share * g, m)
        x = np.where(who[:, None], x - rate * eta * m, x)
        if t >= 3 and t // 2 % 2 == 1:
            x = averaged(x, paired(graph, exchanges) if name == "HDO" else [drawn(graph, t)])
            exchanges += 1
    np.testing.assert_allclose(record.final["x"], x, rtol=0, atol=1e-9)
    assert record.summary["messages"] == exchanges * (6 if name == "HDO" else 2)


@pytest.mark.parametrize("partner", ["ready", "any"])
@pytest.mark.parametrize("fields", [{}, {"momentum": 0.5, "warmup": 2, "ramp": 3}])
def test_ready_group_and_node_runs_agree(partner: str, fields: dict[str, Any]) -> None:
    nodes = {"step": "10 ms", "jitter": 0.4, "groups": [
        {"nodes": [2], "step": "30 ms"},
        {"nodes": [0, 3], "oracle": "zo", "estimator": {"name": "fwd_grad_fast", "rv": 4}},
    ]}  # fmt: skip
    network = {"nodes": 5, "graph": "complete", "link": {"latency": "2 ms", "bandwidth": "1 Mbit/s"}}
    told = base(HDOReady(eta=0.1, partner=partner, **fields), nodes=nodes, rounds=12, network=network,
                problem={"name": "Softmax", "data": tiny_data(), "batch": {"fo": 2, "zo": 3}})  # fmt: skip
    batched, single, alone = (go(told), go(told, executor="one_by_one"), go(told, tier="processes"))
    assert batched.summary["messages"] > 0
    for other in (single, alone):
        np.testing.assert_allclose(other.final["x"], batched.final["x"], rtol=0, atol=1e-11)
        assert other.summary["log_hash"] == batched.summary["log_hash"]


def test_ready_nodes_pair_when_both_are_done() -> None:
    """Two nodes, steps of 1 s and 3 s, messages of 0.5 s: both average at 3.5 s and begin again."""
    problem = Quadratic.from_arrays(np.ones((2, 1)), np.array([[1.0], [3.0]]))
    network = {"nodes": 2, "graph": "path", "link": {"latency": "0.5 s", "bandwidth": "1 Tbit/s"}}
    record = go(base(HDOReady(eta=0.5), network=network, problem=problem,
                     nodes={"step": 1.0, "groups": [{"nodes": [1], "step": 3.0}]}, rounds=2))  # fmt: skip
    np.testing.assert_allclose(record.nodes["finish_s"], 7.0, rtol=1e-9)
    np.testing.assert_allclose(record.nodes["idle_s"] + record.nodes["exposed_comm_s"], [5.0, 1.0], rtol=1e-9)
    assert record.final["x"].tolist() == [[1.5], [1.5]]


def test_one_random_matching_contracts_the_consensus_distance_as_in_closed_form() -> None:
    """Step size 1 on |x - c_i|^2/2 begins every round from c_i: each row is one matching of the same points."""
    for n in (10, 7):
        centres = np.random.default_rng(n).normal(size=(n, 4))
        problem = Quadratic.from_arrays(np.ones((n, 1)), centres)
        record = go(base(HDO(eta=1.0), network={"nodes": n, "graph": "complete"}, problem=problem, rounds=1000,
                         evaluate_every=1, record={"timeline": False}))  # fmt: skip
        before = ((centres - centres.mean(0)) ** 2).sum(1).mean()
        assert record.rounds["consensus_distance"].mean() / before == pytest.approx(1 - (n // 2) / (n - 1), rel=0.015)


# ---- what a run says -----------------------------------------------------------------------------------------------


def noted(**nodes: Any) -> str:
    return " | ".join(simnet.estimate(base(HDO(), nodes={"step": 1.0, **nodes})).header.get("notes", []))


def test_a_hybrid_run_says_kappa_its_threshold_and_what_follows() -> None:
    group = {"nodes": [1, 3], "oracle": "zo", "estimator": {"name": "fwd_grad", "rv": 2}}
    record = simnet.estimate(base(HDO(), nodes={"step": 1.0, "groups": [group]}))
    assert record.header["kappa"] == 1 + 4 / 2 and record.header["kappa_threshold"] == 2 + 2 / 3
    assert "kappa = 1 + (d + 1)/rv = 3 times" in record.header["notes"][0]
    assert "does worse than its FO nodes alone" in record.header["notes"][1]
    group["estimator"] = {"name": "fwd_grad", "rv": 200}
    assert "the hybrid beats its FO nodes alone and its ZO nodes alone" in noted(groups=[group])
    two = [group, {"nodes": [0], "oracle": "zo", "estimator": "coordinate"}]
    assert simnet.estimate(base(HDO(), nodes={"step": 1.0, "groups": two})).header["kappa"] == (2 * 1.02 + 1) / 3


def test_a_hybrid_of_one_kind_alone_runs_and_says_so() -> None:
    assert noted() == "a hybrid method without a zeroth-order node"
    assert "a hybrid method without a first-order node" in noted(oracle="zo")


def test_nu_that_the_format_cannot_resolve_is_warned_of_with_the_number() -> None:
    nodes = {"step": 1.0, "oracle": "zo", "estimator": {"nu": 1e-5}}
    said = simnet.estimate(base(HDO(), nodes=nodes, execution={"dtype": "float32"})).header["notes"]
    assert any("nu = 1e-05 in float32" in note and "to 6e-03 of the loss" in note for note in said)
    assert not any("nu =" in note for note in simnet.estimate(base(HDO(), nodes=nodes)).header["notes"])
    assert "nu =" not in noted(oracle="zo", estimator="fwd_grad")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"eta": {"fo": 0.1, "zo": 0}}, "a step size is above 0"),
        ({"momentum": 1.0}, "momentum is at least 0 and below 1"),
        ({"momentum": {"fo": 0.5, "zo": -0.1}}, "momentum is at least 0 and below 1"),
        ({"average": {"fo": "ema"}}, "says for fo and for zo nodes"),
        ({"warmup": -1}, "a number of rounds is at least 0"),
        ({"eta": {"fo": 0.1}}, "a number per oracle kind has the keys fo and zo"),
    ],
)
@pytest.mark.parametrize("name", ["HDO", "HDOInTurn", "HDOReady"])
def test_bad_fields_are_refused(name: str, fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        simnet.run(base({"name": name, **fields}, nodes=ZO))  # type: ignore[arg-type]


def test_a_partner_is_ready_or_any_and_matchings_need_a_topology_that_stays() -> None:
    with pytest.raises(ScenarioError, match=r"algorithm\.partner = 'each': say 'ready' or 'any'"):
        HDOReady(partner="each")
    with pytest.raises(TopologyError, match="matchings are drawn from a topology that stays the same"):
        simnet.run(base(HDO(), topology="one_peer_exponential"))


def test_a_split_by_oracle_gives_each_kind_its_classes() -> None:
    labels = np.arange(60) % 10
    split = registry.find("splits", "by_oracle")
    oracles = np.array(["fo", "zo", "zo", "fo", "zo"])
    held = split(labels, 5, 0, oracles, fo=[0, 1, 2], zo=[7, 8])
    for rows, kind in zip(held, oracles, strict=True):
        assert set(labels[rows]) <= ({0, 1, 2} if kind == "fo" else {7, 8}) and len(rows)
    assert sorted(np.concatenate(held).tolist()) == np.flatnonzero(np.isin(labels, [0, 1, 2, 7, 8])).tolist()
    problem = {"name": "Softmax", "data": "digits", "split": {"name": "by_oracle", "fo": [0, 1], "zo": [2]}, "batch": 2}
    assert simnet.run(base(HDO(), nodes=ZO, problem=problem, rounds=2)).outcome == "finished"


def test_the_quadratics_noise_has_its_variance_and_no_mean() -> None:
    problem = {"name": "Quadratic", "dim": 4, "condition": 1, "heterogeneity": 0, "noise": 2.0, "batch": 1}
    rows = noise_rows(0, "quadratic noise", 4, 2.0)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-15)
    np.testing.assert_allclose(rows.var(0), 0.5, rtol=1e-12)
    noisy, full = (go(base(HDO(eta=0.1), problem=problem | {"batch": b}, rounds=200)) for b in (1, "full"))
    assert noisy.rounds["objective_gap"][-1] > 1e-4 > 1e-8 > full.rounds["objective_gap"][-1]
