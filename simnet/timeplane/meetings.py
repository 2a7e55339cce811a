"""Meetings of two nodes, in the events tier: two messages, and at the end the mean at both or at neither.

With the pool `neighbours` a node sends to a random neighbour, whatever that does, and is answered as its message
arrives; with `ready` two nodes that both wait send at once, and both go on when the later message is there.

Legend: n hosts, E edges among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simnet import streams
from simnet.entries import Entry
from simnet.exchange import INF
from simnet.network.fate import Fate
from simnet.network.network import EdgeSet
from simnet.partners import Partners
from simnet.timeplane.boxes import Way
from simnet.timeplane.tally import Tally

if TYPE_CHECKING:
    from simnet.timeplane.walker import Light, Walker

_DRAWN = 64  # choices of a host drawn at once


class Meeting:
    """What host i waits in: until it has a partner j, `ready` alone."""

    __slots__ = ("entry", "fate", "handed", "i", "j", "k", "ok", "pair", "since", "travelling")

    def __init__(self, i: int, k: int, entry: Entry, since: float) -> None:
        self.i, self.k, self.entry, self.since = i, k, entry, since
        self.j = -1
        self.handed, self.travelling, self.ok = INF, 0, True
        self.pair: EdgeSet | None = None  # the two edges, where messages can be lost
        self.fate: Fate | None = None


class Leg(NamedTuple):
    """One message of a meeting on its way, and what follows when it is there."""

    meeting: Meeting
    pool: Pool
    source: int
    target: int
    handed: float
    lost: bool  # by a link
    then: Callable[[Light], None]


class Meetings:
    """The meetings of a run, of one role's members among each other."""

    def __init__(self, walker: Walker) -> None:
        self.walker, self.book = walker, walker.book
        self.ready: dict[int, Meeting] = {}  # hosts that wait for a partner
        self._count = [0] * walker.book.n
        self._choices: dict[int, tuple[int, list[float]]] = {}  # host -> number of a block of draws, and the block
        self._pools: dict[str, Pool] = {}
        self._pairs: dict[tuple[int, int], EdgeSet] = {}

    def _pool(self, role: str, payload: int) -> Pool:
        found = self._pools.get(role)
        if found is None:
            partners = self.book.partners(role)
            found = self._pools[role] = Pool(self.book, partners, payload, self.walker.account, len(self._pools))
            found.key = streams.key(self.book.seed, "meet", role)
        return found

    def settle(self) -> None:
        """Enter all that was sent so far in the ledger and the event log."""
        for pool in self._pools.values():
            pool.tally.settle()

    # ---- one meeting -----------------------------------------------------------------------------------------------

    def start(self, i: int, entry: Entry, now: float) -> bool:
        """Host i is to meet somebody; True when there is nobody to wait for."""
        walker = self.walker
        recording = walker.recording_of[i]
        pool = self._pool(recording.role, entry.number)
        if not pool.partners.of[i]:
            walker.need_items("node.meet").take(recording, walker.member_of[i], entry, i)
            return True
        k = self._count[i]
        self._count[i] = k + 1
        meeting = walker.waiting[i] = Meeting(i, k, entry, now)
        if entry.pool == "ready":
            self._match(pool, meeting, now)
            return False
        neighbours = pool.partners.of[i]
        j, e = neighbours[min(int(self._choice(pool, i, k) * len(neighbours)), len(neighbours) - 1)]
        meeting.j, meeting.handed = j, now
        self._hand(pool, meeting, i, j, e, now, self._asked)
        return False

    def _choice(self, pool: Pool, i: int, k: int) -> float:
        """The uniform number by which host i chooses in its meeting k."""
        number, block = self._choices.get(i, (-1, []))
        if number != k // _DRAWN:
            keys = streams.keys(pool.key, np.array([i]))
            block = streams.uniform(keys, _DRAWN, start=k - k % _DRAWN)[0].tolist()
            self._choices[i] = k // _DRAWN, block
        return block[k % _DRAWN]

    def _hand(self, pool: Pool, meeting: Meeting, i: int, j: int, e: int, now: float, then: Any) -> None:
        """Host i hands its message for j to its port; `then` follows when it is there."""
        walker, edges, edge, way, lost = self.walker, pool.partners.edges, e, pool.way, False
        port = pool.port[e]
        begin = max(now, walker.free[port])
        if pool.lossy:
            edges, fate = self._fate(pool, meeting)
            edge, way = int(edges.source[0] != i), Way(edges, pool.size, fate)
        if walker.flows is not None:
            sent = way.bytes_of(edge, now)
        elif way.varies:
            end, t, own = way.go(edge, begin)
        elif pool.lossy:
            end, t, own = begin + way.busy[edges.port_rank_E[edge]], begin + way.offset[edge], pool.own[e]
        else:
            end, t, own = begin + pool.busy[e], begin + pool.offset[e], pool.own[e]
        if pool.lossy:
            round, payload = walker.reports[i], meeting.entry.number
            walker.account.sent(round, edges, payload, fate, active_E=np.arange(2) == edge)
            walker.account.sent_by(i, round, edges, payload, fate)
            lost = fate is not None and not fate.delivered_E[edge]
        else:
            pool.tally.count[e] += 1
        leg = Leg(meeting, pool, i, j, now, lost, then)
        if walker.flows is not None:
            walker.flows.send(edges, edge, sent, i, j, now, lambda _, host, t: self._arrives(t, leg))
            return
        walker.free[port] = end
        if walker.spans:
            walker.account.span(i, "send", begin, end, walker.reports[i])
        if walker.serial_receiver:
            walker.push(max(now, t - own), self._first_bit, leg, own)
        else:
            self._arrives(t, leg)

    def _first_bit(self, event: Light) -> None:
        """The first bit is at a receiver that takes one message after another."""
        way, walker = event.a, self.walker
        done = walker.receive_free[way.target] = max(walker.env._now, walker.receive_free[way.target]) + event.b
        self._arrives(done, way)

    def _arrives(self, t: float, way: Leg) -> None:
        """A message is at its target at t; one that is away takes it at its return (`retry`), or never."""
        walker, meeting, pool = self.walker, way.meeting, way.pool
        back, lost = walker.back(way.target, t), way.lost
        if back > t and self.book.network.policy != "retry":
            lost, back = True, t
        if lost:
            meeting.ok = False
        if walker.account.message_rows is not None:
            walker.account.list_message(meeting.k, way.source, way.target, way.handed, t, pool.size, not lost)
        if back < INF:
            walker.push(back, way.then, meeting, pool)

    def _fate(self, pool: Pool, meeting: Meeting) -> tuple[EdgeSet, Fate | None]:
        """What becomes of both messages of a meeting: drawn once."""
        if meeting.pair is None:
            ends = meeting.i, meeting.j
            if ends not in self._pairs:
                if len(self._pairs) > 65_536:
                    self._pairs.clear()
                self._pairs[ends] = self.book.network.edge_set(np.array(ends), np.array(ends[::-1]))
            meeting.pair = self._pairs[ends]
            occurrence = ("meet", meeting.i, meeting.k)
            meeting.fate = self.book.fates.of(occurrence, meeting.pair, pool.size)
        return meeting.pair, meeting.fate

    def _asked(self, event: Light) -> None:
        """Host i's message is at its partner, who answers at once; a lost one is known lost by now."""
        meeting, pool, now = event.a, event.b, self.walker.env._now
        if not meeting.ok:
            self._over(pool, meeting, now)
            return
        i, j = meeting.i, meeting.j
        self._hand(pool, meeting, j, i, pool.reverse[pool.edge_to(i, j)], now, self._answered)

    def _answered(self, event: Light) -> None:
        self._over(event.b, event.a, self.walker.env._now)

    def _over(self, pool: Pool, meeting: Meeting, now: float) -> None:
        """The transfer is over: both take the mean, if both messages are there; host i goes on."""
        walker, i = self.walker, meeting.i
        if meeting.ok:
            walker.need_items("node.meet").met(i, meeting.j)
        pool.tally.log(i, meeting.k, meeting.j, now, meeting.ok)
        self._go_on(meeting, now)

    def _go_on(self, meeting: Meeting, now: float) -> None:
        """Host i has what it waited for; one that is away goes on when it is back."""
        walker, i = self.walker, meeting.i
        back = walker.back(i, now)
        if back > now:
            if back < INF:
                walker.push(back, self._alone, meeting)
            return
        walker.waiting[i] = None
        walker.waited(i, meeting.since, now, meeting.handed)
        walker.need_items("node.meet").take(walker.recording_of[i], walker.member_of[i], meeting.entry, i)
        walker.go_on(i)

    # ---- partners that wait for each other ---------------------------------------------------------------------------

    def _match(self, pool: Pool, meeting: Meeting, now: float) -> None:
        """A random one of the neighbours that wait is the partner; with none, host i waits itself."""
        i, walker = meeting.i, self.walker
        waiting = [(j, e) for j, e in pool.partners.of[i] if j in self.ready and not walker.presence.away(j, now)]
        if not waiting:
            self.ready[i] = meeting
            for j in [j for j, _ in pool.partners.of[i] if j in self.ready and walker.back(j, now) < INF]:
                walker.push(walker.back(j, now), self._returned, self.ready[j])  # both wait, and one is away
            self._release(i, now)
            return
        j, e = waiting[min(int(self._choice(pool, i, meeting.k) * len(waiting)), len(waiting) - 1)]
        other = self.ready.pop(j)
        meeting.j, other.j = j, i
        meeting.handed = other.handed = now
        meeting.travelling = 2  # messages that are not there yet
        self._hand(pool, meeting, i, j, e, now, self._crossed)
        self._hand(pool, meeting, j, i, pool.reverse[e], now, self._crossed)

    def _returned(self, event: Light) -> None:
        """A host that was away while it waited for a partner is back, and others wait too."""
        meeting: Meeting = event.a
        now = self.walker.env._now
        if self.ready.get(meeting.i) is meeting and not self.walker.presence.away(meeting.i, now):
            del self.ready[meeting.i]
            self._match(self._pools[self.walker.recording_of[meeting.i].role], meeting, now)

    def _crossed(self, event: Light) -> None:
        """One of the two messages of a pair that met ready is there; with the later one both go on."""
        meeting, pool, walker = event.a, event.b, self.walker
        meeting.travelling -= 1
        if meeting.travelling:
            return
        now, other = walker.env._now, walker.waiting[meeting.j]
        if meeting.ok:
            walker.need_items("node.meet").met(meeting.i, meeting.j)
        pool.tally.log(meeting.i, meeting.k, meeting.j, now, meeting.ok)
        self._go_on(meeting, now)
        self._go_on(other, now)

    def finished(self, i: int, now: float) -> None:
        """Host i's program has ended, or it has left for good: who then has no partner left goes on alone."""
        self.ready.pop(i, None)
        pool = self._pools.get(self.walker.recording_of[i].role)
        for j, _ in pool.partners.of[i] if pool is not None and self.ready else ():
            self._release(j, now)

    def _release(self, j: int, now: float) -> None:
        """Let host j go on alone, if it waits to meet and all of its neighbours have ended."""
        meeting, walker = self.ready.get(j), self.walker
        if meeting is None:
            return
        pool = self._pools[walker.recording_of[j].role]
        if all(walker.finished[other] or walker.gone[other] for other, _ in pool.partners.of[j]):
            del self.ready[j]
            walker.push(now, self._alone, meeting)

    def _alone(self, event: Light) -> None:
        self._go_on(event.a, self.walker.env._now)


class Pool:
    """The partners of one role, and how long one message takes on each edge between them."""

    def __init__(self, book: Any, partners: Partners, payload: int, account: Any, number: int) -> None:
        edges = partners.edges
        self.partners, self.size = partners, payload + book.network.header_bytes
        self.key = 0
        self.lossy = edges.lossy and book.network.model != "tcp"  # which sends again by itself
        own_E = self.size * edges.seconds_per_byte_E
        self.own: list[float] = own_E.tolist()
        self.busy, self.way = self.own, Way(edges, self.size, None)
        self.offset: list[float] = (own_E + edges.latency_E).tolist()
        self.port: list[int] = edges.port_E.tolist()
        self.reverse: list[int] = edges.reverse_E.tolist()
        self.tally = Tally(account, edges, payload, number)
        self._edge_to = {(i, j): e for i, pairs in enumerate(partners.of) for j, e in pairs}

    def edge_to(self, i: int, j: int) -> int:
        """The number of the edge from i to j."""
        return self._edge_to[i, j]
