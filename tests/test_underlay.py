"""The underlay: which host a node sits on, ports of hosts, and routes given by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simnet
from simnet.errors import InputError, ScenarioError, TopologyError, UnknownName
from simnet.models.topologies.shipped import abilene
from simnet.models.topologies.underlays import dumbbell, switch
from simnet.network.network import Network
from simnet.placement import nearest_hosts
from simnet.prepare import prepare
from tests.programs import Gossips, base, go
from tests.waterfill import finish_times

LINK = {"bandwidth": "1 Mbit/s", "latency": "5 ms"}  # 1,000 bytes are 8 ms


def scenario(network: dict[str, Any], topology: Any = "ring", **more: Any) -> dict[str, Any]:
    section = {"model": "maxmin", "link": LINK, **network}
    options = {"rounds": 1, "topology": topology, "record": {"timeline": False}, **more}
    return base(Gossips(), network=section, problem={"name": "Quadratic", "dim": 250}, **options)


def network_of(network: dict[str, Any], topology: Any = "ring", **more: Any) -> Network:
    return prepare(simnet.Scenario.of(scenario(network, topology, **more))).network


def length(network: Network, pairs: nx.Graph) -> float:
    """Latency over all edges of a topology."""
    return sum(float(network.latency_s[network.path(a, b)].sum()) for a, b in pairs.edges)


# ---- placement -----------------------------------------------------------------------------------------------------


def test_the_hosts_given_are_the_nodes_in_turn_and_the_others_pass_on() -> None:
    network = network_of({"graph": nx.path_graph(5), "placement": {"given": [4, 0, 2]}}, "path")
    assert network.hosts == [4, 0, 2]
    assert sorted(network.node_names[3:]) == [1, 3]
    names = [network.node_names[network.link_target[k]] for k in network.path(0, 1)]
    assert names == [3, 2, 1, 0]


def test_a_placement_by_the_order_of_the_hosts_changes_nothing() -> None:
    plain = go(scenario({"graph": switch(6)}, rounds=4))
    same = go(scenario({"graph": switch(6), "placement": {"given": [0, 1, 2, 3, 4, 5]}}, rounds=4))
    assert np.array_equal(plain.rounds["sim_time_s"], same.rounds["sim_time_s"])
    assert plain.summary["log_hash"] == same.summary["log_hash"]


def test_a_node_has_the_time_of_the_host_on_which_it_sits() -> None:
    """Two nodes at the ends of a path of four: three hops; side by side: one."""
    far = go(scenario({"graph": nx.path_graph(4), "placement": {"given": [0, 3]}}, "path"))
    near = go(scenario({"graph": nx.path_graph(4), "placement": {"given": [2, 1]}}, "path"))
    assert np.isclose(far.rounds["sim_time_s"][-1], 0.010 + 0.015 + 0.008)
    assert np.isclose(near.rounds["sim_time_s"][-1], 0.010 + 0.005 + 0.008)


def test_random_is_a_permutation_of_the_hosts_that_follows_the_seed() -> None:
    def hosts(seed: int, nodes: int | None = None) -> list[Any]:
        return network_of({"graph": nx.cycle_graph(12), "placement": "random", "nodes": nodes}, seed=seed).hosts

    assert sorted(hosts(1)) == list(range(12))
    assert hosts(1) == hosts(1) != hosts(2)
    assert hosts(1, nodes=5) == hosts(1)[:5]


def test_nearest_puts_a_path_on_a_path_edge_on_edge() -> None:
    """Whatever the hosts' order: from the middle on, each neighbour is one hop away, until one side ends."""
    shuffled = nx.relabel_nodes(nx.path_graph(9), {k: (k * 5 + 2) % 9 for k in range(9)})
    network = network_of({"graph": shuffled, "placement": "nearest", "nodes": 5}, "path")
    assert length(network, nx.path_graph(5)) == pytest.approx(4 * 0.005)


def test_nearest_is_shorter_than_random_on_a_real_map() -> None:
    graph, ring = abilene(), nx.cycle_graph(len(abilene()))
    nearest = length(network_of({"graph": graph, "placement": "nearest"}), ring)
    drawn = [length(network_of({"graph": graph, "placement": "random"}, seed=s), ring) for s in range(20)]
    assert nearest < min(drawn)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 9), st.integers(0, 3), st.integers(0, 1000))
