"""Who talks to whom: directed edges, fixed or a function of the exchange's number k.

Shapes: N nodes, E edges.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import networkx as nx
import numpy as np

from simnet.errors import TopologyError


class Topology(ABC):
    """A communication graph over nodes 0 .. N-1.

    Attributes:
        n: N.
        directed: whether an edge may lack its reverse.
        static: whether `edges` is the same at every k.
        connected: whether every node can reach every other, over all exchanges taken together.
    """

    n: int
    directed: bool = False
    static: bool = False
    connected: bool = True

    @abstractmethod
    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Sources and targets of the directed edges of exchange k, int64 (E,) each.

        Sorted by (target, source); an undirected edge stands in both directions; no loops, no doubles. The
        caller must not write into the arrays.
        """

    def weights(self, k: int) -> np.ndarray | None:
        """The weight of each edge where the topology prescribes it, float64 (E,); None leaves it to the mixing."""
        return None


class StaticTopology(Topology):
    """A networkx graph as a topology; loops are dropped, parallel edges count once.

    Args:
        graph: a Graph or DiGraph (or their multigraphs).
        hosts: the graph's nodes that are nodes of the topology, in order; by default all, in the order of their
            numbers where they are 0 to n-1, else in the graph's. Edges to other nodes (routers) are no part of it.
    """

    static = True

    def __init__(self, graph: nx.Graph, hosts: Sequence[Hashable] | None = None) -> None:
        self.graph = graph
        if hosts is None:
            hosts = range(len(graph)) if set(graph) == set(range(len(graph))) else list(graph)
        self.hosts = list(hosts)
        self.n, self.directed = len(self.hosts), graph.is_directed()
        number = {host: i for i, host in enumerate(self.hosts)}
        if len(number) < self.n:
            raise TopologyError("a host is named twice in the list of hosts")
        for host in self.hosts:
            if host not in graph:
                raise TopologyError(f"host {host!r} is not a node of the graph")
        pairs = [(number[u], number[v]) for u, v in graph.edges() if u in number and v in number and u != v]
        src, dst = np.array(pairs, np.int64).reshape(-1, 2).T
        if not self.directed:
            src, dst = np.concatenate([src, dst]), np.concatenate([dst, src])
        self._edges = sorted_edges(src, dst, self.n)
        self.connected = is_connected(*self._edges, self.n)

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._edges


class Among(Topology):
    """Everyone of a few nodes to everyone else of them, with equal weights; the others are on their own."""

    static = True
    connected = False

    def __init__(self, hosts: np.ndarray, n: int) -> None:
        self.n, self.hosts = n, hosts
        source, target = (grid.ravel() for grid in np.meshgrid(hosts, hosts))
        apart = source != target
        self._edges = sorted_edges(source[apart], target[apart], n)

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._edges

    def weights(self, k: int) -> np.ndarray:
        return np.full(len(self._edges[0]), 1.0 / max(len(self.hosts), 1))


class Halves(Topology):
    """The edges of another topology, a matching at every exchange, with weights 1/2: each pair's mean."""

    def __init__(self, inner: Topology) -> None:
        self.n, self.inner, self.connected = inner.n, inner, inner.connected

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.inner.edges(k)

    def weights(self, k: int) -> np.ndarray:
        return np.full(len(self.edges(k)[0]), 0.5)


def sorted_edges(src: np.ndarray, dst: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges sorted by (target, source), each once, as read-only int64 arrays."""
    codes = np.unique(np.asarray(dst, np.int64) * n + np.asarray(src, np.int64))
    targets, sources = np.divmod(codes, max(n, 1))
    for array in (sources, targets):
        array.setflags(write=False)
    return sources, targets


def weighted_edges(
    src: np.ndarray, dst: np.ndarray, weight: np.ndarray, n: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges sorted by (target, source) with their weights, read-only; the weights of an edge given twice add up."""
    codes = np.asarray(dst, np.int64) * n + np.asarray(src, np.int64)
    unique, place = np.unique(codes, return_inverse=True)
    total = np.bincount(place, weight, len(unique))
    targets, sources = np.divmod(unique, max(n, 1))
    for array in (sources, targets, total):
        array.setflags(write=False)
    return sources, targets, total


def is_connected(src: np.ndarray, dst: np.ndarray, n: int) -> bool:
    """Whether every node reaches every other along directed edges (an empty or one-node graph does)."""
    return n < 2 or (_reaches_all(src, dst, n) and _reaches_all(dst, src, n))


def _reaches_all(src: np.ndarray, dst: np.ndarray, n: int) -> bool:
    """Whether node 0 reaches all: a breadth-first search over adjacency arrays."""
    order = np.argsort(src, kind="stable")
    targets = dst[order]
    starts = np.searchsorted(src[order], np.arange(n + 1))
    seen = np.zeros(n, bool)
    seen[0] = True
    front = np.zeros(1, np.int64)
    while len(front):
        counts = starts[front + 1] - starts[front]
        offsets = np.repeat(starts[front] - np.cumsum(counts) + counts, counts)
        reached = np.unique(targets[offsets + np.arange(counts.sum())])
        front = reached[~seen[reached]]
        seen[front] = True
    return bool(seen.all())


def require_connected(topology: Topology, who: str) -> None:
    """TopologyError where `topology` falls apart; `who` needs it whole."""
    if not topology.connected:
        raise TopologyError(
            f"{who} needs a connected topology, and this one of {topology.n} nodes falls into parts;"
            " add edges, or take another topology (ring, exponential, random_regular)"
        )


def require_tree(topology: Topology, who: str) -> None:
    """TopologyError where a connected `topology` has directed edges or a cycle, or changes; `who` needs a tree."""
    cure = "take 'topology: path', 'star' or 'tree', or in Python nx.minimum_spanning_tree(graph)"
    if topology.directed or not topology.static:
        what = "is directed" if topology.directed else "changes"
        raise TopologyError(f"{who} needs an undirected tree that stays the same, and this topology {what}: {cure}")
    edges = len(topology.edges(0)[0]) // 2
    if edges != topology.n - 1:
        raise TopologyError(
            f"{who} needs a tree, and this topology of {topology.n} nodes has {edges} edges where a tree has"
            f" {topology.n - 1}: {cure}"
        )


def as_topology(given: Any, hosts: Sequence[Hashable] | None = None) -> Topology:
    """A Topology as it is, a networkx graph as a StaticTopology."""
    if isinstance(given, Topology):
        return given
    if isinstance(given, nx.Graph):
        return StaticTopology(given, hosts)
    raise TopologyError(f"a topology is a networkx graph or a simnet.topology.Topology, not {type(given).__name__}")
