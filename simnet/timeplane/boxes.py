"""Where the walker collects the messages of one exchange or average.

Legend: n hosts, E edges of one exchange. Plain lists: the walker touches one number at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simnet.book import Book
from simnet.exchange import INF, Exchange, RelayedAverage, ServerAverage
from simnet.network.fate import Fate, FateInTime, Size, schedule, sent_bytes
from simnet.network.network import EdgeSet

# a sending port, its place among the ports in use, and its (edge, target host) in the order of sending
Port = tuple[int, int, list[tuple[int, int]]]


class Way:
    """How long messages take: `offset` after its port begins, each arrives; `busy` is each port with all of its
    messages; `own` is a message's own seconds, which a serial receiver takes it in. Where links are shared, `sent` are
    the bytes of each, what is sent again included.

    Where links change with time (`varies`) only `go` says how long a message takes, and `bytes_of` what it is.
    """

    __slots__ = ("busy", "edges", "fate", "offset", "own", "sent", "size_E", "varies")

    def __init__(self, edges: EdgeSet, size: Size, fate: Fate | None) -> None:
        self.fate, self.varies = fate, edges.varies
        size = np.asarray(size)
        self.size_E: list[int] = np.broadcast_to(size, (edges.size,)).tolist() if edges.varies else []
        offset_E, busy_P = schedule(edges, size, fate)
        self.offset: list[float] = offset_E.tolist()
        self.busy: list[float] = busy_P.tolist()
        self.own: list[float] = (size * edges.seconds_per_byte_E).tolist()
        self.edges, self.sent = edges, sent_bytes(edges, size, fate)

    def bytes_of(self, e: int, t: float) -> int:
        """The bytes of the message on edge e that starts at time t, what is sent again included."""
        if isinstance(self.fate, FateInTime):
            self.fate.draw(e, t)
            again, packets = int(self.fate.again_E[e]), int(self.fate.packets_E[e])
            return self.size_E[e] + again * -(-self.size_E[e] // max(packets, 1))
        return int(self.sent[e])

    def go(self, e: int, t: float) -> tuple[float, float, float]:
        """The message on edge e takes its turn at a port at time t, over links that change: when its last bit has left,
        when it arrives, and how long its bits come in (those that are not sent again).
        """
        way, sent = self.edges.way_in_time(e), self.bytes_of(e, t)
        attempts = 1 if self.fate is None else int(self.fate.attempts_E[e])
        size = self.size_E[e]
        begun = way.end(t, sent - size) if sent > size else t
        end = way.end(begun, size)
        return end, end + way.latency_s(t) * (2 * attempts - 1), end - begun


class Routes:
    """For each host, what it sends over a set of edges and how long that takes; kept while it repeats."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._out: dict[EdgeSet, list[list[Port]]] = {}
        self._ways: dict[tuple[EdgeSet, int], Way] = {}

    def out(self, edges: EdgeSet) -> list[list[Port]]:
        """What each host sends, port by port."""
        found = self._out.get(edges)
        if found is None:
            target, ordered = edges.target.tolist(), edges.by_port.tolist()
            bounds = [*edges.port_starts.tolist(), edges.size]
            found = [[] for _ in range(edges.n)]
            for rank, (port, host) in enumerate(zip(edges.ports.tolist(), edges.port_host.tolist(), strict=True)):
                queue = ordered[bounds[rank] : bounds[rank + 1]]
                found[host].append((port, rank, [(e, target[e]) for e in queue]))
            if len(self._out) > 64:  # topologies that change at every exchange
                self._out.pop(next(iter(self._out)))
            self._out[edges] = found
        return found

    def way(self, edges: EdgeSet, size: Size, fate: Fate | None) -> Way:
        """The times of one message of `size` bytes, headers included, on each edge."""
        if fate is not None or isinstance(size, np.ndarray):
            return Way(edges, size, fate)
        found = self._ways.get((edges, size))
        if found is None:
            if len(self._ways) > 64:
                self._ways.pop(next(iter(self._ways)))
            found = self._ways[edges, size] = Way(edges, size, None)
        return found