def test_nearest_takes_each_host_once_and_by_its_own_rule(n: int, idle: int, seed: int) -> None:
    """Against the rule in words, with distances by networkx."""
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(n + idle, 0.4, seed=seed)
    graph.add_edges_from(nx.path_graph(n + idle).edges)
    nx.set_edge_attributes(graph, {e: float(rng.integers(1, 9)) for e in graph.edges}, "latency")
    topology = nx.gnp_random_graph(n, 0.5, seed=seed + 1)
    network = Network.build(graph)
    far = dict(nx.all_pairs_dijkstra_path_length(graph, weight="latency"))
    got = nearest_hosts(network, [sorted(topology[i]) for i in range(n)])
    assert len(set(got)) == n
    on: dict[int, int] = {}
    for root in range(n):
        walk = [] if root in on else [root, *(v for _, v in nx.bfs_edges(topology, root, sort_neighbors=sorted))]
        for node in walk:
            left = [h for h in range(n + idle) if h not in on.values()]
            placed = [on[v] for v in topology[node] if v in on]
            if node != root:
                assert got[node] == min(left, key=lambda h: (sum(2 * far[h][p] for p in placed), h))
            elif root:
                assert got[node] == left[0]
            on[node] = got[node]


PLACEMENTS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"placement": {"given": [0, 1, 9]}}, UnknownName, r"network\.placement\.given\.2 = 9: no such host; there are 6"),
    ({"placement": {"given": [0, 1, 0]}}, ScenarioError, r"placement\.given\.2: host 0 has a node already"),
    ({"placement": {"given": list(range(7))}}, ScenarioError, r"7 nodes need a host each, and the graph has 6"),
    ({"placement": "random", "nodes": 7}, ScenarioError, r"network\.nodes: 7 nodes need a host each"),
    ({"placement": {"given": [0, 1]}, "nodes": 3}, ScenarioError, r"names 2 hosts for 3 nodes"),
    ({"placement": "near"}, ScenarioError, r"network\.placement = 'near': must be `random`, `nearest`, or the host"),
    ({"placement": {"give": [1]}}, InputError, r"network\.placement.*give"),
    ({"nodes": 3}, ScenarioError, r"network\.nodes = 3: the graph has 6 hosts.*`placement`"),
]


