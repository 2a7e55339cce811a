"""Static topologies: `(n, ...) -> networkx graph` on nodes 0 .. n-1. Each needs 3 to 10 lines; so does one of your own.

"gap" is the spectral gap 1 - max(|lambda_2|, |lambda_n|) under the mixing that is named.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import networkx as nx
import numpy as np

from simnet import streams
from simnet.errors import TopologyError

_TRIES = 100


def ring(n: int) -> nx.Graph:
    """Each node and its two neighbours; gap (2/3)(1 - cos(2 pi/n)) under metropolis."""
    return nx.cycle_graph(n) if n > 2 else nx.path_graph(n)


def path(n: int) -> nx.Graph:
    """A line; gap (2/3)(1 - cos(pi/n)) under metropolis."""
    return nx.path_graph(n)


def torus(n: int, *, rows: int | None = None) -> nx.Graph:
    """A grid that wraps round both ways, as square as n allows; gap (2/5)(1 - cos(2 pi/k)) for k x k, k > 2."""
    sides = [k for k in range(2, int(n**0.5) + 1) if n % k == 0]
    if rows is None and not sides:
        raise TopologyError(f"torus: {n} nodes make no grid of two sides above 1; use ring, or {n + 1} nodes")
    height = sides[-1] if rows is None else rows
    if height < 1 or n % height:
        raise TopologyError(f"torus: rows = {height} does not divide {n} nodes")
    return _numbered(nx.grid_2d_graph(height, n // height, periodic=True))


def hypercube(n: int) -> nx.Graph:
    """Nodes whose binary numbers differ in one bit; n a power of 2; gap 2/(log2 n + 1) under metropolis."""
    if n < 1 or n & (n - 1):
        raise TopologyError(f"hypercube: {n} nodes; needs a power of 2, such as {1 << max(n, 1).bit_length() - 1}")
    bits = [1 << b for b in range(n.bit_length() - 1)]
    return _graph(n, [(i, i | b) for i in range(n) for b in bits if not i & b])


def complete(n: int) -> nx.Graph:
    """Everyone to everyone; gap 1 under metropolis, that is, an exact average each round."""
    return nx.complete_graph(n)


def star(n: int) -> nx.Graph:
    """Node 0 to all others; gap 1/n under metropolis."""
    return nx.star_graph(n - 1)


def tree(n: int, *, branching: int = 2) -> nx.Graph:
    """The balanced tree with node 0 at the root: node i's parent is (i - 1) // branching."""
    if branching < 1:
        raise TopologyError(f"tree: branching = {branching}; give at least 1")
    return _graph(n, [((i - 1) // branching, i) for i in range(1, n)])


def edgeless(n: int) -> nx.Graph:
    """No edges at all: every node trains alone."""
    return nx.empty_graph(n)


def exponential(n: int) -> nx.DiGraph:
    """i -> i + 2^k mod n for every 2^k < n, directed; gap 2/(1 + ceil(log2 n)) for even n under `mixing: uniform`.

    Reference: Ying et al., NeurIPS 2021 (exponential graphs are provably efficient).
    """
    graph = nx.DiGraph()
    graph.add_nodes_from(range(n))
    hops = [1 << k for k in range(max(n - 1, 0).bit_length())]
    graph.add_edges_from((i, (i + hop) % n) for i in range(n) for hop in hops)
    return graph


def erdos_renyi(n: int, *, p: float | None = None, seed: int = 0) -> nx.Graph:
    """Each pair joined with probability p (default 2 ln n / n), drawn again under the next seed until connected."""
    chance = min(1.0, 2.0 * np.log(max(n, 2)) / max(n, 1)) if p is None else p
    if not 0 <= chance <= 1:
        raise TopologyError(f"erdos_renyi: p = {p}; a probability lies in [0, 1]")
    first, second = np.triu_indices(n, 1)
    for attempt in range(_TRIES):
        joined = streams.uniform1(streams.key(seed, "erdos_renyi", attempt), len(first)) < chance
        graph = _graph(n, list(zip(first[joined].tolist(), second[joined].tolist(), strict=True)))
        if n < 2 or nx.is_connected(graph):
            return graph
    raise TopologyError(
        f"erdos_renyi: no connected graph in {_TRIES} draws of n = {n}, p = {chance:g};"
        f" try p above ln(n)/n = {np.log(n) / n:.3g}"
    )


def random_regular(n: int, *, degree: int = 4, seed: int = 0) -> nx.Graph:
    """Uniformly random among graphs where all have `degree` neighbours; under the next seed until connected."""
    if not 0 <= degree < n:
        raise TopologyError(f"random_regular: degree = {degree} among {n} nodes; give a degree below {n}")
    if n * degree % 2:
        raise TopologyError(f"random_regular: {n} nodes x degree {degree} is odd; make one of them even")
    for attempt in range(_TRIES):
        graph = nx.random_regular_graph(degree, n, seed=streams.key(seed, "random_regular", attempt) % 2**32)
        if n < 2 or nx.is_connected(graph):
            return _graph(n, sorted(graph.edges))
    raise TopologyError(f"random_regular: no connected graph in {_TRIES} draws of n = {n}, degree = {degree}; raise it")


def abilene(n: int | None = None) -> nx.Graph:
    """The Abilene research network of 2005: 11 routers in the United States, 14 links of 10 Gbit/s.

    Nodes carry `label`, `Longitude` and `Latitude`. Source: Internet Topology Zoo (Knight et al., IEEE JSAC
    29(9), 2011), CC BY 4.0.
    """
    text = files("simnet.models.topologies").joinpath("embedded/Abilene.gml").read_text()
    graph = nx.parse_gml(text, label="id")
    if n not in (None, len(graph)):
        raise TopologyError(f"abilene: the map has {len(graph)} nodes, the scenario {n}; leave `nodes` out or write 11")
    return graph


def _graph(n: int, edges: list[tuple[int, int]]) -> nx.Graph:
    graph = nx.empty_graph(n)
    graph.add_edges_from(edges)
    return graph


def _numbered(graph: Any) -> nx.Graph:
    """Nodes renamed 0 .. n-1 in their sorted order; loops and doubled edges of short sides removed."""
    names = {label: number for number, label in enumerate(sorted(graph))}
    return _graph(len(names), [(names[u], names[v]) for u, v in graph.edges if u != v])
