"""Messages on links that they share, in the events tier: each is a flow of one engine, driven by one event.

What is handed over at one instant enters the engine together: behind everything else of that instant comes one settle
of the network, and then one event for the engine's next. Flows are never SimPy processes.

Legend: E edges of one set, R routes known to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet import streams
from simnet.book import Book
from simnet.errors import Starved, TopologyError
from simnet.network.changing import PATIENCE, never_open
from simnet.network.flows.case import CONGESTION_CONTROLS
from simnet.network.flows.links import Links
from simnet.network.flows.models import MODELS, RouteTable, route_table, unlimited
from simnet.network.flows.moves import add, advance, next_time, taken
from simnet.network.flows.state import (
    CONTROL,
    DONE_LOST,
    DONE_S,
    DONE_TAG,
    FREE_COUNT,
    KEY,
    make_engine,
    with_more_routes,
    with_room,
)
from simnet.network.flows.tcp import PACKET
from simnet.network.network import EdgeSet
from simnet.timeplane.background import FIRST_TAG, Background
from simnet.timeplane.shifts import Shifts, moving, row_at

if TYPE_CHECKING:
    from simnet.timeplane.walker import Light, Walker

NETWORK, SETTLE = 0, 3  # priorities within one instant: what the network does comes first, its settling last
_ROOM = 64  # flows at a time, at first
Arrived = Callable[[int, int, float], None]


class Ways:
    """The ways of a run's messages, and the engine that knows them."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.model = MODELS[book.network.model]
        self.links = links_of(book)
        self._numbers: dict[tuple[int, ...], int] = {}  # links and ports of a route -> its number
        self.forward: list[tuple[int, ...]] = []
        self.backward: list[tuple[int, ...]] = []
        self.ends: list[tuple[tuple[int, ...], tuple[int, ...]]] = []  # both with the ports at their ends
        self._of_edges: dict[EdgeSet, list[int]] = {}
        self.engine: Any = None
        self.moving: dict[int, list[int]] = {}  # ways whose latency or loss changes: copies that no flow is on

    def routes_of(self, edges: EdgeSet) -> list[int]:
        """The number of the way of each edge."""
        found = self._of_edges.get(edges)
        if found is None:
            if len(self._of_edges) > 256:
                self._of_edges.clear()
            hops, ptr = edges.hops_H.tolist(), edges.hop_ptr.tolist()
            ways = [tuple(hops[a:b]) for a, b in zip(ptr[:-1], ptr[1:], strict=True)]
            before = len(self.forward)
            ends = list(zip(edges.source.tolist(), edges.target.tolist(), strict=True))
            between = dict(zip(ends, ways, strict=True))
            found = self._of_edges[edges] = [
                self._number(way, source, target, between.get((target, source)))
                for way, (source, target) in zip(ways, ends, strict=True)
            ]
            if len(self.forward) > before:
                self._learn()
        return found

    def way_of(self, source: int, target: int) -> int:
        """The number of the way between two nodes of the network."""
        return self.ways_of([(source, target)])[0]

    def ways_of(self, pairs: Sequence[tuple[int, int]]) -> list[int]:
        """The numbers of the ways between pairs of nodes. A TopologyError leaves the ways as they were."""
        before, path = len(self.forward), self.book.network.path
        try:
            found = [self._number(tuple(path(source, target)), source, target) for source, target in pairs]
            if len(self.forward) > before:
                self._learn()
        except TopologyError:
            self._numbers = {way: number for way, number in self._numbers.items() if number < before}
            self.moving = {number: copies for number, copies in self.moving.items() if number < before}
            del self.forward[before:], self.backward[before:], self.ends[before:]
            raise
        return found

    def links_there_and_back(self, way: int) -> tuple[np.ndarray, np.ndarray]:
        """The links of a way, and those that its acknowledgements take."""
        return np.array(self.forward[way], np.int64), np.array(self.backward[way], np.int64)

    def _number(self, way: tuple[int, ...], source: int, target: int, back: tuple[int, ...] | None = None) -> int:
        """The number of a way from one host to another, a new one where it has none; `back` is that back, if known."""
        network = self.book.network
        behind = network.with_ports(way, source, target)
        if behind not in self._numbers:
            self._numbers[behind] = len(self.forward)
            if self.model.cross_traffic == 0:
                back = ()
            elif back is None:
                back = tuple(network.path(target, source))
            self.forward.append(way)
            self.backward.append(back)
            self.ends.append((behind, network.with_ports(back, target, source) if back else ()))
            if moving(network.changes, (*way, *back)):
                self.moving[self._numbers[behind]] = []
        return self._numbers[behind]

    def _learn(self) -> None:
        """Give the engine the ways that it does not know: each is two of its routes, a cold and a warm connection."""
        network, known = self.book.network, 0 if self.engine is None else len(self.engine.route) // 2
        forward, backward = ([both[k] for both in self.ends[known:]] for k in range(2))
        table = route_table(self.links, forward, backward, self.model)
        if unlimited(table).any():
            way = self.forward[known + int(np.nonzero(unlimited(table))[0][0])]
            names = network.node_names
            hosts = [names[int(network.link_source[way[0]])], names[int(network.link_target[way[-1]])]]
            raise TopologyError(
                f"nothing limits the rate from host {hosts[0]} to host {hosts[1]} under model {network.model}: no link "
                f"between them has a bandwidth; give one, or take lv08, whose window does"
            )
        warm = route_table(self.links, forward, backward, self.model, warm=True) if self.model.tcp else table
        table = _taken_in_turn(table, warm)
        if self.engine is None:
            self.engine = make_engine(*table, _ROOM)
            if self.model.tcp:
                self.engine.state[CONTROL] = 1 + CONGESTION_CONTROLS.index(network.tcp_control)
                self.engine.state[KEY] = np.uint64(streams.key(self.book.seed, "tcp")).astype(np.int64)
            return
        self.engine = with_more_routes(self.engine, table)

    def copy(self, way: int, warm: bool, now: float) -> int:
        """A copy of a way for one flow, with the latency and loss of its start."""
        if not self.moving[way]:
            lacking = [each for each, free in self.moving.items() if not free]
            for each, made in zip(lacking, self.copies(lacking), strict=True):
                self.moving[each].append(made)
        number = self.moving[way].pop()
        changes = self.book.network.changes
        self.engine.route[2 * number + warm] = row_at(now, self.links, changes, *self.ends[way], self.model, warm)
        return number

    def copies(self, ways: Sequence[int]) -> range:
        """The numbers of new copies of ways, one of each."""
        before = len(self.forward)
        for each in ways:
            self.forward.append(self.forward[each])
            self.backward.append(self.backward[each])
            self.ends.append(self.ends[each])
        self._learn()
        return range(before, len(self.forward))


