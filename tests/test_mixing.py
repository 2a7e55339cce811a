"""Mixing matrices: exact sums first, in whole fractions, then spectra against their formulas."""

from __future__ import annotations

from fractions import Fraction

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simnet import mixing as mx
from simnet.errors import TopologyError
from simnet.mixing import GRAIN_FLOAT32, GRAIN_FLOAT64, Mixing
from simnet.models.topologies import shipped, varying
from simnet.topology import StaticTopology

SYMMETRIC = [mx.metropolis, mx.lazy, mx.max_degree]
GRAINS = {np.dtype(np.float32): GRAIN_FLOAT32, np.dtype(np.float64): GRAIN_FLOAT64}


def mixed(graph: nx.Graph, rule: mx.Rule = mx.metropolis, grain: float = GRAIN_FLOAT64) -> Mixing:
    topology = StaticTopology(graph)
    return rule(*topology.edges(0), topology.n, grain=grain)


def sums(m: Mixing, ends: np.ndarray) -> list[Fraction]:
    total = [Fraction(float(own)) for own in m.own]
    for end, weight in zip(ends, m.weight, strict=True):
        total[end] += Fraction(float(weight))
    return total


@st.composite
def graphs(draw: st.DrawFn) -> nx.Graph:
    n = draw(st.integers(1, 40))
    return nx.gnp_random_graph(n, draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), seed=draw(st.integers(0, 99)))


@pytest.mark.parametrize("grain", GRAINS.values())
@pytest.mark.parametrize("rule", SYMMETRIC)
@given(graph=graphs())
@settings(max_examples=30, deadline=None)
def test_symmetric_rules_are_doubly_stochastic_without_tolerance(rule: mx.Rule, grain: float, graph: nx.Graph) -> None:
    m = mixed(graph, rule, grain)
    assert m.symmetric and m.doubly_stochastic
    assert set(sums(m, m.dst)) == set(sums(m, m.src)) == {Fraction(1)}
    assert (m.own >= 0).all() and (m.weight >= 0).all()