@pytest.mark.parametrize(("network", "error", "message"), PLACEMENTS)
def test_a_placement_that_cannot_be_is_refused(network: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network_of({"graph": nx.cycle_graph(6), **network})


def test_a_placement_needs_a_topology_and_nearest_one_that_stays() -> None:
    with pytest.raises(ScenarioError, match=r"network\.placement: maps the nodes of a topology .*name the topology"):
        network_of({"graph": nx.cycle_graph(6), "placement": "random"}, None)
    with pytest.raises(ScenarioError, match=r"`nearest` needs neighbours that stay the same"):
        network_of({"graph": nx.cycle_graph(6), "placement": "nearest"}, "random_matching")


# ---- ports ---------------------------------------------------------------------------------------------------------


def test_a_port_up_is_shared_by_all_that_a_host_sends() -> None:
    """Two messages of 1,000 bytes up a port of 0.5 Mbit/s: 32 ms, whatever links they take then."""
    record = go(scenario({"graph": nx.cycle_graph(4), "host": {"up": "0.5 Mbit/s"}}))
    assert np.isclose(record.rounds["sim_time_s"][-1], 0.010 + 0.005 + 0.032)


def test_a_port_down_is_shared_by_all_that_a_host_takes_in() -> None:
    slow = {"nodes": [2], "down": "0.25 Mbit/s"}
    record = go(scenario({"graph": nx.cycle_graph(4), "hosts": [slow]}, record={"messages": True}))
    arrived = {
        (s, t): a for s, t, a in zip(*(record.messages[c] for c in ("source", "target", "arrived_s")), strict=True)
    }
    assert np.isclose(arrived[1, 2], 0.010 + 0.005 + 0.064)
    assert np.isclose(arrived[2, 1], 0.010 + 0.005 + 0.008)


def test_a_host_has_its_own_port_up_or_the_one_of_all() -> None:
    both = {"host": {"up": "1 Gbit/s", "down": "2 Mbit/s"}, "hosts": [{"nodes": [1, 3], "up": "1 Mbit/s"}]}
    network = network_of({"graph": switch(4), **both})
    assert network.up_bytes_per_s.tolist() == [1.25e8, 1.25e5, 1.25e8, 1.25e5]
    assert network.down_bytes_per_s.tolist() == [2.5e5] * 4


@pytest.mark.parametrize("model", ("maxmin", "cm02", "lv08", "lv08_noxt", "tcp"))
def test_ports_are_private_links_in_front_of_the_hosts(model: str) -> None:
    """The same clock as a graph that has them as links without latency; bytes are entered for real links alone."""
    ported = scenario({"graph": dumbbell(6), "model": model, "host": {"up": "0.1 Mbit/s", "down": "0.2 Mbit/s"}},
                      {"name": "random_regular", "degree": 3}, rounds=3)  # fmt: skip
    graph = nx.DiGraph()
    graph.add_nodes_from(range(6))
    for a, b in dumbbell(6).edges:
        for s, t in ((a, b), (b, a)):
            graph.add_edge(*(f"access {v}" if v in range(6) else v for v in (s, t)))
    for v in range(6):
        graph.add_edge(v, f"access {v}", bandwidth=12_500.0, latency=0.0)
        graph.add_edge(f"access {v}", v, bandwidth=25_000.0, latency=0.0)
    nx.set_node_attributes(graph, {v: True for v in graph if v not in range(6)}, "router")
    built = scenario({"graph": graph, "model": model}, {"name": "random_regular", "degree": 3}, rounds=3)
    one, other = go(ported), go(built)
    assert np.allclose(one.rounds["sim_time_s"], other.rounds["sim_time_s"], rtol=1e-12)
    without = go(scenario({"graph": dumbbell(6), "model": model}, {"name": "random_regular", "degree": 3}, rounds=3))
    assert one.links["payload_bytes"].tolist() == without.links["payload_bytes"].tolist()
    assert one.summary["wire_bytes"] == without.summary["wire_bytes"]
    assert one.rounds["sim_time_s"][-1] > without.rounds["sim_time_s"][-1]


@settings(max_examples=15, deadline=None)
@given(st.integers(3, 7), st.integers(0, 1000))
def test_ports_share_by_water_filling(n: int, seed: int) -> None:
    """One exchange over drawn links and ports, against the plain solver."""
    rng = np.random.default_rng(seed)
    graph = nx.gnp_random_graph(n, 0.5, seed=seed)
    graph.add_edges_from(nx.cycle_graph(n).edges)
    nx.set_edge_attributes(graph, {e: float(rng.integers(1, 5)) * 1e5 for e in graph.edges}, "bandwidth")
    hosts = [{"nodes": [i], "up": float(rng.integers(1, 5)) * 1e5, "down": float(rng.integers(1, 5)) * 1e5}
             for i in range(n - 1)]  # fmt: skip
    record = go(scenario({"graph": graph, "hosts": hosts}, graph, record={"messages": True}))
    capacity = [each[way] for way in ("up", "down") for each in hosts]
    usage, flows = [], []
    for s, t in zip(record.messages["source"].tolist(), record.messages["target"].tolist(), strict=True):
        capacity.append(graph.edges[s, t]["bandwidth"])
        ends = ([s] if s < n - 1 else []) + ([n - 1 + t] if t < n - 1 else [])
        usage.append(dict.fromkeys([*ends, len(capacity) - 1], 1.0))
        flows.append(1000.0)
    one = [1.0] * len(flows)
    expected = finish_times(
        capacity, usage, one, [np.inf] * len(flows), [0.005] * len(flows), flows, [0.01] * len(flows)
    )
    assert np.allclose(record.messages["arrived_s"], expected, rtol=1e-9)


@pytest.mark.parametrize("network", ({"host": {"up": "1 Mbit/s"}}, {"hosts": [{"nodes": [0], "down": "1 Mbit/s"}]}))
def test_ports_belong_to_models_that_share(network: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match=r"network\.host.*share nothing: take `model: maxmin`"):
        network_of({"graph": switch(4), "model": "independent", **network})


def test_ports_of_hosts_that_are_not_there_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"network\.hosts\.0\.nodes\.1 = 7: no such host"):
        network_of({"graph": switch(4), "hosts": [{"nodes": [1, 7], "up": "1 Mbit/s"}]})
    with pytest.raises(InputError, match=r"network\.host\.up.*above 0 bytes/s"):
        network_of({"graph": switch(4), "host": {"up": "0 Mbit/s"}})


# ---- given routes --------------------------------------------------------------------------------------------------

SQUARE = nx.cycle_graph(4)


