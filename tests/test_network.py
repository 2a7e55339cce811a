"""Routes, sets of edges, fates of messages and the byte ledger."""

from __future__ import annotations

import math
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.errors import ScenarioError, TopologyError
from simnet.network.fate import Fates, binomial, schedule
from simnet.network.ledger import KINDS, Ledger
from simnet.network.network import EdgeSet, LinkSpec, Network
from simnet.network.routes import PathTree, neighbours
from simnet.streams import keys
from simnet.topology import StaticTopology
from tests.programs import Gossips, base, go


def network(graph: nx.Graph, loss: float = 0.0, **options: Any) -> Network:
    return Network.build(graph, LinkSpec(1e6, 0.01, loss), **options)


def edges_of(net: Network, graph: nx.Graph) -> EdgeSet:
    return net.edge_set(*StaticTopology(graph, net.hosts).edges(0))


# ---- links and routes --------------------------------------------------------------------------------------------


def test_an_undirected_edge_is_two_links_and_attributes_override_defaults() -> None:
    graph = nx.path_graph(3)
    graph.edges[0, 1]["latency"] = 0.5
    net = Network.build(graph, LinkSpec(1e6, 0.01, 0.0), {(1, 0): {"bandwidth": 2e6}})
    assert net.link_source.tolist() == [0, 1, 1, 2]
    assert net.link_target.tolist() == [1, 0, 2, 1]
    assert net.latency_s.tolist() == [0.5, 0.5, 0.01, 0.01]
    assert net.bandwidth_bytes_per_s.tolist() == [1e6, 2e6, 1e6, 1e6]


def test_routes_take_the_least_latency_then_hops_then_node_order() -> None:
    graph = nx.Graph()
    graph.add_nodes_from(range(5))
    for a, b, latency in ((0, 1, 1.0), (1, 4, 1.0), (0, 2, 1.0), (2, 4, 1.0), (0, 3, 2.0), (3, 4, 0.0), (0, 4, 3.0)):
        graph.add_edge(a, b, latency=latency)
    net = network(graph)
    ends = [(int(net.link_source[link]), int(net.link_target[link])) for link in net.route(0, 4)]
    assert ends == [(0, 1), (1, 4)]  # latency 2 like 0-2-4 and 0-3-4, and the first in node order


def test_routers_forward_and_hold_no_program() -> None:
    graph = nx.Graph()
    graph.add_nodes_from([("a", {}), ("hub", {"router": True}), ("b", {})])
    graph.add_edges_from([("a", "hub"), ("hub", "b")])
    net = network(graph)
    assert net.hosts == ["a", "b"]
    edges = net.edge_set(np.array([0]), np.array([1]))
    assert edges.latency_E.tolist() == [0.02]
    assert len(edges.hops_H) == 2


def test_no_route_is_told_with_both_hosts() -> None:
    graph = nx.Graph([("a", "b"), ("c", "d")])
    with pytest.raises(TopologyError, match="no route from host a to host c"):
        network(graph).edge_set(np.array([0]), np.array([2]))


def test_a_link_that_loses_all_cannot_retry() -> None:
    with pytest.raises(ScenarioError, match="never delivers under policy retry"):
        network(nx.path_graph(2), loss=1.0, policy="retry")


# ---- sets of edges -----------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(n=st.integers(1, 12), p=st.floats(0, 1), seed=st.integers(0, 9), ports=st.sampled_from(("serial", "parallel")))
def test_edge_sets_are_canonical_and_know_their_queues(n: int, p: float, seed: int, ports: str) -> None:
    graph = nx.gnp_random_graph(n, p, seed=seed, directed=bool(seed % 2))
    edges = edges_of(network(graph, ports=ports), graph)
    assert list(zip(edges.target, edges.source, strict=True)) == sorted(zip(edges.target, edges.source, strict=True))
    per_edge = 0.1 + np.arange(edges.size) % 7
    sums = edges.queue_sums(per_edge)
    for e in range(edges.size):  # by hand: its own queue only, neighbours in node order
        mine = [
            f for f in range(edges.size) if edges.port_E[f] == edges.port_E[e] and edges.target[f] <= edges.target[e]
        ]
        total = 0.0
        for f in sorted(mine, key=lambda f: int(edges.target[f])):
            total += per_edge[f]
        assert sums[e] == total
    ends = edges.last_in_port(sums)
    assert ends.tolist() == [sums[edges.port_E == port].max() for port in edges.ports]
    back = edges.reverse_E
    for e in np.flatnonzero(back >= 0):
        assert (edges.source[back[e]], edges.target[back[e]]) == (edges.target[e], edges.source[e])


