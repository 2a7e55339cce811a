"""Our own platform files: hosts, routers, directed links, ports, given routes, and flows, in YAML with units.

hosts: {a: {up: 20 Mbit/s, down: 100 Mbit/s}, b: {}}
routers: [r]
links:
  - {between: [a, r], bandwidth: 100 Mbit/s, latency: 5 ms}             both directions
  - {from: r, to: b, bandwidth: 1 Gbit/s, latency: 10 ms, loss: 1 %, queue: 1 MB, fatpipe: true}
  - {from: b, to: a, trace: lte.up, latency: 30 ms}                     what of it changes; see traces.py
routes: [{from: a, to: b, via: [a, r, b]}]                              others: least latency, hops, node order
flows: [{from: a, to: b, bytes: 10 MB, start: 1 s, delay: 0 s, after: [0]}]

In the place of hosts, routers, links and routes, `platform: cluster.xml` names a SimGrid platform, `platform: isp.gml`
(or .graphml) a map, and `platform: rtt.csv` a matrix of round-trip times; see imported.py and maps.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from simnet import sources
from simnet.errors import DataError, ScenarioError, TopologyError, nearest
from simnet.explain import explain
from simnet.fields import Bandwidth, Bytes, Host, Loss, Seconds, Section, refuse
from simnet.links import NO_BURSTS, Burst, Traced, loses_all
from simnet.network.flows.case import Case, Transfers
from simnet.network.flows.links import Links
from simnet.network.flows.traces import Changes, Trace, read_changes
from simnet.network.routes import PathTree, neighbours

S = TypeVar("S", bound=Section)


class HostPorts(Section):
    """A host; what all its transfers together may send and receive."""

    up: Bandwidth | None = None
    down: Bandwidth | None = None


def check_loss(loss: float, burst: Burst | None) -> None:
    """Refuses a link over which nothing ever gets."""
    if loses_all(loss, NO_BURSTS):
        raise refuse("must be below 1: what is lost is sent again until it is through", at="loss")
    if burst is not None and loses_all(loss, burst.chain):
        raise refuse("loses every packet in its bad state and never leaves it: give `to_good` above 0", at="burst")


class PlatformLink(Section):
    """A link: `between: [a, b]` for one in each direction, `from` and `to` for one; `bandwidth` or `trace`. What the
    trace has (bandwidth, latency, loss) stands in the place of the link's own.
    """

    between: tuple[Host, Host] | None = None
    from_: Annotated[Host | None, Field(alias="from")] = None
    to: Host | None = None
    bandwidth: Bandwidth | None = None
    trace: Traced | None = None
    latency: Seconds = 0.0
    loss: Loss = 0.0
    burst: Burst | None = None
    queue: Bytes = float("inf")
    fatpipe: bool = False

    @model_validator(mode="after")
    def _names_one_link(self) -> Self:
        one_way = self.from_ is not None and self.to is not None
        if one_way == (self.between is not None) or (self.from_ is None) != (self.to is None):
            raise refuse("needs either `between: [a, b]` (both directions) or `from: a` with `to: b` (one)")
        if self.bandwidth is None and self.trace is None:
            raise refuse("needs either `bandwidth`, such as '100 Mbit/s', or `trace`, the file of one that changes")
        if any(a == b for a, b in self.ends()):
            raise refuse("joins a node to itself; leave it out", at="between" if self.between else "to")
        check_loss(self.loss, self.burst)
        return self

    def ends(self) -> list[tuple[str, str]]:
        """Source and target of each direction."""
        if self.between is not None:
            a, b = map(str, self.between)
            return [(a, b), (b, a)]
        return [(str(self.from_), str(self.to))]


def _named_hosts(value: Any) -> Any:
    if isinstance(value, list):
        raise refuse("must be a mapping, which may give each host its ports: {a: , b: {up: 20 Mbit/s}}")
    return value


class PlatformRoute(Section):
    """The way from one host to another, by the nodes on it."""

    from_: Annotated[Host, Field(alias="from")]
    to: Host
    via: list[Host]


class PlatformFlow(Section):
    """One transfer."""

    from_: Annotated[Host, Field(alias="from")]
    to: Host
    bytes: Bytes
    start: Seconds = 0.0
    delay: Seconds = 0.0
    after: list[int] = []


class Workload(Section):
    """What is transferred, and how."""

    name: str = "platform"
    flows: list[PlatformFlow]
    cc: Literal["cubic", "reno", "bbr"] = "cubic"
    warm: bool = False


class Platform(Workload):
    """A platform file."""

    hosts: Annotated[dict[Host, HostPorts | None], BeforeValidator(_named_hosts)]
    routers: list[Host] = []
    links: list[PlatformLink]
    routes: list[PlatformRoute] = []


class MapLink(Section):
    """What the links of a map are of which it says nothing."""

    bandwidth: Bandwidth | None = None
    latency: Seconds | None = None
    loss: Loss = 0.0
    burst: Burst | None = None
    queue: Bytes = float("inf")

    @model_validator(mode="after")
    def _lets_through(self) -> Self:
        check_loss(self.loss, self.burst)
        return self


class ImportedPlatform(Workload):
    """A file that names another one's network; with a map, what its links and hosts are besides."""

    platform: str
    link: MapLink | None = None
    host: HostPorts | None = None