@given(graph=graphs(), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_row_and_column_rules_are_exact_on_directed_graphs(graph: nx.Graph, seed: int) -> None:
    directed = nx.gnp_random_graph(len(graph), 0.3, seed=seed, directed=True)
    rows, columns = mixed(directed, mx.row_stochastic), mixed(directed, mx.column_stochastic)
    assert rows.row_stochastic and set(sums(rows, rows.dst)) == {Fraction(1)}
    assert columns.column_stochastic and set(sums(columns, columns.src)) == {Fraction(1)}


@pytest.mark.parametrize("dtype", GRAINS)
def test_all_ones_stay_all_ones_in_any_order_of_summation(dtype: np.dtype) -> None:
    graph = shipped.erdos_renyi(60, p=0.4, seed=3)
    m = mixed(graph, grain=GRAINS[dtype])
    generator = np.random.default_rng(0)
    for node in range(m.n):
        terms = np.append(m.weight[m.dst == node], m.own[node]).astype(dtype)
        assert np.array_equal(terms.astype(np.float64), np.append(m.weight[m.dst == node], m.own[node]))
        for _ in range(20):
            total = dtype.type(0)
            for term in generator.permutation(terms):
                total = dtype.type(total + term)
            assert total == 1


@pytest.mark.parametrize(
    ("graph", "rule", "gap"),
    [
        *[(shipped.ring(n), mx.metropolis, 2 / 3 * (1 - np.cos(2 * np.pi / n))) for n in (8, 16, 32, 64)],
        *[(shipped.path(n), mx.metropolis, 2 / 3 * (1 - np.cos(np.pi / n))) for n in (3, 16)],
        *[(shipped.torus(k * k), mx.metropolis, 2 / 5 * (1 - np.cos(2 * np.pi / k))) for k in (4, 8)],
        *[(shipped.hypercube(2**m), mx.metropolis, 2 / (m + 1)) for m in (1, 4, 6)],
        *[(shipped.star(n), mx.metropolis, 1 / n) for n in (3, 16, 50)],
        *[(shipped.complete(n), mx.metropolis, 1.0) for n in (1, 7, 16)],
        *[(shipped.exponential(n), mx.uniform, 2 / (1 + np.ceil(np.log2(n)))) for n in (2, 6, 16, 48)],
    ],
)
def test_spectral_gap_equals_its_formula(graph: nx.Graph, rule: mx.Rule, gap: float) -> None:
    assert mx.spectral_gap(mixed(graph, rule)) == pytest.approx(gap, abs=1e-12)


def test_gap_of_the_odd_exponential_graph() -> None:
    assert mx.spectral_gap(mixed(shipped.exponential(25), mx.uniform)) == pytest.approx(0.489, abs=5e-4)


def test_lazy_ring_has_no_negative_eigenvalue_and_a_plain_even_ring_reaches_minus_a_third() -> None:
    ring = shipped.ring(16)
    assert mx.lambda_min(mixed(ring)) == pytest.approx(-1 / 3, abs=1e-12)
    lazy = mx.lambda_min(mixed(ring, mx.lazy))
    assert lazy is not None and lazy == pytest.approx(1 / 3, abs=1e-12)


@pytest.mark.parametrize(
    ("graph", "rule"),
    [
        (shipped.ring(64), mx.metropolis),
        (shipped.random_regular(200, seed=1), mx.metropolis),
        (shipped.exponential(64), mx.uniform),
    ],
)
def test_large_graphs_take_the_iterative_way_to_the_same_gap(
    graph: nx.Graph, rule: mx.Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = mixed(graph, rule)
    gap, low = mx.spectral_gap(m), mx.lambda_min(m)
    monkeypatch.setattr(mx, "_DENSE_UP_TO", 10)
    assert mx.spectral_gap(m) == pytest.approx(gap, rel=2e-3)
    assert mx.lambda_min(m) == (low if low is None else pytest.approx(low, abs=2e-3))
    monkeypatch.setattr(mx, "_SPECTRUM_UP_TO", 10)
    assert mx.spectral_gap(m) is None and mx.lambda_min(m) is None


def test_a_gap_that_does_not_settle_is_not_made_up() -> None:
    assert mx.spectral_gap(mixed(shipped.ring(2500))) is None


@pytest.mark.parametrize("n", [4, 8, 32])
def test_one_peer_exponential_averages_exactly_after_log2_n_exchanges(n: int) -> None:
    topology = varying.OnePeerExponential(n)
    product = np.eye(n)
    for k in range(int(np.log2(n))):
        product = mx.dense(mx.uniform(*topology.edges(k), n)) @ product
    assert np.array_equal(product, np.full((n, n), 1 / n))


@pytest.mark.parametrize(("n", "off"), [(6, 0.083), (12, 0.042)])
def test_one_peer_exponential_is_off_where_n_is_no_power_of_two(n: int, off: float) -> None:
    topology = varying.OnePeerExponential(n)
    product = np.eye(n)
    for k in range(int(np.ceil(np.log2(n)))):
        product = mx.dense(mx.uniform(*topology.edges(k), n)) @ product
    assert np.abs(product - 1 / n).max() == pytest.approx(off, abs=1e-3)


@pytest.mark.parametrize("n", [1, 2, 7, 16])
@pytest.mark.parametrize("rule", [mx.metropolis, mx.uniform])
def test_a_matching_halves_each_pair(n: int, rule: mx.Rule) -> None:
    m = rule(*varying.RandomMatching(n, seed=5).edges(3), n)
    assert m.doubly_stochastic and m.symmetric
    assert set(m.weight) <= {0.5}


@pytest.mark.parametrize("rule", SYMMETRIC)
def test_symmetric_rules_refuse_a_directed_graph_and_name_the_cure(rule: mx.Rule) -> None:
    with pytest.raises(TopologyError, match=r"undirected graph, and \d+ -> \d+ has no way back.*column_stochastic"):
        mixed(shipped.exponential(8), rule)


def test_uniform_refuses_an_irregular_graph_and_names_the_cure() -> None:
    with pytest.raises(TopologyError, match=r"regular graph, and here nodes have 1 to 4 neighbours: use metropolis"):
        mixed(shipped.star(5), mx.uniform)


def test_kinds_are_found_exactly() -> None:
    assert mixed(shipped.ring(5)).kinds == ("symmetric", "doubly_stochastic", "row_stochastic", "column_stochastic")
    assert mixed(shipped.exponential(6), mx.uniform).kinds == (
        "doubly_stochastic",
        "row_stochastic",
        "column_stochastic",
    )
    assert mixed(shipped.star(5), mx.row_stochastic).kinds == ("row_stochastic",)
    assert mixed(shipped.star(5), mx.column_stochastic).kinds == ("column_stochastic",)
    loose = Mixing(np.array([1]), np.array([0]), np.array([0.1]), np.array([0.9, 1.0]), GRAIN_FLOAT32)
    assert loose.kinds == ()  # not multiples of the grain, so not exact


def test_no_nodes_to_talk_to_leaves_the_identity() -> None:
    m = mixed(shipped.edgeless(4))
    assert np.array_equal(mx.dense(m), np.eye(4))
    assert mx.spectral_gap(m) == 0.0
