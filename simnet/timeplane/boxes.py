"""Where the walker collects the messages of one exchange or average.

Legend: n hosts, E edges of one exchange. Plain lists: the walker touches one number at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from simnet.book import Book
from simnet.exchange import INF, Average, Exchange
from simnet.network.fate import Fate
from simnet.network.network import EdgeSet

# (edge, target host, sending port, seconds on the port, latency), in the order of sending
Sending = tuple[int, int, int, float, float]


class Routes:
    """For each host, what it sends over a set of edges: computed once per set and message size."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self._known: dict[tuple[EdgeSet, int], list[list[Sending]]] = {}

    def out(self, edges: EdgeSet, size: int) -> list[list[Sending]]:
        """What each host sends, messages of `size` bytes, headers included."""
        found = self._known.get((edges, size))
        if found is None:
            target, port = edges.target.tolist(), edges.port_E.tolist()
            seconds, latency = (size * edges.seconds_per_byte_E).tolist(), edges.latency_E.tolist()
            found = [
                [(e, target[e], port[e], seconds[e], latency[e]) for e in of_host] for of_host in edges.out_edges
            ]
            if len(self._known) > 64:  # topologies that change at every exchange
                self._known.pop(next(iter(self._known)))
            self._known[edges, size] = found
        return found


def with_fate(edges: EdgeSet, size: int, fate: Fate | None) -> tuple[list[float] | None, list[float] | None]:
    """Seconds on the port and latency of each message once retransmissions are counted; None where none are."""
    if fate is None:
        return None, None
    sent_bytes = size + fate.again_E * -(-size // np.maximum(fate.packets_E, 1))
    seconds: list[float] = (sent_bytes * edges.seconds_per_byte_E).tolist()
    latency: list[float] = (edges.latency_E * (2 * fate.attempts_E - 1)).tolist()
    return seconds, latency


class Box:
    """The messages of one exchange, on their way to each host."""

    __slots__ = (
        "arrival", "deadline_s", "delivered", "entered", "entry", "follow_late", "handed", "in_ptr", "latency", "latest", "leave",
        "left", "out", "own_seconds", "plain", "remaining", "seconds", "since", "start", "x",
    )  # fmt: skip

    def __init__(self, x: Exchange, out: list[list[Sending]], size: int, book: Book) -> None:
        n, edges = book.n, x.edges
        self.x, self.out = x, out
        self.deadline_s = x.deadline_s
        self.seconds, self.latency = with_fate(edges, size, x.fate)
        self.own_seconds: list[float] | None = (
            None if x.fate is None else (size * edges.seconds_per_byte_E).tolist()
        )
        lossy = x.fate is not None and book.network.policy != "retry"
        self.delivered: list[bool] | None = x.fate.delivered_E.tolist() if lossy and x.fate is not None else None
        self.arrival = [INF] * edges.size
        self.in_ptr = edges.in_ptr
        coming = edges.target if x.active_n is None else edges.target[x.active_n[edges.source]]
        self.left: list[int] = np.bincount(coming, minlength=n).tolist()  # messages not yet known
        self.latest, self.handed = [-INF] * n, [-INF] * n
        self.start, self.since, self.leave = [INF] * n, [INF] * n, [INF] * n
        self.entry: list[Any] = [None] * n
        self.follow_late, self.plain, self.entered = False, self.seconds is None, False
        self.remaining = len(book.members[x.channel.name[0]])  # hosts that have not left yet


class AverageBox:
    """The messages of one average through a server."""

    __slots__ = (
        "answered", "down_arrival", "down_latency", "down_out", "down_seconds", "entry", "handed", "inside", "missing",
        "ready", "result", "since", "start", "up_arrival", "up_latency", "up_out", "up_seconds", "x",
    )  # fmt: skip

    def __init__(self, x: Average, book: Book, routes: Routes, members: int) -> None:
        n, header = book.n, book.network.header_bytes
        self.x = x
        up_size, down_size = x.up_bytes + header, x.down_bytes + header
        self.up_out, self.down_out = routes.out(x.up, up_size), routes.out(x.down, down_size)
        self.up_seconds, self.up_latency = with_fate(x.up, up_size, x.up_fate)
        self.down_seconds, self.down_latency = with_fate(x.down, down_size, x.down_fate)
        self.up_arrival, self.down_arrival = [INF] * x.up.size, [INF] * x.down.size
        self.missing = int(x.among_n.sum())
        self.ready, self.handed, self.answered = -INF, -INF, INF
        self.start, self.since, self.result = [INF] * n, [INF] * n, [INF] * n
        self.entry: list[Any] = [None] * n
        self.inside = members  # hosts that have not left
