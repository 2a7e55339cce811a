"""The walk of programs that compute and meet, in numba: the same events in the same order as `Walker` and `Meetings`.

One call walks until something needs Python: another entry of the table, room for records, a row of the record, the
first report of the last host. All state is in arrays between calls.

Legend: n hosts, E edges among partners, V entries, W rows of seconds, R reports, T records.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from simnet.entries import Op
from simnet.jit import kept
from simnet.timeplane.compiled_parts import SIZE, SPANS, pop, push, span

WORK, WAIT, PUBLISH, TAKE, MEET = Op.WORK, Op.WAIT, Op.PUBLISH, Op.TAKE, Op.MEET
RESUME, ASKED, ANSWERED, CROSSED, ALONE = range(5)  # kinds of events
ENDED, UNTIL, NEEDS_ENTRY, NEEDS_ROOM, FIRST = range(5)  # why a call returns
CURRENT, NEXT, ENTRIES, DONE, REPORTS, RECORDS, LOGGED, FIRSTS, UNFINISHED, BASE = range(
    16, 26
)  # beside those of `compiled`
MOST_AT_ONCE = 64  # records that one event makes at most before room is looked for again

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_A, _B = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31, _11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


class Table(NamedTuple):
    """The verb table, from the first entry that somebody may still ask for."""

    op: Any  # int64 (V,)
    argument: Any  # int64 (V,): the row of seconds; of a meeting, whether its pool is `ready`
    mark: Any  # int64 (V,): the tasks to have run when the entry is passed
    seconds: Any  # float64 (W, n)
    report_position: Any  # int64 (R,)
    report_mark: Any  # int64 (R,)


class Partners(NamedTuple):
    """Who may meet whom, and how long a message takes."""

    start: Any  # int64 (n + 1,): where a host's neighbours begin
    neighbour: Any  # int64 (E,): by host, ascending
    edge: Any  # int64 (E,): the edge to it
    reverse: Any  # int64 (E,): by edge, the one that runs the other way
    offset: Any  # float64 (E,): by edge, from when its port begins to its arrival
    busy: Any  # float64 (E,)
    port: Any  # int64 (E,)
    key: Any  # uint64 (n,): of each host's draws


class Hosts(NamedTuple):
    """Where every host stands, and the meeting that it waits in."""

    pos: Any  # int64 (n,)
    reports: Any  # int64 (n,)
    finished: Any  # bool (n,)
    compute: Any  # float64 (n,)
    comm: Any
    idle: Any
    finish_s: Any
    free: Any  # float64 (ports,)
    first_s: Any  # float64 (n,): when it made its first report
    meeting: Any  # bool (n,)
    ready: Any  # bool (n,): it waits for a partner
    since: Any  # float64 (n,)
    handed: Any
    met: Any  # int64 (n,): meetings begun
    partner: Any  # int64 (n,)
    edge: Any  # int64 (n,): to the partner
    travelling: Any  # int64 (n,): messages that are not there yet


class Out(NamedTuple):
    """What the walk tells: records for the value plane, meetings for the log, messages counted by edge."""

    host: Any  # int64 (T,)
    what: Any  # int64 (T,)
    log: Any  # int64 (T, 3): host, number of its meeting, partner
    end: Any  # float64 (T,)
    count: Any  # int64 (E,)
    spans: Any  # float64 (cap, 5)


@kept
def _uniform(key, counter):
    z = key + np.uint64(counter) * _GOLDEN
    z ^= z >> _30
    z *= _A
    z ^= z >> _27
    z *= _B
    z ^= z >> _31
    return np.float64(z >> _11) * 2.0**-53


@njit(inline="always")
def _waited(idle, comm, spans, reports, state, i, since, end, handed, until, shown_nodes, shown_rounds):
    end = min(end, until)
    turn = min(max(handed, since), end)
    idle[i] += turn - since
    comm[i] += end - turn
    span(spans, reports, state, i, 2, since, end, until, shown_nodes, shown_rounds)


@kept
def walk(heap, table, partners, hosts, out, state, clock, until, limit, shown_nodes, shown_rounds):
    """Walk until Python is needed, or the next event is later than `limit`; times are cut at `until`.

    `state` and `clock` carry over from call to call.
    """
    ht, ho, hr, hw, hx = heap
    op, argument, mark, seconds_W, report_position, report_mark = table
    start, neighbour, edge_to, reverse, offset, busy, port, key = partners
    (pos, reports, finished, compute, comm, idle, finish_s, free, first_s, meeting, ready, since, handed, met, partner,
     edge, travelling) = hosts  # fmt: skip
    rec_host, rec_what, log, log_end, count, spans = out
    room = len(rec_host) - MOST_AT_ONCE
    now = clock[0]
    while True:
        i = state[CURRENT]
        if i < 0:
            if state[UNFINISHED] == 0:
                return ENDED
            if state[RECORDS] >= room or state[LOGGED] >= room or state[SPANS] + MOST_AT_ONCE >= len(spans):
                return NEEDS_ROOM
            if state[SIZE] == 0 or ht[0] > limit:
                return UNTIL
            now = clock[0] = ht[0]
            pop(ht, ho, hr, state)
            row = hr[state[SIZE]]
            kind, i = hw[row, 0], hw[row, 1]
            if kind == ASKED:
                e = reverse[edge[i]]
                j = partner[i]
                p = port[e]
                begin = max(now, free[p])
                free[p] = begin + busy[e]
                count[e] += 1
                span(spans, reports, state, j, 1, begin, begin + busy[e], until, shown_nodes, shown_rounds)
                push(ht, ho, hr, hw, hx, state, begin + offset[e], 1, ANSWERED, i, 0, 0, 0.0, 0.0)
                continue
            if kind == CROSSED:
                travelling[i] -= 1
                if travelling[i] > 0:
                    continue
            if kind in (ANSWERED, CROSSED):
                k = state[RECORDS]
                rec_host[k], rec_what[k] = i, -1 - partner[i]
                state[RECORDS] = k + 1
                k = state[LOGGED]
                log[k, 0], log[k, 1], log[k, 2], log_end[k] = i, met[i] - 1, partner[i], now
                state[LOGGED] = k + 1
            if kind != RESUME:
                _waited(
                    idle, comm, spans, reports, state, i, since[i], now, handed[i], until, shown_nodes, shown_rounds
                )
                meeting[i] = False
                k = state[RECORDS]
                rec_host[k], rec_what[k] = i, mark[pos[i]]
                state[RECORDS] = k + 1
                pos[i] += 1
            if kind == CROSSED:
                j = partner[i]
                _waited(
                    idle, comm, spans, reports, state, j, since[j], now, handed[j], until, shown_nodes, shown_rounds
                )
                meeting[j] = False
                k = state[RECORDS]
                rec_host[k], rec_what[k] = j, mark[pos[j]]
                state[RECORDS] = k + 1
                pos[j] += 1
                state[NEXT] = j
            state[CURRENT] = i
        # ---- host i walks its table until something takes time
        waits = False
        while not waits:
            p = pos[i]
            if p >= state[ENTRIES] and not state[DONE]:
                return NEEDS_ENTRY
            if state[RECORDS] >= len(rec_host) - 4:
                return NEEDS_ROOM
            first = False
            while reports[i] < state[REPORTS] and report_position[reports[i]] - state[BASE] <= p:
                k = state[RECORDS]
                if k >= len(rec_host) - 2:
                    return NEEDS_ROOM
                rec_host[k], rec_what[k] = i, report_mark[reports[i]]
                state[RECORDS] = k + 1
                if reports[i] == 0:
                    first_s[i] = now
                    state[FIRSTS] += 1
                    first = state[FIRSTS] == len(pos)
                reports[i] += 1
            if first:
                return FIRST
            if p >= state[ENTRIES]:
                finished[i] = True
                finish_s[i] = now
                state[UNFINISHED] -= 1
                for q in range(start[i], start[i + 1]):
                    j = neighbour[q]
                    if ready[j]:
                        alone = True
                        for r in range(start[j], start[j + 1]):
                            alone = alone and finished[neighbour[r]]
                        if alone:
                            ready[j] = False
                            push(ht, ho, hr, hw, hx, state, now, 1, ALONE, j, 0, 0, 0.0, 0.0)
                break
            what = op[p]
            if what in (WORK, WAIT):
                pos[i] = p + 1
                seconds = seconds_W[argument[p], i]
                if seconds == 0.0:
                    continue
                if what == WORK:
                    compute[i] += seconds if now + seconds <= until else until - now
                    span(spans, reports, state, i, 0, now, now + seconds, until, shown_nodes, shown_rounds)
                push(ht, ho, hr, hw, hx, state, now + seconds, 1, RESUME, i, 0, 0, 0.0, 0.0)
                waits = True
            elif what in (PUBLISH, TAKE) or start[i] == start[i + 1]:  # a meeting with nobody there is over at once
                k = state[RECORDS]
                rec_host[k], rec_what[k] = i, mark[p]
                state[RECORDS] = k + 1
                pos[i] = p + 1
            else:
                waits = True
                meeting[i] = True
                since[i] = now
                u = _uniform(key[i], met[i])
                met[i] += 1
                degree = start[i + 1] - start[i]
                if argument[p] == 0:
                    q = start[i] + min(int(u * degree), degree - 1)
                    partner[i], edge[i], handed[i] = neighbour[q], edge_to[q], now
                    e = edge[i]
                    begin = max(now, free[port[e]])
                    free[port[e]] = begin + busy[e]
                    count[e] += 1
                    span(spans, reports, state, i, 1, begin, begin + busy[e], until, shown_nodes, shown_rounds)
                    push(ht, ho, hr, hw, hx, state, begin + offset[e], 1, ASKED, i, 0, 0, 0.0, 0.0)
                    continue
                there = 0
                for q in range(start[i], start[i + 1]):
                    there += ready[neighbour[q]]
                if there == 0:
                    ready[i] = True
                    handed[i] = np.inf
                    alone = True
                    for q in range(start[i], start[i + 1]):
                        alone = alone and finished[neighbour[q]]
                    if alone:
                        ready[i] = False
                        push(ht, ho, hr, hw, hx, state, now, 1, ALONE, i, 0, 0, 0.0, 0.0)
                    continue
                chosen = min(int(u * there), there - 1)
                for q in range(start[i], start[i + 1]):
                    if ready[neighbour[q]]:
                        if chosen == 0:
                            j, e = neighbour[q], edge_to[q]
                            break
                        chosen -= 1
                ready[j] = False
                partner[i], partner[j] = j, i
                handed[i] = handed[j] = now
                travelling[i] = 2
                for leg in range(2):
                    sender = i if leg == 0 else j
                    way = e if leg == 0 else reverse[e]
                    begin = max(now, free[port[way]])
                    free[port[way]] = begin + busy[way]
                    count[way] += 1
                    span(spans, reports, state, sender, 1, begin, begin + busy[way], until, shown_nodes, shown_rounds)
                    push(ht, ho, hr, hw, hx, state, begin + offset[way], 1, CROSSED, i, 0, 0, 0.0, 0.0)
        state[CURRENT] = state[NEXT]
        state[NEXT] = -1
