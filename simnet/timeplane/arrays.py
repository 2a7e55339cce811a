"""The arrays tier: every node at once, one entry of the verb table after another.

Where links share nothing, or no two messages meet on a shared one (`alone.py`), an exchange is a max-plus step: a
node's clock becomes the latest arrival among its neighbours' messages. That holds with loss, retransmission and
deadlines; it does not with queues at the receiver, with several roles, or where a server serves nodes in order of
time, and those go to the events tier.

Legend: n hosts, E edges of one exchange, P sending ports in use.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import simpy

from simnet.book import Book
from simnet.entries import Entry, Op
from simnet.errors import ProgramError, Starved
from simnet.exchange import INF, Average, Exchange, RelayedAverage, ServerAverage, Wave
from simnet.network.fate import Fate, Size, schedule
from simnet.network.network import EdgeSet
from simnet.recording import Recording
from simnet.timeplane.account import SHOWN_NODES, SHOWN_ROUNDS, Account, Hooks, NeedsEvents, Values
from simnet.timeplane.alone import Alone
from simnet.timeplane.departures import ALL_LEFT
from simnet.timeplane.settle import in_time, settle_stale

# an exchange with its arrivals, starts, edges that take part, and those that anything was sent on (None: all)
Flying = tuple[Exchange, np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]


class ArraysPlane:
    """Runs one recording for all hosts; clocks are float64 of shape (n,)."""

    def __init__(self, book: Book, recording: Recording, account: Account, values: Values, hooks: Hooks) -> None:
        if book.network.receive_ports == "serial":
            raise NeedsEvents("messages queue at their receiver")
        if book.network.changes:
            raise NeedsEvents("links change with time")
        if book.network.background:
            raise NeedsEvents("messages share links with the traffic of others")
        self.alone = None if book.network.model == "independent" else Alone(book, account)
        self.book, self.recording, self.account, self.values, self.hooks = book, recording, account, values, hooks
        self.presence, self.hosts = book.presence, np.arange(book.n)
        self.clock_n = self._there(np.zeros(book.n))  # infinite for a host that has left for good
        self.free = np.zeros(max(book.n, book.network.links))  # when each sending port is free again
        self.env = simpy.Environment()
        self._flying: dict[int, Flying] = {}
        self._ways: dict[tuple[EdgeSet, int], tuple[np.ndarray, np.ndarray]] = {}
        self._lag = 0  # tasks up to the last exchange but one: what the value plane may run
        self._reported = 0

    def run(self) -> None:
        """Walk the table to its end, or to the cut by simulated time."""
        self.env.process(self._walk())
        try:
            self.env.run()
        finally:
            finish = np.where(self.clock_n < INF, self.clock_n, self.presence.left_s)
            self.account.finish_s[:] = np.minimum(finish, self.account.until)

    def _walk(self) -> Generator[Any, Any, None]:
        p, until = 0, self.account.until
        while True:
            entry = self.recording.entry(p)
            if self._report(p):
                return
            if self.clock_n.min() == INF:
                raise Starved(ALL_LEFT)
            if entry is None or (until < INF and self.clock_n.min() > until):
                self._log_flying()
                return
            self._do(entry)
            p += 1
            if self.recording.reports and self.recording.reports[-1].position == p - 1:
                ahead = float(self.clock_n.min()) - self.env.now
                if ahead > 0:
                    yield self.env.timeout(ahead)

    def _log_flying(self) -> None:
        """At the end: enter what was sent in exchanges that nobody asks for any more."""
        if self.alone is not None and self._flying:
            raise NeedsEvents("messages share links, and some are on their way at the end")
        nobody = np.full(self.book.n, INF)
        for x, arrival, start_n, _, sent_E in self._flying.values():
            got = in_time(self.account, x, start_n, arrival, nobody, sent_E)
            self.account.travelled(x.id, x.edges, x.payload_bytes, x.fate, start_n, arrival, sent_E, got)

    def _report(self, p: int) -> bool:
        """Tell of the reports made before entry p; True when the run is to stop."""
        reports = self.recording.reports
        while self._reported < len(reports):
            index = self._reported
            self._reported += 1
            self.account.reports_n += (self.clock_n <= self.account.until) & (self.clock_n < INF)
            if (self.clock_n < INF).any() and self.hooks.reported(self.recording, index, self.clock_n.copy()):
                return True
            self.recording.trim(p)
        return False

    def _do(self, entry: Entry) -> None:
        op, clock = entry.op, self.clock_n
        if op == Op.WORK or op == Op.WAIT:
            seconds = entry.seconds
            if op == Op.WORK and self.presence:
                self.clock_n = self.presence.work_each(self.hosts, clock, seconds)
            else:
                self.clock_n = self._there(clock + seconds)
            if op == Op.WORK:
                self._spans("compute", clock, self.clock_n)
                self.account.compute_s += self._computed(clock, seconds)
            self._refuse_waits(self.clock_n)
            if len(self.recording.graph.pending) > 2000:
                self.values.catch_up(self.recording, entry.mark)
        elif op == Op.EXCHANGE:
            self._launch(entry)
            self._land(entry)
            self._follow(entry)
        elif op == Op.START:
            self._launch(entry)
        elif op == Op.FINISH:
            self._land(entry)
            self._follow(entry)
        elif op == Op.AVERAGE:
            self._average(entry.travel)
            self._follow(entry)
        elif op == Op.READ:
            self.values.catch_up(self.recording, entry.mark)
        elif op in (Op.SEND, Op.RECEIVE):
            raise NeedsEvents("messages between single nodes are served in order of time")
        elif op in (Op.START_AVERAGE, Op.FINISH_AVERAGE):
            raise NeedsEvents("a server works while its node goes on")
        else:
            raise ProgramError(f"unknown entry {op}")

    def _follow(self, entry: Entry) -> None:
        """Let the value plane run what rests on the exchange before this one: its handles are settled by now."""
        self.values.catch_up(self.recording, self._lag)
        self._lag = entry.mark + len(entry.tasks)

    def _there(self, t_n: np.ndarray) -> np.ndarray:
        """The first moments from these on at which the hosts are there."""
        return self.presence.back_each(self.hosts, t_n) if self.presence else t_n

    def _refuse_waits(self, clock_n: np.ndarray) -> None:
        """Who never goes on must have left for good; of a wait that nobody ends, the events tier tells the story."""
        if self.presence and ((clock_n == INF) & ~self.account.gone_n).any():
            raise NeedsEvents("a node waits for one that never returns")

    def _computed(self, start: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """Seconds of work from start on that lie before the cut; a host that is slow takes longer."""
        until, end = self.account.until, self.clock_n
        if self.presence:
            there = self.presence.there_each(start, np.minimum(end, until))
            plain = seconds if until == INF else np.minimum(end, until) - np.minimum(start, until)
            return np.where(self.presence.has_n, there, plain)
        return seconds if until == INF else np.minimum(end, until) - np.minimum(start, until)

    def _spans(self, kind: str, start: np.ndarray, end: np.ndarray) -> None:
        if self.account.spans is None or self._reported >= SHOWN_ROUNDS:
            return
        for i in range(min(SHOWN_NODES, self.book.n)):
            self.account.span(i, kind, float(start[i]), float(end[i]), self._reported)

    # ---- exchanges -------------------------------------------------------------------------------------------------

    def _launch(self, entry: Entry) -> None:
        x: Exchange = entry.travel
        if entry.when_task is not None:
            x.active_n = np.zeros(self.book.n, bool)
            x.active_n[self.recording.members] = self.values.mask(self.recording, entry.when_task, entry.mark)
        active_E = None if x.active_n is None else x.active_n[x.edges.source]
        arrival = self._transmit(x.edges, x.payload_bytes, x.fate, self.clock_n, active_E)
        if active_E is not None:
            # nobody waits for one who is known not to send; with a Value, that is known when it gets there
            idle = self.clock_n[x.edges.source] if entry.when_task is not None else -INF
            arrival = np.where(active_E, arrival, idle)
        sent_E = active_E
        if self.account.departures:
            here_E = self.clock_n[x.edges.source] < INF
            sent_E = here_E if active_E is None else here_E & active_E
        self._flying[x.id] = (x, arrival, self.clock_n, active_E, sent_E)
        self.account.sent(x.round, x.edges, x.payload_bytes, x.fate, self.clock_n, sent_E)

    def _transmit(
        self, edges: EdgeSet, payload: Size, fate: Fate | None, start_n: np.ndarray, active_E: np.ndarray | None
    ) -> np.ndarray:
        """Arrival times (E,) of messages handed over at `start_n`; ports send one after another."""
        if edges.size == 0:
            return np.zeros(0)
        size = payload + self.book.network.header_bytes
        if self.alone is not None:
            if isinstance(size, np.ndarray):
                raise NeedsEvents("messages of unequal size, over links of a flow model")
            return self._send_alone(self.alone.arrivals(edges, size, fate, start_n, active_E), edges, start_n, active_E)
        begin_P = np.maximum(start_n[edges.port_host], self.free[edges.ports])
        if fate is None and not isinstance(size, np.ndarray):
            way = self._ways.get((edges, size))
            if way is None:
                if len(self._ways) > 64:  # topologies that change at every exchange
                    self._ways.pop(next(iter(self._ways)))
                way = self._ways[edges, size] = schedule(edges, size, None)
            offset_E, busy_P = way
        else:
            offset_E, busy_P = schedule(edges, size, fate)
        arrival: np.ndarray = begin_P[edges.port_rank_E]
        arrival += offset_E
        if active_E is not None:  # a port that sends nothing is not taken; its host's other edges are silent too
            silent_P = ~active_E[edges.by_port[edges.port_starts]]
            begin_P, busy_P = np.where(silent_P, self.free[edges.ports], begin_P), np.where(silent_P, 0.0, busy_P)
        self.free[edges.ports] = begin_P + busy_P
        if self.account.spans is not None and self._reported < SHOWN_ROUNDS:
            for q in np.flatnonzero(edges.port_host < SHOWN_NODES).tolist():
                host = int(edges.port_host[q])
                self.account.span(host, "send", float(begin_P[q]), float(begin_P[q] + busy_P[q]), self._reported)
        return arrival

    def _send_alone(
        self, arrival: np.ndarray, edges: EdgeSet, start_n: np.ndarray, active_E: np.ndarray | None
    ) -> np.ndarray:
        """The same arrivals, shown in the picture."""
        if self.account.spans is not None and self._reported < SHOWN_ROUNDS:
            for e in np.flatnonzero(edges.source < SHOWN_NODES).tolist():
                if active_E is None or active_E[e]:
                    host = int(edges.source[e])
                    self.account.span(host, "send", float(start_n[host]), float(arrival[e]), self._reported)
        return arrival

    def _land(self, entry: Entry) -> None:
        x: Exchange = entry.travel
        _, arrival, start_n, active_E, sent_E = self._flying.pop(x.id)
        edges, clock = x.edges, self.clock_n
        handed_E = start_n[edges.source]
        if active_E is not None and entry.when_task is None:
            handed_E = np.where(active_E, handed_E, -INF)
        latest, handed = edges.latest_by_target(arrival), edges.latest_by_target(handed_E)
        if not edges.all_receive:
            latest, handed = (_spread(v, edges.receivers, clock) for v in (latest, handed))
        limit = start_n + x.deadline_s
        if self.alone is not None and (arrival > limit[edges.target]).any():
            raise NeedsEvents("messages share links, and one is on its way at a deadline")
        leave = np.maximum(clock, latest if x.deadline_s == INF else np.minimum(limit, latest))
        if x.active_n is not None:
            leave = np.where(x.active_n, leave, clock)
        leave = self._there(leave)
        self._refuse_waits(leave)
        got = in_time(self.account, x, start_n, arrival, leave, sent_E)
        x.got_E = None if got is None or got.all() else got
        self._waited(clock, leave, handed)
        if x.missing == "stale":
            settle_stale(self.book, x, arrival, leave, sent_E)
        self.account.travelled(x.id, edges, x.payload_bytes, x.fate, start_n, arrival, sent_E, x.got_E)
        self.book.close(x)
        self.clock_n = leave

    def _waited(self, clock: np.ndarray, leave: np.ndarray, handed: np.ndarray) -> None:
        """Waiting until the last neighbour has sent is idle; from then on it is exposed communication."""
        self._spans("wait", clock, leave)
        if self.account.until < INF:
            clock, leave = np.minimum(clock, self.account.until), np.minimum(leave, self.account.until)
        turn = np.minimum(np.maximum(handed, clock), leave)
        if self.presence:
            self.account.idle_s += self.presence.there_each(clock, turn)
            self.account.comm_s += self.presence.there_each(turn, leave)
            return
        self.account.idle_s += turn - clock
        self.account.comm_s += leave - turn

    def _average(self, x: Average) -> None:
        if (self.clock_n == INF).any():
            raise NeedsEvents("an average waits for a node that never returns")
        if isinstance(x, ServerAverage):
            self._by_server(x)
        else:
            assert isinstance(x, RelayedAverage)
            self._by_relay(x)
        self.book.close(x)

    def _by_relay(self, x: RelayedAverage) -> None:
        """Wave after wave: a host sends when it has got all that was sent to it before."""
        clock, ready = self.clock_n, self.clock_n.copy()
        for w, (wave, fate) in enumerate(zip(x.waves, x.fates, strict=True)):
            start = ready.copy()
            arrival = self._transmit(wave.edges, wave.payload_bytes, fate, start, None)
            arrival = np.maximum(arrival, self._newest(x, wave, w, arrival))
            np.maximum.at(ready, wave.edges.target, self.presence.back_each(wave.edges.target, arrival))
            self.account.sent(x.round, wave.edges, wave.payload_bytes, fate, start)
            self.account.travelled((x.id, w), wave.edges, wave.payload_bytes, fate, start, arrival, None, None)
        leave = np.where(x.to_n, ready, clock)
        self._refuse_waits(leave)
        self._waited(clock, leave, np.where(x.to_n, clock[x.among_n].max(), clock))
        self.clock_n = leave

    def _newest(self, x: RelayedAverage, wave: Wave, w: int, arrival: np.ndarray) -> np.ndarray:
        """The latest arrival so far on each pair of the wave: messages keep their order."""
        if w == 0 or x.waves[w - 1].edges is not wave.edges:
            self._order: np.ndarray = arrival
        self._order = np.maximum(self._order, arrival)
        return self._order

    def _by_server(self, x: ServerAverage) -> None:
        server, clock = x.server, self.clock_n
        if not (x.among_n[server] and x.to_n[server]):
            raise NeedsEvents("the server is not among the nodes that it averages over")
        among = np.flatnonzero(x.among_n)
        up = self._transmit(x.up, x.up_bytes, x.up_fate, clock, None)
        ready = self.presence.back(server, max(float(clock[server]), float(up.max(initial=-INF))))
        at_server = clock.copy()
        at_server[server] = ready
        down = self._transmit(x.down, x.down_bytes, x.down_fate, at_server, None)
        leave = clock.copy()
        leave[server] = ready
        leave[x.down.target] = down
        leave = self._there(np.where(x.to_n, np.maximum(leave, clock), clock))
        self._refuse_waits(leave)
        last = clock[among].max()
        self._waited(clock, leave, np.where(x.to_n, last, clock))
        for part, edges, payload, fate, start, arrival in (
            (0, x.up, x.up_bytes, x.up_fate, clock, up),
            (1, x.down, x.down_bytes, x.down_fate, at_server, down),
        ):
            self.account.sent(x.round, edges, payload, fate, start)
            self.account.travelled((x.id, part), edges, payload, fate, start, arrival, None, None)
        self.clock_n = leave


def _spread(values: np.ndarray, receivers: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Values of the hosts that wait for something, over all hosts; the others keep what they have."""
    out = otherwise.copy()
    out[receivers] = values
    return out