# ---- fates -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("m", [1, 7, 1000, 70_000])
def test_losses_are_binomial(m: int, p: float) -> None:
    count = 4000
    drawn = binomial(np.full(count, m), np.full(count, p), keys(5, np.arange(count)), 0)
    assert drawn.min() >= 0
    assert drawn.max() <= m
    spread = math.sqrt(m * p * (1 - p))
    assert abs(drawn.mean() - m * p) < 5 * spread / math.sqrt(count)
    kurtosis = (1 - 6 * p * (1 - p)) / (m * p * (1 - p))
    assert abs(drawn.var() - spread**2) < 5 * spread**2 * math.sqrt((2 + kurtosis) / count)


def test_certain_losses_and_none() -> None:
    m = np.array([5, 0, 9])
    assert binomial(m, np.ones(3), keys(1, np.arange(3)), 0).tolist() == [5, 0, 9]
    assert binomial(m, np.zeros(3), keys(1, np.arange(3)), 0).tolist() == [0, 0, 0]


def fate_of(policy: str, loss: float = 0.2, size: int = 4000, **options: Any) -> tuple[Network, EdgeSet, Any]:
    graph = nx.random_regular_graph(6, 400, seed=1)
    net = network(graph, loss, policy=policy, **options)
    edges = edges_of(net, graph)
    return net, edges, Fates(net, 3).of(("exchange", 0), edges, size)


def test_retry_delivers_everything_and_counts_what_it_sent_again() -> None:
    _, edges, fate = fate_of("retry")
    assert fate.delivered_E.all()
    assert (fate.packets_E == 3).all()
    assert (fate.hop_packets_H == fate.packets_E + fate.again_E).all()  # one hop: each lost packet is sent again
    assert fate.again_E.mean() == pytest.approx(3 * 0.2 / 0.8, rel=0.1)
    assert ((fate.attempts_E == 1) == (fate.again_E == 0)).all()
    assert edges.size == 2400


def test_a_message_is_lost_if_one_packet_is() -> None:
    for unit, packets in (("packet", 3), ("message", 1)):
        _, edges, fate = fate_of("drop", loss_unit=unit)
        expected = 0.8**packets
        assert abs(fate.delivered_E.mean() - expected) < 5 * math.sqrt(expected * (1 - expected) / edges.size)
        assert (fate.again_E == 0).all()


def test_symmetric_fails_both_directions_together() -> None:
    _, edges, fate = fate_of("symmetric", loss_unit="message")
    assert (fate.delivered_E == fate.delivered_E[edges.reverse_E]).all()
    assert abs(fate.delivered_E.mean() - 0.8) < 5 * math.sqrt(0.16 / 1200)