def read_platform(path: Path) -> Case:
    """The case in a platform file. Raises ScenarioError with line and column, TopologyError for what does not join."""
    raw, places = sources.load(path, "a platform", "hosts: {a: {}, b: {}}")
    return platform_case({"name": path.stem, **raw}, places)


def platform_case(raw: Mapping[str, Any], places: sources.Places | None = None) -> Case:
    """The case of a platform given as a mapping."""
    places = places or sources.Places()
    if "platform" not in raw:
        return built_case(_valid(Platform, raw, places), places)
    both = next((key for key in ("hosts", "routers", "links", "routes") if key in raw), None)
    if both is not None:
        said = f"stands beside `platform`, which names a file that has the {both}: leave one of the two out"
        raise ScenarioError(said, place=places.of(both, key=True), field=both)
    from simnet.network.flows.imported import imported_case

    return imported_case(_valid(ImportedPlatform, raw, places), places)


def built_case(platform: Platform, places: sources.Places, notes: tuple[str, ...] = ()) -> Case:
    """The case of a platform whose every link is given."""
    return _Builder(platform, places).case(notes)


def _valid(section: type[S], raw: Mapping[str, Any], places: sources.Places) -> S:
    try:
        return section.model_validate(dict(raw))
    except ValidationError as error:
        raise explain(error, section, raw, places) from None


def transfers_of(workload: Workload, source: list[int], target: list[int]) -> Transfers:
    """The flows of a file, whose hosts have these numbers."""
    flows = workload.flows
    return Transfers(
        np.array(source, np.int64), np.array(target, np.int64), np.array([f.bytes for f in flows], np.float64),
        np.array([f.start for f in flows], np.float64), np.array([f.delay for f in flows], np.float64),
        [tuple(f.after) for f in flows],
    )  # fmt: skip