class Flows(Ways):
    """The flows of a run."""

    def __init__(self, walker: Walker) -> None:
        super().__init__(walker.book)
        self.walker = walker
        self._under_way: dict[int, tuple[Arrived, int, int, int, float, int]] = {}
        self._tags = 0
        self._open: set[int] = set()  # ways on which a connection is open
        self._settling = False
        self._due = 0  # the number of the event that will drive the engine; older ones are void
        self.callbacks: tuple[Callable[[Any], None], ...] = (self._next, self._settle)
        self.background = Background(self) if self.book.network.background else None
        self._shifts = Shifts(self.book.network.changes)
        self._flying = 0  # flows under way, those of others included
        self._copies: dict[int, tuple[int, int]] = {}  # tag -> a way, and the copy of it that the flow is on
        self._still = 0  # changes of bandwidth since anything last moved

    def send(self, edges: EdgeSet, e: int, size: float, i: int, j: int, now: float, arrived: Arrived) -> None:
        """Host i hands a message of `size` bytes for host j to the network; `arrived(e, j, t)` follows."""
        way = self.routes_of(edges)[e]
        warm = way in self._open
        if self.book.network.tcp_warm:
            self._open.add(way)
        self._go_to(now)  # who has arrived by now is told first, and may send
        tag = self._tags
        self._tags += 1
        self._under_way[tag] = arrived, e, i, j, now, way
        self.begin(way, warm, float(size), tag, now)
        self._carry(i, way, size)

    def begin(self, way: int, warm: bool, size: float, tag: int, now: float) -> None:
        """A flow of `size` bytes begins."""
        self._go_to(now)
        route = way if way not in self.moving else self.copy(way, warm, now)
        engine = self.engine
        if engine.state[FREE_COUNT] == 0:
            engine = self.engine = with_room(engine, 2 * len(engine.flow))
        self._flying += 1
        if route != way:
            self._copies[tag] = way, route
        add(engine, now, 2 * route + warm, size, tag)
        self._settle_later(now)

    @property
    def messages_under_way(self) -> bool:
        """Whether a message, no background traffic, is on its way."""
        return bool(self._under_way)

    def overhead(self, size: float) -> tuple[int, int]:
        """Bytes that the transport adds to a message of `size` bytes: headers, and acknowledgements on the way back."""
        return round(size * (self.model.forward_share - 1.0)), round(size * self.model.cross_traffic)

    def _carry(self, i: int, way: int, size: float) -> None:
        """Enter what the transport adds to a message: TCP's headers, and the acknowledgements on the way back."""
        if not self.model.cross_traffic:
            return
        header, acknowledgement = self.overhead(size)
        there, back = self.links_there_and_back(way)
        self.walker.account.ledger.add_overhead(self.walker.reports[i], there, header, 0, back, acknowledgement)

    def _settle_later(self, now: float) -> None:
        if not self._settling:
            self._settling = True
            self.walker.push(now, self._settle, None, None, SETTLE)

    def _settle(self, event: Light) -> None:
        """Everything of this instant has happened: settle the shares, and wait for the engine's next event."""
        self._settling = False
        t = next_time(self.engine)
        if self._flying:
            self._still = self._still + 1 if t == np.inf else 0
            if self._still > PATIENCE and self._under_way:
                *_, since, way = next(iter(self._under_way.values()))
                raise Starved(never_open([self.links.names[k] for k in self.forward[way]], since))
            if self._still <= PATIENCE:  # else only traffic of others waits, for ever
                t = min(t, self._shifts.next_s)
        self._due += 1
        if t < np.inf:
            self.walker.push(max(t, self.walker.env._now), self._next, self._due, None, NETWORK)

    def _next(self, event: Light) -> None:
        if event.a == self._due:
            self._go_to(self.walker.env._now, again=True)
            self._settle_later(self.walker.env._now)

    def _go_to(self, now: float, again: bool = False) -> None:
        """Let the engine go on to the present, and tell what has arrived; `again`: more of this instant is due."""
        engine = self.engine
        self._shifts.catch_up(engine, now, not self._flying)
        if engine.clock[0] >= now and not again:
            return
        count = advance(engine, now)
        if not count:
            return
        ended = zip(
            engine.slot[:count, DONE_TAG].tolist(), engine.flow[:count, DONE_S].tolist(),
            engine.flow[:count, DONE_LOST].tolist(), strict=True,
        )  # fmt: skip
        done = sorted(ended)  # in the order in which they were handed over
        taken(engine)
        walker = self.walker
        for tag, t, lost in done:
            self._flying -= 1
            if tag in self._copies:
                copied, route = self._copies.pop(tag)
                self.moving[copied].append(route)
            if tag >= FIRST_TAG:
                assert self.background is not None
                self.background.ended(tag, lost)
                continue
            arrived, e, i, j, since, way = self._under_way.pop(tag)
            if walker.spans:
                walker.account.span(i, "send", since, t, walker.reports[i])
            if lost:
                hops = np.array(self.forward[way], np.int64)
                walker.account.ledger.add_overhead(walker.reports[i], hops, again=round(lost * PACKET))
            arrived(e, j, t)


