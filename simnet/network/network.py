"""The network as arrays: hosts, directed links, routes, and sets of edges over which messages travel together.

Legend: n hosts, L directed links of the underlay, E edges of one set (source host -> target host), H hops.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

from simnet.errors import ScenarioError, TopologyError
from simnet.links import NO_BURSTS, Chain, LinkTrace, loses_all
from simnet.network.background import Stream
from simnet.network.changing import WayInTime, read_link_trace, set_starts
from simnet.network.edges import of_edge
from simnet.network.flows.traces import Changes
from simnet.network.routes import Neighbours, PathTree, neighbours


@dataclass(frozen=True)
class LinkSpec:
    """What one directed link can do: bytes per second, seconds, the probability that a packet is lost, the chain of its
    bursts, the bytes that its queue holds, whether it caps each message alone, and what of it changes with time.
    """

    bandwidth_bytes_per_s: float = 12.5e6
    latency_s: float = 1e-3
    loss: float = 0.0
    burst: Chain = NO_BURSTS
    queue_bytes: float = np.inf
    fatpipe: bool = False
    trace: Changes | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LinkSpec:
        """What a scenario says of a link."""
        return cls(**{_ATTRIBUTES[name]: value for name, value in values.items()})


# what edges and overrides may say, and the field of a LinkSpec that it stands for
_ATTRIBUTES = {
    "bandwidth": "bandwidth_bytes_per_s", "latency": "latency_s", "loss": "loss", "burst": "burst",
    "queue": "queue_bytes", "fatpipe": "fatpipe", "trace": "trace",
}  # fmt: skip


class EdgeSet:
    """Edges (source host -> target host) used by one exchange, in the canonical order (target, source).

    `latency_E` adds over the route, `seconds_per_byte_E` is that of its slowest link. `port_E` numbers the queue that
    a message waits in at its sender: the host (`ports: serial`) or the first link (`parallel`). `hops_H` are the links
    of all routes one after another, `hop_ptr` where each begins. `varies` says that some link changes with time, and
    `loss_of` has the loss over time of those hops whose loss does; the arrays then hold for time 0 alone.
    """

    def __init__(self, network: Network, source: np.ndarray, target: np.ndarray) -> None:
        order = np.lexsort((source, target))
        self.n = network.n
        self.source, self.target = source[order].astype(np.int64), target[order].astype(np.int64)
        self.size = len(order)
        self.in_ptr = np.searchsorted(self.target, np.arange(self.n + 1))
        self.receivers = np.flatnonzero(np.diff(self.in_ptr))  # hosts that wait for something
        self.in_starts = self.in_ptr[self.receivers]
        self.all_receive = len(self.receivers) == self.n
        degrees = np.diff(self.in_ptr)
        self._regular = int(degrees[0]) if self.size and (degrees == degrees[0]).all() and degrees[0] <= 16 else 0
        self._route(network)
        by_port = np.lexsort((self.target, self.port_E))
        self.by_port = by_port
        ports, starts = np.unique(self.port_E[by_port], return_index=True)
        self.ports, self.port_starts = ports, starts  # the queues in use, and where each begins in `by_port`
        self.port_host = self.source[by_port[starts]] if self.size else np.zeros(0, np.int64)
        port_rank = np.empty(self.size, np.int64)
        port_rank[by_port] = np.repeat(np.arange(len(ports)), np.diff(np.append(starts, self.size)))
        self.port_rank_E = port_rank
        self._groups = self._group_ports()
        self.cumulative_E = self.queue_sums(self.seconds_per_byte_E)  # seconds per byte up to and with this message
        self._out: list[list[int]] | None = None
        self._in_time: dict[int, WayInTime] = {}
        self._make_way = network.way_in_time
        self._reverse: np.ndarray | None = None

    def _route(self, network: Network) -> None:
        direct = network.link_between(self.source, self.target)
        if (direct >= 0).all():
            self.hops_H, self.hop_ptr = direct, np.arange(self.size + 1)
        else:
            paths = [
                [int(link)] if link >= 0 else network.route(int(s), int(t))
                for s, t, link in zip(self.source, self.target, direct, strict=True)
            ]
            self.hops_H = np.array([link for path in paths for link in path], dtype=np.int64)
            self.hop_ptr = np.concatenate(([0], np.cumsum([len(path) for path in paths])))
        starts = self.hop_ptr[:-1]
        if self.size:
            self.latency_E = np.add.reduceat(network.latency_s[self.hops_H], starts)
            self.seconds_per_byte_E = np.maximum.reduceat(1.0 / network.bandwidth_bytes_per_s[self.hops_H], starts)
            self.bursty = len(network.burst) > 0 and bool((network.burst[self.hops_H, 0] > 0).any())
            self.varies = bool(network.changes) and bool(np.isin(self.hops_H, list(network.changes)).any())
            losses = {k: c.loss for k, c in network.changes.items() if c.loss is not None} if self.varies else {}
            self.loss_of = {h: losses[k] for h, k in enumerate(self.hops_H.tolist()) if k in losses} if losses else {}
            self.lossy = self.bursty or bool(self.loss_of) or bool((network.loss[self.hops_H] > 0).any())
            self.port_E = self.source if network.ports == "serial" else self.hops_H[starts]
        else:
            self.latency_E = self.seconds_per_byte_E = np.zeros(0)
            self.lossy, self.bursty, self.port_E = False, False, np.zeros(0, np.int64)
            self.varies, self.loss_of = False, {}
        self.loss_H = network.loss[self.hops_H]
        self.chain_H = network.burst[self.hops_H] if self.bursty else np.zeros((len(self.hops_H), 3))

    def way_in_time(self, e: int) -> WayInTime:
        """How the way of edge e changes with time."""
        if e not in self._in_time:
            hops = self.hops_H[self.hop_ptr[e] : self.hop_ptr[e + 1]].tolist()
            self._in_time[e] = self._make_way(hops)
        return self._in_time[e]

    def latest_by_target(self, values_E: np.ndarray) -> np.ndarray:
        """The maximum over each receiver's in-edges, in the order of `receivers`."""
        k = self._regular
        if not k:
            return np.maximum.reduceat(values_E, self.in_starts)
        latest = values_E[::k].copy()  # equal degrees: column by column is three times quicker
        for column in range(1, k):
            np.maximum(latest, values_E[column::k], out=latest)
        return latest

    def queue_sums(self, per_edge: np.ndarray) -> np.ndarray:
        """For each edge, the sum of `per_edge` over the messages up to and with its own in its sender's queue.

        Each queue is summed on its own and in its order, so no other queue shows in the last bit of a time.
        """
        out = np.empty(self.size)
        for edges in self._groups:
            out[edges] = np.cumsum(per_edge[edges], axis=1)
        return out

    def last_in_port(self, queue_E: np.ndarray) -> np.ndarray:
        """Of a sum over each queue, its value at the queue's last message, by port in use."""
        last: np.ndarray = (
            queue_E[self.by_port[np.append(self.port_starts[1:], self.size) - 1]] if self.size else queue_E
        )
        return last

    def _group_ports(self) -> list[np.ndarray]:
        """The queues by their length m: for each length, the edges of those queues, shape (queues, m)."""
        lengths = np.diff(np.append(self.port_starts, self.size))
        return [
            self.by_port[self.port_starts[lengths == m][:, None] + np.arange(m)] for m in np.unique(lengths).tolist()
        ]

    @property
    def out_edges(self) -> list[list[int]]:
        """The edges leaving each host, in the order in which its ports send them (targets ascending)."""
        if self._out is None:
            self._out = [[] for _ in range(self.n)]
            sources = self.source.tolist()
            for e in np.lexsort((self.target, self.source)).tolist():
                self._out[sources[e]].append(e)
        return self._out

    @property
    def reverse_E(self) -> np.ndarray:
        """The number of the edge that runs the other way, or -1."""
        if self._reverse is None:
            code = self.target * self.n + self.source  # ascending, by the canonical order
            wanted = self.source * self.n + self.target
            at = np.searchsorted(code, wanted)
            found = code[np.minimum(at, self.size - 1)] == wanted if self.size else np.zeros(0, bool)
            self._reverse = np.where(found, at, -1)
        return self._reverse


