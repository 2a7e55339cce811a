"""Topologies: shapes, order of edges, determinism and what is refused."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet.errors import TopologyError
from simnet.models.topologies import shipped, varying
from simnet.topology import StaticTopology, Topology, as_topology, is_connected, require_connected


def pairs(topology: Topology, k: int = 0) -> set[tuple[int, int]]:
    src, dst = topology.edges(k)
    return set(zip(src.tolist(), dst.tolist(), strict=True))


@pytest.mark.parametrize(
    ("graph", "edges", "degrees"),
    [
        (shipped.ring(6), 6, {2}),
        (shipped.ring(2), 1, {1}),
        (shipped.ring(1), 0, {0}),
        (shipped.path(5), 4, {1, 2}),
        (shipped.torus(12), 24, {4}),
        (shipped.torus(16), 32, {4}),
        (shipped.torus(6), 9, {3}),  # two rows: up and down are one neighbour
        (shipped.torus(4), 4, {2}),
        (shipped.torus(7, rows=1), 7, {2}),
        (shipped.hypercube(8), 12, {3}),
        (shipped.hypercube(1), 0, {0}),
        (shipped.complete(5), 10, {4}),
        (shipped.star(5), 4, {1, 4}),
        (shipped.tree(7), 6, {1, 2, 3}),
        (shipped.edgeless(3), 0, {0}),
        (shipped.random_regular(12, degree=3, seed=1), 18, {3}),
        (shipped.abilene(), 14, {2, 3}),
    ],
)
def test_undirected_shapes(graph: nx.Graph, edges: int, degrees: set[int]) -> None:
    assert sorted(graph) == list(range(len(graph)))
    assert graph.number_of_edges() == edges
    assert {d for _, d in graph.degree} == degrees


@pytest.mark.parametrize(("n", "degree"), [(1, 0), (2, 1), (5, 3), (8, 3), (9, 4), (16, 4)])
def test_exponential_sends_to_powers_of_two(n: int, degree: int) -> None:
    graph = shipped.exponential(n)
    assert {d for _, d in graph.out_degree} == {d for _, d in graph.in_degree} == {degree}
    assert all((v - u) % n in (1, 2, 4, 8) for u, v in graph.edges)


@pytest.mark.parametrize("name", ["erdos_renyi", "random_regular"])
def test_random_graphs_depend_on_their_seed_alone(name: str) -> None:
    make = getattr(shipped, name)
    first, same, other = make(20, seed=1), make(20, seed=1), make(20, seed=2)
    assert set(first.edges) == set(same.edges) != set(other.edges)
    assert nx.is_connected(first) and nx.is_connected(other)


@given(graph=st.builds(nx.gnp_random_graph, st.integers(1, 25), st.just(0.2), st.integers(0, 50), st.booleans()))
@settings(max_examples=60, deadline=None)
def test_static_edges_are_sorted_by_target_and_hold_both_directions(graph: nx.Graph) -> None:
    topology = StaticTopology(graph)
    src, dst = topology.edges(0)
    assert np.array_equal(np.lexsort((src, dst)), np.arange(len(src)))
    wanted = set(graph.edges) | (set() if graph.is_directed() else {(v, u) for u, v in graph.edges})
    assert pairs(topology) == wanted and len(src) == len(wanted)
    check = nx.is_strongly_connected if graph.is_directed() else nx.is_connected
    assert topology.connected == check(graph)


def test_hosts_choose_and_number_the_nodes_of_a_graph() -> None:
    graph = nx.Graph([("a", "r"), ("r", "b"), ("a", "b"), ("a", "a")])
    assert pairs(StaticTopology(graph, ["b", "a"])) == {(0, 1), (1, 0)}
    with pytest.raises(TopologyError, match="host 'z' is not a node"):
        StaticTopology(graph, ["z"])
    with pytest.raises(TopologyError, match="named twice"):
        StaticTopology(graph, ["a", "a"])
    doubled = nx.MultiGraph([(0, 1), (0, 1)])
    assert pairs(StaticTopology(doubled)) == {(0, 1), (1, 0)}


def test_a_thing_that_is_no_topology_is_refused() -> None:
    assert as_topology(nx.path_graph(3)).n == 3
    ring = StaticTopology(shipped.ring(3))
    assert as_topology(ring) is ring
    with pytest.raises(TopologyError, match="networkx graph or a simnet.topology.Topology, not list"):
        as_topology([1, 2])


def test_a_disconnected_topology_is_named() -> None:
    with pytest.raises(TopologyError, match="D2 needs a connected topology, and this one of 4 nodes falls into parts"):
        require_connected(StaticTopology(shipped.edgeless(4)), "D2")
    require_connected(StaticTopology(shipped.ring(4)), "D2")
    src, dst = np.array([0, 1]), np.array([1, 2])
    assert not is_connected(src, dst, 3)  # a chain of one-way edges


@given(n=st.integers(0, 30), seed=st.integers(0, 9), k=st.integers(0, 50))
@settings(max_examples=60, deadline=None)
def test_matchings_pair_all_but_an_odd_node(n: int, seed: int, k: int) -> None:
    topology = varying.RandomMatching(n, seed=seed)
    src, dst = topology.edges(k)
    assert len(np.unique(src)) == len(src) == 2 * (n // 2)
    assert pairs(topology, k) == {(b, a) for a, b in pairs(topology, k)}
    again = varying.RandomMatching(n, seed=seed)
    assert np.array_equal(again.edges(k)[0], src)


def test_matchings_differ_between_exchanges() -> None:
    topology = varying.RandomMatching(20)
    assert len({frozenset(pairs(topology, k)) for k in range(10)}) == 10


@given(seed=st.integers(0, 200), k=st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_matchings_of_a_graph_are_maximal_sets_of_its_edges(seed: int, k: int) -> None:
    graph = nx.gnp_random_graph(15, 0.25, seed=seed)
    matching = {(u, v) for u, v in pairs(varying.RandomMatching(15, seed=seed, graph=graph), k) if u < v}
    assert nx.is_maximal_matching(graph, matching)


def test_matchings_refuse_a_graph_that_does_not_fit() -> None:
    with pytest.raises(TopologyError, match="its graph is directed"):
        varying.RandomMatching(4, graph=shipped.exponential(4))
    with pytest.raises(TopologyError, match="its graph is on 5 nodes"):
        varying.RandomMatching(4, graph=shipped.ring(5))


def test_one_peer_exponential_cycles_through_its_hops() -> None:
    topology = varying.OnePeerExponential(5)
    for k, hop in enumerate([1, 2, 4, 1, 2]):
        assert pairs(topology, k) == {(i, (i + hop) % 5) for i in range(5)}
    assert pairs(varying.OnePeerExponential(1)) == set()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: shipped.torus(13), "13 nodes make no grid.*use ring"),
        (lambda: shipped.torus(12, rows=5), "rows = 5 does not divide 12"),
        (lambda: shipped.hypercube(12), "12 nodes; needs a power of 2, such as 8"),
        (lambda: shipped.random_regular(5, degree=3), "5 nodes x degree 3 is odd"),
        (lambda: shipped.random_regular(4, degree=4), "degree = 4 among 4 nodes"),
        (lambda: shipped.random_regular(8, degree=1), "no connected graph in 100 draws"),
        (lambda: shipped.erdos_renyi(50, p=0.01), r"no connected graph in 100 draws of n = 50, p = 0.01; try p above"),
        (lambda: shipped.erdos_renyi(5, p=1.5), "p = 1.5; a probability"),
        (lambda: shipped.tree(5, branching=0), "branching = 0"),
        (lambda: shipped.abilene(5), "the map has 11 nodes, the scenario 5"),
    ],
)
def test_impossible_graphs_are_refused(make: object, message: str) -> None:
    assert callable(make)
    with pytest.raises(TopologyError, match=message):
        make()
