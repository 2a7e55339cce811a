"""Zones and how each finds the way between two of its points (hosts, routers, child zones).

A route through a zone is a list of links with the points where it starts and ends: for a host or router itself, for a
child zone its gateway. Rules and tie-breaks are SimGrid's (version 3.32): Floyd and Dijkstra count links.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


@dataclass(eq=False)
class Point:
    """A host, a router, or a zone seen from the one around it."""

    name: str
    kind: str  # host, router or zone
    zone: Zone | None  # that it lies in; None: the outermost zone
    number: int = -1  # within its zone
    coordinates: tuple[float, ...] | None = None
    inner: Zone | None = None  # the zone that it is


class Route(NamedTuple):
    """Links, and the points at both ends."""

    links: tuple[int, ...]
    first: Point
    last: Point


Hop = tuple[int, int]  # a link, and the one that a symmetrical route takes on the way back
Between = Callable[[Point, Point], list[int] | None]  # the whole way between two hosts or routers


class Zone:
    """A zone without routes (`None`); the others derive from it."""

    def __init__(self, name: str, parent: Zone | None) -> None:
        self.parent = parent
        self.points: list[Point] = []
        self.bypasses: dict[tuple[Point, Point], Route] = {}
        self.point = Point(name, "zone", parent, inner=self)
        if parent is not None:
            parent.add(self.point)

    @property
    def name(self) -> str:
        return self.point.name

    def add(self, point: Point) -> None:
        point.number = len(self.points)
        self.points.append(point)

    def connect(self, a: Point | None, b: Point | None, ends: Route, hops: Sequence[Hop], both: bool) -> str:
        """A given route from a to b; its refusal, or an empty text."""
        return f"routes cannot be given in zone {self.name!r}, whose routing has none"

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        """The route from one point of this zone to another, None where there is none."""
        return None

    def around(self) -> list[Zone]:
        """This zone and those around it, the outermost first."""
        zones: list[Zone] = [self]
        while zones[-1].parent is not None:
            zones.append(zones[-1].parent)
        return zones[::-1]


class Full(Zone):
    """Routes between all pairs are given."""

    def __init__(self, name: str, parent: Zone | None) -> None:
        super().__init__(name, parent)
        self.table: dict[tuple[int, int], Route] = {}

    def connect(self, a: Point | None, b: Point | None, ends: Route, hops: Sequence[Hop], both: bool) -> str:
        if a is None or b is None:
            return "needs both src and dst: only in a Star zone may one be left out"
        if (a.number, b.number) in self.table:
            return f"there already is a route from {a.name!r} to {b.name!r} (symmetrical routes count for both ways)"
        if both and a is not b and (b.number, a.number) in self.table:
            return f'there already is a route from {b.name!r} to {a.name!r}: say symmetrical="NO"'
        self.table[a.number, b.number] = ends
        if both:
            self.table[b.number, a.number] = Route(tuple(back for _, back in reversed(hops)), ends.last, ends.first)
        return ""

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        return self.table.get((a.number, b.number))


class Shortest(Full):
    """What Floyd and Dijkstra share: given routes are edges of a graph; a way joins edges, through zones if need be."""

    def joined(self, nodes: Sequence[int], between: Between) -> Route | None:
        edges = [self.table[hop] for hop in zip(nodes, nodes[1:], strict=False)]
        links: list[int] = []
        for i, edge in enumerate(edges):
            if i and edges[i - 1].last is not edge.first:
                through = between(edges[i - 1].last, edge.first)
                if through is None:
                    return None
                links.extend(through)
            links.extend(edge.links)
        return Route(tuple(links), edges[0].first, edges[-1].last)


class Floyd(Shortest):
    """Fewest links; of equals the one that Floyd's algorithm finds first."""

    def __init__(self, name: str, parent: Zone | None) -> None:
        super().__init__(name, parent)
        self.before: list[list[int]] | None = None

    def _solve(self) -> list[list[int]]:
        n = len(self.points)
        cost = [[math.inf] * n for _ in range(n)]
        before = [[-1] * n for _ in range(n)]
        for (a, b), route in self.table.items():
            cost[a][b], before[a][b] = len(route.links), a
        for i in range(n):
            if before[i][i] < 0:
                cost[i][i], before[i][i] = 1.0, i
        for c in range(n):
            from_c, before_c = cost[c], before[c]
            reached = [b for b in range(n) if from_c[b] < math.inf]
            for a in range(n):
                to_c, from_a = cost[a][c], cost[a]
                if to_c == math.inf:
                    continue
                for b in reached:
                    if to_c + from_c[b] < from_a[b]:
                        from_a[b], before[a][b] = to_c + from_c[b], before_c[b]
        return before

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        if self.before is None:
            self.before = self._solve()
        nodes = [b.number]
        while nodes[-1] != a.number:
            previous = self.before[a.number][nodes[-1]]
            if previous < 0:
                return None
            nodes.append(previous)
        return self.joined(nodes[::-1], between) if len(nodes) > 1 else self.table.get((a.number, b.number))