@dataclass
class Network:
    """Hosts 0 .. n-1 and directed links; one per run."""

    hosts: list[Any]  # names of the hosts in the underlay graph
    node_names: list[Any]  # hosts first, then routers
    link_source: np.ndarray
    link_target: np.ndarray
    latency_s: np.ndarray
    bandwidth_bytes_per_s: np.ndarray
    loss: np.ndarray
    ports: str = "serial"
    receive_ports: str = "parallel"
    policy: str = "retry"
    loss_unit: str = "packet"
    wire_bytes_per_number: int = 4
    header_bytes: int = 0
    model: str = "independent"  # how messages share links
    tcp_control: str = "cubic"
    tcp_warm: bool = True  # connections stay open from message to message
    fatpipe: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))  # links that cap but are not shared
    burst: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))  # (L, 3): chains of losses; zeros: none
    queue_bytes: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (L,): room of the queues; infinity: no end
    changes: dict[int, Changes] = field(default_factory=dict)  # links that change; the arrays have their start
    way: Callable[[Any, Any], list[tuple[Any, Any]]] | None = None  # the links from host to host, where they are given
    background: tuple[Stream, ...] = ()  # other traffic on the links
    sites: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # hosts, those without a node included
    notes: tuple[str, ...] = ()  # what reading the graph left out or filled up
    given: dict[tuple[Any, Any], list[Any]] = field(default_factory=dict)  # hosts -> the nodes of the way between them
    up_bytes_per_s: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of each host's ports; none: no limit
    down_bytes_per_s: np.ndarray = field(default_factory=lambda: np.zeros(0))
    _trees: dict[int, PathTree] = field(default_factory=dict, repr=False)
    _link_of: dict[tuple[Any, Any], int] = field(default_factory=dict, repr=False)
    _neighbours: Neighbours = field(default_factory=list, repr=False)

    @property
    def n(self) -> int:
        return len(self.hosts)

    @property
    def links(self) -> int:
        """Directed links."""
        return len(self.link_source)

    @classmethod
    def build(
        cls,
        graph: nx.Graph,
        link: LinkSpec | None = None,
        overrides: Mapping[tuple[Any, Any], Mapping[str, Any]] | None = None,
        folder: Path | None = None,
        **options: Any,
    ) -> Network:
        """The network over `graph`: an undirected edge is two links; edge attributes `bandwidth`, `latency`, `loss`
        (bytes/s, s, probability), `burst` (as in a scenario, or a chain of three), `queue` (bytes), `fatpipe` (it caps
        each message, but they do not share it) and `trace` (as in a scenario, a file in `folder`) override `link`, and
        `overrides` override both. A node with a true attribute `router` forwards only. Where the graph has an attribute
        `way`, it gives the edges from one host to another, in the place of shortest paths.
        """
        link = link or LinkSpec()
        default = {short: getattr(link, long) for short, long in _ATTRIBUTES.items()}
        hosts = [v for v, data in graph.nodes(data=True) if not data.get("router")]
        names = hosts + [v for v, data in graph.nodes(data=True) if data.get("router")]
        if not hosts:
            raise TopologyError("the network has no hosts; give at least one node that is no router")
        number = {v: i for i, v in enumerate(names)}
        overrides = overrides or {}
        policy, model = options.get("policy", "retry"), options.get("model", "independent")

        def read(asked: LinkTrace) -> Changes:
            return read_link_trace(asked, folder or Path(), policy)

        rows = []
        for a, b, data in graph.edges(data=True):
            if a == b:
                continue
            own = of_edge(a, b, data, _ATTRIBUTES, read) if data else {}
            for s, t in ((a, b),) if graph.is_directed() else ((a, b), (b, a)):
                given = {**own, **overrides.get((s, t), {})}
                rows.append((number[s], number[t], *(given.get(k, value) for k, value in default.items())))
        for s, t in overrides:
            if not graph.has_edge(s, t):
                raise ScenarioError(f"there is no link {s} -> {t} in the network's graph", field="network.links")
        rows.sort(key=lambda row: row[:2])  # several edges between two nodes keep their order
        columns = dict(
            zip(
                ("source", "target", *_ATTRIBUTES),
                zip(*rows, strict=True) if rows else [()] * (2 + len(_ATTRIBUTES)),
                strict=True,
            )
        )
        source, target = (np.array(columns[end], np.int64) for end in ("source", "target"))
        bandwidth, latency, loss, queue = (
            np.array(columns[name], np.float64) for name in ("bandwidth", "latency", "loss", "queue")
        )
        burst = np.array(columns["burst"], np.float64).reshape(-1, 3)
        if (bandwidth <= 0).any():
            raise ScenarioError("every link needs a bandwidth above 0", field="network.link.bandwidth")
        if policy == "retry" and any(map(loses_all, columns["loss"], columns["burst"])):
            raise ScenarioError("a link that loses every packet never delivers under policy retry: choose a loss "
                                "below 1, or policy drop", field="network.link.loss", value=1.0)  # fmt: skip
        if burst[:, 0].any() and options.get("loss_unit") == "message":
            raise ScenarioError("bursts are runs of packets within a message, and with `loss_unit: message` each "
                                "message is lost or not on its own: give the mean as `loss`",
                                field="network.loss_unit", value="message")  # fmt: skip
        changes = {k: trace for k, trace in enumerate(columns["trace"]) if trace is not None}
        set_starts(changes, bandwidth, latency, loss, np.array(columns["fatpipe"], bool), policy, model)
        notes = tuple(graph.graph.get("read_notes", ()))
        if np.isfinite(queue).any() and model != "tcp":
            notes += (f"queues are left out: under model {model} none overflows; tcp's do",)
        return cls(
            hosts, names, source, target, latency, bandwidth, loss,
            fatpipe=np.array(columns["fatpipe"], bool), burst=burst, queue_bytes=queue, changes=changes,
            way=graph.graph.get("way"), notes=notes,
            **options,
        )  # fmt: skip

    def link_between(self, source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The direct link of each pair of hosts that have no way given, or -1."""
        if not self.links or not len(source):
            return np.full(len(source), -1)
        total = len(self.node_names)
        codes = self.link_source * total + self.link_target  # ascending: the rows are sorted
        wanted = source * total + target
        at = np.minimum(np.searchsorted(codes, wanted), self.links - 1)
        direct = np.where(codes[at] == wanted, at, -1)
        if self.given:
            names = self.node_names
            ends = zip(source.tolist(), target.tolist(), strict=True)
            direct[[(names[s], names[t]) in self.given for s, t in ends]] = -1
        return direct

    def route(self, source: int, target: int) -> list[int]:
        """The given links, else those of the shortest path (latency, then hops, then node order) between two nodes."""
        ends = self.node_names[source], self.node_names[target]
        if ends in self.given:
            return [self._link(edge) for edge in pairwise(self.given[ends])]
        if self.way is not None:
            return [self._link(edge) for edge in self.way(*ends)]
        if not self._neighbours:
            self._neighbours.extend(
                neighbours(self.link_source, self.link_target, self.latency_s, len(self.node_names))
            )
        path = self._best(source, target)
        if path is None:
            raise TopologyError(
                f"no route from host {ends[0]} to host {ends[1]}: "
                "the network's graph is not connected; add a link or choose another graph"
            )
        return path

    def _link(self, edge: tuple[Any, Any]) -> int:
        """The number of the link between two named nodes."""
        if not self._link_of:
            ends = zip(self.link_source.tolist(), self.link_target.tolist(), strict=True)
            self._link_of.update({(self.node_names[s], self.node_names[t]): k for k, (s, t) in enumerate(ends)})
        return self._link_of[edge]

    def _best(self, source: int, target: int) -> list[int] | None:
        """The links of the best path, None where there is none; hosts with one link share the search of its end."""
        ways = self._neighbours[source]
        if len(ways) == 1 and source != target:
            (end, link, _) = ways[0]
            rest = self._tree(end).to(target)
            return None if rest is None else [link, *rest]
        return self._tree(source).to(target)

    def _tree(self, source: int) -> PathTree:
        if source not in self._trees:
            self._trees[source] = PathTree(source, self._neighbours)
        return self._trees[source]

    def way_in_time(self, links: list[int]) -> WayInTime:
        """The way over these links, as it changes with time."""
        names = [f"{self.node_names[self.link_source[k]]} -> {self.node_names[self.link_target[k]]}" for k in links]
        return WayInTime(links, names, self.changes, self.bandwidth_bytes_per_s, self.latency_s)

    def path(self, source: int, target: int) -> list[int]:
        """The links of a message's way: the direct link where there is one, else the shortest route."""
        direct = int(self.link_between(np.array([source]), np.array([target]))[0])
        return [direct] if direct >= 0 else self.route(source, target)

    @property
    def has_ports(self) -> bool:
        """Whether some host has a port up or down that all its messages share."""
        return len(self.up_bytes_per_s) > 0

    def with_ports(self, way: Sequence[int], source: int, target: int) -> tuple[int, ...]:
        """The links of a way, and where hosts have ports the sender's before and the receiver's behind them: the port
        up of host i has the number `links` + i, the port down `links` + n + i. Routers have none.
        """
        if not self.has_ports:
            return tuple(way)
        up = (self.links + source,) if source < self.n else ()
        down = (self.links + self.n + target,) if target < self.n else ()
        return (*up, *way, *down)

    def edge_set(self, source: np.ndarray, target: np.ndarray) -> EdgeSet:
        """The set of edges source[e] -> target[e] between hosts, routed."""
        return EdgeSet(self, np.asarray(source), np.asarray(target))

    def packets(self, payload_bytes: Any) -> Any:
        """Loss units of a message: packets of 1500 bytes, or the message itself (`loss_unit: message`)."""
        return 1 if self.loss_unit == "message" else np.maximum(1, -(-payload_bytes // 1500))
