"""The events tier compiled: opens and closes exchanges for `compiled.walk`, which does the walking.

Clocks, ledger and log equal those of `Walker`, bit for bit. It takes lockstep programs of exchanges, work and waiting;
anything else raises `NeedsWalker`, and the reference does it.

Legend: n hosts, K exchanges under way, E edges.
"""

from __future__ import annotations

import numpy as np
import simpy

from simnet.book import Book
from simnet.entries import Entry, Op
from simnet.errors import RunError
from simnet.exchange import INF, Exchange
from simnet.network import changing
from simnet.network.fate import schedule, sent_bytes
from simnet.recording import Recording
from simnet.timeplane import compiled as c
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.account import SHOWN_NODES, SHOWN_ROUNDS, Account, Hooks, NeedsWalker, Values
from simnet.timeplane.compiled_cuts import check_starved, cut, depart, leave_waiting, stop_waiting
from simnet.timeplane.compiled_fates import fates_in_time
from simnet.timeplane.compiled_flows import SharedLinks
from simnet.timeplane.compiled_room import grow, more_events, more_places
from simnet.timeplane.compiled_turns import TimedLinks, raise_never_open
from simnet.timeplane.settle import enter_arrivals, entered_E, settle
from simnet.timeplane.tables import EdgeTable, longer, no_places

_KINDS = ("compute", "send", "wait")
_WALKED = frozenset({Op.WORK, Op.WAIT, Op.EXCHANGE, Op.START, Op.FINISH})