@pytest.mark.parametrize("burst", [(0.0, 0.0, 0.0), (0.02, 0.3, 0.8)])
def test_symmetric_draws_for_the_longer_of_the_two_messages(burst: tuple[float, float, float]) -> None:
    graph = nx.random_regular_graph(6, 400, seed=1)
    net = Network.build(graph, LinkSpec(1e6, 0.01, 0.02, burst), policy="symmetric")
    edges = edges_of(net, graph)
    size = np.where(edges.source < edges.target, 1500, 15_000)
    fates = [Fates(net, 3).of(("exchange", 0), edges, each) for each in (size, np.full(edges.size, 15_000))]
    assert fates[0] is not None and fates[1] is not None and 0 < fates[0].delivered_E.mean() < 1
    assert (fates[0].delivered_E == fates[0].delivered_E[edges.reverse_E]).all()
    assert (fates[0].delivered_E == fates[1].delivered_E).all()
    assert (fates[0].hop_packets_H == np.where(edges.source < edges.target, 1, 10)).all()  # each counts its own packets


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("bandwidth", 0, "edge a-b: bandwidth = 0: must be above 0 bytes/s"),
        ("bandwidth", float("nan"), "edge a-b: bandwidth: nan is not a quantity"),
        ("bandwidth", "10 ms", "edge a-b: bandwidth: '10 ms' is a duration"),
        ("latency", -1, "edge a-b: latency = -1: must be at least 0 s"),
        ("latency", float("inf"), "edge a-b: latency = inf: must be at least 0 s and finite"),
        ("loss", 1.5, "edge a-b: loss = 1.5: must be at least 0"),
        ("queue", "lots", "edge a-b: queue: 'lots' does not begin with a number"),
    ],
)
def test_a_number_of_an_edge_that_cannot_be_names_the_edge(name: str, value: Any, said: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        Network.build(nx.Graph([("a", "b", {name: value})]))
    assert said in str(raised.value)


def test_a_number_of_an_edge_may_have_a_unit() -> None:
    net = Network.build(nx.Graph([("a", "b", {"bandwidth": "10 Mbit/s", "latency": "3 ms", "loss": "1 %"})]))
    assert (net.bandwidth_bytes_per_s[0], net.latency_s[0], net.loss[0]) == (1.25e6, 0.003, 0.01)


def test_symmetric_needs_both_directions() -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 0)])
    net = network(graph, 0.1, policy="symmetric")
    with pytest.raises(TopologyError, match="fails both directions of a link together"):
        Fates(net, 0).of(("exchange", 0), edges_of(net, graph), 100)


def test_the_fate_of_an_edge_does_not_depend_on_the_others() -> None:
    net, edges, fate = fate_of("retry")
    some = np.arange(0, edges.size, 7)
    part = net.edge_set(edges.source[some], edges.target[some])
    alone = Fates(net, 3).of(("exchange", 0), part, 4000)
    assert alone is not None
    np.testing.assert_array_equal(alone.again_E, fate.again_E[some])
    np.testing.assert_array_equal(alone.attempts_E, fate.attempts_E[some])
    other = Fates(net, 3).of(("exchange", 1), part, 4000)
    assert other is not None
    assert (other.again_E != alone.again_E).any()


def test_over_several_links_a_packet_may_be_lost_on_each() -> None:
    graph = nx.path_graph(4)
    net = network(graph, 0.5, policy="drop", loss_unit="message")
    edges = net.edge_set(np.array([0]), np.array([3]))
    fates = Fates(net, 0)
    delivered, reached = 0, np.zeros(3)
    for k in range(4000):
        fate = fates.of(("exchange", k), edges, 100)
        assert fate is not None
        delivered += int(fate.delivered_E[0])
        reached += fate.hop_packets_H
    assert abs(delivered / 4000 - 0.125) < 5 * math.sqrt(0.125 * 0.875 / 4000)
    assert reached[0] == 4000
    assert abs(reached[1] / 4000 - 0.5) < 5 * math.sqrt(0.25 / 4000)


def test_retransmissions_hold_the_port_and_come_two_latencies_later() -> None:
    graph = nx.path_graph(2)
    net = network(graph, 0.4, policy="retry")
    edges = edges_of(net, graph)
    for k in range(20):
        fate = Fates(net, k).of(("exchange", 0), edges, 4500)
        assert fate is not None
        offset, busy = schedule(edges, 4500, fate)
        sent = (3 + fate.again_E) * 1500 / 1e6
        np.testing.assert_allclose(busy, sent[edges.by_port], rtol=1e-15)
        np.testing.assert_allclose(offset, sent + 0.01 + 0.02 * (fate.attempts_E - 1), rtol=1e-15)


