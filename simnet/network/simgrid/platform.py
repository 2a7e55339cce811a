"""A SimGrid platform: its hosts and links, and the way from any host to any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simnet.errors import TopologyError, nearest
from simnet.network.simgrid.profiles import Profile
from simnet.network.simgrid.zones import Distances, Point, Route, Zone

KINDS = {"BANDWIDTH": "bandwidth_file", "LATENCY": "latency_file", "LINK_AVAIL": "state_file"}  # of a link's profiles


@dataclass
class Link:
    """A link as the routes use it; one for both directions unless it is one half of a SPLITDUPLEX link."""

    name: str
    bandwidth: float  # bytes/s
    latency_s: float
    fatpipe: bool = False
    profiles: dict[str, Profile] = field(default_factory=dict)  # by attribute: bandwidth_file, latency_file, state_file


@dataclass
class Host:
    """A host: where it is, and its speed at its p-state."""

    point: Point
    speed: float  # flop/s
    cores: int = 1


class SimgridPlatform:
    """What a platform file holds. Links have numbers; `links[k]` is link k."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.hosts: dict[str, Host] = {}
        self.points: dict[str, Point] = {}  # hosts, routers and zones by name
        self.links: list[Link] = []
        self.link_number: dict[str, int] = {}
        self.split: dict[str, tuple[int, int]] = {}  # SPLITDUPLEX links: up and down
        self.notes: list[str] = []
        self.distances = Distances(self.add_distance)

    def add_link(self, link: Link) -> int:
        """Its number; -1 where there is one of this name."""
        if link.name in self.link_number:
            return -1
        self.link_number[link.name] = len(self.links)
        self.links.append(link)
        return len(self.links) - 1

    def add_distance(self, name: str, latency_s: float) -> int:
        """A link that costs time alone."""
        self.links.append(Link(name, float("inf"), latency_s, fatpipe=True))
        return len(self.links) - 1

    def route(self, source: str, target: str) -> tuple[int, ...]:
        """The links from one host to another, in order.

        Raises TopologyError where there is no such host, or no way.
        """
        ends = []
        for name in (source, target):
            if name not in self.hosts:
                raise TopologyError(f"{self.file.name}: there is no host {name!r}{nearest(name, self.hosts)}")
            ends.append(self.hosts[name].point)
        links = self.way(*ends)
        if links is None:
            raise TopologyError(f"{self.file.name}: no route leads from host {source} to host {target}")
        return tuple(links)

    def way(self, a: Point, b: Point) -> list[int] | None:
        """The links from one host or router to another, None where there is no way."""
        if a is b:
            return []
        assert a.zone is not None and b.zone is not None
        around_a, around_b = a.zone.around(), b.zone.around()
        depth = sum(x is y for x, y in zip(around_a, around_b, strict=False))
        common = around_a[depth - 1]
        inside_a = [*(zone.point for zone in around_a[depth:]), a]
        inside_b = [*(zone.point for zone in around_b[depth:]), b]
        found = self._bypass(common, inside_a, inside_b) or common.way(inside_a[0], inside_b[0], self.way)
        if found is None:
            return None
        to_gate = self.way(a, found.first)
        from_gate = self.way(found.last, b)
        if to_gate is None or from_gate is None:
            return None
        return [*to_gate, *found.links, *from_gate]

    @staticmethod
    def _bypass(common: Zone, inside_a: Sequence[Point], inside_b: Sequence[Point]) -> Route | None:
        """A bypass that the common zone gives for the two points or for zones that they lie in."""
        if not common.bypasses:
            return None
        pairs = [(i, j) for i in range(len(inside_a)) for j in range(len(inside_b))]
        for i, j in sorted(pairs, key=lambda pair: (max(pair), pair)):
            found = common.bypasses.get((inside_a[i], inside_b[j]))
            if found is not None:
                return found
        return None