class Box:
    """The messages of one exchange, on their way to each host."""

    __slots__ = (
        "arrival", "deadline_s", "delivered", "entered", "entry", "follow_late", "handed", "in_ptr", "latest", "leave",
        "left", "out", "remaining", "since", "start", "way", "x",
    )  # fmt: skip

    def __init__(self, x: Exchange, routes: Routes, book: Book) -> None:
        n, edges = book.n, x.edges
        self.x, self.out = x, routes.out(edges)
        self.way = routes.way(edges, x.payload_bytes + book.network.header_bytes, x.fate)
        self.deadline_s = x.deadline_s
        lossy = x.fate is not None and book.network.policy != "retry"
        self.delivered: Sequence[bool] | np.ndarray | None = None
        if lossy and x.fate is not None:  # what is drawn as each message starts is read where it is drawn
            self.delivered = x.fate.delivered_E if isinstance(x.fate, FateInTime) else x.fate.delivered_E.tolist()
        self.arrival = [INF] * edges.size
        self.in_ptr = edges.in_ptr
        coming = edges.target if x.active_n is None else edges.target[x.active_n[edges.source]]
        self.left: list[int] = np.bincount(coming, minlength=n).tolist()  # messages not yet known
        self.latest, self.handed = [-INF] * n, [-INF] * n
        self.start, self.since, self.leave = [INF] * n, [INF] * n, [INF] * n
        self.entry: list[Any] = [None] * n
        self.follow_late, self.entered = False, False
        self.remaining = len(book.members[x.channel.name[0]])  # hosts that have not left yet


class AverageBox:
    """The messages of one average through a server."""

    __slots__ = (
        "answered", "down_arrival", "down_out", "down_way", "entry", "handed", "inside", "left", "missing", "ready",
        "result", "since", "start", "up_arrival", "up_out", "up_way", "x",
    )  # fmt: skip

    def __init__(self, x: ServerAverage, book: Book, routes: Routes, members: int) -> None:
        n, header = book.n, book.network.header_bytes
        self.x = x
        self.up_out, self.down_out = routes.out(x.up), routes.out(x.down)
        self.up_way = routes.way(x.up, x.up_bytes + header, x.up_fate)
        self.down_way = routes.way(x.down, x.down_bytes + header, x.down_fate)
        self.up_arrival, self.down_arrival = [INF] * x.up.size, [INF] * x.down.size
        self.missing = int(x.among_n.sum())
        self.ready, self.handed, self.answered = -INF, -INF, INF
        self.start, self.since, self.result = [INF] * n, [INF] * n, [INF] * n
        self.entry: list[Any] = [None] * n
        self.inside, self.left = members, set[int]()  # how many hosts have not left; those that have


class RelayBox:
    """The messages of one average that goes from host to host."""

    __slots__ = (
        "arrival", "at", "entry", "got", "handed", "inside", "last", "left", "missing", "result", "sent", "since",
        "start", "wave_start", "ways", "x",
    )  # fmt: skip

    def __init__(self, x: RelayedAverage, book: Book, routes: Routes, members: int) -> None:
        n, header = book.n, book.network.header_bytes
        self.x = x
        self.ways = [
            routes.way(wave.edges, wave.payload_bytes + header, fate)
            for wave, fate in zip(x.waves, x.fates, strict=True)
        ]
        self.at, self.sent = [0] * n, [False] * n  # the wave that each host is at, and whether it has sent its part
        self.got: dict[tuple[int, int], int] = {}  # (host, wave) -> messages that are there, of waves not yet passed
        self.arrival = [[INF] * wave.edges.size for wave in x.waves]
        self.wave_start = [[INF] * n for _ in x.waves]
        self.last: dict[tuple[int, int], float] = {}  # the newest arrival on a pair: messages keep their order
        self.missing = int(x.among_n.sum())  # hosts that have not started
        self.handed = -INF
        self.start, self.since, self.result = [INF] * n, [INF] * n, [INF] * n
        self.entry: list[Any] = [None] * n
        self.inside, self.left = members, set[int]()  # how many hosts have not left; those that have
