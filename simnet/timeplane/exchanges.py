"""Exchanges among neighbours, in the events tier: messages out, and each host leaves when all of its own are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.entries import Entry
from simnet.exchange import INF, Exchange
from simnet.payload import Sizes
from simnet.timeplane.boxes import Box
from simnet.timeplane.settle import enter_arrivals, entered_E, learn_late, settle, take_back

if TYPE_CHECKING:
    from simnet.timeplane.walker import Light, Walker

DEADLINE = 2  # the priority of deadlines within one instant: after arrivals


class Exchanges:
    """The exchanges of a run that are under way."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.boxes: dict[int, Box] = {}
        self.flying: dict[int, Box] = {}  # closed, with messages still before a receiver's port

    def settle(self) -> None:
        """At the end of the walk: enter what was sent in exchanges that never closed."""
        for box in sorted(self.boxes.values(), key=lambda b: b.x.id):
            self._settle(box)
            self._log(box)

    def settle_flying(self) -> None:
        """At the end of the walk: enter closed exchanges whose last messages never got through a receiver's port."""
        for box in self.flying.values():
            self._log(box)

    def _open(self, x: Exchange, masked: bool) -> Box:
        """The box in which exchange x collects its messages; `masked`: who takes part is a Value."""
        walker = self.walker
        box = self.boxes[x.id] = Box(x, walker.routes, walker.book)
        if walker.account.departures:
            box.remaining -= sum(walker.gone[h] for h in walker.book.members[x.channel.name[0]].tolist())
        box.follow_late = walker.items is not None and x.missing == "stale"
        box.entered = walker.account.until == INF and not masked and not x.by_value
        if box.entered:
            walker.account.sent(x.round, x.edges, x.payload_bytes, x.fate, active_E=entered_E(x, walker.gone))
        return box

    def depart(self, i: int, role: str) -> None:
        """Host i has left for good: nobody waits for it to leave an exchange; what it has not sent never comes."""
        for box in sorted(self.boxes.values(), key=lambda b: b.x.id):
            x = box.x
            if x.channel.name[0] != role or box.leave[i] < INF:
                continue
            if box.start[i] == INF and box.entered:
                take_back(self.walker.account, x, i)
            box.remaining -= 1
            if box.remaining == 0:
                self._close(box)

    def start(self, i: int, m: int, entry: Entry, now: float) -> None:
        """Host i gets to an exchange: it hands its messages over, if it takes part."""
        walker, x = self.walker, entry.travel
        box = self.boxes.get(x.id) or self._open(x, entry.when_task is not None)
        box.start[i] = now
        if walker.items is not None:
            walker.items.started(walker.recording_of[i], m, entry, i)
        if x.by_value:
            self._size(
                box, i, walker.need_items("a size that depends on values").sizes(walker.recording_of[i], m, entry)
            )
        if entry.when_task is not None:
            recording = walker.recording_of[i]
            taking_part = walker.need_items("when= with a Value").holds(recording, m, entry)
            if x.active_n is None:
                x.active_n = np.ones(walker.book.n, bool)
            x.active_n[i] = taking_part
            if not taking_part:
                for _, _, messages in box.out[i]:
                    for e, j in messages:  # known missing from this moment
                        self._arrived(box, j, e, now, now)
                return
        elif x.active_n is not None and not x.active_n[i]:
            return
        if walker.later or walker.spans or box.follow_late:

            def arrived(e: int, j: int, t: float) -> None:
                self._arrived(box, j, e, t, now)

            walker.hand_over(i, box.out[i], now, box.way, arrived)
            walker.account.sent_by(i, x.round, x.edges, x.payload_bytes, x.fate)
            return
        free, arrival, left, latest, waiting = walker.free, box.arrival, box.left, box.latest, walker.waiting
        offset, busy = box.way.offset, box.way.busy
        for port, rank, messages in box.out[i]:  # the same as hand_over and _arrived, without the calls
            begin = free[port]
            if now > begin:
                begin = now
            free[port] = begin + busy[rank]
            for e, j in messages:
                t = arrival[e] = begin + offset[e]
                if t > latest[j]:
                    latest[j] = t
                k = left[j] = left[j] - 1
                box.handed[j] = now
                if k == 0 and waiting[j] is box:
                    self._wake(box, j)

    def _size(self, box: Box, i: int, sizes: Sizes | None) -> None:
        """What host i sends has these sizes; None: nobody knows, and the bounds stand."""
        if sizes is None:
            return
        x = box.x
        mine = x.edges.source == i
        found = sizes.at(x.edges.source[mine])
        x.payload_bytes[mine], x.payload_bytes.index[mine] = found, found.index
        x.payload_bytes.nominal_bits[mine] = found.nominal_bits
        box.way = self.walker.routes.way(x.edges, x.payload_bytes + self.walker.book.network.header_bytes, x.fate)

    def _arrived(self, box: Any, j: int, e: int, t: float, handed: float) -> None:
        """The message on edge e is known to arrive at host j at time t."""
        box.arrival[e] = t
        if t > box.latest[j]:
            box.latest[j] = t
        if handed > box.handed[j]:
            box.handed[j] = handed
        if box.leave[j] < INF and box.x.missing == "stale":
            if box.follow_late:
                self.walker.items.late(box.x, e, t)
            elif box.x.closed:
                learn_late(self.walker.book, box.x, e, t)
        box.left[j] -= 1
        if box.left[j] == 0 and box.x.id in self.flying and not any(box.left):
            del self.flying[box.x.id]
            self._log(box)
        if box.left[j] == 0 and self.walker.waiting[j] is box:
            self._wake(box, j)

    def _wake(self, box: Box, j: int) -> None:
        """All of host j's messages are known: it leaves at the latest of them, or at its deadline."""
        self.walker.waiting[j] = None
        t = min(box.latest[j], box.start[j] + box.deadline_s)
        if self.walker.calendar[j]:
            t = self.walker.back(j, t)
        self.walker.waited(j, box.since[j], t, box.handed[j])
        if t < INF:
            self.walker.push(t, self._left, box, j)

    def _left(self, event: Light) -> None:
        box, j = event.a, event.b
        now = self.walker.env._now
        self._leave(box, j, now)
        self.walker.go_on(j)

    def finish(self, i: int, entry: Entry, now: float) -> bool:
        """Host i asks for the exchange's result: True when it has it at once."""
        x: Exchange = entry.travel
        box = self.boxes[x.id]
        box.since[i] = now
        box.entry[i] = entry
        if x.active_n is not None and not x.active_n[i]:
            self._leave(box, i, now)
            return True
        walker, limit = self.walker, box.start[i] + box.deadline_s
        if walker.calendar[i]:
            limit = walker.back(i, limit)
        if box.left[i] == 0:
            t = min(box.latest[i], limit)
            if t <= now:
                self._leave(box, i, now)
                return True
            if walker.calendar[i]:
                t = walker.back(i, t)
            walker.waited(i, now, t, box.handed[i])
            if t < INF:
                walker.push(t, self._left, box, i)
            return False
        if limit < now:  # what was to come by then has come
            self._leave(box, i, now)
            return True
        walker.waiting[i] = box
        if limit < INF:
            walker.push(limit, self._deadline, box, i, DEADLINE)
        return False

    def _deadline(self, event: Light) -> None:
        box, j = event.a, event.b
        if self.walker.waiting[j] is not box:
            return
        now = self.walker.env._now
        self.walker.waiting[j] = None
        self.walker.waited(j, box.since[j], now, now)
        self._leave(box, j, now)
        self.walker.go_on(j)

    def _leave(self, box: Box, i: int, now: float) -> None:
        """Host i has left exchange x; with the last of them it is closed."""
        box.leave[i] = now
        if self.walker.items is not None:
            got = self._got(box, i)
            self.walker.items.finished(self.walker.recording_of[i], self.walker.member_of[i], box.entry[i], i, got, now)
        box.remaining -= 1
        if box.remaining == 0:
            self._close(box)

    def _close(self, box: Box) -> None:
        """Everybody has left who ever does."""
        walker = self.walker
        self._settle(box)
        del self.boxes[box.x.id]
        if walker.account.departures:
            for source, j in zip(box.x.edges.source.tolist(), box.x.edges.target.tolist(), strict=True):
                if box.start[source] == INF and (box.x.active_n is None or box.x.active_n[source]):
                    box.left[j] -= 1  # a message that never comes
                    box.handed[j] = INF
        if walker.later and any(box.left):
            self.flying[box.x.id] = box
        else:
            self._log(box)
        walker.closed(box.x, box.entry)

    def _got(self, box: Box, i: int) -> list[tuple[bool, float]]:
        """For each in-edge of host i as it leaves: whether its message is there in time, and when it arrives."""
        walker, limit = self.walker, box.start[i] + box.deadline_s
        delivered, active, source = box.delivered, box.x.active_n, box.x.edges.source
        calendar, drops = walker.calendar[i], walker.book.network.policy != "retry"
        if calendar:
            limit = walker.back(i, limit)
        out = []
        for e in range(box.in_ptr[i], box.in_ptr[i + 1]):
            t = box.arrival[e]
            taken = walker.back(i, t) if calendar else t
            ok = taken <= limit and (delivered is None or delivered[e]) and (active is None or bool(active[source[e]]))
            out.append((bool(ok and t < INF and not (drops and taken > t)), t))
        return out

    def _settle(self, box: Box) -> None:
        """Say what arrived in time of a closed (or, at a cut, an unfinished) exchange; enter its bytes if need be."""
        learn = self.walker.items is None
        settle(
            self.walker.account,
            box.x,
            np.array(box.start),
            np.array(box.arrival),
            np.array(box.leave),
            box.entered,
            learn,
        )

    def _log(self, box: Box) -> None:
        """Every arrival of an exchange is known (or, at a cut, will never be): enter them in the event log."""
        enter_arrivals(self.walker.account, box.x, np.array(box.start), np.array(box.arrival))
        if self.walker.items is not None:
            self.walker.items.closed(box.x)
