"""What moves a flow engine: flows are added, the next event is asked for, time goes on, capacities change.

    slot = add(e, t, route, bytes_, tag)      a flow handed to the network at time t (no earlier than the clock)
    t = next_time(e)                          when the next event is (infinity: never); settles what changed before
    ended = advance(e, t)                     all events up to t; who ended stands in e.slot[:ended, DONE_TAG],
                                              when in e.flow[:ended, DONE_S], limited by what in DONE_LIMIT
    taken(e)                                  forget those

Nobody may advance past `next_time`. All changes of one instant are settled together, at the next `next_time`.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined, kept
from simnet.network.flows import tcp
from simnet.network.flows.events import EVENT, schedule, unschedule
from simnet.network.flows.marks import mark_flow, mark_limited, unlimit
from simnet.network.flows.pools import leave_pool, mark_all
from simnet.network.flows.solve import settle
from simnet.network.flows.state import (
    AFTER,
    BOUND,
    CAPACITY,
    CHANGES,
    CONTROL,
    COUNT,
    DONE,
    DONE_LIMIT,
    DONE_LOST,
    DONE_ORDER,
    DONE_S,
    DONE_SLOT,
    DONE_TAG,
    ENTRY_NEXT,
    ENTRY_PREVIOUS,
    FACTOR,
    FINISH,
    FIRST,
    FLOWING,
    FLOWS,
    FREE,
    FREE_COUNT,
    FREE_SLOT,
    HEAP_SIZE,
    LEFT,
    LIMIT,
    LOAD,
    LOOK,
    LOST,
    MOST,
    NONE,
    PENALTY,
    PHASE,
    POOL,
    POOL_HERE,
    POOL_SEEDS,
    QUEUED,
    RATE,
    ROUTE,
    RTT,
    SEEDS,
    SERIAL,
    SERIALS,
    SHIFT,
    SINCE,
    TAG,
    TOP,
    WAIT_S,
    WAITING,
    WEIGHT,
)  # fmt: skip

AT_ONCE = 1e-13  # events closer than this, relative to the clock, are one instant: rounding, not time, parts them


@kept
def add(e, t, route, bytes_, tag):
    """Hand a flow of `bytes_` to the network at time t; gives its slot. There must be a free one."""
    return add_to(
        e.route_start, e.route_link, e.route, e.chain, e.flow, e.slot, e.entry, e.heap_t, e.heap_row, e.state,
        t, route, bytes_, tag,
    )  # fmt: skip


@kept
def next_time(e):
    """When the next event is, after settling what changed at the present instant."""
    return next_time_of(
        e.route_start, e.route_link, e.route_share, e.route, e.link, e.chain, e.flow, e.slot, e.entry, e.heap_t,
        e.heap_row, e.levels, e.bits, e.state, e.clock,
    )  # fmt: skip


@kept
def advance(e, t):
    """Go on to time t, no later than `next_time`; gives how many flows have ended and were not taken yet."""
    return advance_to(
        e.route_start, e.route_link, e.route_share, e.route, e.link, e.chain, e.flow, e.slot, e.entry, e.heap_t,
        e.heap_row, e.levels, e.bits, e.state, e.clock, t,
    )  # fmt: skip


# The same with an engine's arrays one by one: what calls them in a loop saves the counting of arrays in a tuple.


@inlined
def add_to(route_start, route_link, routes, chain, flow, slot, entry, heap_t, heap_row, state, t, route, bytes_, tag):
    """`add`."""
    state[FREE_COUNT] -= 1
    f = slot[state[FREE_COUNT], FREE_SLOT]
    slot[f, ROUTE], slot[f, TAG], slot[f, SERIAL] = route, tag, state[SERIALS]
    state[SERIALS] += 1
    slot[f, LIMIT], slot[f, PHASE] = NONE, WAITING
    flow[f, RATE] = flow[f, AFTER] = flow[f, LOST] = 0.0
    flow[f, MOST], flow[f, WEIGHT] = routes[route, BOUND], routes[route, PENALTY]
    flow[f, LEFT] = bytes_ / routes[route, FACTOR]
    flow[f, FINISH] = flow[f, QUEUED] = np.inf
    if state[CONTROL] > 0:
        tcp.begin(routes, flow, slot, state, f)
        tcp.cut(flow, slot, f, flow[f, LEFT])
    wait = routes[route, WAIT_S]
    if wait > 0.0:
        schedule(heap_t, heap_row, state, t + wait, slot[f, SERIAL], 2 * f)
    else:
        _enter(route_start, route_link, routes, flow, slot, entry, chain, heap_t, heap_row, state, f, t)
    return f


@inlined
def _enter(route_start, route_link, route, flow, slot, entry, chain, heap_t, heap_row, state, f, t):
    """The first byte of flow f moves at time t."""
    slot[f, PHASE], flow[f, SINCE] = FLOWING, t
    state[FLOWS] += 1
    if state[CONTROL] > 0:
        schedule(heap_t, heap_row, state, t + route[slot[f, ROUTE], RTT], slot[f, SERIAL], 2 * f + 1)
    mark_flow(slot, state, f)
    at = f << state[SHIFT]
    r = slot[f, ROUTE]
    for z in range(route_start[r], route_start[r + 1]):
        link = route_link[z]
        first = chain[link, FIRST]
        entry[at, ENTRY_NEXT], entry[at, ENTRY_PREVIOUS] = first, -1
        if first >= 0:
            entry[first, ENTRY_PREVIOUS] = at
        chain[link, FIRST] = at
        chain[link, COUNT] += 1
        mark_limited(chain, slot, state, link)
        at += 1


@inlined
def _leave(route_start, route_link, route_share, flow, slot, entry, links, chain, state, f):
    """Flow f is over: it leaves its links, and those whom they limit get its share."""
    unlimit(chain, slot, f)
    at = f << state[SHIFT]
    r = slot[f, ROUTE]
    rate = flow[f, RATE]
    for z in range(route_start[r], route_start[r + 1]):
        link = route_link[z]
        after, before = entry[at, ENTRY_NEXT], entry[at, ENTRY_PREVIOUS]
        if before >= 0:
            entry[before, ENTRY_NEXT] = after
        else:
            chain[link, FIRST] = after
        if after >= 0:
            entry[after, ENTRY_PREVIOUS] = before
        chain[link, COUNT] -= 1
        chain[link, CHANGES] += 1
        links[link, LOAD] -= route_share[z] * rate
        if after < 0 and before < 0:
            links[link, LOAD] = links[link, TOP] = 0.0
        mark_limited(chain, slot, state, link)
        at += 1
    slot[f, PHASE] = FREE
    slot[state[FREE_COUNT], FREE_SLOT] = f
    state[FREE_COUNT] += 1
    state[FLOWS] -= 1


@kept
def _rebound(route_start, route_link, slot, chain, state, f):
    """The bound of flow f changed: it is to be settled again, and those with whom it shares."""
    mark_flow(slot, state, f)
    r = slot[f, ROUTE]
    for z in range(route_start[r], route_start[r + 1]):
        mark_limited(chain, slot, state, route_link[z])


@inlined
def _look_again(heap_t, heap_row, flow, slot, state, f):
    """Flow f was slowed down since its end was put into the heap: its end is later, or never."""
    flow[f, QUEUED] = flow[f, FINISH]
    if flow[f, FINISH] < np.inf:
        schedule(heap_t, heap_row, state, flow[f, FINISH], slot[f, SERIAL], 2 * f)
    else:
        unschedule(heap_t, heap_row, state, 2 * f)


@kept
def next_time_of(
    route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, levels, bits,
    state, clock,
):  # fmt: skip
    """`next_time`."""
    if state[SEEDS] > 0 or state[POOL_SEEDS] > 0:
        settle(
            route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, levels,
            bits, state, clock, clock[0],
        )  # fmt: skip
    while state[HEAP_SIZE] > 0:
        event, t = heap_row[0, EVENT], heap_t[0]
        f = event >> 1
        if event & 1 or slot[f, PHASE] == WAITING or flow[f, FINISH] <= t:
            return t
        _look_again(heap_t, heap_row, flow, slot, state, f)
    return np.inf


@kept
def advance_to(
    route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, levels, bits,
    state, clock,
    t,
):  # fmt: skip
    """`advance`."""
    if (state[SEEDS] > 0 or state[POOL_SEEDS] > 0) and t > clock[0]:
        settle(
            route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, levels,
            bits, state, clock, clock[0],
        )  # fmt: skip
    clock[0] = t
    horizon = t + AT_ONCE * t
    while state[HEAP_SIZE] > 0 and heap_t[0] <= horizon:
        event, due = heap_row[0, EVENT], heap_t[0]
        f = event >> 1
        if slot[f, POOL] >= 0:
            stops = event & 1 == 0
            leave_pool(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, due
            )
            if stops:
                flow[f, LEFT], flow[f, FINISH] = 0.0, due
        if slot[f, PHASE] == WAITING:
            unschedule(heap_t, heap_row, state, event)
            _enter(route_start, route_link, route, flow, slot, entry, chain, heap_t, heap_row, state, f, due)
        elif event & 1:
            unschedule(heap_t, heap_row, state, event)
            if tcp.round_trip_over(heap_t, heap_row, route, flow, slot, state, f, due):
                _rebound(route_start, route_link, slot, chain, state, f)
        elif flow[f, FINISH] > horizon:
            _look_again(heap_t, heap_row, flow, slot, state, f)
        elif flow[f, AFTER] > 0.0:
            unschedule(heap_t, heap_row, state, event)
            flow[f, QUEUED] = np.inf
            if tcp.stopped(heap_t, heap_row, route, flow, slot, state, f, flow[f, FINISH]):
                _rebound(route_start, route_link, slot, chain, state, f)
        else:
            unschedule(heap_t, heap_row, state, event)
            unschedule(heap_t, heap_row, state, event + 1)
            slot[state[DONE], DONE_TAG], flow[state[DONE], DONE_S] = slot[f, TAG], flow[f, FINISH]
            slot[state[DONE], DONE_LIMIT], flow[state[DONE], DONE_LOST] = slot[f, LIMIT], flow[f, LOST]
            slot[state[DONE], DONE_SLOT] = f
            state[DONE] += 1
            _leave(route_start, route_link, route_share, flow, slot, entry, links, chain, state, f)
    return state[DONE]


@inlined
def _sink_tag(slot, i, size):
    """Heap sort's step: place i of the list goes down until no later tag stands below it."""
    d = slot[i, DONE_ORDER]
    while 2 * i + 1 < size:
        down = 2 * i + 1
        if down + 1 < size and slot[slot[down + 1, DONE_ORDER], DONE_TAG] > slot[slot[down, DONE_ORDER], DONE_TAG]:
            down += 1
        if slot[slot[down, DONE_ORDER], DONE_TAG] <= slot[d, DONE_TAG]:
            break
        slot[i, DONE_ORDER] = slot[down, DONE_ORDER]
        i = down
    slot[i, DONE_ORDER] = d


