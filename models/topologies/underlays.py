"""Networks of hosts and routers: `(n, ...) -> networkx graph` with hosts 0 .. n-1; routers only pass on.

They are underlays: name the algorithm's own graph over the hosts with `topology:`. Bandwidths in bytes/s; a link
without one has that of the scenario's `network.link`.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import networkx as nx

from simnet.errors import TopologyError
from simnet.fields import Bandwidth


def switch(n: int) -> nx.Graph:
    """All hosts at one switch: a host's link is its port, up and down."""
    return _with_routers(n, [(host, "switch") for host in range(n)], ["switch"])


def dumbbell(n: int, *, bottleneck: Bandwidth | None = None, left: int | None = None) -> nx.Graph:
    """Two switches with one link between them, the first `left` hosts (default: half) at one, the rest at the other."""
    size = (n + 1) // 2 if left is None else left
    if not 1 <= size <= n:
        raise TopologyError(f"dumbbell: left = {size} of {n} hosts; take 1 to {n}")
    graph = _with_routers(n, [(host, "left" if host < size else "right") for host in range(n)], ["left", "right"])
    graph.add_edge("left", "right", **({} if bottleneck is None else {"bandwidth": bottleneck}))
    return graph


def fat_tree(n: int, *, ports: int | None = None) -> nx.Graph:
    """The k-ary fat tree (Al-Fares, Loukissas and Vahdat, SIGCOMM 2008) of `ports` = k: room for k^3/4 hosts, in k pods
    of k/2 edge and k/2 aggregation switches under k^2/4 core switches; by default the smallest k with room for n.

    Messages take that paper's two-level routes: on the way up, the h-th host under its edge switch is reached by port
    h + z modulo k/2 of switch z of its pod, aggregation and core alike. So the hosts of one edge switch reach the hosts
    of another over all aggregation and core switches, whatever the latencies.
    """
    k = next(k for k in range(2, 1000, 2) if k**3 // 4 >= n) if ports is None else ports
    if k < 2 or k % 2 or k**3 // 4 < n:
        raise TopologyError(f"fat_tree: ports = {k}; needs an even number with room for {n} hosts, k^3/4 of them")
    half = k // 2
    edges: list[tuple[int | str, str]] = [
        (host, f"edge {host // half // half}.{host // half % half}") for host in range(n)
    ]
    pods = range(-(-n // (half * half)))
    used = sorted({switch for _, switch in edges})
    edges += [(f"edge {p}.{e}", f"aggregation {p}.{a}") for p in pods for e in range(half) for a in range(half)
              if f"edge {p}.{e}" in used]  # fmt: skip
    edges += [(f"aggregation {p}.{a}", f"core {a}.{c}") for p in pods for a in range(half) for c in range(half)]
    graph = _with_routers(n, edges, sorted({v for edge in edges for v in edge if isinstance(v, str)}))
    graph.graph["way"] = partial(_two_level, half)
    return graph


def _two_level(half: int, source: int, target: int) -> list[tuple[int | str, int | str]]:
    """The links from host to host in a fat tree of 2 `half` ports."""
    (here, _), (there, place) = divmod(source, half), divmod(target, half)
    (pod, z), (other_pod, other_z) = divmod(here, half), divmod(there, half)
    if source == target:
        return []
    nodes: list[int | str] = [source, f"edge {pod}.{z}"]
    if here != there:
        a = (place + z) % half
        nodes.append(f"aggregation {pod}.{a}")
        if pod != other_pod:
            nodes += [f"core {a}.{(place + a) % half}", f"aggregation {other_pod}.{a}"]
        nodes.append(f"edge {other_pod}.{other_z}")
    nodes.append(target)
    return list(pairwise(nodes))


def _with_routers(n: int, edges: list[tuple[int | str, str]], routers: list[str]) -> nx.Graph:
    graph = nx.Graph()
    graph.add_nodes_from(range(n))
    graph.add_nodes_from(routers, router=True)
    graph.add_edges_from(edges)
    return graph
