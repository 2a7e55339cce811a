"""Reads a SimGrid platform file.

Read: hosts, routers, peers, links (SHARED, FATPIPE, SPLITDUPLEX), zones (Full, Floyd, Dijkstra, Star, Cluster, None,
Vivaldi), routes, zone routes, bypasses, clusters (flat, with a backbone, cabinets, torus), profiles. In a Star zone a
route without `dst` goes from its `src` to all, one without `src` from all to its `dst`. What has no part in the network
(properties, disks, `config`) is read over; any other element or attribute is refused by name and line. SimGrid's own
loopback, which it adds to ways that begin or end at a zone's gateway in Floyd and Dijkstra zones, is left out.
"""

from __future__ import annotations

from pathlib import Path

from simnet.errors import DataError, nearest
from simnet.network.simgrid import clusters
from simnet.network.simgrid.known import BYPASSES, KNOWN, ROUTINGS, ZONE_ROUTES, ZONES
from simnet.network.simgrid.platform import KINDS, Host, Link, SimgridPlatform
from simnet.network.simgrid.profiles import Profile, profile_file, read_profile
from simnet.network.simgrid.quantities import bandwidth, seconds, speed
from simnet.network.simgrid.tree import Element, read_tree
from simnet.network.simgrid.zones import (
    Cluster,
    Dijkstra,
    Floyd,
    Full,
    Hop,
    Point,
    Route,
    Spoke,
    Star,
    Vivaldi,
    Zone,
)  # fmt: skip


def read_simgrid(file: Path) -> SimgridPlatform:
    """The platform in a file. Raises DataError with file, line and element for what cannot be read."""
    if not file.is_file():
        raise DataError(f"there is no file {str(file)!r}")
    root = read_tree(file)
    if root.name != "platform":
        raise root.error("a SimGrid file begins with <platform version=...>")
    if root.need("version").partition(".")[0] != "4":
        raise root.error(f"version = {root.get('version')!r}: versions 4 and 4.1 are read")
    return Reader(file).read(root)


