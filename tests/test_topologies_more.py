"""Random families, finite-time and equi-neighbour graphs, sequences and graph files; the gaps of known tables.

N nodes; W is a mixing matrix with W[i, j] what i gives to j's message, J = 1 1'/N.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import simnet
from simnet import mixing as mx
from simnet import registry
from simnet.errors import DataError, InputError, TopologyError
from simnet.models.topologies import shipped
from simnet.models.topologies.base_graph import BaseGraph
from simnet.models.topologies.drawn import barabasi_albert, random_geometric, watts_strogatz
from simnet.models.topologies.equitopo import EquiDyn, EquiStatic
from simnet.models.topologies.maps import edge_list, gml, graphml
from simnet.models.topologies.sequences import Sequence
from simnet.models.topologies.varying import OnePeerExponential, RandomMatching
from simnet.topology import Topology, as_topology, is_connected
from tests.shared import shared_dir


def matrix(topology: Topology, k: int = 0) -> np.ndarray:
    """W of exchange k with the weights that the topology prescribes; the own weight fills the row."""
    src, dst = topology.edges(k)
    weight = topology.weights(k)
    assert weight is not None and weight.shape == src.shape
    w_NN = np.zeros((topology.n, topology.n))
    w_NN[dst, src] = weight
    return w_NN + np.diag(1 - w_NN.sum(1))


def modulus_gap(w_NN: np.ndarray) -> float:
    return float(1 - np.sort(np.abs(np.linalg.eigvals(w_NN)))[-2])


def metropolis_gap(graph: nx.Graph) -> float:
    gap = mx.spectral_gap(mx.metropolis(*as_topology(graph).edges(0), len(graph)))
    assert gap is not None
    return gap


def check_edges(topology: Topology, exchanges: int) -> None:
    """The contract of `Topology.edges`: sorted by (target, source), no loops, no doubles, both directions."""
    for k in range(exchanges):
        src, dst = topology.edges(k)
        codes = dst * topology.n + src
        assert (np.diff(codes) > 0).all() and (src != dst).all() and src.dtype == dst.dtype == np.int64
        if not topology.directed:
            assert np.array_equal(np.sort(src * topology.n + dst), codes)


# ---- the table of gaps --------------------------------------------------------------------------------------------


def test_gaps_that_have_a_formula_equal_it() -> None:
    cases: list[tuple[nx.Graph, float]] = [(shipped.complete(9), 1.0)]
    cases += [(shipped.ring(n), 2 / 3 * (1 - math.cos(2 * math.pi / n))) for n in (8, 16, 32, 64)]
    cases += [(shipped.path(16), 2 / 3 * (1 - math.cos(math.pi / 16))), (shipped.star(11), 1 / 11)]
    cases += [(shipped.torus(k * k), 2 / 5 * (1 - math.cos(2 * math.pi / k))) for k in (4, 8)]
    cases += [(shipped.hypercube(2**m), 2 / (m + 1)) for m in (4, 6)]
    for graph, gap in cases:
        assert metropolis_gap(graph) == pytest.approx(gap, abs=1e-12), graph
    for n in (6, 16, 30):
        w_NN = mx.dense(mx.uniform(*as_topology(shipped.exponential(n)).edges(0), n))
        expected = 2 / (1 + math.ceil(math.log2(n)))
        assert modulus_gap(w_NN) == pytest.approx(expected, abs=1e-12)
        assert 1 - np.linalg.norm(w_NN - 1 / n, 2) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "off"), [(8, 0.0), (16, 0.0), (6, 0.083), (12, 0.042)])
def test_one_peer_exponential_averages_exactly_for_powers_of_two_only(n: int, off: float) -> None:
    topology, product = OnePeerExponential(n), np.eye(n)
    for k in range(math.ceil(math.log2(n))):
        product = mx.dense(mx.uniform(*topology.edges(k), n)) @ product
    worst = float(np.abs(product - 1 / n).max())
    assert worst == pytest.approx(off, abs=1e-12 if off == 0 else 1e-3)


@pytest.mark.parametrize(
    ("make", "seeds", "low", "high"),
    [
        (lambda s: watts_strogatz(64, p=0.0, seed=s), 1, 0.00955, 0.00965),
        (lambda s: watts_strogatz(64, p=0.1, seed=s), 9, 0.014, 0.035),
        (lambda s: barabasi_albert(64, seed=s), 9, 0.04, 0.09),
        (lambda s: random_geometric(64, radius=0.25, seed=s), 9, 0.01, 0.06),
        (lambda s: shipped.erdos_renyi(64, seed=s), 9, 0.12, 0.33),
        (lambda s: shipped.random_regular(256, degree=4, seed=s), 3, 0.10, 0.14),
        (lambda s: shipped.random_regular(256, degree=8, seed=s), 3, 0.29, 0.35),
    ],
    ids=["ring of 4", "watts_strogatz", "barabasi_albert", "random_geometric", "erdos_renyi", "regular 4", "regular 8"],
)
def test_gaps_of_random_graphs_lie_near_the_measured_ones(
    make: Callable[[int], nx.Graph], seeds: int, low: float, high: float
) -> None:
    assert low < np.median([metropolis_gap(make(seed)) for seed in range(seeds)]) < high


@pytest.mark.parametrize("name", ["watts_strogatz", "barabasi_albert", "random_geometric"])
def test_random_families_depend_on_their_seed_alone_and_are_connected(name: str) -> None:
    make = registry.find("topologies", name)
    first, same, other = make(40, seed=1), make(40, seed=1), make(40, seed=2)
    assert set(first.edges) == set(same.edges) != set(other.edges)
    assert sorted(first) == list(range(40)) and nx.is_connected(first)


def test_geometric_edges_know_their_length() -> None:
    graph = random_geometric(30, radius=0.4, seed=3)
    for u, v, length in graph.edges(data="length"):
        a, b = graph.nodes[u], graph.nodes[v]
        assert length == pytest.approx(math.hypot(a["x"] - b["x"], a["y"] - b["y"])) and length <= 0.4


@pytest.mark.parametrize(
    "make",
    [
        lambda: watts_strogatz(10, k=3),
        lambda: watts_strogatz(4, k=4),
        lambda: watts_strogatz(10, p=1.5),
        lambda: barabasi_albert(5, m=5),
        lambda: random_geometric(50, radius=0.01),
        lambda: random_geometric(50, radius=-1.0),
        lambda: BaseGraph(5, degree=0),
        lambda: EquiStatic(5, shifts=0),
        lambda: Sequence(5, topologies=[]),
        lambda: Sequence(5, topologies=[shipped.ring(4)]),
        lambda: Sequence(5, topologies=[{"p": 0.3}]),
        lambda: RandomMatching(8, graph="exponential"),
        lambda: RandomMatching(8, graph="one_peer_exponential"),
        lambda: RandomMatching(8, graph="base_graph"),
    ],
)
def test_what_makes_no_graph_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(TopologyError):
        make()


# ---- base graph ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_one_period_of_the_base_graph_averages_exactly(degree: int) -> None:
    for n in range(1, 31):
        topology, product = BaseGraph(n, degree=degree), np.eye(n)
        check_edges(topology, topology.period)
        for k in range(topology.period):
            w_NN = matrix(topology, k)
            assert np.array_equal(w_NN, w_NN.T) and w_NN.min() >= -1e-15
            assert np.bincount(topology.edges(k)[1], minlength=n).max() <= degree
            product = w_NN @ product
        assert np.abs(product - 1 / n).max() < 1e-12
        assert topology.period <= 2 * math.log(max(n, degree + 1), degree + 1) + 2
        assert np.array_equal(topology.edges(0)[0], topology.edges(topology.period)[0])


def test_base_graph_periods_are_the_shorter_of_both_ways() -> None:
    assert BaseGraph(8).period == 3  # a power of 2: a hypercube
    assert BaseGraph(6, degree=2).period == 2  # 2 x 3
    assert BaseGraph(5, degree=4).period == 1  # complete
    assert BaseGraph(5).period == 5  # 4 + 1: two stages, one crossing, two stages


def test_weights_of_the_base_graph_reach_the_mixing() -> None:
    topology = BaseGraph(5)
    src, dst = topology.edges(2)
    mixing = mx.from_weights(src, dst, topology.weights(2), 5, grain=mx.GRAIN_FLOAT64)
    assert mixing.symmetric and mixing.doubly_stochastic
    assert np.allclose(mx.dense(mixing), matrix(topology, 2), atol=1e-15)


# ---- EquiTopo -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shifts", "gap"), [(4, 0.08), (6, 0.24), (8, 0.31), (12, 0.44)])
def test_equi_static_gaps(shifts: int, gap: float) -> None:
    found = [modulus_gap(matrix(EquiStatic(64, seed=s, shifts=shifts))) for s in range(31)]
    assert abs(float(np.median(found)) - gap) < 0.06


@pytest.mark.parametrize("undirected", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 16])
def test_equi_static_is_doubly_stochastic(n: int, undirected: bool) -> None:
    topology = EquiStatic(n, seed=4, shifts=3, undirected=undirected)
    check_edges(topology, 1)
    w_NN = matrix(topology)
    assert np.allclose(w_NN.sum(0), 1, atol=1e-15) and w_NN.min() >= 0
    assert np.allclose(np.diag(w_NN), 1 / n)
    assert not undirected or np.allclose(w_NN, w_NN.T, atol=1e-16)
    assert topology.static and is_connected(*topology.edges(0), n)
    src, dst = topology.edges(0)
    assert mx.from_weights(src, dst, topology.weights(0), n, grain=mx.GRAIN_FLOAT32).doubly_stochastic


def test_equi_static_averages_to_the_mean_of_all_shifts() -> None:
    mean = np.mean([matrix(EquiStatic(9, seed=s, shifts=2)) for s in range(800)], axis=0)
    assert np.abs(mean - 1 / 9).max() < 0.03


@pytest.mark.parametrize(("n", "contraction"), [(16, 0.4667), (64, 0.4921)])
@pytest.mark.parametrize("undirected", [False, True])
def test_equi_dyn_contracts_as_the_formula_says(n: int, contraction: float, undirected: bool) -> None:
    """Every shift is as likely as any other, so the mean over one matrix of each is the expectation."""
    topology = EquiDyn(n, seed=1, undirected=undirected)
    check_edges(topology, 20)
    project = np.eye(n) - 1 / n
    kinds: dict[int, list[np.ndarray]] = {}
    for k in range(1200 if n == 16 else 700):
        src, dst = topology.edges(k)
        hop = int((dst[0] - src[0]) % n)
        kinds.setdefault(min(hop, n - hop) if undirected else hop, []).append(matrix(topology, k))
    assert len(kinds) == (n // 2 if undirected else n - 1)
    if undirected:
        squares = np.mean([w.T @ w for group in kinds.values() for w in group], axis=0)
        assert np.trace(project @ squares) / (n - 1) == pytest.approx(contraction, abs=1e-3)
        return
    squares = np.mean([group[0].T @ group[0] for group in kinds.values()], axis=0)
    exact = 0.5 - 1 / (2 * (n - 1))
    assert np.abs(project @ squares @ project - exact * project).max() < 1e-12
    assert exact == pytest.approx(contraction, abs=5e-5)


def test_random_matchings_contract_alike() -> None:
    topology, n = RandomMatching(16, seed=2), 16
    traces = []
    for k in range(50):
        w_NN = mx.dense(mx.metropolis(*topology.edges(k), n))
        traces.append(np.trace((np.eye(n) - 1 / n) @ w_NN.T @ w_NN) / (n - 1))
    assert np.mean(traces) == pytest.approx(0.5 - 1 / 30, abs=1e-12)  # the same at every k: 8 pairs, each (x+y)/2


@pytest.mark.parametrize("n", [1, 2, 3, 9, 12])
def test_undirected_equi_dyn_pairs_each_node_once(n: int) -> None:
    topology = EquiDyn(n, seed=3, undirected=True)
    for k in range(30):
        dst = topology.edges(k)[1]
        assert np.bincount(dst, minlength=n).max(initial=0) <= 1 and len(dst) >= n // 2


# ---- sequences and names in names -----------------------------------------------------------------------------------


def test_a_sequence_takes_turns_and_each_part_counts_its_own() -> None:
    inner = OnePeerExponential(8)
    topology = Sequence(8, topologies=["ring", "one_peer_exponential", {"name": "random_regular", "degree": 3}], seed=5)
    for k in range(9):
        expected = [as_topology(shipped.ring(8)), inner, as_topology(shipped.random_regular(8, degree=3, seed=5))][
            k % 3
        ]
        for ours, theirs in zip(topology.edges(k), expected.edges(k // 3), strict=True):
            assert np.array_equal(ours, theirs)
    assert topology.directed and topology.connected and not topology.static


def test_a_sequence_is_connected_where_its_parts_are_together() -> None:
    odd, even = nx.empty_graph(4), nx.empty_graph(4)
    odd.add_edges_from([(0, 1), (2, 3)])
    even.add_edges_from([(1, 2)])
    assert Sequence(4, topologies=[odd, even]).connected
    assert not Sequence(4, topologies=[odd, odd]).connected


def test_a_sequence_passes_prescribed_weights_on() -> None:
    topology = Sequence(5, topologies=["ring", "base_graph"])
    assert topology.weights(0) is None
    assert np.array_equal(topology.weights(5), BaseGraph(5).weights(2))  # type: ignore[arg-type]


def scenario(topology: Any, **more: Any) -> dict[str, Any]:
    return {
        "network": {"nodes": 8, "graph": "complete"},
        "nodes": {"step": "1 ms"},
        "problem": {"name": "Quadratic", "dim": 3},
        "algorithm": {"name": "DPSGD", "eta": 0.05},
        "topology": topology,
        "rounds": 12,
        "execution": {"dtype": "float64"},
        **more,
    }


@pytest.mark.parametrize(
    ("topology", "mixing"),
    [
        ({"name": "random_matching", "graph": "ring"}, "metropolis"),
        ({"name": "random_matching", "graph": {"name": "erdos_renyi", "p": 0.6}}, "metropolis"),
        ({"name": "sequence", "topologies": ["ring", {"name": "random_matching"}]}, "metropolis"),
        ({"name": "base_graph", "degree": 2}, "metropolis"),
        ({"name": "equi_static", "undirected": True}, "metropolis"),
        ({"name": "equi_static"}, "uniform"),
        ("equi_dyn", "uniform"),
        ("watts_strogatz", "metropolis"),
    ],
)
def test_topologies_run_from_a_scenario(topology: Any, mixing: str) -> None:
    record = simnet.run(scenario(topology, mixing=mixing))
    assert record.rounds["objective"][-1] < record.rounds["objective"][0]


def test_a_misspelt_name_within_a_name_is_told_with_its_place() -> None:
    with pytest.raises(InputError, match="topologies.1.*did you mean 'ring'"):
        simnet.run(scenario({"name": "sequence", "topologies": ["ring", "rinng"]}))


# ---- files --------------------------------------------------------------------------------------------------------


def test_every_zoo_map_in_gml_is_read() -> None:
    files = sorted((shared_dir() / "data/topology_zoo").glob("*.gml"))
    assert len(files) == 24
    for file in files:
        graph = gml(path=str(file))
        assert sorted(graph) == list(range(len(graph))) and type(graph) is nx.Graph
        assert nx.is_connected(graph) and not list(nx.selfloop_edges(graph))


def test_gml_and_graphml_of_one_map_agree() -> None:
    folder = shared_dir() / "data/topology_zoo"
    for name in ("Abilene", "Geant2012", "Sprint", "Renater2010"):
        a, b = gml(path=f"{name}.gml", base_dir=folder), graphml(path=f"{name}.graphml", base_dir=folder)
        assert len(a) == len(b) and len(a.edges) == len(b.edges), name
    assert nx.utils.graphs_equal(
        nx.Graph(list(shipped.abilene().edges)), nx.Graph(list(gml(path=str(folder / "Abilene.gml")).edges))
    )
    with pytest.raises(TopologyError, match="11 nodes, and 12"):
        graphml(12, path="Abilene.graphml", base_dir=folder)
    assert len(gml(path=str(folder / "Telcove.gml"))) == 71  # of 73: it falls into parts


def test_decentralizepy_files_are_read() -> None:
    folder = shared_dir() / "data/edge_lists"
    star = edge_list(6, path="6_star.edges", base_dir=folder)
    assert set(star.edges) == {(0, i) for i in range(1, 6)}
    listed = edge_list(path="graph.adj", base_dir=folder)
    assert set(listed.edges) == {(0, 1), (1, 3), (1, 4), (2, 3), (2, 5), (3, 5)}
    for file in sorted(folder.glob("*.edges")):
        assert len(edge_list(path=str(file))) == int(file.name.partition("_")[0])


def test_maps_are_cleaned_by_the_rules_said(tmp_path: Path) -> None:
    (tmp_path / "m.gml").write_text(
        'graph [ node [ id 7 label "a" ] node [ id 3 label "a" ] node [ id 9 label "b" ] node [ id 1 ]'
        " edge [ source 3 target 9 bandwidth 5.0 ] edge [ source 9 target 3 bandwidth 6.0 ]"
        " edge [ source 3 target 3 ] ]"
    )
    graph = gml(path="m.gml", base_dir=tmp_path)
    assert [graph.nodes[v]["id"] for v in graph] == [3, 9]
    assert list(graph.edges(data="bandwidth")) == [(0, 1, 5.0)]
    (tmp_path / "e.edges").write_text("0 1  # a comment\n\n1,2\n5 6\n")
    assert set(edge_list(path="e.edges", base_dir=tmp_path).edges) == {(0, 1), (1, 2)}
    (tmp_path / "d.edges").write_text("4\n0 1\n1 2\n2 0\n2 3\n")
    one_way = edge_list(path="d.edges", directed=True, base_dir=tmp_path)
    assert set(one_way.edges) == {(0, 1), (1, 2), (2, 0)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.edges", "3\n0 1 2\n", "line 2: 3 numbers"),
        ("a.edges", "3\n0 x\n", "line 2: '0 x' is no list"),
        ("a.edges", "3\n\n0 3\n", "line 3: node 3 of 3"),
        ("a.edges", "", "without nodes"),
        ("a.adj", "3\n1\n0\n", "2 lists of neighbours for 3"),
        ("a.adj", "0 1\n", "line 1"),
        ("a.gml", "graph [ node [ id 0 ", "no sound GML"),
        ("a.graphml", "<graphml><node", "no sound GraphML"),
        ("a.gml", b"\xff\xfe", "not text in UTF-8"),
    ],
)
def test_broken_files_say_where(tmp_path: Path, name: str, content: str | bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    read = {"edges": edge_list, "adj": edge_list, "gml": gml, "graphml": graphml}[name.partition(".")[2]]
    with pytest.raises(DataError, match=said):
        read(path=name, base_dir=tmp_path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match="no data file"):
        gml(path="nowhere.gml")