def _taken_in_turn(cold: RouteTable, warm: RouteTable) -> RouteTable:
    """Two tables of the same routes as one, in which each stands twice: cold, then warm."""
    sizes = np.diff(cold.route_start)
    start = np.concatenate(([0], np.repeat(sizes, 2).cumsum()))
    entry = np.arange(start[-1]) - np.repeat(start[:-1] - np.repeat(cold.route_start[:-1], 2), np.repeat(sizes, 2))
    rows = np.stack((cold.route, warm.route), 1).reshape(-1, cold.route.shape[1])
    return RouteTable(cold.capacity, start, cold.route_link[entry], cold.route_share[entry], rows)


def links_of(book: Book) -> Links:
    """The network's links, and behind them its hosts' ports, as the engine takes them."""
    network = book.network
    ends = zip(network.link_source, network.link_target, strict=True)
    names = [f"{s}->{t}" for s, t in ends]
    size, total = network.links, network.links
    if network.has_ports:
        names += [f"{word} {i}" for word in ("up", "down") for i in range(network.n)]
        total += 2 * network.n
    none = np.zeros(total - size)
    return Links(
        np.concatenate((network.bandwidth_bytes_per_s, network.up_bytes_per_s, network.down_bytes_per_s)),
        np.concatenate((network.latency_s, none)),
        np.concatenate((network.fatpipe if len(network.fatpipe) else np.zeros(size), none)) > 0,
        np.concatenate((network.loss, none)),
        np.concatenate((network.burst if len(network.burst) else np.zeros((size, 3)), np.zeros((len(none), 3)))),
        np.concatenate((network.queue_bytes if len(network.queue_bytes) else np.full(size, np.inf), none + np.inf)),
        tuple(names),
    )  # fmt: skip