@kept
def in_order(slot, count):
    """Let `DONE_ORDER` list the flows that have ended and were not taken yet by their tags."""
    for k in range(count):
        slot[k, DONE_ORDER] = k
    for i in range(count // 2 - 1, -1, -1):
        _sink_tag(slot, i, count)
    for size in range(count - 1, 0, -1):
        slot[0, DONE_ORDER], slot[size, DONE_ORDER] = slot[size, DONE_ORDER], slot[0, DONE_ORDER]
        _sink_tag(slot, 0, size)


@kept
def taken(e):
    """The flows that have ended are known to the caller."""
    e.state[DONE] = 0


@kept
def set_capacity(e, t, link, capacity):
    """The link carries `capacity` bytes/s from time t on; 0 stops its flows. `t` is no later than `next_time`."""
    advance(e, t)
    less = capacity < e.link[link, CAPACITY]
    e.link[link, CAPACITY] = capacity
    mark_limited(e.chain, e.slot, e.state, link)
    if e.chain[link, POOL_HERE] >= 0:
        e.chain[e.chain[link, POOL_HERE], LOOK] = 1
    if less:
        mark_all(
            e.route_start, e.route_link, e.route_share, e.flow, e.slot, e.link, e.chain, e.entry, e.heap_t, e.heap_row,
            e.state, link, t,
        )  # fmt: skip
