"""The events tier in plain Python: every node walks its verb table, woken by light SimPy events.

The same walker serves a group run (one table for all members of a role) and a node run (one table per node: the
processes tier). A message's arrival is computed when it is handed to a port that nothing shares; only what waits
becomes an event. Within one instant the order is: completions and arrivals, deadlines, then the sequence number.

Legend: n hosts, E edges of one exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

import numpy as np
import simpy

from simnet.book import Book
from simnet.entries import Entry, Op
from simnet.errors import RunError
from simnet.exchange import INF, Average, Exchange, ServerAverage
from simnet.recording import Recording
from simnet.timeplane.account import SHOWN_ROUNDS, Account, Hooks, Values
from simnet.timeplane.averages import Averages, UnderWay
from simnet.timeplane.boxes import Port, Routes, Way
from simnet.timeplane.cuts import check_starved, cut, leave_waiting
from simnet.timeplane.departures import watch_departures
from simnet.timeplane.exchanges import Exchanges
from simnet.timeplane.flows import Flows
from simnet.timeplane.mail import Mail
from simnet.timeplane.meetings import Meetings
from simnet.timeplane.relays import Relays

COMPLETION = 1  # the priority, within one instant, of all events but deadlines


class Light:
    """A SimPy event without a process: triggered from the start, with the arguments of its callback in slots."""

    __slots__ = ("_ok", "a", "b", "callbacks")

    def __init__(self, callback: Callable[[Any], None], a: Any, b: Any) -> None:
        self.callbacks = (callback,)
        self._ok = True
        self.a, self.b = a, b


class Walker:
    """Runs recordings over hosts; `recording_of[i]` is the table that host i walks."""

    def __init__(
        self, book: Book, recordings: list[Recording], account: Account, values: Values, hooks: Hooks, items: Any = None
    ) -> None:
        n = book.n
        self.book, self.recordings, self.account, self.values, self.hooks = book, recordings, account, values, hooks
        self.items = items  # a value plane that follows every node row by row; None: one that works by whole tasks
        self.env = simpy.Environment()
        self._queue: list[Any] = self.env._queue
        self._next_id = self.env._eid.__next__
        self.recording_of: list[Recording] = [recordings[0]] * n
        self.member_of = [0] * n
        for recording in recordings:
            for m, host in enumerate(recording.members.tolist()):
                self.recording_of[host], self.member_of[host] = recording, m
        self.pos, self.reports = [0] * n, [0] * n
        self.times: dict[tuple[int, int], np.ndarray] = {}  # (recording, report) -> time per member
        self.spent: dict[int, dict[int, tuple[float, float, float, float]]] = {}  # report -> host -> s so far, and now
        self.reporters = self.unfinished = sum(len(recording.members) for recording in hooks.reporting)
        self.free = [0.0] * max(n, book.network.links)
        self.receive_free = [0.0] * n
        self.serial_receiver = book.network.receive_ports == "serial"
        self.flows = Flows(self) if book.network.model != "independent" else None
        # arrivals are not known when messages are sent, or hang on the moment
        self.later = self.serial_receiver or self.flows is not None or bool(book.network.changes)
        self.waiting: list[Any] = [None] * n  # the box or receive that a host waits in
        self.presence, self.back = book.presence, book.presence.back
        self.calendar: list[bool] = book.presence.has_n.tolist()  # who has absences or slow periods
        self.gone, self.departed = [False] * n, list[int]()  # who has left for good; those who were to report
        self.finished = [False] * n
        self.compute, self.comm, self.idle = [0.0] * n, [0.0] * n, [0.0] * n
        self.exchanges = Exchanges(self)
        self.averages, self.relays = Averages(self), Relays(self)
        self.routes = Routes(book)
        self.mail = Mail(self)
        self.meetings = Meetings(self)
        self.timers: list[dict[Entry, float]] = [{} for _ in range(n)]  # started waits that have not fired
        self.spans = account.spans is not None
        self.stopping = False
        self.ended = False  # every reporting host has: nobody waits for the others, who may go on for ever
        self._mark = 0

    # ---- events ----------------------------------------------------------------------------------------------------

    def push(
        self, t: float, callback: Callable[[Any], None], a: Any, b: Any = None, priority: int = COMPLETION
    ) -> None:
        """Put a light event into SimPy's queue."""
        heappush(self._queue, (t, priority, self._next_id(), Light(callback, a, b)))

    def push_back(
        self, t: float, callback: Callable[[Any], None], i: int, b: Any = None, priority: int = COMPLETION
    ) -> None:
        """The same for something that host i does: at its return, if it is away by then."""
        if self.calendar[i]:
            t = self.back(i, t)
            if t == INF:
                return
        self.push(t, callback, i, b, priority)

    def run(self) -> None:
        """Walk until every program has ended, the cut by time, or a stop by the run."""
        watch_departures(self)
        for i in range(self.book.n):
            self.push_back(0.0, self._resume, i)
        try:
            until = self.account.until
            queue, step, hooks = self._queue, self.env.step, self.hooks
            while queue and not self.stopping and not self.ended and queue[0][0] <= until:
                if queue[0][0] > hooks.row_at:
                    self._row_due()
                else:
                    step()
            if self.ended and not self.stopping:
                self._deliver()
            self.meetings.settle()
            if not self.stopping:
                leave_waiting(self)
                self.exchanges.settle()
                self.averages.settle()
                self.relays.settle()
            self.exchanges.settle_flying()
            self.mail.settle()
            if not self.stopping:
                check_starved(self)
        finally:
            account = self.account
            account.compute_s += self.compute
            account.comm_s += self.comm
            account.idle_s += self.idle
            account.reports_n += self.reports

    def _deliver(self) -> None:
        """Every program has ended: what is still before a receiver's port gets through."""
        queue, until = self._queue, self.account.until
        while queue and queue[0][0] <= until:
            t, _, _, event = heappop(queue)
            if event.callbacks[0] == self._first_bit:
                self.env._now = t
                self._first_bit(event)

    def _row_due(self) -> None:
        """The clock is at a row of the record: tell the run, which may stop here."""
        at = self.hooks.row_at
        self.meetings.settle()
        self.stopping = self.hooks.row_due(self.reports)
        if self.stopping:
            self.account.until = at
            leave_waiting(self)
            for end, _, _, event in self._queue:  # work that goes on was entered whole
                if event.callbacks[0] == self._resume and self._works(event.a):
                    self.compute[event.a] -= (
                        self.presence.there(event.a, at, end) if self.calendar[event.a] else end - at
                    )

    def _works(self, i: int) -> bool:
        """Whether what host i does is work."""
        return self.pos[i] > 0 and self.recording_of[i].entries[self.pos[i] - 1].op == Op.WORK

    def _resume(self, event: Light) -> None:
        self._go(event.a, self.env._now)

    # ---- one node --------------------------------------------------------------------------------------------------

    def _go(self, i: int, now: float) -> None:
        """Walk host i's table from where it stands, until something takes time."""
        recording, m, pos = self.recording_of[i], self.member_of[i], self.pos
        entries, reports = recording.entries, recording.reports
        while True:
            p = pos[i]
            entry = entries[p] if p < len(entries) else recording.entry(p)
            while self.reports[i] < len(reports) and reports[self.reports[i]].position <= p:
                self._report(i, m, recording, now)
                if self.stopping:
                    return
            if entry is None:
                self.finished[i] = True
                self.account.finish_s[i] = now
                self.meetings.finished(i, now)
                self._finished(recording)
                return
            op = entry.op
            if op == Op.WORK or op == Op.WAIT:
                pos[i] = p + 1
                if entry.listed is None:
                    entry.listed = entry.seconds.tolist()
                seconds = entry.listed[m]
                if seconds == 0.0:
                    continue
                end = now + seconds if not self.calendar[i] else self._end(i, now, seconds, op)
                if op == Op.WORK:
                    self.compute[i] += self._computed(i, now, seconds, end)
                    if self.spans:
                        self.account.span(i, "compute", now, end, self.reports[i])
                if end < INF:
                    self.push(end, self._resume, i)
                return
            if op == Op.EXCHANGE:
                self.exchanges.start(i, m, entry, now)
                if not self.exchanges.finish(i, entry, now):
                    return
            elif op == Op.START:
                self.exchanges.start(i, m, entry, now)
            elif op == Op.FINISH:
                if not self.exchanges.finish(i, entry, now):
                    return
            elif op == Op.AVERAGE or op == Op.START_AVERAGE:
                by: UnderWay = self.averages if isinstance(entry.travel, ServerAverage) else self.relays
                by.start(i, entry, now)
                if op == Op.AVERAGE and not by.finish(i, entry, now):
                    return
            elif op == Op.FINISH_AVERAGE:
                by = self.averages if isinstance(entry.travel, ServerAverage) else self.relays
                if not by.finish(i, entry, now):
                    return
            elif op == Op.SEND:
                self.mail.send(i, entry, now)
            elif op == Op.RECEIVE:
                if not self.mail.receive(i, entry, now):
                    return
            elif op == Op.READ:
                self.need_items("node.read").read(recording, m, entry)
            elif op == Op.MEET:
                if not self.meetings.start(i, entry, now):
                    return
            elif op == Op.PUBLISH:
                self.need_items("node.publish").publish(recording, m, entry, i)
            elif op == Op.TAKE:
                self.need_items("node.published").take(recording, m, entry, i)
            elif op == Op.START_WAIT:
                still = {timer: t for timer, t in self.timers[i].items() if t > now}
                self.timers[i] = still | {entry: now + float(entry.seconds[m])}
            pos[i] = p + 1

    def _end(self, i: int, now: float, seconds: float, op: int) -> float:
        """When host i, which may be away or slow meanwhile, is done and there."""
        return self.presence.work(i, now, seconds) if op == Op.WORK else self.back(i, now + seconds)

    def _computed(self, i: int, now: float, seconds: float, end: float) -> float:
        """Seconds of work from now on that lie before the cut; a host that is slow takes longer."""
        until = self.account.until
        if self.calendar[i]:
            return self.presence.there(i, now, min(end, until))
        return seconds if end <= until else until - now

    def _finished(self, recording: Recording) -> None:
        if recording in self.hooks.reporting:
            self.unfinished -= 1
            self.ended = self.unfinished == 0

    def need_items(self, what: str) -> Any:
        """The value plane that follows every node; whole tasks at once cannot give one node's number in time."""
        if self.items is None:
            raise NeedsItems(what)
        return self.items

    def _report(self, i: int, m: int, recording: Recording, now: float) -> None:
        r = self.reports[i]
        self.reports[i] = r + 1
        key = (recording.index_, r)
        times = self.times.get(key)
        if times is None:
            times = self.times[key] = np.full(len(recording.members), INF)
        times[m] = now
        if self.items is not None:
            self.items.reported(recording, m, r)
        spent = self.spent.setdefault(r, {})
        spent[i] = self.compute[i], self.comm[i], self.idle[i], now
        open_m = times == INF
        if self.account.departures:
            open_m &= ~np.array(self.gone)[recording.members]
        if not open_m.any():
            self.complete(recording, r)

    def complete(self, recording: Recording, r: int) -> None:
        """All members that are still there have made report r: tell the run."""
        times = self.times.pop((recording.index_, r))
        if r + 1 >= SHOWN_ROUNDS:
            self.spans = False
        self._told(lambda: self.hooks.reported(recording, r, times))
        for each in self.recordings if len(self.recordings) <= 8 else (recording,):  # roles, or single nodes
            there = [self.pos[h] for h in each.members.tolist() if not self.gone[h]]
            each.trim(min(there, default=0))
        if len(self.spent.get(r, ())) == self.reporters - sum(self.reports[h] <= r for h in self.departed):
            del self.spent[r]

    def told_gone(self, recording: Recording) -> None:
        """Nobody of a recording will report again."""
        self._told(lambda: self.hooks.left(recording))

    def _told(self, tell: Callable[[], bool]) -> None:
        """Let the run evaluate its next row; where it stops there, so does everybody."""
        try:
            self.stopping = tell()
        except RunError:
            cut(self, self.hooks.row, self.spent.get(self.hooks.row, {}))
            raise
        if self.stopping:
            cut(self, self.hooks.row, self.spent.get(self.hooks.row, {}))

    def waited(self, i: int, since: float, until: float, handed: float) -> None:
        """Waiting until the last sender has sent is idle; from then on it is exposed communication."""
        if until > self.account.until:
            until = self.account.until
        turn = min(max(handed, since), until)
        if self.calendar[i]:
            self.idle[i] += self.presence.there(i, since, turn) if since < turn else 0.0
            self.comm[i] += self.presence.there(i, turn, until) if turn < until else 0.0
        else:
            self.idle[i] += turn - since
            self.comm[i] += until - turn
        if self.spans:
            self.account.span(i, "wait", since, until, self.reports[i])

    # ---- for exchanges, averages and messages -----------------------------------------------------------------------

    def hand_over(
        self, i: int, out: list[Port], now: float, way: Way, arrived: Callable[[int, int, float], None]
    ) -> None:
        """Host i hands one message for each edge of `out` to its ports; `arrived(e, j, t)` is called as soon as the
        arrival at host j is known.

        A dropped message still takes its turn at a serial receiver: what is missing is found out there.
        """
        if self.flows is not None:
            for _, _, messages in out:
                for e, j in messages:
                    self.flows.send(way.edges, e, way.bytes_of(e, now), i, j, now, arrived)
            return
        if way.varies:
            self._hand_in_turn(i, out, now, way, arrived)
            return
        for port, rank, messages in out:
            begin = max(now, self.free[port])
            end = self.free[port] = begin + way.busy[rank]
            if self.spans:
                self.account.span(i, "send", begin, end, self.reports[i])
            for e, j in messages:
                t = begin + way.offset[e]
                if self.serial_receiver:
                    self.push(max(now, t - way.own[e]), self._first_bit, (arrived, e, j), way.own[e])
                else:
                    arrived(e, j, t)

    def _hand_in_turn(
        self, i: int, out: list[Port], now: float, way: Way, arrived: Callable[[int, int, float], None]
    ) -> None:
        """The same over links that change with time: each message begins when the one before it has left the port."""
        for port, _, messages in out:
            begin = end = max(now, self.free[port])
            for e, j in messages:
                end, t, own = way.go(e, end)
                if self.serial_receiver:
                    self.push(max(now, t - own), self._first_bit, (arrived, e, j), own)
                else:
                    arrived(e, j, t)
            self.free[port] = end
            if self.spans:
                self.account.span(i, "send", begin, end, self.reports[i])

    def _first_bit(self, event: Light) -> None:
        """The first bit of a message is at a receiver that takes one message after another."""
        arrived, e, j = event.a
        done = self.receive_free[j] = max(self.env._now, self.receive_free[j]) + event.b
        arrived(e, j, done)

    def go_on(self, j: int) -> None:
        """Host j has what it waited for: on to its next entry."""
        self.pos[j] += 1
        self._go(j, self.env._now)

    def closed(self, x: Exchange | Average, entries: list[Entry | None]) -> None:
        """The last host has left: the value plane may run what rests on the exchange before this one. `entries`: by
        which each host left, None for one that has gone for good.
        """
        self.book.close(x)
        if self.items is None:
            entry = next((e for e in entries if e is not None), None)
            if entry is not None:
                self.values.catch_up(self.recordings[0], self._mark)
                self._mark = entry.mark + len(entry.tasks)
        elif isinstance(x, Average):  # an exchange's messages may still be on their way: see `_log`
            self.items.closed(x)


class NeedsItems(Exception):
    """The program asks for a number in the middle of the walk; the value plane must follow every node."""
