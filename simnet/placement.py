"""Which host each node of the algorithm's topology sits on.

    given     as the scenario says
    random    a permutation drawn from the seed: node k sits on the k-th of the shuffled hosts
    nearest   neighbours near each other, by a greedy rule: the nodes are taken breadth first over the topology, node 0
              first and onto the host in the middle of the network; each goes to the free host whose round trips to
              the hosts of its neighbours placed so far have the least sum (ties: the graph's order). The first node of
              another component goes to the first free host.

A round trip is the latency there and back over the ways that messages take. Hosts without a node only exist in
the underlay: they pass on, as routers do.

Legend: n nodes, h hosts.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Hashable, Sequence

import networkx as nx
import numpy as np

from simnet import streams
from simnet.errors import ScenarioError
from simnet.network.network import Network
from simnet.network.places import centre
from simnet.network.routes import Neighbours, neighbours
from simnet.scenario import Scenario
from simnet.topology import Topology
from simnet.underlay import build_network, hosts_of, named


def placed(scenario: Scenario, graph: nx.Graph, topology: Topology) -> nx.Graph:
    """The underlay whose k-th host is that of the topology's node k; hosts without a node are routers.

    Raises UnknownName for a host that is not there; ScenarioError for a host with two nodes, or for `nearest` over a
    topology that changes.
    """
    rule = scenario.network.placement
    assert rule is not None
    if rule.rule == "given":
        chosen = [named(graph, v, f"network.placement.given.{k}") for k, v in enumerate(rule.given)]
        for k, host in enumerate(chosen):
            if host in chosen[:k]:
                raise ScenarioError(f"host {host} has a node already: a host takes one",
                                    field=f"network.placement.given.{k}")  # fmt: skip
    elif rule.rule == "random":
        hosts = hosts_of(graph)
        shuffled = streams.permutation(streams.key(scenario.seed, "placement"), len(hosts))
        chosen = [hosts[k] for k in shuffled[: topology.n].tolist()]
    else:
        if not topology.static:
            raise ScenarioError("`nearest` needs neighbours that stay the same, and this topology changes with time: "
                                "take `random`, or give the hosts",
                                field="network.placement")  # fmt: skip
        network = build_network(scenario, graph)
        chosen = [network.hosts[k] for k in nearest_hosts(network, _partners(topology))]
    return _in_order(graph, chosen)


def _in_order(graph: nx.Graph, chosen: Sequence[Hashable]) -> nx.Graph:
    """The same graph whose hosts are those chosen, in this order."""
    out = graph.__class__()
    out.graph.update(graph.graph)
    out.add_nodes_from((v, graph.nodes[v]) for v in chosen)
    taken = set(chosen)
    free = set(hosts_of(graph)) - taken
    out.add_nodes_from(
        (v, {**data, "router": True, "idle": v in free}) for v, data in graph.nodes(data=True) if v not in taken
    )
    out.add_edges_from(graph.edges(data=True))
    return out


def _partners(topology: Topology) -> list[list[int]]:
    """The neighbours of each node, in either direction, ascending."""
    source, target = topology.edges(0)
    partners: list[set[int]] = [set() for _ in range(topology.n)]
    for s, t in zip(source.tolist(), target.tolist(), strict=True):
        if s != t:
            partners[s].add(t)
            partners[t].add(s)
    return [sorted(each) for each in partners]


def nearest_hosts(network: Network, partners: Sequence[Sequence[int]]) -> list[int]:
    """The host of each node by the rule `nearest` of the module; `partners[i]` are node i's neighbours."""
    n, hosts = len(partners), network.n
    trips = _RoundTrips(network)
    host_of = [-1] * n
    free = np.ones(hosts, bool)
    near: dict[int, np.ndarray] = {}  # node -> summed round trips from each host to its neighbours placed so far

    def put(node: int, host: int) -> None:
        host_of[node], free[host] = host, False
        near.pop(node, None)
        trip_h = trips.from_each(host)
        for other in partners[node]:
            if host_of[other] < 0:
                near[other] = near[other] + trip_h if other in near else trip_h

    for root in range(n):
        if host_of[root] >= 0:
            continue
        put(root, centre(network) if root == 0 else int(np.argmax(free)))
        waiting, seen = deque(partners[root]), {root, *partners[root]}
        while waiting:
            node = waiting.popleft()
            left = np.flatnonzero(free)
            put(node, int(left[np.argmin(near[node][left])]))
            fresh = [other for other in partners[node] if other not in seen]
            seen.update(fresh)
            waiting.extend(fresh)
    return host_of


class _RoundTrips:
    """Latencies there and back between hosts: over given ways where there are such, else over the shortest."""

    def __init__(self, network: Network) -> None:
        self.network, ends = network, (network.link_source, network.link_target)
        total = len(network.node_names)
        self._out = neighbours(*ends, network.latency_s, total)
        self._in = neighbours(*ends[::-1], network.latency_s, total)

    def from_each(self, host: int) -> np.ndarray:
        """Seconds from each host to this one and back, float64 (h,); infinite where there is no way."""
        network = self.network
        if network.way is not None or network.given:
            others = (i for i in range(network.n) if i != host)
            out = np.zeros(network.n)
            for i in others:
                out[i] = sum(network.latency_s[network.path(*ends)].sum() for ends in ((i, host), (host, i)))
            return out
        there, back = (_distances(host, ways)[: network.n] for ways in (self._in, self._out))
        return there + back


def _distances(source: int, ways: Neighbours) -> np.ndarray:
    """The least latency from one node to every other, float64 (nodes,)."""
    best = np.full(len(ways), np.inf)
    best[source] = 0.0
    heap = [(0.0, source)]
    while heap:
        far, at = heapq.heappop(heap)
        if far > best[at]:
            continue
        for end, _, latency_s in ways[at]:
            if far + latency_s < best[end]:
                best[end] = far + latency_s
                heapq.heappush(heap, (far + latency_s, end))
    return best
