"""What the compiled walk keeps between calls: arrays, by name.

Legend: n hosts, K exchanges under way, E edges, P ports in use, T sets of edges, V entries, W rows of work, R reports,
I intervals, Q links that change, S streams of background traffic, A of whose flows are known ahead.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Heap(NamedTuple):
    """Events by (time, priority and sequence number); the heap moves numbers of rows that hold the rest."""

    t: Any  # float64 (cap,)
    order: Any  # int64 (cap,)
    row: Any  # int64 (cap,): a permutation; behind the heap's end stand the rows that are free
    what: Any  # int64 (cap, 4): kind and up to three arguments
    x: Any  # float64 (cap, 2)


class Places(NamedTuple):
    """Exchanges under way."""

    id: Any  # int64 (K,)
    edges: Any  # int64 (K,): which set of edges
    deadline_s: Any  # float64 (K,)
    remaining: Any  # int64 (K,): hosts that have not left
    unknown: Any  # int64 (K,): messages whose arrival is not known
    last: Any  # int64 (K,): who left last
    active: Any  # bool (K, n)
    left: Any  # int64 (K, n)
    latest: Any  # float64 (K, n)
    handed: Any
    start: Any
    since: Any
    leave: Any
    arrival: Any  # float64 (K, E)
    offset: Any
    own: Any  # seconds that a serial receiver takes; over shared links the message's bytes
    busy: Any  # float64 (K, P)
    turn: Any  # int64 (K, n): in which order hosts started
    fates_s: Any  # float64 (K, n): until when it is known what a host would send; see `compiled_fates`
    # over links that change with time and share nothing; else of no width. There `offset` and `busy` are moments
    size: Any  # float64 (K,): bytes of a message
    sent: Any  # float64 (K, E): bytes of each, what is sent again included
    attempts: Any  # int64 (K, E)
    began: Any  # float64 (K, E): when each message's turn at its port came


class Edges(NamedTuple):
    """What each host sends over each set of edges."""

    host_ports: Any  # int64 (T, n + 1): where a host's ports begin
    port: Any  # int64 (T, P)
    rank: Any  # int64 (T, P): the port's place in `busy`
    port_messages: Any  # int64 (T, P + 1): where a port's messages begin
    edge: Any  # int64 (T, E)
    target: Any  # int64 (T, E)
    way: Any  # int64 (T, E): over links that are shared or change, the number of its way
    varies: Any  # int64 (T, 1): 1 where some of the links change with time


class Pieces(NamedTuple):
    """Q values over time; see `simnet.network.flows.traces.Steps`."""

    ptr: Any  # int64 (Q + 1,): where each one's times begin
    times_s: Any  # float64
    values: Any  # float64
    before: Any  # float64 (Q,)
    period_s: Any  # float64 (Q,)


class Shifts(NamedTuple):
    """The bandwidths over time of Q links, and the changes that come next."""

    link: Any  # int64 (Q,)
    rates: Pieces
    coming_s: Any  # float64 (max(Q, 1),): a heap by time, then number; infinite where there is none
    coming: Any  # int64 (max(Q, 1),): whose


class Timed(NamedTuple):
    """L links that share nothing and of which some change with time, and W ways over them."""

    bandwidth: Any  # float64 (L,)
    latency_s: Any  # float64 (L,)
    rate_of: Any  # int64 (L,): the number among the bandwidths over time, or -1
    latency_of: Any  # int64 (L,)
    rates: Pieces
    latencies: Pieces
    ptr: Any  # int64 (W + 1,)
    hop: Any  # int64: the links of each way, one after another


class Moving(NamedTuple):
    """L links, some of whose latency or loss changes with time, and W ways over them; empty where none does."""

    model: Any  # float64 (4,): latency factor, weight (bytes; below 0: none), largest window (bytes), 1 for TCP
    bandwidth: Any  # float64 (L,)
    latency_s: Any  # float64 (L,)
    loss: Any  # float64 (L,)
    no_burst: Any  # float64 (L,): the probability that no burst begins at a packet
    fatpipe: Any  # bool (L,)
    latency_of: Any  # int64 (L,): the number among the latencies over time, or -1
    loss_of: Any  # int64 (L,)
    latencies: Pieces
    losses: Pieces
    there_ptr: Any  # int64 (W + 1,)
    there: Any  # int64: the links of each way, one after another
    back_ptr: Any
    back: Any
    free: Any  # int64 (W,): a copy of the way that no flow is on, -1 if there is none, -2 where the way stays the same
    next: Any  # int64 (W,): of a free copy, the next one


class Others(NamedTuple):
    """Flows of S streams of background traffic, known some of them ahead."""

    size: Any  # float64 (S,)
    moment_s: Any  # float64 (S, A): when the next ones begin
    way: Any  # int64 (S, A)
    at: Any  # int64 (S,): the next one's place in these
    known: Any  # int64 (S,): how many are known
    more: Any  # bool (S,): whether there are more behind them


class Carried(NamedTuple):
    """Whose the flows of an engine of F slots are, and notes for Python; W ways."""

    message: (
        Any  # int64 (F, 6): place (-1: of others), edge, target, sender, way, and the copy of it that the flow is on
    )
    handed_s: Any  # float64 (F,)
    opened: Any  # int64 (W,): 1 where a connection is open
    notes: Any  # int64 (cap, 3): kind, and (round, way), (place, edge) or (stream, way)
    amounts: Any  # float64 (cap,)
    shifts: Shifts
    moving: Moving
    others: Others


class Table(NamedTuple):
    """The verb table."""

    op: Any  # int64 (V,)
    argument: Any  # int64 (V,): the row of work, or the place of the exchange (-1: none yet)
    seconds: Any  # float64 (W, n)
    report_position: Any  # int64 (reports known,)


class Hosts(NamedTuple):
    """Where every host stands."""

    pos: Any  # int64 (n,)
    waiting: Any  # int64 (n,): the place of the exchange it waits in, or -1
    reports: Any  # int64 (n,)
    finished: Any  # bool (n,)
    compute: Any  # float64 (n,)
    comm: Any
    idle: Any
    finish_s: Any
    free: Any  # float64 (ports,)
    receive_free: Any  # float64 (n,)
    times: Any  # float64 (R, n): when reports were made
    made: Any  # int64 (R,): by how many
    spent: Any  # float64 (R, 3, n): seconds computed, communicated and idle until then
    closings: Any  # int64 (K + 1,): exchanges that the last host has left
    spans: Any  # float64 (cap, 5): node, kind, start, end, round


class Calendar(NamedTuple):
    """Who is away or slow when; see `simnet.presence.Spells`."""

    away: Any  # None where nobody ever is (of `NOBODY`), else True
    has: Any  # bool (n,): whether there is anything of a host here
    known_s: Any  # float64 (1,): up to here all absences are
    ptr: Any  # int64 (n + 1,)
    start: Any  # float64 (I,)
    end: Any
    slow_ptr: Any  # the same of slow periods
    slow_start: Any
    slow_end: Any
    slow_factor: Any


# tuples, which cost a call less than arrays
NOBODY = Calendar(None, (False,), (0.0,), (0, 0), (0.0,), (0.0,), (0, 0), (0.0,), (0.0,), (1.0,))