# ---- the ledger --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["retry", "drop"])
@pytest.mark.parametrize("loss", [0.0, 0.3])
def test_the_sums_over_links_kinds_and_rounds_agree(policy: str, loss: float) -> None:
    graph = nx.path_graph(5)
    net = network(graph, loss, policy=policy, header_bytes=40)
    edges = net.edge_set(np.array([0, 4, 1, 2]), np.array([4, 0, 2, 1]))
    ledger = Ledger(net)
    for k in range(30):
        fate = Fates(net, 0).of(("exchange", k), edges, 3040)
        active = None if k % 3 else np.array([True, True, False, True])
        ledger.add(k // 5, edges, 3000, fate, active)
    columns = ledger.by_link()
    assert (
        sum(ledger.round_bytes)
        == ledger.wire_bytes
        == int(columns["wire_bytes"].sum())
        == sum(ledger.by_kind().values())
    )
    kinds = sum(columns[f"{kind}_bytes"] for kind in KINDS)
    np.testing.assert_array_equal(columns["wire_bytes"], kinds)
    assert all((column >= 0).all() for column in columns.values())
    if loss == 0:
        assert ledger.wire_bytes == 3040 * (20 * (4 + 4 + 1 + 1) + 10 * (4 + 4 + 1))


def test_bytes_are_those_of_the_formula() -> None:
    # rounds x links of the topology x (numbers x bytes each + header), whatever the values are computed in
    for wire, size in (("float16", 2), ("bfloat16", 2), ("float32", 4), ("float64", 8)):
        scenario = base(Gossips(), network={"nodes": 6, "graph": "torus", "wire_dtype": wire, "header_bytes": 28})
        record = go(scenario)
        links = len(record.links["source"])
        assert links == 18  # the 2 x 3 torus: nine edges, each two links
        expected = 6 * links * (3 * size + 28)
        assert record.summary["wire_bytes"] == expected
        assert record.summary["messages"] == 6 * links
        assert record.summary["bytes_by_kind"]["header"] == 6 * links * 28
        assert record.summary["nominal_bits"] == 6 * links * 3 * size * 8
        np.testing.assert_array_equal(record.links["wire_bytes"], np.full(links, 6 * (3 * size + 28)))
        np.testing.assert_array_equal(record.rounds["wire_bytes"], record.rounds["round"] * expected // 6)


def test_a_routed_message_counts_on_every_link_that_it_crosses() -> None:
    scenario = base(Gossips(), network={"nodes": 5, "graph": "path"}, topology="complete")
    record = go(scenario)
    crossings = sum(abs(i - j) for i in range(5) for j in range(5))
    assert record.summary["wire_bytes"] == 6 * crossings * 12
    assert record.summary["messages"] == 6 * 20


def test_retransmitted_bytes_are_the_packets_sent_again() -> None:
    scenario = base(Gossips(), network={"nodes": 4, "graph": "ring", "link": {"loss": 0.4}, "loss_unit": "message"})
    record = go(scenario)
    again = int((record.messages["attempts"] - 1).sum())
    assert again > 0
    assert record.summary["bytes_by_kind"]["retransmitted"] == 12 * again
    assert record.summary["bytes_by_kind"]["payload"] == 6 * 8 * 12
    assert record.summary["lost_messages"] == 0


def test_dropped_messages_stay_in_the_ledger() -> None:
    scenario = base(Gossips(), network={"nodes": 4, "graph": "ring", "link": {"loss": 0.4}, "policy": "drop"})
    record = go(scenario)
    assert record.summary["wire_bytes"] == 6 * 8 * 12
    lost = int((record.messages["delivered"] == 0).sum())
    assert record.summary["lost_messages"] == lost == int(record.links["lost_messages"].sum()) > 0


@pytest.mark.parametrize(
    "graph", (nx.star_graph(6), nx.path_graph(7), nx.barbell_graph(3, 2), nx.random_labeled_tree(12, seed=3))
)
def test_hosts_with_one_link_find_the_ways_that_a_search_of_their_own_finds(graph: nx.Graph) -> None:
    net = Network.build(graph)
    out = neighbours(net.link_source, net.link_target, net.latency_s, len(net.node_names))
    for s in range(net.n):
        for t in range(net.n):
            assert net.route(s, t) == PathTree(s, out).to(t)
