"""Our own platform files: hosts, routers, directed links, ports, given routes, and flows, in YAML with units.

hosts: {a: {up: 20 Mbit/s, down: 100 Mbit/s}, b: {}}
routers: [r]
links:
  - {between: [a, r], bandwidth: 100 Mbit/s, latency: 5 ms}             both directions
  - {from: r, to: b, bandwidth: 1 Gbit/s, latency: 10 ms, loss: 1 %, queue: 1 MB, fatpipe: true}
routes: [{from: a, to: b, via: [a, r, b]}]                              others: least latency, hops, node order
flows: [{from: a, to: b, bytes: 10 MB, start: 1 s, delay: 0 s, after: [0]}]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from simnet import sources
from simnet.errors import ScenarioError, TopologyError, nearest
from simnet.explain import explain
from simnet.fields import Bandwidth, Bytes, Host, Loss, Probability, Seconds, Section, refuse
from simnet.network.flows.case import Case, Transfers
from simnet.network.flows.links import Links
from simnet.network.routes import PathTree, neighbours


class HostPorts(Section):
    """A host; what all its transfers together may send and receive."""

    up: Bandwidth | None = None
    down: Bandwidth | None = None


class Burst(Section):
    """A Gilbert-Elliott chain, stepped once a packet; in its bad state packets are lost with probability `loss`."""

    to_bad: Probability
    to_good: Probability
    loss: Probability = 1.0


class PlatformLink(Section):
    """A link: `between: [a, b]` for one in each direction, `from` and `to` for one."""

    between: tuple[Host, Host] | None = None
    from_: Annotated[Host | None, Field(alias="from")] = None
    to: Host | None = None
    bandwidth: Bandwidth
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
        return self

    def ends(self) -> list[tuple[str, str]]:
        """Source and target of each direction."""
        if self.between is not None:
            a, b = map(str, self.between)
            return [(a, b), (b, a)]
        return [(str(self.from_), str(self.to))]


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


class Platform(Section):
    """A platform file."""

    name: str = "platform"
    hosts: dict[Host, HostPorts | None]
    routers: list[Host] = []
    links: list[PlatformLink]
    routes: list[PlatformRoute] = []
    flows: list[PlatformFlow]
    cc: Literal["cubic", "reno", "bbr"] = "cubic"
    warm: bool = False


def read_platform(path: Path) -> Case:
    """The case in a platform file. Raises ScenarioError with line and column, TopologyError for what does not join."""
    raw, places = sources.load(path)
    return platform_case({"name": path.stem, **raw}, places)


def platform_case(raw: Mapping[str, Any], places: sources.Places | None = None) -> Case:
    """The case of a platform given as a mapping."""
    places = places or sources.Places()
    try:
        platform = Platform.model_validate(dict(raw))
    except ValidationError as error:
        raise explain(error, Platform, raw, places) from None
    return _Builder(platform, places).case()


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
        for i, link in enumerate(platform.links):
            burst = (link.burst.to_bad, link.burst.to_good, link.burst.loss) if link.burst else (0.0, 0.0, 0.0)
            for a, b in link.ends():
                self.ends.append((self._node(a, f"links.{i}"), self._node(b, f"links.{i}")))
                row = (link.bandwidth, link.latency, link.fatpipe, link.loss, burst, link.queue, f"{a}->{b}")
                self.rows.append(row)
        self.up, self.down = self._ports("up"), self._ports("down")

    def _error(self, field: str, message: str) -> ScenarioError:
        return ScenarioError(message, place=self.places.of(field), field=field)

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

    def case(self) -> Case:
        columns = list(zip(*self.rows, strict=True)) or [()] * 7
        links = Links(
            bandwidth=np.array(columns[0], np.float64), latency_s=np.array(columns[1], np.float64),
            fatpipe=np.array(columns[2], bool), loss=np.array(columns[3], np.float64),
            burst=np.array(columns[4], np.float64).reshape(-1, 3), queue_bytes=np.array(columns[5], np.float64),
            names=tuple(columns[6]),
        )  # fmt: skip
        flows = self.platform.flows
        source = np.array(
            [self._node(str(f.from_), f"flows.{i}.from", self.hosts) for i, f in enumerate(flows)], np.int64
        )
        target = np.array([self._node(str(f.to), f"flows.{i}.to", self.hosts) for i, f in enumerate(flows)], np.int64)
        transfers = Transfers(
            source, target, np.array([f.bytes for f in flows]), np.array([f.start for f in flows]),
            np.array([f.delay for f in flows]), [tuple(f.after) for f in flows],
        )  # fmt: skip
        pairs = dict.fromkeys(zip(source.tolist(), target.tolist(), strict=True))
        routes = self._routes(links, dict.fromkeys([*pairs, *((b, a) for a, b in pairs)]))
        return Case(
            self.platform.name, tuple(self.hosts), links, routes, transfers, self.platform.cc, self.platform.warm
        )

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
            for hop in zip(nodes, nodes[1:], strict=False):
                if hop not in best:
                    place = self.places.of(field)
                    raise TopologyError(
                        f"{place + ' ' if place else ''}{field}: there is no link from {self.nodes[hop[0]]} to "
                        f"{self.nodes[hop[1]]}; add it to links"
                    )
            given[a, b] = [best[hop] for hop in zip(nodes, nodes[1:], strict=False)]
        return given
