"""Messages between single hosts: `send` and `receive`, matched by their number on each pair."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.entries import Entry
from simnet.errors import ProgramError
from simnet.exchange import INF, Message
from simnet.network.fate import Fate
from simnet.network.network import EdgeSet
from simnet.payload import Sizes
from simnet.timeplane.boxes import Box
from simnet.timeplane.departures import who
from simnet.timeplane.meetings import Meeting

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker

_SENDS = 1 << 60  # in the log's order, single messages come after all exchanges


class Waiting:
    """Host i waits in a receive since a moment; a newer wake-up makes an older one void."""

    __slots__ = ("entry", "handed", "limit", "since", "token")

    def __init__(self, entry: Entry, since: float, limit: float) -> None:
        self.entry, self.since, self.handed, self.limit, self.token = entry, since, since, limit, 0


class Parcel:
    """One sending on its way: to be logged when its arrivals are known."""

    __slots__ = ("arrival_E", "edges", "fate", "got_E", "id", "payload", "sent_s")

    def __init__(self, id: tuple[int, ...], edges: EdgeSet, payload: Any, fate: Fate | None, sent_s: float) -> None:
        self.id, self.edges, self.payload, self.fate, self.sent_s = id, edges, payload, fate, sent_s
        self.arrival_E = np.full(edges.size, INF)
        self.got_E = np.ones(edges.size, bool)


class Mail:
    """The mailboxes of a run."""

    def __init__(self, walker: Walker) -> None:
        self.walker, self.book = walker, walker.book
        self.sent: dict[tuple[int, int], deque[Message]] = {}  # (sender, host) -> what the host has not taken
        self.senders: dict[int, set[int]] = {}  # who ever sent to a host
        self.parcels: dict[tuple[int, ...], Parcel] = {}
        self._sends: dict[int, int] = {}
        self._edges: dict[tuple[int, tuple[int, ...]], EdgeSet] = {}

    # ---- sending ---------------------------------------------------------------------------------------------------

    def send(self, i: int, entry: Entry, now: float) -> None:
        """Hand one message for each target to host i's port; done at once."""
        walker = self.walker
        to = entry.to if entry.peers is None else [j for j in (entry.peers[walker.member_of[i]],) if j >= 0]
        targets = [j for j in to if j != i]
        if len(targets) < len(to) and len(to) == 1:
            raise ProgramError(f"host {i} sends a message to itself")
        edges = self._edge_set(i, tuple(targets))
        items = walker.need_items("node.send")
        recording = walker.recording_of[i]
        values = items.sent(recording, walker.member_of[i], entry)
        sizes: Sizes = entry.number
        if sizes.by_value:
            sizes = items.sizes(recording, walker.member_of[i], entry) or sizes
        payload = sizes.at(edges.source)
        size = payload + self.book.network.header_bytes
        policy = "retry" if entry.reliable or self.book.network.policy == "retry" else "drop"
        fate = self.book.fates.of(("send", recording.role, entry.occurrence), edges, size, policy=policy)
        for j in targets:
            content = tuple(v[to.index(j)] for v in values) if entry.rows else values
            self.sent.setdefault((i, j), deque()).append(Message(i, j, INF, False, entry.shapes, content))
            self.senders.setdefault(j, set()).add(i)
        walker.account.sent(walker.reports[i], edges, payload, fate)
        parcel = Parcel((_SENDS, i, entry.occurrence, self._count(i)), edges, payload, fate, now)
        self.parcels[parcel.id] = parcel
        last = {j: self.sent[i, j][-1] for j in targets}

        def arrived(e: int, j: int, t: float) -> None:
            message = last[j]
            message.arrival_s = walker.back(j, t)  # who is away takes it at its return
            missed = policy == "drop" and message.arrival_s > t
            message.lost = missed or (fate is not None and not bool(fate.delivered_E[e]))
            if message.lost:
                message.values = ()
                parcel.got_E[e] = False
            parcel.arrival_E[e] = t
            if not (parcel.arrival_E == INF).any():
                self._log(self.parcels.pop(parcel.id))
            self._tell(j, walker.env._now)

        walker.hand_over(i, walker.routes.out(edges)[i], now, walker.routes.way(edges, size, fate), arrived)
        walker.account.sent_by(i, walker.reports[i], edges, payload, fate)

    def _log(self, parcel: Parcel) -> None:
        """Enter a sending in the event log once all its arrivals are known."""
        start = np.full(self.book.n, INF)
        start[parcel.edges.source] = parcel.sent_s
        fate = parcel.fate
        known = parcel.arrival_E < INF
        self.walker.account.travelled(
            parcel.id, parcel.edges, parcel.payload, fate, start, parcel.arrival_E, None if known.all() else known,
            None if parcel.got_E.all() else parcel.got_E,
        )  # fmt: skip

    def settle(self) -> None:
        """At the end of the walk: enter what never got through a receiver's port."""
        for parcel in self.parcels.values():
            self._log(parcel)

    def _count(self, i: int) -> int:
        """How many sends of host i came before."""
        self._sends[i] = self._sends.get(i, 0) + 1
        return self._sends[i]

    def _edge_set(self, i: int, targets: tuple[int, ...]) -> EdgeSet:
        if (i, targets) not in self._edges:
            if len(self._edges) > 4096:
                self._edges.clear()
            self._edges[i, targets] = self.book.network.edge_set(np.full(len(targets), i), np.array(targets, np.int64))
        return self._edges[i, targets]

    # ---- receiving -------------------------------------------------------------------------------------------------

    def receive(self, i: int, entry: Entry, now: float) -> bool:
        """Host i asks for messages: True when it has them at once."""
        waiting = Waiting(entry, now, self._limit(i, entry, now))
        if entry.timer is not None and waiting.limit <= now:  # what has come can still be taken
            self._give(i, entry, [None])
            return True
        t = self._ready_at(i, waiting)
        if t <= now:
            self._take(i, waiting, now)
            return True
        self.walker.waiting[i] = waiting
        if t < INF:
            self._wake_at(i, waiting, t)
        return False

    def _limit(self, i: int, entry: Entry, now: float) -> float:
        """When host i's receive ends without a message: at its timeout or timer, no earlier than its return."""
        if entry.timer is not None:
            return self.walker.back(i, self.walker.timers[i].get(entry.timer, now))
        return INF if entry.timeout_s is None else self.walker.back(i, now + entry.timeout_s)

    def _ready_at(self, i: int, waiting: Waiting) -> float:
        """When host i's receive is over, as far as is known now."""
        entry, limit = waiting.entry, waiting.limit
        if entry.frm == "any":
            return min(limit, min((m.arrival_s for m in self._untaken(i)), default=INF))
        known = [self._message(j, i) for j in entry.frm if j != i]
        latest = max((INF if m is None else m.arrival_s for m in known), default=-INF)
        return min(limit, latest)

    def handed(self, i: int, waiting: Waiting) -> float:
        """When the last message that host i waits for was handed over; infinite where one was not."""
        return waiting.handed if self._ready_at(i, waiting) < INF else INF

    def _message(self, j: int, i: int) -> Message | None:
        """The next message from j to i that i has not taken."""
        messages = self.sent.get((j, i))
        return messages[0] if messages else None

    def _untaken(self, i: int) -> list[Message]:
        """Everything that host i has not taken, from anybody, in any order of arrival; what was lost never comes."""
        return [m for j in sorted(self.senders.get(i, ())) for m in self.sent[j, i] if not m.lost]

    def _tell(self, j: int, now: float) -> None:
        """Something is on its way to host j: a receive that waits looks again."""
        waiting = self.walker.waiting[j]
        if isinstance(waiting, Waiting):
            waiting.handed = now
            t = self._ready_at(j, waiting)
            if (t := self.walker.back(j, max(t, now))) < INF:
                self._wake_at(j, waiting, t)

    def _wake_at(self, i: int, waiting: Waiting, t: float) -> None:
        waiting.token += 1
        self.walker.push(t, self._woken, (i, waiting), waiting.token, 2 if t == waiting.limit else 1)

    def _woken(self, event: Any) -> None:
        (i, waiting), token = event.a, event.b
        walker = self.walker
        if walker.waiting[i] is not waiting or waiting.token != token:
            return
        walker.waiting[i] = None
        now = walker.env._now
        walker.waited(i, waiting.since, now, waiting.handed)
        self._take(i, waiting, now)
        walker.go_on(i)

    def _take(self, i: int, waiting: Waiting, now: float) -> None:
        """Give host i what has arrived by now; what has not counts as None (or the stand-in)."""
        entry = waiting.entry
        if entry.frm == "any":
            arrived = [m for m in self._untaken(i) if m.arrival_s <= now]
            got: list[Message | None] = [min(arrived, key=lambda m: (m.arrival_s, m.source))] if arrived else [None]
        else:
            got = []
            for j in (j for j in entry.frm if j != i):
                message = self._message(j, i)
                in_time = message is not None and message.arrival_s <= now
                got.append(message if in_time else None)
        for message in got:
            if message is not None:
                self.sent[message.source, i].remove(message)
        self._give(i, entry, got)

    def _give(self, i: int, entry: Entry, got: list[Message | None]) -> None:
        """Host i's receive is over with these messages; a lost one is none."""
        walker = self.walker
        kept = [None if m is None or m.lost else m for m in got]
        shapes = next((m.shapes for m in kept if m is not None), None)
        if None in kept and not entry.stand_ins and (entry.rows or len(walker.recording_of[i].members) > 1):
            raise ProgramError(
                f"a message to host {self.book.network.hosts[i]} is missing: give the receive a Value as missing=, "
                "which stands in at the members of the role that get none"
            )
        if entry.shapes is None:
            self._settle_shapes(entry, shapes, len(got))
        walker.need_items("node.receive").received(
            walker.recording_of[i], walker.member_of[i], entry, [None if m is None else m.values for m in kept]
        )

    def _settle_shapes(self, entry: Entry, shapes: tuple[tuple[int, ...], ...] | None, senders: int) -> None:
        """The shapes of a receive's results, from the first message that came, else from what stands in for it."""
        if shapes is None and not entry.stand_ins:
            entry.plain = True
            return
        if shapes is None:
            shapes = tuple(v.shape for v in entry.results)
            if entry.rows:  # a stand-in may be one row, or one for each sender
                shapes = tuple(s[1:] if len(s) > 1 and s[0] == senders else s for s in shapes)
        if entry.stand_ins not in (0, len(shapes)):
            raise ProgramError(f"a message of {len(shapes)} Values needs as many in missing=, not {entry.stand_ins}")
        entry.shapes = tuple((senders, *s) for s in shapes) if entry.rows else shapes

    def silent(self, host: int) -> list[int]:
        """Whom a host that waits for ever is waiting for; nobody in particular: an empty list."""
        waiting = self.walker.waiting[host]
        if isinstance(waiting, Waiting):
            frm = waiting.entry.frm
            return [j for j in frm if self._message(j, host) is None] if frm != "any" else []
        if isinstance(waiting, Box):
            edges, active_n = waiting.x.edges, waiting.x.active_n
            a, b = edges.in_ptr[host], edges.in_ptr[host + 1]
            silent = [int(edges.source[e]) for e in range(a, b) if waiting.arrival[e] == INF]
            return [j for j in silent if active_n is None or active_n[j]]
        if isinstance(waiting, Meeting):
            return [waiting.j] if waiting.j >= 0 else []
        if waiting is None:
            return []
        among = np.flatnonzero(waiting.x.among_n).tolist()
        missing = [j for j in among if waiting.start[j] == INF]
        return missing or [j for j in among if self.walker.gone[j]]

    def why(self, host: int) -> str:
        """What a host that waits for ever is waiting for, in words."""
        waiting = self.walker.waiting[host]
        names = who(self.book.network, self.book.presence, self.silent(host))
        if isinstance(waiting, Waiting):
            return f"it wants a message from {names or 'anyone'} that is never sent"
        if isinstance(waiting, Box):
            return f"neighbour {names} never gets to that exchange"
        if isinstance(waiting, Meeting):
            return f"its meeting with {names or 'a neighbour'} never ends"
        return f"node {names} never gets to the same call" if names else "another node never gets to the same call"