class Dijkstra(Shortest):
    """Fewest links, found from each source when asked for."""

    def __init__(self, name: str, parent: Zone | None) -> None:
        super().__init__(name, parent)
        self.trees: dict[int, dict[int, int]] = {}

    def _tree(self, source: int) -> dict[int, int]:
        out: dict[int, list[tuple[int, int]]] = {}
        for (a, b), route in self.table.items():
            out.setdefault(a, []).append((b, len(route.links)))
        cost, before, done = {source: 0}, {source: -1}, set()
        heap = [(0, source)]
        while heap:
            spent, here = heapq.heappop(heap)
            if here in done:
                continue
            done.add(here)
            for b, more in out.get(here, ()):
                if spent + more < cost.get(b, math.inf):
                    cost[b], before[b] = spent + more, here
                    heapq.heappush(heap, (spent + more, b))
        return before

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        if a is b:
            return self.table.get((a.number, b.number))
        if a.number not in self.trees:
            self.trees[a.number] = self._tree(a.number)
        before, nodes = self.trees[a.number], [b.number]
        if b.number not in before:
            return None
        while nodes[-1] != a.number:
            nodes.append(before[nodes[-1]])
        return self.joined(nodes[::-1], between)


@dataclass
class Spoke:
    """A point's links to the middle of a star and back."""

    up: tuple[int, ...] = ()
    down: tuple[int, ...] = ()
    gateway: Point | None = None
    loopback: tuple[int, ...] | None = None


class Star(Zone):
    """Each point has links up to the middle and down from it; a link on both is taken once."""

    def __init__(self, name: str, parent: Zone | None) -> None:
        super().__init__(name, parent)
        self.spokes: dict[int, Spoke] = {}

    def connect(self, a: Point | None, b: Point | None, ends: Route, hops: Sequence[Hop], both: bool) -> str:
        if (a is None and b is None) or (a is not None and b is not None and a is not b):
            return "in a Star zone a route goes from one src to all (no dst), or from all (no src) to one dst"
        there, back = tuple(hop[0] for hop in hops), tuple(hop[1] for hop in reversed(hops))
        if a is b and a is not None:
            self.spokes.setdefault(a.number, Spoke()).loopback = there
        elif a is not None:
            spoke = self.spokes.setdefault(a.number, Spoke())
            spoke.up, spoke.gateway = there, ends.first
            spoke.down = back if both else spoke.down
        elif b is not None:
            if both:
                return 'a route to one dst is one-way: say symmetrical="NO"'
            spoke = self.spokes.setdefault(b.number, Spoke())
            spoke.down, spoke.gateway = there, ends.last
        return ""

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        up, down = (self.spokes.get(point.number, Spoke()) for point in (a, b))
        first, last = up.gateway or a, down.gateway or b
        if "zone" in (first.kind, last.kind):
            return None
        if a is b and up.loopback is not None:
            return Route(up.loopback, a, b)
        return Route(tuple(dict.fromkeys((*up.up, *down.down))), first, last)


