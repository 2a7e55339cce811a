"""Networks from SimGrid's platform files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx

from simnet.dataset import find_file
from simnet.errors import TopologyError
from simnet.network.simgrid.over_time import link_changes
from simnet.network.simgrid.reader import read_simgrid

FABRIC = "fabric"  # where all hosts and links meet; the platform says the ways


def simgrid(n: int | None = None, *, path: str, base_dir: Path | None = None) -> nx.DiGraph:
    """The hosts and links of a SimGrid platform (XML, version 4), with the platform's own routes.

    Hosts come in the file's order; with `n` the first n. In the graph each link of the platform is an edge from the
    router `fabric` to a router `link NAME`, and each host has an edge to the fabric and back that costs nothing:
    messages take the platform's ways over these links, whatever the graph says. A link that goes both ways is one link
    that both share, unless it is SPLITDUPLEX. Profiles of links are traces. A host's speed is not read: name it under
    `nodes`.

    Args:
        n: hosts; leave it out to take all.
        path: the file, absolute or relative to the scenario.
        base_dir: folder that the path counts from.
    """
    file = find_file(path, base_dir)
    platform = read_simgrid(file)
    hosts = list(platform.hosts)
    if n is not None and n > len(hosts):
        raise TopologyError(f"{file.name}: has {len(hosts)} hosts, and {n} are asked for")
    hosts = hosts[:n]
    graph = nx.DiGraph()
    graph.add_nodes_from(hosts)
    graph.add_node(FABRIC, router=True)
    for host in hosts:
        for edge in ((host, FABRIC), (FABRIC, host)):
            graph.add_edge(*edge, bandwidth=float("inf"), latency=0.0, loss=0.0)

    def way(a: str, b: str) -> list[tuple[str, str]]:
        """The edges from one host to another."""
        names = []
        for k in platform.route(a, b):
            names.append((FABRIC, f"link {platform.links[k].name}"))
        return [(a, FABRIC), *names, (FABRIC, b)]

    for a in platform.hosts.values() if platform.distances.used else ():
        for b in platform.hosts.values():
            if a is not b and a.point.name in graph and b.point.name in graph:
                platform.way(a.point, b.point)  # makes the links that stand for distances
    for link in platform.links:
        graph.add_node(f"link {link.name}", router=True)
        said: dict[str, Any] = {"bandwidth": link.bandwidth, "latency": link.latency_s, "fatpipe": link.fatpipe}
        if link.profiles:
            said["trace"] = link_changes(platform, link)
        graph.add_edge(FABRIC, f"link {link.name}", **said)
    graph.graph["way"] = way
    graph.graph["read_notes"] = tuple(f"{file.name}: {note}" for note in platform.notes)
    return graph
