"""The walk over the verb table in numba: the same events in the same order as `Walker`, some ten times quicker.

One call walks until something needs Python: another entry of the table, a place for an exchange that opens, a report
that all have made, more room. All state is in arrays between calls. Only exchanges, work and waiting are here.

Legend: n hosts, K exchanges under way, E edges, P ports in use, T sets of edges, V entries, W rows of work, R reports.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from simnet.entries import Op

WORK, EXCHANGE, START, FINISH, WAIT = Op.WORK, Op.EXCHANGE, Op.START, Op.FINISH, Op.WAIT
RESUME, LEFT, DEADLINE, FIRST_BIT = 0, 1, 2, 3  # kinds of events
ENDED, UNTIL, NEEDS_ENTRY, NEEDS_PLACE, NEEDS_ROOM, REPORTED, CLOSED = 0, 1, 2, 3, 4, 5, 6  # why a call returns

SIZE, SEQUENCE, CURRENT, ENTRIES, DONE, REPORTS, CLOSINGS, SPANS, SERIAL, SHOWN, FIRST_REPORT = range(11)


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
    own: Any
    busy: Any  # float64 (K, P)


class Edges(NamedTuple):
    """What each host sends over each set of edges."""

    host_ports: Any  # int64 (T, n + 1): where a host's ports begin
    port: Any  # int64 (T, P)
    rank: Any  # int64 (T, P): the port's place in `busy`
    port_messages: Any  # int64 (T, P + 1): where a port's messages begin
    edge: Any  # int64 (T, E)
    target: Any  # int64 (T, E)


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


# Arrays are handed to the inner functions one by one: a whole tuple would be counted in and out at every call.


@njit(inline="always")
def _push(ht, ho, hr, hw, hx, state, t, priority, kind, a, b, c, x, y):
    i = state[SIZE]
    row = hr[i]
    hw[row, 0] = kind
    hw[row, 1] = a
    hw[row, 2] = b
    hw[row, 3] = c
    hx[row, 0] = x
    hx[row, 1] = y
    order = (priority << 58) | state[SEQUENCE]
    state[SIZE] = i + 1
    state[SEQUENCE] += 1
    while i > 0:
        up = (i - 1) >> 1
        if ht[up] < t or (ht[up] == t and ho[up] < order):
            break
        ht[i] = ht[up]
        ho[i] = ho[up]
        hr[i] = hr[up]
        i = up
    ht[i] = t
    ho[i] = order
    hr[i] = row


@njit(inline="always")
def _pop(ht, ho, hr, state):
    """Take the first event out; its row and time stay behind the end."""
    size = state[SIZE] - 1
    state[SIZE] = size
    t, order, row = ht[size], ho[size], hr[size]
    ht[size], hr[size] = ht[0], hr[0]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (ht[right] < ht[down] or (ht[right] == ht[down] and ho[right] < ho[down])):
            down = right
        if t < ht[down] or (t == ht[down] and order < ho[down]):
            break
        ht[i] = ht[down]
        ho[i] = ho[down]
        hr[i] = hr[down]
        i = down
    if size > 0:
        ht[i] = t
        ho[i] = order
        hr[i] = row


@njit(inline="always")
def _span(spans, reports, state, node, kind, start, end, until, shown_nodes, shown_rounds):
    if state[SHOWN] and node < shown_nodes and reports[node] < shown_rounds and end > start:
        k = state[SPANS]
        state[SPANS] = k + 1
        spans[k, 0] = node
        spans[k, 1] = kind
        spans[k, 2] = start
        spans[k, 3] = min(end, until)
        spans[k, 4] = reports[node]


@njit(inline="always")
def _waited(idle, comm, spans, reports, state, i, since, end, handed, until, shown_nodes, shown_rounds):
    end = min(end, until)
    turn = min(max(handed, since), end)
    idle[i] += turn - since
    comm[i] += end - turn
    _span(spans, reports, state, i, 2, since, end, until, shown_nodes, shown_rounds)


@njit(inline="always")
def _leave(leave, remaining, last, closings, state, s, i, now):
    leave[s, i] = now
    remaining[s] -= 1
    if remaining[s] == 0:
        last[s] = i
        closings[state[CLOSINGS]] = s
        state[CLOSINGS] += 1


def kept(function: Callable[..., Any]) -> Any:
    """Compiled, and kept for the next process where there is a folder to keep it in."""
    try:
        return njit(cache=True)(function)
    except RuntimeError as error:  # a read-only installation and no home of one's own
        if "cannot cache" not in str(error):
            raise
        return njit(function)


@kept
def walk(heap, places, edges, table, hosts, state, clock, until, shown_nodes, shown_rounds, most_out):
    """Walk until Python is needed; `state` and `clock` carry over from call to call."""
    ht, ho, hr, hw, hx = heap.t, heap.order, heap.row, heap.what, heap.x
    x_id, x_edges, deadline_s, remaining, unknown, last = (
        places.id, places.edges, places.deadline_s, places.remaining, places.unknown, places.last,
    )  # fmt: skip
    active, left, latest, handed, start, since, leave, arrival, offset, own, busy = (
        places.active, places.left, places.latest, places.handed, places.start, places.since, places.leave,
        places.arrival, places.offset, places.own, places.busy,
    )  # fmt: skip
    host_ports, ports, ranks, port_messages, edge, target = (
        edges.host_ports, edges.port, edges.rank, edges.port_messages, edges.edge, edges.target,
    )  # fmt: skip
    ops, arguments, work, report_position = table.op, table.argument, table.seconds, table.report_position
    pos, waiting, reports, compute, comm, idle, free, receive_free, spans, closings = (
        hosts.pos, hosts.waiting, hosts.reports, hosts.compute, hosts.comm, hosts.idle, hosts.free,
        hosts.receive_free, hosts.spans, hosts.closings,
    )  # fmt: skip
    room, span_room = len(ht), len(spans)
    while True:
        i = state[CURRENT]
        if i < 0:
            if state[CLOSINGS]:
                return CLOSED
            if state[SIZE] == 0:
                return ENDED
            if ht[0] > until:
                return UNTIL
            if state[SPANS] + 4 > span_room:
                return NEEDS_ROOM
            _pop(ht, ho, hr, state)
            end = state[SIZE]
            row = hr[end]
            now = ht[end]
            clock[0] = now
            kind, a, b, c = hw[row, 0], hw[row, 1], hw[row, 2], hw[row, 3]
            if kind == RESUME:
                state[CURRENT] = a
            elif kind == LEFT:
                _leave(leave, remaining, last, closings, state, a, b, now)
                pos[b] += 1
                state[CURRENT] = b
            elif kind == DEADLINE:
                if waiting[b] == a and x_id[a] == c:
                    waiting[b] = -1
                    _waited(
                        idle, comm, spans, reports, state, b, since[a, b], now, now, until, shown_nodes, shown_rounds
                    )
                    _leave(leave, remaining, last, closings, state, a, b, now)
                    pos[b] += 1
                    state[CURRENT] = b
            else:  # FIRST_BIT of the message on edge b of exchange a at host c
                t = max(now, receive_free[c]) + hx[row, 0]
                sent = hx[row, 1]
                receive_free[c] = t
                arrival[a, b] = t
                latest[a, c] = max(latest[a, c], t)
                handed[a, c] = max(handed[a, c], sent)
                unknown[a] -= 1
                left[a, c] -= 1
                if left[a, c] == 0 and waiting[c] == a:
                    waiting[c] = -1
                    t = min(latest[a, c], start[a, c] + deadline_s[a])
                    _waited(
                        idle, comm, spans, reports, state, c, since[a, c], t, handed[a, c], until, shown_nodes,
                        shown_rounds,
                    )  # fmt: skip
                    _push(ht, ho, hr, hw, hx, state, t, 1, LEFT, a, c, 0, 0.0, 0.0)
                if unknown[a] == 0 and remaining[a] == 0:  # closed before; now nothing is on its way either
                    closings[state[CLOSINGS]] = -1 - a
                    state[CLOSINGS] += 1
            continue

        now = clock[0]
        p = pos[i]
        if p >= state[ENTRIES] and not state[DONE]:
            return NEEDS_ENTRY
        while reports[i] < state[REPORTS] and report_position[reports[i]] <= p:
            r = reports[i]
            if r - state[FIRST_REPORT] >= len(hosts.made):
                return NEEDS_ROOM
            reports[i] = r + 1
            row = r % len(hosts.made)
            hosts.times[row, i] = now
            hosts.made[row] += 1
            hosts.spent[row, 0, i], hosts.spent[row, 1, i], hosts.spent[row, 2, i] = compute[i], comm[i], idle[i]
            if hosts.made[row] == len(pos):
                return REPORTED
        if p >= state[ENTRIES]:
            hosts.finished[i] = True
            hosts.finish_s[i] = now
            state[CURRENT] = -1
            continue
        if state[SIZE] + most_out + 4 > room or state[SPANS] + 2 * most_out + 4 > span_room:
            return NEEDS_ROOM
        op = ops[p]
        if op in (WORK, WAIT):
            pos[i] = p + 1
            seconds = work[arguments[p], i]
            if seconds == 0.0:
                continue
            if op == WORK:
                compute[i] += seconds if now + seconds <= until else until - now
                _span(spans, reports, state, i, 0, now, now + seconds, until, shown_nodes, shown_rounds)
            _push(ht, ho, hr, hw, hx, state, now + seconds, 1, RESUME, i, 0, 0, 0.0, 0.0)
            state[CURRENT] = -1
            continue
        s = arguments[p]
        if s < 0:
            return NEEDS_PLACE
        if op != FINISH:
            start[s, i] = now
            if active[s, i]:
                k = x_edges[s]
                for q in range(host_ports[k, i], host_ports[k, i + 1]):
                    port = ports[k, q]
                    begin = max(now, free[port])
                    ended = begin + busy[s, ranks[k, q]]
                    free[port] = ended
                    _span(spans, reports, state, i, 1, begin, ended, until, shown_nodes, shown_rounds)
                    for m in range(port_messages[k, q], port_messages[k, q + 1]):
                        e = edge[k, m]
                        j = target[k, m]
                        t = begin + offset[s, e]
                        if state[SERIAL]:
                            _push(
                                ht, ho, hr, hw, hx, state, max(now, t - own[s, e]), 1, FIRST_BIT, s, e, j, own[s, e],
                                now,
                            )  # fmt: skip
                            continue
                        arrival[s, e] = t
                        if t > latest[s, j]:
                            latest[s, j] = t
                        handed[s, j] = now
                        unknown[s] -= 1
                        left[s, j] -= 1
                        if left[s, j] == 0 and waiting[j] == s:
                            waiting[j] = -1
                            t = min(latest[s, j], start[s, j] + deadline_s[s])
                            _waited(
                                idle, comm, spans, reports, state, j, since[s, j], t, handed[s, j], until, shown_nodes,
                                shown_rounds,
                            )  # fmt: skip
                            _push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, j, 0, 0.0, 0.0)
            if op == START:
                pos[i] = p + 1
                continue
        # the exchange's result: at once, at a known moment, or when all that is missing is known
        since[s, i] = now
        limit = start[s, i] + deadline_s[s]
        t = now
        if active[s, i]:
            if left[s, i] == 0:
                t = min(latest[s, i], limit)
            elif limit >= now:
                waiting[i] = s
                if limit < np.inf:
                    _push(ht, ho, hr, hw, hx, state, limit, 2, DEADLINE, s, i, x_id[s], 0.0, 0.0)
                state[CURRENT] = -1
                continue
        if t <= now:
            _leave(leave, remaining, last, closings, state, s, i, now)
            pos[i] = p + 1
        else:
            _waited(idle, comm, spans, reports, state, i, now, t, handed[s, i], until, shown_nodes, shown_rounds)
            _push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, i, 0, 0.0, 0.0)
            state[CURRENT] = -1
