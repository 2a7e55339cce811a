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

from simnet.entries import Op
from simnet.jit import kept_with
from simnet.network.flows import moves
from simnet.network.flows.state import FREE_COUNT
from simnet.timeplane.compiled_parts import (
    CLOSINGS,
    CURRENT,
    DEADLINE,
    DEPARTURE,
    DONE,
    DUE,
    ENTRIES,
    FIRST_BIT,
    FIRST_REPORT,
    FLOW,
    FLOW_OF,
    LEFT,
    NEXT,
    NOTES,
    PATIENCE,
    REPORTS,
    RESUME,
    SERIAL,
    SETTLE,
    SHOWN,
    SIZE,
    SPANS,
    STARTS,
    STILL,
    UNFINISHED,
    WHO,
    arrived,
    back,
    done_at,
    leaves,
    pop,
    push,
    span,
    there,
    waited,
    wake,
)
from simnet.timeplane.compiled_shared import (
    begin_flow,
    hand_over,
    has_copies,
    is_needed,
    is_past,
    learn,
    settle_network,
)
from simnet.timeplane.compiled_turns import take_turns
from simnet.timeplane.state import NOBODY, Calendar, Carried, Edges, Heap, Hosts, Places, Table

__all__ = ["NOBODY", "Calendar", "Carried", "Edges", "Heap", "Hosts", "Places", "Table", "walk"]

WORK, EXCHANGE, START, FINISH, WAIT = Op.WORK, Op.EXCHANGE, Op.START, Op.FINISH, Op.WAIT
# why a call returns
ENDED, UNTIL, NEEDS_ENTRY, NEEDS_PLACE, NEEDS_ROOM, REPORTED, CLOSED, DEPARTED, NEEDS_ABSENCES = range(9)
NEEDS_FLOWS, NEEDS_COPIES, NEEDS_FATES, NEVER_OPEN = 9, 10, 11, 12
NEARLY = 1.0 + 1e-9  # what happens within rounding of an instant is of that instant: absences are known so far


