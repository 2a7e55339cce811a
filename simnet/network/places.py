"""Hosts by name, and the host in the middle."""

from __future__ import annotations

from typing import Any

import networkx as nx

from simnet.errors import UnknownName, nearest
from simnet.network.network import Network


def centre(network: Network) -> int:
    """The host with the least largest distance in hops to any other (ties: the first); of very large graphs, the
    middle of a longest path found by two searches.
    """
    graph = nx.Graph()
    graph.add_nodes_from(range(len(network.node_names)))
    graph.add_edges_from(zip(network.link_source.tolist(), network.link_target.tolist(), strict=True))
    if network.n <= 1000:
        reach = {h: max(nx.single_source_shortest_path_length(graph, h).values()) for h in range(network.n)}
        return min(reach, key=lambda h: (reach[h], h))
    first = max(nx.single_source_shortest_path_length(graph, 0).items(), key=lambda pair: pair[1])[0]
    paths = nx.single_source_shortest_path(graph, first)
    longest = max(paths.values(), key=len)
    return next(h for h in longest[len(longest) // 2 :] + longest if h < network.n)


def host_number(network: Network, name: Any, field: str) -> int:
    """A host's number from its name (or its number, as text or int)."""
    for candidate in (name, str(name)):
        names = network.hosts if candidate is name else [str(h) for h in network.hosts]
        if candidate in names:
            return names.index(candidate)
    hint = nearest(str(name), [str(h) for h in network.hosts])
    raise UnknownName(f"no such host; there are {network.n}{hint}", field=field, value=name)