def test_a_message_takes_the_way_that_is_given() -> None:
    """Round the square in place of the direct link, in one direction; the other goes straight."""
    network = network_of({"graph": SQUARE, "routes": [{"from": 0, "to": 1, "via": [3, 2]}]})
    ends = [(int(network.link_source[k]), int(network.link_target[k])) for k in network.path(0, 1)]
    assert ends == [(0, 3), (3, 2), (2, 1)]
    assert len(network.path(1, 0)) == 1
    both = network_of({"graph": SQUARE, "routes": [{"between": [0, 1], "via": [3, 2]}]})
    ends = [(int(both.link_source[k]), int(both.link_target[k])) for k in both.path(1, 0)]
    assert ends == [(1, 2), (2, 3), (3, 0)]


@pytest.mark.parametrize("model", ("independent", "maxmin"))
def test_a_given_way_takes_its_own_time_and_its_bytes_are_on_its_links(model: str) -> None:
    routes = [{"between": [0, 1], "via": [3, 2]}]
    record = go(scenario({"graph": SQUARE, "routes": routes, "model": model}, nx.Graph([(0, 1), (2, 3)])))
    assert np.isclose(record.rounds["sim_time_s"][-1], 0.010 + 0.015 + 0.008)
    used = {
        (s, t) for s, t, b in zip(*(record.links[c] for c in ("source", "target", "payload_bytes")), strict=True) if b
    }
    assert used == {(0, 3), (3, 0), (3, 2), (2, 3), (2, 1), (1, 2)}


ROUTES: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"from": 0, "to": 2, "via": []}, ScenarioError, r"network\.routes\.0\.via: there is no link 0 -> 2 in the graph"),
    ({"from": 0, "to": 9, "via": [1]}, UnknownName, r"network\.routes\.0\.to = 9: no such host; there are 4"),
    ({"between": [0, 9], "via": [1]}, UnknownName, r"network\.routes\.0\.between = 9: no such host"),
    ({"from": 0, "to": 1, "via": ["x"]}, UnknownName, r"network\.routes\.0\.via = 'x': no such host or router"),
    ({"from": 0, "to": 1, "via": [3, 0]}, ScenarioError, r"routes\.0\.via: passes the same node twice"),
    ({"from": 0, "via": [3, 0]}, ScenarioError, r"network\.routes\.0: needs either `between"),
]


@pytest.mark.parametrize(("route", "error", "message"), ROUTES)
def test_a_route_that_is_none_is_refused(route: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network_of({"graph": SQUARE, "routes": [route]})
    twice = [{"from": 0, "to": 1, "via": []}, {"between": [1, 0], "via": [2, 3]}]
    with pytest.raises(ScenarioError, match=r"network\.routes\.1: the way from 0 to 1 is given twice"):
        network_of({"graph": SQUARE, "routes": twice})


# ---- what is refused before any work -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ("independent", "maxmin", "tcp"))
def test_hosts_that_no_route_joins_are_refused_before_a_record_is_begun(model: str, tmp_path: Path) -> None:
    apart = {"graph": nx.Graph([(0, 1), (2, 3)]), "model": model}
    with pytest.raises(TopologyError, match=r"no route from host 3 to host 0: .*not connected"):
        simnet.run(scenario(apart), out=tmp_path / "record")
    assert not (tmp_path / "record").exists()
    assert go(scenario(apart, nx.Graph([(0, 1), (2, 3)]))).outcome == "finished"  # nobody needs the missing way


LINKS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"link": {"bandwidth": "0 Mbit/s"}}, ScenarioError, r"network\.link\.bandwidth = '0 Mbit/s': must be above 0"),
    ({"link": {"bandwidth": "-1 Mbit/s"}}, ScenarioError, r"network\.link\.bandwidth = '-1 Mbit/s': must be above 0"),
    ({"links": [{"between": [0, 1], "bandwidth": 0}]}, ScenarioError, r"links\.0\.bandwidth = 0: must be above 0"),
    ({"links": [{"between": [0, 9], "loss": 0}]}, UnknownName, r"links\.0\.between = 9: no such host or router; there"),
    ({"links": [{"from": 9, "to": 0, "loss": 0}]}, UnknownName, r"links\.0\.from = 9: no such host or router; there"),
    ({"links": [{"between": [0, 2], "loss": 0}]}, ScenarioError, r"links\.0: there is no link 0 -> 2 in the graph"),
    ({"model": "tcp", "policy": "drop"}, ScenarioError, r"network\.policy: tcp delivers everything"),
    ({"model": "tcp", "policy": "symmetric"}, ScenarioError, r"network\.policy: tcp delivers everything"),
]


@pytest.mark.parametrize(("network", "error", "message"), LINKS)
def test_links_that_cannot_be_are_refused(network: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        network_of({"graph": SQUARE, **network})
