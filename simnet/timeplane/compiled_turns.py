"""Messages over links that change with time and share nothing, in the compiled walk: a port sends one after another,
each as fast as the slowest link of its way is at each moment. The same as `Way.go` and `WayInTime`, by the same
operations.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from simnet.errors import ProgramError
from simnet.exchange import INF
from simnet.jit import kept
from simnet.network.network import EdgeSet, Network
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.boxes import Way
from simnet.timeplane.compiled_rows import numbers
from simnet.timeplane.compiled_shifts import piece, pieces_of
from simnet.timeplane.state import Timed

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker


class TimedLinks:
    """The ways of a run over links that change; `arrays` is what the walk reads of them."""

    def __init__(self, network: Network) -> None:
        changes = sorted(network.changes.items())
        rates = {k: change.bandwidth for k, change in changes if change.bandwidth is not None}
        latencies = {k: change.latency for k, change in changes if change.latency is not None}
        self._number: dict[tuple[int, ...], int] = {}
        size = network.links
        self.arrays = Timed(
            network.bandwidth_bytes_per_s.astype(np.float64), network.latency_s, numbers(list(rates), size),
            numbers(list(latencies), size), pieces_of(list(rates.values())), pieces_of(list(latencies.values())),
            np.zeros(1, np.int64), np.zeros(0, np.int64),
        )  # fmt: skip

    def ways_of(self, edges: EdgeSet) -> list[int]:
        """The number of each edge's way."""
        hops = edges.hops_H.tolist()
        ways = [tuple(hops[a:b]) for a, b in pairwise(edges.hop_ptr.tolist())]
        found = [self._number.setdefault(way, len(self._number)) for way in ways]
        fresh = list(self._number)[len(self.arrays.ptr) - 1 :]
        ptr, hop = self.arrays.ptr, self.arrays.hop
        self.arrays = self.arrays._replace(
            ptr=np.append(ptr, ptr[-1] + np.cumsum([len(way) for way in fresh], dtype=np.int64)),
            hop=np.append(hop, np.array([k for way in fresh for k in way], np.int64)),
        )
        return found


def raise_never_open(walk: CompiledWalker) -> None:
    """Raise Starved, for the message that the walk stopped at."""
    s, e = int(walk.state[st.WHO]), int(walk.state[st.FLOW_OF])
    x = walk.at[s]
    assert x is not None
    walk.places.start[s, walk.state[st.CURRENT]] = INF  # what it had handed over before is not entered
    Way(x.edges, x.payload_bytes + walk.book.network.header_bytes, x.fate).go(e, float(walk.places.began[s, e]))
    raise ProgramError("a message gets through after all")


@kept
def passed_at(timed, w, t, size, patience):
    """When `size` bytes that begin at time t have passed over way w; -1 where they never do."""
    bandwidth, rate_of, hop, first, behind = timed.bandwidth, timed.rate_of, timed.hop, timed.ptr[w], timed.ptr[w + 1]
    most, steady = np.inf, True
    for z in range(first, behind):
        if rate_of[hop[z]] < 0:
            most = min(most, bandwidth[hop[z]])
        else:
            steady = False
    if steady:
        return t + size / most
    idle = 0
    while idle <= patience:
        rate, until = most, np.inf
        for z in range(first, behind):
            q = rate_of[hop[z]]
            if q >= 0:
                now, stays = piece(timed.rates, q, t)
                rate, until = min(rate, now), min(until, stays)
        enough = rate * (until - t) >= size if until < np.inf else rate > 0.0
        if enough:
            return t + size / rate if size > 0.0 else t
        size -= rate * (until - t)
        idle = 0 if rate > 0.0 else idle + 1
        t = until
    return -1.0


@kept
def latency_at(timed, w, t):
    """Seconds from the last bit sent to the last bit arrived, of a message that begins at t."""
    total = 0.0
    for z in range(timed.ptr[w], timed.ptr[w + 1]):
        q = timed.latency_of[timed.hop[z]]
        total += timed.latency_s[timed.hop[z]] if q < 0 else piece(timed.latencies, q, t)[0]
    return total


@kept
def take_turns(timed, places, edges, free, s, i, now, patience):
    """When host i's messages in the exchange at place s are through: `offset` becomes the time of each arrival, -1 of
    one that never gets over, behind which nothing is known; `busy` when each port is free again. Gives the latest turn.
    """
    k, latest = places.edges[s], now
    for q in range(edges.host_ports[k, i], edges.host_ports[k, i + 1]):
        end = max(now, free[edges.port[k, q]])
        for m in range(edges.port_messages[k, q], edges.port_messages[k, q + 1]):
            e, w, t = edges.edge[k, m], edges.way[k, m], end
            places.began[s, e] = t
            latest = max(latest, t)
            size, sent = places.size[s], places.sent[s, e]
            begun = passed_at(timed, w, t, sent - size, patience) if sent > size else t
            end = passed_at(timed, w, begun, size, patience) if begun >= 0.0 else -1.0
            if end < 0.0:
                places.offset[s, e] = -1.0
                return latest
            places.offset[s, e] = end + latency_at(timed, w, t) * (2 * places.attempts[s, e] - 1)
            places.own[s, e] = end - begun
        places.busy[s, edges.rank[k, q]] = end
    return latest