@kept_with(moves)
def walk(
    heap,
    places,
    edges,
    table,
    hosts,
    calendar,
    engine,
    carried,
    timed,
    state,
    clock,
    until,
    shown_nodes,
    shown_rounds,
    most_out,
):
    """Walk until Python is needed; `state` and `clock` carry over from call to call. `engine`, `carried`: the flows of
    messages that share links, and whose they are; None where nothing is shared. `timed`: links that share nothing and
    change with time; None where none does.
    """
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
    arrive = 0  # over shared links: what the network did until now is to be learnt (2: and more of this instant)
    if engine is not None:
        flows, room_for_notes = engine.state, len(carried.notes)
        more = len(carried.message) + len(pos) + most_out + 8
    while True:
        if state[CLOSINGS]:
            return CLOSED
        if engine is not None:
            if arrive > 0:
                learn(
                    heap, places, hosts, calendar, engine, carried, state, clock[0], arrive == 2, until, shown_nodes,
                    shown_rounds,
                )  # fmt: skip
                arrive = 0
                continue
            if (
                state[SIZE] + more > room or state[NOTES] + more > room_for_notes
                or (state[SHOWN] and state[SPANS] + more > span_room)
            ):  # fmt: skip
                return NEEDS_ROOM
            if state[FLOW_OF] > 0:
                if is_past(engine, carried, clock[0]):
                    arrive = 1
                elif flows[FREE_COUNT] == 0:
                    return NEEDS_ROOM
                elif not begin_flow(heap, engine, carried, state, clock[0]):
                    return NEEDS_FLOWS
                continue
        i = state[CURRENT]
        if i < 0:
            if state[SIZE] == 0 or (engine is not None and state[UNFINISHED] == 0):
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
            if engine is not None and away is not None and ht[0] * NEARLY > known_s[0]:
                clock[1] = ht[0] * NEARLY
                return NEEDS_ABSENCES
            pop(ht, ho, hr, state)
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
                leaves(leave, remaining, last, closings, state, a, b, now)
                pos[b] += 1
                state[CURRENT] = b
            elif kind == DEADLINE:
                if waiting[b] == a and x_id[a] == c:
                    waiting[b] = -1
                    waited(
                        idle, comm, spans, reports, state, away, has, ptr, starts, ends, b, since[a, b], now, now,
                        until, shown_nodes, shown_rounds,
                    )  # fmt: skip
                    leaves(leave, remaining, last, closings, state, a, b, now)
                    pos[b] += 1
                    state[CURRENT] = b
            elif engine is not None and kind == SETTLE:
                settle_network(heap, engine, carried, state, now)
                if state[STILL] < 0:
                    return NEVER_OPEN
            elif engine is not None and kind == NEXT:
                if a == state[DUE]:
                    arrive = 2
            elif kind == FLOW:
                if is_needed(heap, state):
                    state[FLOW_OF] = 1 + a
                    if engine is None:
                        return NEEDS_FLOWS
            else:  # FIRST_BIT of the message on edge b of exchange a at host c
                t = max(now, receive_free[c]) + hx[row, 0]
                sent = hx[row, 1]
                receive_free[c] = t
                if arrived(
                    state, remaining, unknown, left, latest, handed, arrival, waiting, closings, a, b, c, t, sent,
                ):  # fmt: skip
                    wake(
                        ht, ho, hr, hw, hx, state, latest, handed, start, since, deadline_s, waiting, reports,
                        comm, idle, spans, away, has, ptr, starts, ends, until, shown_nodes, shown_rounds, a, c,
                    )  # fmt: skip
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
            state[UNFINISHED] -= 1
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
                    finished = done_at(ptr, starts, ends, slow_ptr, slow_starts, slow_ends, factors, i, now, seconds)
                    if known_s[0] < finished < np.inf:
                        clock[1] = finished
                        return NEEDS_ABSENCES
                else:
                    finished = back(ptr, starts, ends, i, finished)
            pos[i] = p + 1
            if op == WORK:
                if away is not None and has[i]:
                    compute[i] += there(ptr, starts, ends, i, now, min(finished, until))
                else:
                    compute[i] += seconds if finished <= until else until - now
                span(spans, reports, state, i, 0, now, finished, until, shown_nodes, shown_rounds)
            if finished < np.inf:
                push(ht, ho, hr, hw, hx, state, finished, 1, RESUME, i, 0, 0, 0.0, 0.0)
            state[CURRENT] = -1
            continue
        s = arguments[p]
        if s < 0:
            return NEEDS_PLACE
        if op != FINISH and active[s, i] and places.fates_s[s, i] <= now:
            return NEEDS_FATES
        in_turn = False
        if timed is not None:
            in_turn = op != FINISH and active[s, i] and edges.varies[x_edges[s], 0] == 1
            if in_turn and take_turns(timed, places, edges, free, s, i, now, state[PATIENCE]) >= places.fates_s[s, i]:
                return NEEDS_FATES
        if away is not None and op != FINISH and known_s[0] < np.inf:  # all that this may set a time to must be known
            last_t = now + deadline_s[s] if deadline_s[s] < np.inf else now
            if active[s, i] and not state[SERIAL] and engine is None:
                k = x_edges[s]
                for q in range(host_ports[k, i], host_ports[k, i + 1]):
                    begin = max(now, free[ports[k, q]])
                    for m in range(port_messages[k, q], port_messages[k, q + 1]):
                        t = offset[s, edge[k, m]]
                        last_t = max(last_t, t if in_turn else begin + t)
            if last_t > known_s[0]:
                clock[1] = last_t
                return NEEDS_ABSENCES
        if op != FINISH:
            places.turn[s, i] = state[STARTS]
            state[STARTS] += 1
        if op != FINISH and engine is not None:
            k = x_edges[s]
            if active[s, i] and host_ports[k, i] < host_ports[k, i + 1]:
                if is_past(engine, carried, now):
                    arrive = 1
                    continue
                if flows[FREE_COUNT] < most_out:
                    return NEEDS_ROOM
                if not has_copies(places, edges, carried, s, i):
                    return NEEDS_COPIES
                hand_over(heap, places, edges, hosts, engine, carried, state, now, s, i)
            start[s, i] = now
        elif op != FINISH:
            start[s, i] = now
            if active[s, i]:
                k = x_edges[s]
                for q in range(host_ports[k, i], host_ports[k, i + 1]):
                    port = ports[k, q]
                    begin = max(now, free[port])
                    ended = busy[s, ranks[k, q]] if in_turn else begin + busy[s, ranks[k, q]]
                    free[port] = ended
                    span(spans, reports, state, i, 1, begin, ended, until, shown_nodes, shown_rounds)
                    for m in range(port_messages[k, q], port_messages[k, q + 1]):
                        e = edge[k, m]
                        j = target[k, m]
                        t = offset[s, e] if in_turn else begin + offset[s, e]
                        if t < 0.0:
                            state[WHO], state[FLOW_OF] = s, e
                            return NEVER_OPEN
                        if state[SERIAL]:
                            push(
                                ht, ho, hr, hw, hx, state, max(now, t - own[s, e]), 1, FIRST_BIT, s, e, j, own[s, e],
                                now,
                            )  # fmt: skip
                            continue
                        if arrived(
                            state, remaining, unknown, left, latest, handed, arrival, waiting, closings, s, e, j, t,
                            now,
                        ):  # fmt: skip
                            wake(
                                ht, ho, hr, hw, hx, state, latest, handed, start, since, deadline_s, waiting, reports,
                                comm, idle, spans, away, has, ptr, starts, ends, until, shown_nodes, shown_rounds, s, j,
                            )  # fmt: skip
        if op == START:
            pos[i] = p + 1
            continue
        # the exchange's result: at once, at a known moment, or when all that is missing is known
        since[s, i] = now
        limit = start[s, i] + deadline_s[s]
        if away is not None and has[i]:
            limit = back(ptr, starts, ends, i, limit)
        t = now
        if active[s, i]:
            if left[s, i] == 0:
                t = min(latest[s, i], limit)
                if away is not None and has[i]:
                    t = back(ptr, starts, ends, i, t)
            elif limit >= now:
                waiting[i] = s
                if limit < np.inf:
                    push(ht, ho, hr, hw, hx, state, limit, 2, DEADLINE, s, i, x_id[s], 0.0, 0.0)
                state[CURRENT] = -1
                continue
        if t <= now:
            leaves(leave, remaining, last, closings, state, s, i, now)
            pos[i] = p + 1
        else:
            waited(
                idle, comm, spans, reports, state, away, has, ptr, starts, ends, i, now, t, handed[s, i], until,
                shown_nodes, shown_rounds,
            )  # fmt: skip
            if t < np.inf:
                push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, i, 0, 0.0, 0.0)
            state[CURRENT] = -1