class Cluster(Star):
    """Hosts with their own links around a backbone; routers stand in the middle."""

    backbone: tuple[int, ...] = ()

    def connect(self, a: Point | None, b: Point | None, ends: Route, hops: Sequence[Hop], both: bool) -> str:
        return f"routes cannot be given in the Cluster zone {self.name!r}; use <host_link>"

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        up, down = (self.spokes.get(point.number, Spoke()) for point in (a, b))
        if a is b and up.loopback is not None:
            return Route(up.loopback, a, b)
        return Route((*up.up, *self.backbone, *down.down), a, b)


@dataclass
class Distances:
    """Links that stand for distances: made when asked for."""

    make: Callable[[str, float], int]
    made: dict[tuple[Point, Point], int] = field(default_factory=dict)
    used: bool = False  # whether any zone has them


class Vivaldi(Star):
    """Points with coordinates (x, y, h): the way costs their distance in the plane and both heights, in ms."""

    def __init__(self, name: str, parent: Zone | None, distances: Distances) -> None:
        super().__init__(name, parent)
        self.distances = distances
        distances.used = True

    def gateway(self, point: Point) -> Point:
        """The point itself, or the router named `router_` after a zone."""
        if point.inner is None:
            return point
        return next((p for p in _within(point.inner) if p.name == f"router_{point.name}"), point)

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        first, last = self.gateway(a), self.gateway(b)
        if first.coordinates is None or last.coordinates is None:
            return None
        pair = (first, last)
        if pair not in self.distances.made:
            (x, y, h), (u, v, g) = first.coordinates, last.coordinates
            away_s = (math.hypot(x - u, y - v) + abs(h) + abs(g)) / 1000
            self.distances.made[pair] = self.distances.make(f"{first.name}~{last.name}", away_s)
        up, down = (self.spokes.get(point.number, Spoke()) for point in (a, b))
        return Route((*up.up, self.distances.made[pair], *down.down), first, last)


def _within(zone: Zone) -> list[Point]:
    found = []
    for point in zone.points:
        found += _within(point.inner) if point.inner is not None else [point]
    return found


class Torus(Zone):
    """Nodes 0 .. n-1 on a torus, routed dimension by dimension, the shorter way round."""

    def __init__(self, name: str, parent: Zone | None, sizes: Sequence[int]) -> None:
        super().__init__(name, parent)
        self.sizes = tuple(sizes)
        self.links: dict[tuple[int, int], Hop] = {}  # (node, dimension): to the next node there, and from it
        self.limiter: dict[int, int] = {}  # of each node: taken wherever a way passes or ends

    def way(self, a: Point, b: Point, between: Between) -> Route | None:
        if "router" in (a.kind, b.kind):  # as in SimGrid, whose torus has no way out
            return Route((), a, b)
        here, links = a.number, []
        steps = [(math.prod(self.sizes[:d]), size) for d, size in enumerate(self.sizes)]  # how far on the next node is
        while here != b.number:
            differs = (here // stride % size != b.number // stride % size for stride, size in steps)
            dimension = next(d for d, yes in enumerate(differs) if yes)
            stride, size = steps[dimension]
            at, aim, began = (node // stride % size for node in (here, b.number, a.number))
            half = size // 2
            if began < aim <= began + half or (began > half and (began + half) % size >= aim):
                there, link = here + stride * ((at + 1) % size - at), self.links[here, dimension][0]
            else:
                there = here + stride * ((at - 1) % size - at)
                link = self.links[there, dimension][1]
            links += [self.limiter[here], link] if here in self.limiter else [link]
            here = there
        links += [self.limiter[here]] if here in self.limiter else []
        return Route(tuple(links), a, b)