class CompiledWalker:
    """Runs one recording for all hosts."""

    def __init__(self, book: Book, recording: Recording, account: Account, values: Values, hooks: Hooks) -> None:
        self.book, self.recording, self.account, self.values, self.hooks = book, recording, account, values, hooks
        self.env = simpy.Environment()
        n, network = book.n, book.network
        self.hosts = c.Hosts(
            pos=np.zeros(n, np.int64),
            waiting=np.full(n, -1),
            reports=np.zeros(n, np.int64),
            finished=np.zeros(n, bool),
            compute=np.zeros(n),
            comm=np.zeros(n),
            idle=np.zeros(n),
            finish_s=np.zeros(n),
            free=np.zeros(max(n, network.links)),
            receive_free=np.zeros(n),
            times=np.zeros((64, n)),
            made=np.zeros(64, np.int64),
            spent=np.zeros((64, 3, n)),
            closings=np.zeros(64, np.int64),
            spans=np.zeros((4096, 5)),
        )
        self.table = c.Table(np.zeros(256, np.int64), np.zeros(256, np.int64), np.zeros((8, n)), np.zeros(64, np.int64))
        room = 4 * n + 64
        self.heap = c.Heap(
            np.zeros(room),
            np.zeros(room, np.int64),
            np.arange(room),
            np.zeros((room, 4), np.int64),
            np.zeros((room, 2)),
        )
        self.state = np.zeros(st.STATE_SIZE, np.int64)
        self.state[st.CURRENT] = -1
        self.state[st.SERIAL] = network.receive_ports == "serial"
        self.state[st.SHOWN] = account.spans is not None
        self.state[st.PATIENCE] = changing.PATIENCE
        self.clock = np.zeros(2)  # now, and up to when absences are wanted
        self.gone = np.zeros(n, bool)  # who has left for good
        self.calendar = self._calendar(0.0)
        self.open: dict[int, tuple[Exchange, int]] = {}  # exchange -> itself and its place
        self.at: list[Exchange | None] = []  # place -> exchange
        self.entry_at: dict[int, Entry] = {}  # place -> the entry by which it is finished
        self.shared = SharedLinks(self) if network.model != "independent" else None
        self.fates = fates_in_time(self)
        self.timed = TimedLinks(network) if network.changes and self.shared is None else None
        numbered = self.shared or self.timed
        self.places, self.edges = no_places(n), EdgeTable(n, numbered.ways_of if numbered else None)
        self.work_of: dict[int, int] = {}  # row of work -> the entry whose seconds it holds
        self.stopping = False
        self._mark = 0

    # ---- the walk --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk until every program has ended, the cut by time, or a stop by the run."""
        until = self.account.until
        self._begin()
        try:
            while not self.stopping:
                engine, carried = self.shared.arrays if self.shared is not None else (None, None)
                timed = self.timed.arrays if self.timed is not None else None
                why = c.walk(
                    self.heap, self.places, self.edges.rows, self.table, self.hosts, self.calendar, engine,
                    carried, timed, self.state, self.clock, until, SHOWN_NODES, SHOWN_ROUNDS, self.edges.most_out,
                )  # fmt: skip
                if self.shared is not None:
                    self.shared.read_notes()
                self.close()
                if why == c.REPORTED:
                    self.report()
                elif why == c.NEEDS_ENTRY:
                    self._record()
                elif why == c.NEEDS_PLACE:
                    self._place(int(self.hosts.pos[self.state[st.CURRENT]]))
                elif why == c.NEEDS_ROOM:
                    grow(self)
                elif why == c.DEPARTED:
                    depart(self, int(self.state[st.WHO]))
                elif why == c.NEEDS_ABSENCES:
                    self.calendar = self._calendar(float(self.clock[1]))
                elif why == c.NEEDS_FLOWS and self.shared is not None:
                    self.shared.tell_others()
                elif why == c.NEEDS_COPIES and self.shared is not None:
                    self.shared.give_copies()
                elif why == c.NEEDS_FATES and self.fates is not None:
                    self.fates.tell()
                elif why == c.NEVER_OPEN and self.shared is not None:
                    raise self.shared.never_open()
                elif why == c.NEVER_OPEN:
                    raise_never_open(self)
                elif why in (c.ENDED, c.UNTIL):
                    break
            self.env.run(until=max(float(self.clock[0]), np.nextafter(0.0, 1.0)))  # SimPy's clock, for whoever reads it
            self._end(until)
        finally:
            self._enter_fates()
            self._enter()

    def _begin(self) -> None:
        """Put into the heap when flows of others begin, when those depart that never return, when each host begins."""
        presence = self.book.presence
        events = [(t, g, st.FLOW, g) for t, g in self.shared.others.first()] if self.shared is not None else []
        leaving = np.flatnonzero(self.account.gone_n).tolist()
        events += [(float(presence.left_s[i]), k, st.DEPARTURE, i) for k, i in enumerate(leaving, len(events))]
        for i in range(self.book.n):
            if (t := presence.back(i, 0.0)) < INF:
                events.append((t, (1 << 58) | len(events), st.RESUME, i))
        while len(events) > len(self.heap.t):
            more_events(self)
        heap = self.heap
        for row, (t, order, kind, i) in enumerate(sorted(events)):
            heap.t[row], heap.order[row], heap.what[row, 0], heap.what[row, 1] = t, order, kind, i
        self.state[st.SIZE] = self.state[st.SEQUENCE] = len(events)

    def _calendar(self, t: float) -> c.Calendar:
        """Who is away or slow when, up to t at the least."""
        presence = self.book.presence
        if not presence:
            return c.NOBODY
        away, slow = presence.reach(t), presence.slow
        return c.Calendar(
            True, presence.has_n, np.array([presence.known_s]), *away[:3], slow.ptr, slow.start, slow.end, slow.factor
        )

    def count_out(self, row: int, i: int) -> None:
        """Host i never makes the report that is kept in a row."""
        self.hosts.times[row, i] = INF
        self.hosts.made[row] += 1

    def complete(self) -> bool:
        """Whether all have made the next report that ever will, and somebody has."""
        row = int(self.state[st.FIRST_REPORT]) % len(self.hosts.made)
        return bool(self.hosts.made[row] == self.book.n and (self.hosts.times[row] < INF).any())

    def _end(self, until: float) -> None:
        if not self.stopping:
            leave_waiting(self, until)
        flying = [(x, s) for x, s in self.open.values() if x.closed]
        if not self.stopping:
            for x, s in sorted(self.open.values(), key=lambda pair: pair[0].id):
                if not x.closed:
                    self._settle(x, s)
                    self._log(x, s)
        for x, s in flying:
            self._log(x, s)
        if not self.stopping:
            check_starved(self)

    def _enter(self) -> None:
        """Hand what the hosts did to the account."""
        hosts, account = self.hosts, self.account
        self.flush_spans()
        account.compute_s += hosts.compute
        account.comm_s += hosts.comm
        account.idle_s += hosts.idle
        account.finish_s[:] = hosts.finish_s
        account.reports_n += hosts.reports

    def _enter_fates(self) -> None:
        """Enter what was sent over links whose loss changes."""
        if self.fates is not None:
            self.fates.enter_all()

    def report(self) -> None:
        """All hosts that are still there have made a report: tell the run."""
        self._enter_fates()
        index = int(self.state[st.FIRST_REPORT])
        row = index % len(self.hosts.made)
        times = self.hosts.times[row].copy()
        self.hosts.made[row] = 0
        self.state[st.FIRST_REPORT] = index + 1
        if index + 1 >= SHOWN_ROUNDS:
            self.state[st.SHOWN] = 0
        try:
            self.stopping = self.hooks.reported(self.recording, index, times)
        except RunError:
            cut(self, index, row)
            raise
        if self.stopping:
            cut(self, index, row)
        for i in np.flatnonzero(self.gone).tolist():
            self.count_out(row, i)
        self.recording.trim(self._slowest())

    def _slowest(self) -> int:
        """The first entry that somebody who is still there has not passed."""
        return int(self.hosts.pos[~self.gone].min(initial=int(self.state[st.ENTRIES])))

    @property
    def times(self) -> dict[tuple[int, int], np.ndarray]:
        """(recording, report) -> times, of reports that not all hosts have made."""
        rows = len(self.hosts.made)
        found = {}
        for r in range(int(self.state[st.FIRST_REPORT]), int(self.hosts.reports.max())):
            made = self.hosts.reports > r
            found[self.recording.index_, r] = np.where(made, self.hosts.times[r % rows], INF)
        return found

    # ---- the table -------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Record entries until there is one more (or the program has ended), and copy them into the table."""
        recording = self.recording
        p = int(self.state[st.ENTRIES])
        ended = recording.entry(p) is None
        for entry in recording.entries[p:]:
            self._copy(entry)
        self.state[st.DONE] = ended
        reports = recording.reports
        while self.state[st.REPORTS] < len(reports):
            k = int(self.state[st.REPORTS])
            if k >= len(self.table.report_position):
                self.table = self.table._replace(report_position=longer(self.table.report_position))
            self.table.report_position[k] = reports[k].position
            self.state[st.REPORTS] = k + 1

    def _copy(self, entry: Entry) -> None:
        if entry.op not in _WALKED or entry.when_task is not None:
            raise NeedsWalker("a verb other than exchanges, work and waiting")
        if entry.op in (Op.EXCHANGE, Op.START) and isinstance(entry.travel.payload_bytes, np.ndarray):
            raise NeedsWalker("messages of unequal size")
        if entry.op not in (Op.WORK, Op.WAIT) and entry.travel.missing == "stale" and self.state[st.SERIAL]:
            raise NeedsWalker("messages behind a receiver's port may turn stale")
        p = int(self.state[st.ENTRIES])
        if p >= len(self.table.op):
            self.table = self.table._replace(op=longer(self.table.op), argument=longer(self.table.argument))
        self.table.op[p] = entry.op
        if entry.op in (Op.WORK, Op.WAIT):
            self.table.argument[p] = self._work_row(p, entry.seconds)
        else:
            found = self.open.get(entry.travel.id)
            self.table.argument[p] = -1 if found is None else found[1]
            if found is not None and entry.op == Op.FINISH:
                self.entry_at[found[1]] = entry
        self.state[st.ENTRIES] = p + 1

    def _work_row(self, p: int, seconds: np.ndarray) -> int:
        """A row for the seconds of entry p: one whose entry every host has passed, or a new one."""
        slowest = self._slowest()
        rows = len(self.table.seconds)
        row = next((r for r in range(rows) if self.work_of.get(r, -1) < slowest), None)
        if row is None:
            row = rows
            self.table = self.table._replace(seconds=longer(self.table.seconds))
        self.table.seconds[row] = seconds
        self.work_of[row] = p
        return row

    # ---- exchanges -------------------------------------------------------------------------------------------------

    def _place(self, p: int) -> None:
        """The first host gets to the exchange of entry p: give it a place."""
        entry = self.recording.entries[p]
        x: Exchange = entry.travel
        k = self.edges.row_of(x.edges, {int(self.places.edges[s]) for _, s in self.open.values()})
        narrow = self.places.arrival.shape[1] < self.edges.widest or self.places.busy.shape[1] < self.edges.most_ports
        if None not in self.at or narrow:
            more_places(self)
        s = self.at.index(None)
        places, edges, n = self.places, x.edges, self.book.n
        size = x.payload_bytes + self.book.network.header_bytes
        offset_E, busy_P = schedule(edges, size, x.fate)
        active_E = None if x.active_n is None else x.active_n[edges.source]
        coming = edges.target if active_E is None else edges.target[active_E]
        places.id[s], places.edges[s], places.deadline_s[s] = x.id, k, x.deadline_s
        places.remaining[s], places.unknown[s] = n - self.gone.sum(), len(coming)
        places.active[s] = True if x.active_n is None else x.active_n
        places.left[s] = np.bincount(coming, minlength=n)
        places.latest[s] = places.handed[s] = -INF
        places.start[s] = places.since[s] = places.leave[s] = places.arrival[s] = INF
        places.offset[s, : edges.size], places.busy[s, : len(busy_P)] = offset_E, busy_P
        shared = self.shared is not None
        places.own[s, : edges.size] = sent_bytes(edges, size, x.fate) if shared else size * edges.seconds_per_byte_E
        places.fates_s[s] = INF
        if self.fates is not None:
            self.fates.open(x, s)
        if self.timed is not None:
            places.size[s], places.sent[s, : edges.size] = size, sent_bytes(edges, size, x.fate)
            places.attempts[s, : edges.size] = 1 if x.fate is None else x.fate.attempts_E
        self.at[s], self.open[x.id], self.entry_at[s] = x, (x, s), entry
        for q in range(p, int(self.state[st.ENTRIES])):
            later = self.recording.entries[q]
            if later.travel is x:
                self.table.argument[q] = s
                self.entry_at[s] = later
        if self.account.until == INF:
            self.account.sent(x.round, edges, x.payload_bytes, x.fate, active_E=entered_E(x, self.gone.tolist()))

    def close(self) -> None:
        """Exchanges that the last host has left: enter them, and let the value plane go on."""
        count = int(self.state[st.CLOSINGS])
        self.state[st.CLOSINGS] = 0
        for code in self.hosts.closings[:count].tolist():
            s = code if code >= 0 else -1 - code
            x = self.at[s]
            assert x is not None
            if code >= 0:
                if self.gone.any():  # what never comes
                    never = self.places.start[s, x.edges.source] == INF
                    self.places.unknown[s] -= np.count_nonzero(never & self.places.active[s, x.edges.source])
                self._settle(x, s)
                self.book.close(x)
                entry = self.entry_at[s]
                self.values.catch_up(self.recording, self._mark)
                self._mark = entry.mark + len(entry.tasks)
                self.open[x.id] = self.open.pop(x.id)  # in the order of closing, while messages are under way
            if self.places.unknown[s] == 0:  # else a message is still before a receiver's port
                self._log(x, s)
                for i in np.flatnonzero(self.gone & (self.hosts.waiting == s)).tolist():
                    stop_waiting(self, i)
                self.at[s] = None
                del self.open[x.id]

    def _settle(self, x: Exchange, s: int) -> None:
        if self.fates is not None:
            self.fates.enter(x, s)
        places, e = self.places, x.edges.size
        entered = self.account.until == INF
        settle(self.account, x, places.start[s], places.arrival[s, :e], places.leave[s], entered, True)

    def _log(self, x: Exchange, s: int) -> None:
        enter_arrivals(self.account, x, self.places.start[s].copy(), self.places.arrival[s, : x.edges.size].copy())

    def flush_spans(self) -> None:
        account, count = self.account, int(self.state[st.SPANS])
        self.state[st.SPANS] = 0
        if account.spans is not None:
            for node, kind, start, end, round in self.hosts.spans[:count].tolist():
                account.span(int(node), _KINDS[int(kind)], start, end, int(round))