class Reader:
    """Builds a platform; routes come last, since they name what may stand after them."""

    def __init__(self, file: Path) -> None:
        self.platform = SimgridPlatform(file)
        self.later: list[tuple[Zone, Element]] = []  # routes
        self.traces: dict[str, Profile] = {}

    def read(self, root: Element) -> SimgridPlatform:
        self._check(root)
        outer = [child for child in root.children if child.name in (*ZONES, "cluster")]
        if len(outer) != 1:
            raise root.error(f"holds {len(outer)} outermost zones; one is needed")
        for child in root.of("cluster", *ZONES):
            self._element(None, child)
        for zone, element in self.later:
            self._route(zone, element)
        for element in root.of("trace"):
            self._trace(element)
        for element in root.of("trace_connect"):
            self._connect(element)
        if any(True for _ in root.of("config")):
            self.platform.notes.append("<config> is left out: the model and its settings are simnet's own")
        return self.platform

    def _check(self, element: Element) -> None:
        element.check(*KNOWN[element.name])
        if element.name != "trace" and element.text.strip():
            raise element.error(f"holds the text {element.text.strip()[:20]!r}, which has no meaning here")
        for child in element.children:
            self._check(child)

    def _element(self, zone: Zone | None, element: Element) -> None:
        name = element.name
        if name in ZONES:
            self._zone(zone, element)
        elif name == "cluster":
            clusters.cluster(self, zone, element)
        elif zone is None or name in ("prop", "trace", "trace_connect"):
            return
        elif name == "host":
            self.host(zone, element)
        elif name == "router":
            self.point(zone, element, element.need("id"), "router", element.get("coordinates"))
        elif name == "link":
            self._link(element)
        elif name == "peer":
            self._peer(zone, element)
        elif name == "cabinet":
            clusters.cabinet(self, zone, element)
        elif name == "backbone":
            self._backbone(zone, element)
        else:
            self.later.append((zone, element))

    def _zone(self, parent: Zone | None, element: Element) -> None:
        asked, name = element.need("routing"), element.need("id")
        routing = next((known for known in ROUTINGS if known.lower() == asked.lower()), None)
        if routing is None:
            raise element.error(f"routing = {asked!r} is not supported: {' | '.join(ROUTINGS)}")
        zone: Zone
        if routing == "Vivaldi":
            zone = Vivaldi(name, parent, self.platform.distances)
        else:
            kinds = {"Full": Full, "Floyd": Floyd, "Star": Star, "Cluster": Cluster, "None": Zone}
            zone = kinds.get(routing, Dijkstra)(name, parent)
        self.named(element, zone.point)
        for child in element.children:
            self._element(zone, child)

    def named(self, element: Element, point: Point) -> None:
        """Notes a name, which no other host, router or zone may have."""
        if point.name in self.platform.points:
            raise element.error(f"the name {point.name!r} stands for two hosts, routers or zones")
        self.platform.points[point.name] = point

    def point(self, zone: Zone, element: Element, name: str, kind: str, coordinates: str = "") -> Point:
        point = Point(name, kind, zone)
        if coordinates:
            try:
                point.coordinates = tuple(float(word) for word in coordinates.split())
            except ValueError:
                point.coordinates = ()
            if len(point.coordinates) != 3:
                raise element.error(f"coordinates = {coordinates!r}: must be three numbers: x, y and height in ms")
        self.named(element, point)
        zone.add(point)
        return point

    def host(self, zone: Zone, element: Element) -> Point:
        name = element.need("id")
        point = self.point(zone, element, name, "host", element.get("coordinates"))
        self.platform.hosts[name] = Host(point, speed(element), self.cores(element))
        for attribute in ("speed_file", "availability_file", "state_file"):
            if profile_file(element, attribute) is not None:
                self._note_host(name)
        return point

    def _note_host(self, name: str) -> None:
        said = f"host {name}: its profiles of speed and state are left out: transfers cost no computing"
        if said not in self.platform.notes:
            self.platform.notes.append(said)

    def cores(self, element: Element) -> int:
        try:
            cores = int(element.get("core", "1"))
        except ValueError:
            cores = 0
        if cores < 1:
            raise element.error(f"core = {element.get('core')!r}: must be a whole number, at least 1")
        return cores

    def new_link(self, element: Element, link: Link) -> int:
        number = self.platform.add_link(link)
        if number < 0 or link.name in self.platform.split:
            raise element.error(f"the name {link.name!r} stands for two links")
        return number

    def duplex(self, element: Element, link: Link, policy: str) -> Hop:
        """A link by its sharing policy: the numbers up and down, the same unless it is SPLITDUPLEX."""
        if policy == "SPLITDUPLEX":
            up, down = (
                self.new_link(element, Link(link.name + side, link.bandwidth, link.latency_s, False, link.profiles))
                for side in ("_UP", "_DOWN")
            )
            self.platform.split[link.name] = up, down
            return up, down
        link.fatpipe = policy == "FATPIPE"
        number = self.new_link(element, link)
        return number, number

    def _link(self, element: Element) -> None:
        policy = element.choice("sharing_policy", "SHARED", ("SHARED", "FATPIPE", "SPLITDUPLEX"))
        link = Link(element.need("id"), bandwidth(element, "bandwidth"), seconds(element, "latency"))
        for attribute in KINDS.values():
            profile = profile_file(element, attribute)
            if profile is not None:
                link.profiles[attribute] = profile
        self.duplex(element, link, policy)

    def _backbone(self, zone: Zone, element: Element) -> None:
        if not isinstance(zone, Cluster):
            raise element.error('needs a zone with routing="Cluster"')
        if zone.backbone:
            raise element.error(f"zone {zone.name!r} has a backbone already")
        link = Link(element.need("id"), bandwidth(element, "bandwidth"), seconds(element, "latency"))
        zone.backbone = (self.new_link(element, link),)

    def _peer(self, zone: Zone, element: Element) -> None:
        if not isinstance(zone, Vivaldi):
            raise element.error('needs a zone with routing="Vivaldi"')
        element.need("coordinates")
        point = self.host(zone, element)
        up = self.new_link(element, Link(f"link_{point.name}_UP", bandwidth(element, "bw_out"), 0.0))
        down = self.new_link(element, Link(f"link_{point.name}_DOWN", bandwidth(element, "bw_in"), 0.0))
        zone.spokes[point.number] = Spoke((up,), (down,))

    # ---- routes ----------------------------------------------------------------------------------------------------

    def _route(self, zone: Zone, element: Element) -> None:
        if element.name == "host_link":
            self._host_link(zone, element)
            return
        over_zones = element.name in ZONE_ROUTES or (element.name in BYPASSES and "gw_src" in element.attributes)
        a = self._end(zone, element, "src", isinstance(zone, Star))
        b = self._end(zone, element, "dst", isinstance(zone, Star))
        first = self._gateway(element, "gw_src", a) if over_zones else a
        last = self._gateway(element, "gw_dst", b) if over_zones else b
        if not over_zones and "zone" in (a.kind if a else "", b.kind if b else ""):
            raise element.error("between zones, use <zoneRoute> with gw_src and gw_dst")
        hops = [self._hop(each) for each in element.of("link_ctn")]
        there = tuple(hop[0] for hop in hops)
        some = first or last
        assert some is not None or a is b is None
        if some is None:
            raise element.error("needs src, dst or both")
        route = Route(there, first or some, last or some)
        if element.name in BYPASSES:
            if a is None or b is None or (a, b) in zone.bypasses:
                raise element.error("needs src and dst, and one bypass for them")
            zone.bypasses[a, b] = route
            return
        both = element.choice("symmetrical", "YES", ("YES", "NO", "TRUE", "FALSE", "1", "0")) in ("YES", "TRUE", "1")
        refusal = zone.connect(a, b, route, hops, both)
        if refusal:
            raise element.error(refusal)

    def _end(self, zone: Zone, element: Element, attribute: str, optional: bool) -> Point | None:
        name = element.get(attribute)
        if not name and optional:
            return None
        point = self.platform.points.get(element.need(attribute))
        if point is None:
            known = self.platform.points
            raise element.error(f"{attribute}: there is no host, router or zone {name!r}{nearest(name, known)}")
        if point.zone is not zone and element.name not in BYPASSES:
            raise element.error(f"{attribute} = {name!r} is not in zone {zone.name!r}, but deeper or outside")
        return point

    def _gateway(self, element: Element, attribute: str, end: Point | None) -> Point | None:
        if end is None:
            return None
        name = element.need(attribute)
        gate = self.platform.points.get(name)
        if gate is None or gate.kind == "zone":
            known = self.platform.points
            raise element.error(f"{attribute}: there is no host or router {name!r}{nearest(name, known)}")
        inside = gate is end or (end.inner is not None and gate.zone is not None and end.inner in gate.zone.around())
        if not inside:
            raise element.error(f"{attribute} = {name!r} is not in {end.kind} {end.name!r}")
        return gate

    def _hop(self, element: Element) -> Hop:
        name = element.need("id")
        direction = element.choice("direction", "NONE", ("NONE", "UP", "DOWN"))
        if name in self.platform.split:
            up, down = self.platform.split[name]
            if direction == "NONE":
                raise element.error(f'link {name!r} is SPLITDUPLEX: say direction="UP" or "DOWN"')
            return (up, down) if direction == "UP" else (down, up)
        number = self._link_number(element, "id")
        if direction != "NONE":
            raise element.error(f"link {name!r} has no direction: it is not SPLITDUPLEX")
        return number, number

    def _link_number(self, element: Element, attribute: str) -> int:
        name = element.need(attribute)
        number = self.platform.link_number.get(name)
        if number is None:
            known = [*self.platform.link_number, *self.platform.split]
            raise element.error(f"{attribute}: there is no link {name!r}{nearest(name, known)}")
        return number

    def _host_link(self, zone: Zone, element: Element) -> None:
        if not isinstance(zone, Cluster):
            raise element.error('needs a zone with routing="Cluster"')
        point = self.platform.points.get(element.need("id"))
        if point is None or point.zone is not zone or point.kind != "host":
            hosts = [each.name for each in zone.points if each.kind == "host"]
            raise element.error(f"zone {zone.name!r} has no host {element.get('id')!r}"
                                f"{nearest(element.get('id'), hosts)}")  # fmt: skip
        up, down = self._link_number(element, "up"), self._link_number(element, "down")
        zone.spokes[point.number] = Spoke((up,), (down,))

    # ---- traces that stand apart -------------------------------------------------------------------------------------

    def _trace(self, element: Element) -> None:
        name = element.need("id")
        if element.get("file"):
            profile = profile_file(element, "file")
            assert profile is not None
        else:
            again = seconds(element, "periodicity") if element.get("periodicity") else float("inf")
            profile = read_profile(element, element.text, "its text", again)
        if name in self.traces:
            raise element.error(f"the name {name!r} stands for two traces")
        self.traces[name] = profile

    def _connect(self, element: Element) -> None:
        kind = element.choice("kind", "", ("SPEED", "HOST_AVAIL", *KINDS))
        trace, name = element.need("trace"), element.need("element")
        if trace not in self.traces:
            raise element.error(f"there is no trace {trace!r}{nearest(trace, self.traces)}")
        if kind in KINDS:
            numbers = self.platform.split.get(name) or (self._link_number(element, "element"),)
            for number in numbers:
                self.platform.links[number].profiles[KINDS[kind]] = self.traces[trace]
        elif name not in self.platform.hosts:
            raise element.error(f"there is no host {name!r}{nearest(name, self.platform.hosts)}")
        else:
            self._note_host(name)
