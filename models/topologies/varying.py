"""Topologies that change from one exchange to the next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from simnet import streams
from simnet.errors import TopologyError
from simnet.models.topologies.sequences import made
from simnet.topology import StaticTopology, Topology, sorted_edges


class OnePeerExponential(Topology):
    """Exchange k: i -> i + 2^(k mod tau) mod n with tau = ceil(log2 n); each node sends one message.

    With weights 1/2 (`mixing: uniform`), tau exchanges in a row average exactly iff n is a power of 2.
    Reference: Ying et al., NeurIPS 2021; Assran et al., ICML 2019.
    """

    directed = True

    def __init__(self, n: int) -> None:
        self.n = n
        ids = np.arange(n)
        hops = [1 << k for k in range(max(n - 1, 0).bit_length())]
        none = np.zeros(0, np.int64)
        self._cycle = [sorted_edges(ids, (ids + hop) % n, n) for hop in hops] or [(none, none)]

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._cycle[k % len(self._cycle)]


class RandomMatching(Topology):
    """Exchange k: a random set of disjoint pairs, drawn afresh from (seed, k); metropolis gives each pair 1/2.

    Over all pairs, a uniformly random permutation is cut into pairs (an odd node out stays alone). With
    `graph`, pairs are neighbours in it: edges in random order, each taken while both ends are free, so the
    matching is maximal.

    Args:
        n: nodes.
        seed: of the draws, and of `graph` where that is a name and draws.
        graph: a name (`ring`), a mapping `{name: erdos_renyi, p: 0.3}` or a networkx graph.
        hosts: the nodes of `graph` that are nodes here, in order; by default all.
        base_dir: folder that file names count from.
    """

    def __init__(
        self,
        n: int,
        *,
        seed: int = 0,
        graph: str | dict[str, Any] | nx.Graph | None = None,
        hosts: list[Any] | None = None,
        base_dir: Path | None = None,
    ) -> None:
        self.n, self.seed = n, seed
        self._pairs: tuple[np.ndarray, np.ndarray] | None = None
        if graph is None:
            return
        given = made(graph, n, seed, base_dir, "topology.graph")
        base = given if isinstance(given, Topology) else StaticTopology(given, hosts)
        if base.directed or base.n != n or not base.static:
            kind = "directed" if base.directed else f"on {base.n} nodes" if base.static else "another at each exchange"
            raise TopologyError(f"random_matching: its graph is {kind}; needs an undirected fixed one on {n} nodes")
        src, dst = base.edges(0)
        self._pairs = src[src < dst], dst[src < dst]
        self.connected = base.connected

    def edges(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        key = streams.key(self.seed, "random_matching", k)
        if self._pairs is None:
            order = streams.permutation(key, self.n)
            half = self.n // 2
            left, right = order[0 : 2 * half : 2], order[1 : 2 * half : 2]
        else:
            left, right = _greedy(*self._pairs, streams.permutation(key, len(self._pairs[0])), self.n)
        return sorted_edges(np.concatenate([left, right]), np.concatenate([right, left]), self.n)


def _greedy(left: np.ndarray, right: np.ndarray, order: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Edges in `order`, each kept if both ends are free; in parallel: an edge first at both its ends is kept."""
    left, right = left[order], right[order]
    rank = np.arange(len(order))
    kept = np.zeros(len(order), bool)
    while len(rank):
        first = np.full(n, len(order))
        np.minimum.at(first, left[rank], rank)
        np.minimum.at(first, right[rank], rank)
        chosen = rank[(first[left[rank]] == rank) & (first[right[rank]] == rank)]
        kept[chosen] = True
        busy = np.zeros(n, bool)
        busy[left[chosen]] = busy[right[chosen]] = True
        rank = rank[~busy[left[rank]] & ~busy[right[rank]]]
    return left[kept], right[kept]
