"""The compiled tier of programs that compute and meet: arrays around the loop of `pairwise_loop`.

The same clocks as the walker's, bit for bit. Lossy links, queues at receivers and lists of messages are the walker's.

Legend: n hosts.
"""

from __future__ import annotations

import numpy as np
import simpy

from simnet import streams
from simnet.book import Book
from simnet.entries import Entry, Op
from simnet.exchange import INF
from simnet.recording import Recording
from simnet.timeplane import compiled_parts as st
from simnet.timeplane import pairwise_loop as loop
from simnet.timeplane.account import SHOWN_NODES, SHOWN_ROUNDS, Account, Hooks, NeedsWalker
from simnet.timeplane.meetings import Pool
from simnet.timeplane.tables import longer
from simnet.timeplane.tally import Tally

_ROOM = 1 << 17  # records between two calls of the loop
_SPANS = 4096
_TRIMMED_AT = 1024  # entries that all hosts have passed before they are dropped from the table
_KINDS = ("compute", "send", "wait")


class PairwiseWalker:
    """Runs one recording for all hosts; `values` takes records as arrays."""

    def __init__(self, book: Book, recording: Recording, account: Account, values: object, hooks: Hooks) -> None:
        if book.network.receive_ports == "serial" or account.message_rows is not None or book.presence:
            raise NeedsWalker("queues at receivers, lists of messages and nodes that are away are followed one by one")
        if book.network.changes:
            raise NeedsWalker("links change with time")
        if book.network.model != "independent":
            raise NeedsWalker("messages share links")
        self.book, self.recording, self.account, self.hooks = book, recording, account, hooks
        self.values: object = values
        partners = book.partners(recording.role)
        if partners.edges.lossy:
            raise NeedsWalker("what becomes of a lost message is drawn one by one")
        n = book.n
        self.env = simpy.Environment()
        self.pool: Pool | None = None
        self.tally: Tally | None = None
        self.partners = partners
        room = 4 * n + 64
        order = np.full(room, 0, np.int64)
        self.heap = (np.zeros(room), order, np.arange(room), np.zeros((room, 4), np.int64), np.zeros((room, 2)))
        self.state = np.zeros(32, np.int64)
        self.state[loop.CURRENT] = self.state[loop.NEXT] = -1
        self.state[loop.UNFINISHED] = n
        self.state[st.SHOWN] = account.spans is not None
        self.clock = np.zeros(1)
        ints, floats = np.zeros((5, n), np.int64), np.zeros((7, n))
        flags = np.zeros((3, n), bool)
        self.hosts = loop.Hosts(
            pos=ints[0], reports=ints[1], finished=flags[0], compute=floats[0], comm=floats[1], idle=floats[2],
            finish_s=floats[3], free=np.zeros(max(n, book.network.links)), first_s=floats[4], meeting=flags[1],
            ready=flags[2], since=floats[5], handed=floats[6], met=ints[2], partner=ints[3], edge=ints[4],
            travelling=np.zeros(n, np.int64),
        )  # fmt: skip
        self.ways = self._ways(0)
        size = partners.edges.size
        self.out = loop.Out(
            np.zeros(_ROOM, np.int64), np.zeros(_ROOM, np.int64), np.zeros((_ROOM, 3), np.int64), np.zeros(_ROOM),
            np.zeros(size, np.int64), np.zeros((_SPANS if account.spans is not None else 2 * loop.MOST_AT_ONCE, 5)),
        )  # fmt: skip
        self.entries: list[Entry] = []  # of the table, from entry `base` on
        self.base = 0
        self.rows_of: dict[int, int] = {}  # seconds of an entry -> their row
        self.stopping = False
        op, argument, mark, position, report_mark = (np.zeros(64, np.int64) for _ in range(5))
        self.table = loop.Table(op, argument, mark, np.zeros((16, n)), position, report_mark)

    @property
    def unfinished(self) -> int:
        """Hosts whose program has not ended."""
        return int(self.state[loop.UNFINISHED])

    # ---- the walk --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Walk until every program has ended, the cut by time, or a stop by the run."""
        n, until, hooks = self.book.n, self.account.until, self.hooks
        _, order, _, what, _ = self.heap
        order[:n], what[:n, 1] = (1 << 58) | np.arange(n), np.arange(n)
        self.state[st.SIZE] = self.state[st.SEQUENCE] = n
        try:
            while not self.stopping:
                limit = min(until, hooks.row_at)
                why = loop.walk(
                    self.heap, self.table, self.ways, self.hosts, self.out, self.state, self.clock, until, limit,
                    SHOWN_NODES, SHOWN_ROUNDS,
                )  # fmt: skip
                self._drain()
                if why == loop.NEEDS_ENTRY:
                    self._record()
                elif why == loop.FIRST:
                    hooks.reported(self.recording, 0, self.hosts.first_s.copy())
                elif why == loop.ENDED or (why == loop.UNTIL and not self._due(until)):
                    break
            self.env.run(until=max(float(self.clock[0]), np.nextafter(0.0, 1.0)))  # SimPy's clock, for whoever reads it
            if not self.stopping:
                self._leave_waiting(until)
        finally:
            self._settle()
            self._enter()

    def _due(self, until: float) -> bool:
        """The next event lies behind a row: make it. False where nothing is left before the cut."""
        if self.state[st.SIZE] == 0 or self.heap[0][0] > until:
            return False
        at = self.hooks.row_at
        self._settle()
        self.stopping = self.hooks.row_due(self.hosts.reports.tolist())
        if self.stopping:
            self._leave_waiting(at)
            self._take_back_work(at)
        return True

    def _take_back_work(self, at: float) -> None:
        """Work that goes on behind the row at which the run stops was entered whole."""
        times, _, rows, what, _ = self.heap
        for place in range(int(self.state[st.SIZE])):
            kind, i = what[rows[place], :2].tolist()
            if kind == loop.RESUME and self.hosts.pos[i] and self.table.op[self.hosts.pos[i] - 1] == Op.WORK:
                self.hosts.compute[i] -= times[place] - at

    def _leave_waiting(self, until: float) -> None:
        """At a cut by time, whoever is not at its end stops there; who waits has waited until then."""
        hosts = self.hosts
        for i in np.flatnonzero(~hosts.finished).tolist():
            hosts.finish_s[i] = until if until < INF else float(self.clock[0])
            if until < INF and hosts.meeting[i]:
                since, turn = hosts.since[i], min(max(hosts.handed[i], hosts.since[i]), until)
                hosts.idle[i] += turn - since
                hosts.comm[i] += until - turn
                self.account.span(i, "wait", float(since), until, int(hosts.reports[i]))

    def _drain(self) -> None:
        """Hand on what the loop has told since it was called."""
        state, out = self.state, self.out
        count, state[loop.RECORDS] = int(state[loop.RECORDS]), 0
        self.values.enter(self.recording, out.host[:count], out.what[:count])  # type: ignore[attr-defined]
        count, state[loop.LOGGED] = int(state[loop.LOGGED]), 0
        if count:
            assert self.tally is not None
            i, k, j = out.log[:count].T
            self.tally.enter(i, k, j, out.end[:count], np.ones(count, bool))
        for node, kind, start, end, round in out.spans[: state[st.SPANS]].tolist():
            self.account.span(int(node), _KINDS[int(kind)], start, end, int(round))
        state[st.SPANS] = 0

    def _settle(self) -> None:
        """Enter what was sent so far in the ledger and the event log."""
        if self.tally is not None:
            self.tally.add(self.out.count)
            self.out.count[:] = 0
            self.tally.settle()

    def _enter(self) -> None:
        """Hand what the hosts did to the account."""
        hosts, account = self.hosts, self.account
        account.compute_s += hosts.compute
        account.comm_s += hosts.comm
        account.idle_s += hosts.idle
        account.finish_s[:] = hosts.finish_s
        account.reports_n += hosts.reports

    # ---- the table -------------------------------------------------------------------------------------------------

    def _record(self) -> None:
        """Record entries until there is one more, or the program has ended, and copy them into the table."""
        recording = self.recording
        passed = int(self.hosts.pos.min())
        if passed >= _TRIMMED_AT:
            recording.trim(self.base + passed)
            self.base += passed
            self.hosts.pos[:] -= passed
            del self.entries[:passed]
            known, self.entries = self.entries, []
            self.rows_of.clear()
            for entry in known:
                self._copy(entry)
        known_to = self.base + len(self.entries)
        self.state[loop.DONE] = recording.entry(known_to) is None
        for entry in recording.entries[known_to:]:
            self._copy(entry)
        self.state[loop.ENTRIES] = len(self.entries)
        reports, count = recording.reports, int(self.state[loop.REPORTS])
        while len(reports) > len(self.table.report_mark):
            self.table = self.table._replace(
                report_position=longer(self.table.report_position), report_mark=longer(self.table.report_mark)
            )
        for r in range(count, len(reports)):
            self.table.report_position[r], self.table.report_mark[r] = reports[r].position, reports[r].mark
        self.state[loop.REPORTS] = len(reports)
        self.state[loop.BASE] = self.base

    def _copy(self, entry: Entry) -> None:
        """Append an entry to the table."""
        p, table = len(self.entries), self.table
        if p == len(table.op):
            table = self.table = table._replace(
                op=longer(table.op), argument=longer(table.argument), mark=longer(table.mark)
            )
        table.op[p], table.mark[p], table.argument[p] = entry.op, entry.mark, 0
        if entry.op in (Op.WORK, Op.WAIT):
            row = self.rows_of.setdefault(id(entry.seconds), len(self.rows_of))  # entries keep their seconds alive
            if row == len(table.seconds):
                table = self.table = table._replace(seconds=longer(table.seconds))
            table.seconds[row] = entry.seconds
            table.argument[p] = row
        elif entry.op in (Op.MEET, Op.TAKE):
            table.argument[p], table.mark[p] = entry.pool == "ready", entry.mark + 1
            if entry.op == Op.MEET and self.pool is None:
                self._open(entry)
        elif entry.op != Op.PUBLISH:
            raise NeedsWalker("a program that does more than compute and meet")
        self.entries.append(entry)

    def _open(self, entry: Entry) -> None:
        """The first meeting says how large messages are."""
        self.pool = Pool(self.book, self.partners, entry.number, self.account, 0)
        self.tally = self.pool.tally
        self.ways = self._ways(self.pool.size)

    def _ways(self, size: int) -> loop.Partners:
        """Who may meet whom, and how long a message of `size` bytes takes."""
        partners, edges = self.partners, self.partners.edges
        own_E = size * edges.seconds_per_byte_E
        keys = streams.keys(streams.key(self.book.seed, "meet", self.recording.role), np.arange(self.book.n))
        return loop.Partners(
            partners.start_n.astype(np.int64), partners.neighbours.astype(np.int64), partners.out_E.astype(np.int64),
            edges.reverse_E.astype(np.int64), own_E + edges.latency_E, own_E, edges.port_E.astype(np.int64), keys,
        )  # fmt: skip
