"""The walk over the verb table in numba: the same events in the same order as `Walker`, some ten times quicker.

One call walks until something needs Python: another entry of the table, a place for an exchange that opens, a report
that all have made, more room. All state is in arrays between calls. Only exchanges, work and waiting are here.

While a host is away nothing of its happens: `_back`, `_work` and `_there` do for one host what `Presence` does, by the
same operations. Where nobody ever is away or slow, `away` is None: a type of its own, for which numba compiles the walk
without all that.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

from simnet.entries import Op
from simnet.jit import kept
from simnet.timeplane.state import NOBODY, Calendar, Edges, Heap, Hosts, Places, Table

__all__ = ["NOBODY", "Calendar", "Edges", "Heap", "Hosts", "Places", "Table", "walk"]

WORK, EXCHANGE, START, FINISH, WAIT = Op.WORK, Op.EXCHANGE, Op.START, Op.FINISH, Op.WAIT
RESUME, LEFT, DEADLINE, FIRST_BIT, DEPARTURE = range(5)  # kinds of events
# why a call returns
ENDED, UNTIL, NEEDS_ENTRY, NEEDS_PLACE, NEEDS_ROOM, REPORTED, CLOSED, DEPARTED, NEEDS_ABSENCES = range(9)

SIZE, SEQUENCE, CURRENT, ENTRIES, DONE, REPORTS, CLOSINGS, SPANS, SERIAL, SHOWN, FIRST_REPORT, WHO = range(12)


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
def _passed(ptr, starts, i, t):
    """The first interval of host i that begins after t."""
    low, high = ptr[i], ptr[i + 1]
    while low < high:
        middle = (low + high) >> 1
        if starts[middle] <= t:
            low = middle + 1
        else:
            high = middle
    return low


@njit(inline="always")
def _back(ptr, starts, ends, i, t):
    k = _passed(ptr, starts, i, t)
    return ends[k - 1] if k > ptr[i] and t < ends[k - 1] else t


@njit(inline="always")
def _there(ptr, starts, ends, i, a, b):
    total = 0.0
    t = _back(ptr, starts, ends, i, a)
    while t < b:
        k = _passed(ptr, starts, i, t)
        leaves = starts[k] if k < ptr[i + 1] else np.inf
        total += min(leaves, b) - t
        t = _back(ptr, starts, ends, i, leaves) if leaves < b else np.inf
    return total


@njit(inline="always")
def _work(ptr, starts, ends, slow_ptr, slow_starts, slow_ends, factors, i, t, seconds):
    while t < np.inf:
        k = _passed(slow_ptr, slow_starts, i, t)
        factor = 1.0
        turn = slow_starts[k] if k < slow_ptr[i + 1] else np.inf
        if k > slow_ptr[i] and t < slow_ends[k - 1]:
            factor, turn = factors[k - 1], slow_ends[k - 1]
        k = _passed(ptr, starts, i, t)
        stop = min(starts[k] if k < ptr[i + 1] else np.inf, turn)
        end = t + seconds * factor
        if end <= stop:
            t = _back(ptr, starts, ends, i, end)
            break
        seconds = max(0.0, seconds - (stop - t) / factor)
        t = _back(ptr, starts, ends, i, stop)
    return t


@njit(inline="always")
def _waited(
    idle, comm, spans, reports, state, away, has, ptr, starts, ends, i, since, end, handed, until, shown_nodes,
    shown_rounds,
):  # fmt: skip
    end = min(end, until)
    turn = min(max(handed, since), end)
    if away is not None and has[i]:
        idle[i] += _there(ptr, starts, ends, i, since, turn)
        comm[i] += _there(ptr, starts, ends, i, turn, end)
    else:
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


@kept
def walk(heap, places, edges, table, hosts, calendar, state, clock, until, shown_nodes, shown_rounds, most_out):
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
    away, has, known_s = calendar.away, calendar.has, calendar.known_s
    ptr, starts, ends = calendar.ptr, calendar.start, calendar.end
    slow_ptr, slow_starts, slow_ends, factors = (
        calendar.slow_ptr, calendar.slow_start, calendar.slow_end, calendar.slow_factor,
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
            if away is not None and known_s[0] < np.inf and hw[hr[0], 0] == FIRST_BIT:
                t = max(ht[0], receive_free[hw[hr[0], 3]]) + hx[hr[0], 0]
                if t > known_s[0]:
                    clock[1] = t
                    return NEEDS_ABSENCES
            _pop(ht, ho, hr, state)
            end = state[SIZE]
            row = hr[end]
            now = ht[end]
            clock[0] = now
            kind, a, b, c = hw[row, 0], hw[row, 1], hw[row, 2], hw[row, 3]
            if kind == RESUME:
                state[CURRENT] = a
            elif kind == DEPARTURE:
                state[WHO] = a
                return DEPARTED
            elif kind == LEFT:
                _leave(leave, remaining, last, closings, state, a, b, now)
                pos[b] += 1
                state[CURRENT] = b
            elif kind == DEADLINE:
                if waiting[b] == a and x_id[a] == c:
                    waiting[b] = -1
                    _waited(
                        idle, comm, spans, reports, state, away, has, ptr, starts, ends, b, since[a, b], now, now,
                        until, shown_nodes, shown_rounds,
                    )  # fmt: skip
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
                    if away is not None and has[c]:
                        t = _back(ptr, starts, ends, c, t)
                    _waited(
                        idle, comm, spans, reports, state, away, has, ptr, starts, ends, c, since[a, c], t,
                        handed[a, c], until, shown_nodes, shown_rounds,
                    )  # fmt: skip
                    if t < np.inf:
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
            seconds = work[arguments[p], i]
            if seconds == 0.0:
                pos[i] = p + 1
                continue
            finished = now + seconds
            if away is not None and has[i]:
                if finished > known_s[0]:
                    clock[1] = finished
                    return NEEDS_ABSENCES
                if op == WORK:
                    finished = _work(ptr, starts, ends, slow_ptr, slow_starts, slow_ends, factors, i, now, seconds)
                    if known_s[0] < finished < np.inf:
                        clock[1] = finished
                        return NEEDS_ABSENCES
                else:
                    finished = _back(ptr, starts, ends, i, finished)
            pos[i] = p + 1
            if op == WORK:
                if away is not None and has[i]:
                    compute[i] += _there(ptr, starts, ends, i, now, min(finished, until))
                else:
                    compute[i] += seconds if finished <= until else until - now
                _span(spans, reports, state, i, 0, now, finished, until, shown_nodes, shown_rounds)
            if finished < np.inf:
                _push(ht, ho, hr, hw, hx, state, finished, 1, RESUME, i, 0, 0, 0.0, 0.0)
            state[CURRENT] = -1
            continue
        s = arguments[p]
        if s < 0:
            return NEEDS_PLACE
        if away is not None and op != FINISH and known_s[0] < np.inf:  # all that this may set a time to must be known
            last_t = now + deadline_s[s] if deadline_s[s] < np.inf else now
            if active[s, i] and not state[SERIAL]:
                k = x_edges[s]
                for q in range(host_ports[k, i], host_ports[k, i + 1]):
                    begin = max(now, free[ports[k, q]])
                    for m in range(port_messages[k, q], port_messages[k, q + 1]):
                        last_t = max(last_t, begin + offset[s, edge[k, m]])
            if last_t > known_s[0]:
                clock[1] = last_t
                return NEEDS_ABSENCES
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
                            if away is not None and has[j]:
                                t = _back(ptr, starts, ends, j, t)
                            _waited(
                                idle, comm, spans, reports, state, away, has, ptr, starts, ends, j, since[s, j], t,
                                handed[s, j], until, shown_nodes, shown_rounds,
                            )  # fmt: skip
                            if t < np.inf:
                                _push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, j, 0, 0.0, 0.0)
            if op == START:
                pos[i] = p + 1
                continue
        # the exchange's result: at once, at a known moment, or when all that is missing is known
        since[s, i] = now
        limit = start[s, i] + deadline_s[s]
        if away is not None and has[i]:
            limit = _back(ptr, starts, ends, i, limit)
        t = now
        if active[s, i]:
            if left[s, i] == 0:
                t = min(latest[s, i], limit)
                if away is not None and has[i]:
                    t = _back(ptr, starts, ends, i, t)
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
            _waited(
                idle, comm, spans, reports, state, away, has, ptr, starts, ends, i, now, t, handed[s, i], until,
                shown_nodes, shown_rounds,
            )  # fmt: skip
            if t < np.inf:
                _push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, i, 0, 0.0, 0.0)
            state[CURRENT] = -1
