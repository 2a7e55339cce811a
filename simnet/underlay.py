"""From a scenario's `network` section to the network: its graph, its links, its hosts' ports and given routes."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import networkx as nx
import numpy as np

from simnet import registry
from simnet.errors import DataError, MemoryTooSmall, ScenarioError, TopologyError, UnknownName, nearest
from simnet.fields import Part
from simnet.links import said_of
from simnet.memory import free_memory
from simnet.network.background import Stream
from simnet.network.changing import read_link_trace
from simnet.network.network import LinkSpec, Network
from simnet.scenario import Scenario
from simnet.sections import Tcp
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


def sites_of(graph: nx.Graph) -> list[Hashable]:
    """The hosts of an underlay, those without a node of the algorithm included."""
    return [v for v, data in graph.nodes(data=True) if data.get("idle") or not data.get("router")]


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
        values = _with_trace(scenario, said_of(link), f"network.links.{i}.trace")
        at = ("between", "between") if link.between is not None else ("from", "to")
        for a, b in link.directions:
            end = (
                named(graph, a, f"network.links.{i}.{at[0]}", False),
                named(graph, b, f"network.links.{i}.{at[1]}", False),
            )
            if not graph.has_edge(*end):
                raise ScenarioError(f"there is no link {end[0]} -> {end[1]} in the graph", field=f"network.links.{i}")
            overrides[end] = {**overrides.get(end, {}), **values}
    hosts = hosts_of(graph)
    up, down = ports(scenario, graph, hosts)
    network = Network.build(
        graph,
        LinkSpec.of(_with_trace(scenario, said_of(section.link), "network.link.trace")),
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
        folder=scenario.base_dir,
    )
    if section.model != "tcp" and section.tcp != Tcp():
        network.notes += (f"network.tcp is left out: it is for `model: tcp`, and this is {section.model}",)
    number = {v: i for i, v in enumerate(network.node_names)}
    network.sites = np.array([number[v] for v in sites_of(graph)])
    network.background = streams_of(scenario, graph, network, number)
    return network


def _with_trace(scenario: Scenario, values: dict[str, Any], field: str) -> dict[str, Any]:
    """What a section says of its links, with the trace that it names read. Raises ScenarioError with file and line."""
    if "trace" in values:
        try:
            values["trace"] = read_link_trace(values["trace"], scenario.base_dir, scenario.network.policy)
        except DataError as error:
            raise ScenarioError(str(error), field=field) from None
    return values


def ports(scenario: Scenario, graph: nx.Graph, hosts: list[Hashable]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes/s up and down of each host's own ports, infinite where it has none; two empty arrays where nobody has."""
    section = scenario.network
    both = [np.full(len(hosts), np.inf if limit is None else limit) for limit in (section.host.up, section.host.down)]
    number = {host: i for i, host in enumerate(hosts)}
    for k, each in enumerate(section.hosts):
        for m, name in enumerate(each.nodes):
            i = number.get(named(graph, name, f"network.hosts.{k}.nodes.{m}"))
            if i is None:
                continue  # no node sits there, so that nothing of the algorithm's passes its ports
            for limit_n, limit in zip(both, (each.up, each.down), strict=True):
                if limit is not None:
                    limit_n[i] = limit
    if all(np.isinf(limit_n).all() for limit_n in both):
        return np.zeros(0), np.zeros(0)
    return both[0], both[1]


def named(graph: nx.Graph, name: Any, field: str, hosts: bool = True) -> Hashable:
    """The host (or any node) of the graph that a scenario names. Raises UnknownName with the nearest name."""
    known = sites_of(graph) if hosts else list(graph)
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


def streams_of(
    scenario: Scenario, graph: nx.Graph, network: Network, number: dict[Any, int]
) -> tuple[Stream, ...]:  # fmt: skip
    """The background traffic. Raises UnknownName for a host that is not there, TopologyError where no way leads on."""
    out = []
    for k, entry in enumerate(scenario.network.background):
        field, ends = f"network.background.{k}", None
        if entry.pairs is None:
            a, b = (named(graph, v, f"{field}.{at}") for v, at in ((entry.from_, "from"), (entry.to, "to")))
            if a == b:
                raise ScenarioError("goes from a host to itself, over no link", field=field)
            ends = number[a], number[b]
            network.path(*ends)
        elif len(network.sites) < 2:
            raise ScenarioError("needs two hosts to draw pairs from", field=f"{field}.pairs")
        every = entry.every if entry.every is not None else entry.size / entry.load if entry.load else 0.0
        out.append(Stream(k, entry.size, ends, tuple(entry.at or ()), every, entry.law == "regular", entry.start or 0.0,
                          np.inf if entry.until is None else entry.until))  # fmt: skip
    if any(stream.ends is None for stream in out) and network.way is None:
        links = nx.DiGraph(zip(network.link_source.tolist(), network.link_target.tolist(), strict=True))
        links.add_nodes_from(network.sites.tolist())
        first, *others = network.sites.tolist()
        reached = nx.descendants(links, first) & nx.ancestors(links, first)
        if cut_off := [network.node_names[v] for v in others if v not in reached]:
            raise TopologyError(f"background traffic between any two hosts: hosts {network.node_names[first]} and "
                                f"{cut_off[0]} cannot reach each other, there and back; add a link, or name `from` and "
                                "`to`")  # fmt: skip
    return tuple(out)
