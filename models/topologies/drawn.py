"""Random graph families; each depends on its seed alone, and is drawn again under the next until connected.

"gap" is the spectral gap 1 - max(|lambda_2|, |lambda_n|) under metropolis.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import networkx as nx
import numpy as np

from simnet import streams
from simnet.errors import TopologyError

_TRIES = 100


def watts_strogatz(n: int, *, k: int = 4, p: float = 0.1, seed: int = 0) -> nx.Graph:
    """A small world: a ring of k nearest neighbours, each edge rewired at one end with probability p.

    n = 64, k = 4: gap .0096 at p = 0, about .02 at p = 0.1. Reference: Watts and Strogatz, Nature 393, 1998.
    """
    if not 2 <= k < n or k % 2:
        raise TopologyError(f"watts_strogatz: k = {k} among {n} nodes; give an even number from 2 to below {n}")
    if not 0 <= p <= 1:
        raise TopologyError(f"watts_strogatz: p = {p}; a probability lies in [0, 1]")
    return _connected(
        lambda key: nx.watts_strogatz_graph(n, k, p, seed=key % 2**32),
        f"watts_strogatz: n = {n}, k = {k}, p = {p}",
        seed,
    )


def barabasi_albert(n: int, *, m: int = 2, seed: int = 0) -> nx.Graph:
    """Hubs: each node in turn joins m earlier ones, the likelier the more neighbours they have; always connected.

    n = 64, m = 2: degrees 2 to 19, gap about .06. Reference: Barabasi and Albert, Science 286, 1999.
    """
    if not 1 <= m < n:
        raise TopologyError(f"barabasi_albert: m = {m} among {n} nodes; give a number from 1 to below {n}")
    return _connected(
        lambda key: nx.barabasi_albert_graph(n, m, seed=key % 2**32), f"barabasi_albert: n = {n}, m = {m}", seed
    )


def random_geometric(n: int, *, radius: float | None = None, seed: int = 0) -> nx.Graph:
    """Points uniform in the unit square, joined where at most `radius` apart (default sqrt(2 ln n / (pi n))).

    Nodes carry `x` and `y`, edges `length`. Connected with high probability for a radius above sqrt(ln n / (pi n)).
    n = 64, radius 0.25: degree about 9, gap about .04.
    """
    reach = math.sqrt(2 * math.log(max(n, 2)) / (math.pi * max(n, 1))) if radius is None else radius
    if reach <= 0:
        raise TopologyError(f"random_geometric: radius = {radius}; give a length above 0 in the unit square")

    def draw(key: int) -> nx.Graph:
        at_N2 = streams.uniform1(key, 2 * n).reshape(n, 2)
        graph = nx.empty_graph(n)
        for node, (x, y) in enumerate(at_N2.tolist()):
            graph.nodes[node].update(x=x, y=y)
        for i in range(n - 1):
            apart = np.hypot(*(at_N2[i + 1 :] - at_N2[i]).T)
            near = np.flatnonzero(apart <= reach)
            graph.add_edges_from((i, i + 1 + j, {"length": float(apart[j])}) for j in near.tolist())
        return graph

    cure = f"; try a radius above sqrt(ln n / (pi n)) = {math.sqrt(math.log(max(n, 2)) / (math.pi * max(n, 1))):.3g}"
    return _connected(draw, f"random_geometric: n = {n}, radius = {reach:.3g}", seed, cure)


def _connected(draw: Callable[[int], nx.Graph], what: str, seed: int, cure: str = "; add edges") -> nx.Graph:
    name = what.partition(":")[0]
    for attempt in range(_TRIES):
        graph = draw(streams.key(seed, name, attempt))
        if len(graph) < 2 or nx.is_connected(graph):
            return graph
    raise TopologyError(f"{what}: no connected graph in {_TRIES} draws{cure}")