class _Builder:
    """Names become numbers; ports become links; routes are sought."""

    def __init__(self, platform: Platform, places: sources.Places) -> None:
        self.platform, self.places = platform, places
        self.hosts = [str(host) for host in platform.hosts]
        self.nodes = self.hosts + [str(router) for router in platform.routers]
        self.number = {name: i for i, name in enumerate(self.nodes)}
        if len(self.number) < len(self.nodes):
            twice = next(name for name in self.number if self.nodes.count(name) > 1)
            raise self._error("routers", f"the name {twice!r} stands for two nodes")
        self.rows: list[tuple[float, float, bool, float, tuple[float, float, float], float, str]] = []
        self.ends: list[tuple[int, int]] = []
        self.traces: dict[int, Trace] = {}
        self.starts: dict[int, Changes] = {}
        for i, link in enumerate(platform.links):
            changes = self._changes(i, link)
            trace, latency, loss = changes.bandwidth, changes.latency, changes.loss
            bandwidth = trace.mean if trace is not None else link.bandwidth
            assert bandwidth is not None  # `_changes` has seen to it
            burst = link.burst.chain if link.burst else NO_BURSTS
            first_latency_s = link.latency if latency is None else latency.at(0.0)
            first_loss = link.loss if loss is None else loss.at(0.0)
            for a, b in link.ends():
                self.ends.append((self._node(a, f"links.{i}"), self._node(b, f"links.{i}")))
                if trace is not None:
                    self.traces[len(self.rows)] = trace
                if latency is not None or loss is not None:
                    self.starts[len(self.rows)] = changes
                row = (bandwidth, first_latency_s, link.fatpipe, first_loss, burst, link.queue, f"{a}->{b}")
                self.rows.append(row)
        self.up, self.down = self._ports("up"), self._ports("down")

    def _error(self, field: str, message: str) -> ScenarioError:
        return ScenarioError(message, place=self.places.of(field), field=field)

    def _changes(self, i: int, link: PlatformLink) -> Changes:
        """What of link i changes with time."""
        if link.trace is None:
            return Changes()
        asked = link.trace
        folder = self.places.file.parent if self.places.file is not None else Path()
        try:
            changes = read_changes(folder / asked.file, asked.at_end, asked.bin)
        except DataError as error:
            raise self._error(f"links.{i}.trace", str(error)) from None
        if (changes.bandwidth is None) == (link.bandwidth is None):
            cure = "leave `bandwidth` out" if link.bandwidth else "give the link one"
            has = "a" if link.bandwidth else "no"
            raise self._error(f"links.{i}.trace", f"{asked.file} has {has} column of bandwidth: {cure}")
        return changes

    def _node(self, name: str, field: str, among: list[str] | None = None) -> int:
        known = among if among is not None else self.nodes
        if name not in known:
            what = "host" if among is not None else "host or router"
            raise self._error(field, f"there is no {what} {name!r}{nearest(name, known)}")
        return self.number[name]

    def _ports(self, side: str) -> dict[int, int]:
        """The link that stands for each host's port."""
        made = {}
        for name, host in self.platform.hosts.items():
            rate = getattr(host, side) if host is not None else None
            if rate is not None:
                made[self.number[str(name)]] = len(self.rows)
                self.rows.append((rate, 0.0, False, 0.0, (0.0, 0.0, 0.0), float("inf"), f"{name} {side}"))
        return made

    def case(self, notes: tuple[str, ...]) -> Case:
        columns = list(zip(*self.rows, strict=True)) or [()] * 7
        links = Links(
            bandwidth=np.array(columns[0], np.float64), latency_s=np.array(columns[1], np.float64),
            fatpipe=np.array(columns[2], bool), loss=np.array(columns[3], np.float64),
            burst=np.array(columns[4], np.float64).reshape(-1, 3), queue_bytes=np.array(columns[5], np.float64),
            names=tuple(columns[6]),
        )  # fmt: skip
        flows = self.platform.flows
        source = [self._node(str(f.from_), f"flows.{i}.from", self.hosts) for i, f in enumerate(flows)]
        target = [self._node(str(f.to), f"flows.{i}.to", self.hosts) for i, f in enumerate(flows)]
        transfers = transfers_of(self.platform, source, target)
        pairs = dict.fromkeys(zip(source, target, strict=True))
        routes = self._routes(links, dict.fromkeys([*pairs, *((b, a) for a, b in pairs)]))
        return Case(
            self.platform.name, tuple(self.hosts), links, routes, transfers, self.platform.cc, self.platform.warm,
            traces=self.traces, starts=self.starts, notes=notes, place_of=self.places.of,
        )  # fmt: skip

    def _routes(self, links: Links, pairs: Mapping[tuple[int, int], None]) -> dict[tuple[int, int], tuple[int, ...]]:
        """Given routes, else the shortest; with the ports at both ends."""
        given = self._given(links)
        ends = np.array(self.ends, np.int64).reshape(-1, 2)
        out = neighbours(ends[:, 0], ends[:, 1], links.latency_s[: len(ends)], len(self.nodes))
        trees: dict[int, PathTree] = {}
        routes = {}
        for a, b in pairs:
            way: list[int] | None = given.get((a, b))
            if way is None:
                if a not in trees:
                    trees[a] = PathTree(a, out)
                way = trees[a].to(b)
            if way is not None:
                up, down = [self.up[a]] if a in self.up else [], [self.down[b]] if b in self.down else []
                routes[a, b] = (*up, *way, *down)
        return routes

    def _given(self, links: Links) -> dict[tuple[int, int], list[int]]:
        """The platform's own routes, each as its links (the quickest where two nodes have several)."""
        best: dict[tuple[int, int], int] = {}
        for k, ends in enumerate(self.ends):
            if ends not in best or links.latency_s[k] < links.latency_s[best[ends]]:
                best[ends] = k
        given = {}
        for i, route in enumerate(self.platform.routes):
            field = f"routes.{i}.via"
            nodes = [self._node(str(name), field) for name in route.via]
            a = self._node(str(route.from_), f"routes.{i}.from", self.hosts)
            b = self._node(str(route.to), f"routes.{i}.to", self.hosts)
            if nodes[:1] != [a] or nodes[-1:] != [b]:
                raise self._error(field, f"must begin with {route.from_} and end with {route.to}")
            if len(set(nodes)) < len(nodes):
                twice = next(self.nodes[node] for node in nodes if nodes.count(node) > 1)
                raise self._error(field, f"passes {twice} twice: name each node once")
            if (a, b) in given:
                raise self._error(f"routes.{i}", f"a route from {route.from_} to {route.to} is given already")
            for hop in zip(nodes, nodes[1:], strict=False):
                if hop not in best:
                    place = self.places.of(field)
                    raise TopologyError(
                        f"{place + ' ' if place else ''}{field}: there is no link from {self.nodes[hop[0]]} to "
                        f"{self.nodes[hop[1]]}; add it to links"
                    )
            given[a, b] = [best[hop] for hop in zip(nodes, nodes[1:], strict=False)]
        return given
