"""From a scenario's `network` section to the network: its graph, its links, its hosts' ports and given routes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np

from simnet import registry
from simnet.errors import MemoryTooSmall, ScenarioError, TopologyError, UnknownName, nearest
from simnet.fields import Part
from simnet.links import said_of
from simnet.memory import free_memory
from simnet.network.network import LinkSpec, Network
from simnet.scenario import Scenario
from simnet.topology import Topology
from simnet.units import human

WIRE_BYTES = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}
GRAPH_BYTES = 700  # for each node of a ring, by its networkx graph and the table of its links


def network_graph(scenario: Scenario) -> nx.Graph:
    """The underlay as a networkx graph."""
    part, n = scenario.network.graph, scenario.network.nodes
    if n is not None and part.object is None and n * GRAPH_BYTES > free_memory():
        raise MemoryTooSmall(f"a graph of {n} nodes needs at least {human(n * GRAPH_BYTES, 'bytes')}, and "
                             f"{human(free_memory(), 'bytes')} are free: take fewer nodes")  # fmt: skip
    made = part.object if part.object is not None else make_graph(scenario, part, n, "network.graph")
    if isinstance(made, Topology):
        raise TopologyError(f"{part.name!r} says who exchanges with whom, not which links there are: "
                            "name it under `topology`, over a network whose graph has the links")  # fmt: skip
    if not isinstance(made, nx.Graph):
        raise ScenarioError(f"needs a networkx graph, not {type(made).__name__}", field="network.graph")
    if n is not None and scenario.network.placement is None and len(hosts_of(made)) != n:
        raise ScenarioError(f"the graph has {len(hosts_of(made))} hosts; leave `nodes` out, make them agree, or say "
                            "by `placement` which hosts the nodes are put on",
                            field="network.nodes", value=n)  # fmt: skip
    return made


def hosts_of(graph: nx.Graph) -> list[Hashable]:
    """The nodes of an underlay that are no routers, in its order."""
    return [v for v, data in graph.nodes(data=True) if not data.get("router")]


def count_nodes(scenario: Scenario, graph: nx.Graph) -> int:
    """How many nodes the algorithm has: as said, as many as have a host given, or one for each host."""
    section, hosts = scenario.network, len(hosts_of(graph))
    given = section.placement.given or None if section.placement is not None else None
    n = section.nodes if section.nodes is not None else hosts if given is None else len(given)
    if n > hosts:
        field = "network.nodes" if given is None else "network.placement.given"
        raise ScenarioError(f"{n} nodes need a host each, and the graph has {hosts}", field=field)
    if given is not None and n != len(given):
        raise ScenarioError(f"names {len(given)} hosts for {n} nodes (`network.nodes`): name one for each node",
                            field="network.placement.given")  # fmt: skip
    return n


def make_graph(scenario: Scenario, part: Part, n: int | None, field: str) -> Any:
    """What a named topology or underlay makes for n nodes."""
    target = registry.find("topologies", part.name, scenario.base_dir, field=field, place=scenario.place)
    injected: dict[str, Any] = {"seed": scenario.seed, "base_dir": scenario.base_dir}
    if n is not None:
        injected["n"] = n
    return registry.call(target, injected, part.params, field, scenario.place)


def build_network(scenario: Scenario, graph: nx.Graph) -> Network:
    """The network over the graph, with the scenario's links."""
    section = scenario.network
    overrides: dict[tuple[Hashable, Hashable], dict[str, Any]] = {}
    for i, link in enumerate(section.links):
        values = said_of(link)
        for end in link.directions:
            if not graph.has_edge(*end):
                raise ScenarioError(f"there is no link {end[0]} -> {end[1]} in the graph", field=f"network.links.{i}")
            overrides[end] = {**overrides.get(end, {}), **values}
    hosts = hosts_of(graph)
    up, down = ports(scenario, graph, hosts)
    return Network.build(
        graph,
        LinkSpec.of(said_of(section.link)),
        overrides,
        ports=section.ports,
        receive_ports=section.receive_ports,
        policy=section.policy,
        loss_unit=section.loss_unit,
        wire_bytes_per_number=WIRE_BYTES[section.wire_dtype],
        header_bytes=section.header_bytes,
        model=section.model,
        tcp_control=section.tcp.control,
        tcp_warm=section.tcp.warm,
        given=given_routes(scenario, graph),
        up_bytes_per_s=up,
        down_bytes_per_s=down,
    )


def ports(scenario: Scenario, graph: nx.Graph, hosts: list[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes/s up and down of each host's own ports, infinite where it has none; two empty arrays where nobody has."""
    section = scenario.network
    both = [np.full(len(hosts), np.inf if limit is None else limit) for limit in (section.host.up, section.host.down)]
    number = {host: i for i, host in enumerate(hosts)}
    for k, each in enumerate(section.hosts):
        for m, name in enumerate(each.nodes):
            i = number[named(graph, name, f"network.hosts.{k}.nodes.{m}")]
            for limit_n, limit in zip(both, (each.up, each.down), strict=True):
                if limit is not None:
                    limit_n[i] = limit
    if all(np.isinf(limit_n).all() for limit_n in both):
        return np.zeros(0), np.zeros(0)
    return both[0], both[1]


def named(graph: nx.Graph, name: Any, field: str, hosts: bool = True) -> Hashable:
    """The host (or any node) of the graph that a scenario names. Raises UnknownName with the nearest name."""
    known = hosts_of(graph) if hosts else list(graph)
    for candidate in known:
        if candidate == name or str(candidate) == str(name):
            return candidate
    what = "host" if hosts else "host or router"
    raise UnknownName(f"no such {what}; there are {len(known)}{nearest(str(name), [str(v) for v in known])}",
                      field=field, value=name)  # fmt: skip


def given_routes(scenario: Scenario, graph: nx.Graph) -> dict[tuple[Hashable, Hashable], list[Hashable]]:
    """(from, to) -> the nodes of the way that the scenario gives, both ends included."""
    ways: dict[tuple[Hashable, Hashable], list[Hashable]] = {}
    for i, route in enumerate(scenario.network.routes):
        field = f"network.routes.{i}"
        at = ("between", "between") if route.between is not None else ("from", "to")
        between = [named(graph, v, f"{field}.via", hosts=False) for v in route.via]
        for forward, ends in zip((True, False), route.directions, strict=False):
            a, b = (named(graph, v, f"{field}.{where}") for v, where in zip(ends, at, strict=True))
            way = [a, *(between if forward else between[::-1]), b]
            if len(set(way)) < len(way):
                raise ScenarioError("passes the same node twice", field=f"{field}.via")
            for s, t in zip(way, way[1:], strict=False):
                if not graph.has_edge(s, t):
                    raise ScenarioError(f"there is no link {s} -> {t} in the graph", field=f"{field}.via")
            if (a, b) in ways:
                raise ScenarioError(f"the way from {a} to {b} is given twice", field=field)
            ways[a, b] = way
    return ways
