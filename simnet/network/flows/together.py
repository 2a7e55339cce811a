"""Many flows that one link limits, settled at once.

Where a thousand flows share one link, each that begins or ends there changes the rates of all, but mostly nothing else:
the other links of their routes limit nobody. Then no water has to rise: the link that would be saturated first gives
all its level.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined, kept
from simnet.network.flows.events import schedule
from simnet.network.flows.marks import limited_by, mark_flow, mark_limited, touch
from simnet.network.flows.state import (
    CAPACITY,
    CHANGES,
    COUNT,
    ENTRY_NEXT,
    FINISH,
    FIRST,
    LEFT,
    LEFT_NOW,
    LEVEL,
    LIMIT,
    LIMITED,
    LIMITED_COUNT,
    LINK_LEVEL,
    LINK_MARK,
    LOAD,
    MOST,
    NONE,
    OPEN,
    PER_LEVEL,
    QUEUED,
    RATE,
    ROUTE,
    SEED,
    SEEDS,
    SERIAL,
    SHIFT,
    SINCE,
    STAMP,
    TOP,
    TOUCHED,
    WEIGHT,
)  # fmt: skip

MANY = 16  # flows: fewer are not worth a look at whether one link gives them all their level
SAME = 1e-13  # levels that differ by less are one level


@inlined
def goes_at(flow, slot, heap_t, heap_row, state, f, rate, t):
    """Flow f goes at `rate` from time t on, and ends accordingly."""
    left = max(flow[f, LEFT] - flow[f, RATE] * (t - flow[f, SINCE]), 0.0)
    flow[f, LEFT], flow[f, SINCE], flow[f, RATE] = left, t, rate
    finish = t
    if left > 0.0:
        finish = t + left / rate if rate > 0.0 else np.inf
    flow[f, FINISH] = finish
    if finish < flow[f, QUEUED]:
        flow[f, QUEUED] = finish
        schedule(heap_t, heap_row, state, finish, slot[f, SERIAL], 2 * f)


@inlined
def _busiest_limit(slot, chain, flows):
    """Of the links that limit marked flows, the one that limits most; and how many."""
    link, most = NONE, 0
    for i in range(flows):
        limit = slot[slot[i, SEED], LIMIT]
        if limit >= 0 and limit != link and chain[limit, LIMITED_COUNT] > most:
            link, most = limit, chain[limit, LIMITED_COUNT]
    return link, most


@inlined
def _put_first(route_start, route_link, slot, flows, before):
    """Put the marked flows that `before` limits, and the free ones that cross it, first; gives how many they are, and
    how many it limits."""
    members = of_it = 0
    for i in range(flows):
        f = slot[i, SEED]
        belongs = slot[f, LIMIT] == before
        if belongs:
            of_it += 1
        elif slot[f, LIMIT] < 0:
            r = slot[f, ROUTE]
            for z in range(route_start[r], route_start[r + 1]):
                belongs = belongs or route_link[z] == before
        if belongs:
            slot[i, SEED] = slot[members, SEED]
            slot[members, SEED] = f
            members += 1
    return members, of_it


@kept
def at_one_link(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t,
):  # fmt: skip
    """Settle the marked flows that one link limits, and those new there, at time t, the others held at their rates; if
    that gives them several levels, or a bound is met, change nothing. Says whether it did.

    What then is marked are the other marked flows, all whom links of the routes limit, since the load there has
    changed, and all on links of few flows that have too much load now.
    """
    marked, shift = state[SEEDS], state[SHIFT]
    before, most = _busiest_limit(slot, chain, marked)
    if most < MANY:
        return False
    flows, of_it = _put_first(route_start, route_link, slot, marked, before)
    if of_it < most:
        return False
    mark = -state[STAMP]  # water-filling, if it is left to that, sees these links as untouched
    touched_count = 0
    bound = np.inf
    for i in range(flows):
        f = slot[i, SEED]
        r = slot[f, ROUTE]
        rate, per = flow[f, RATE], 1.0 / flow[f, WEIGHT]
        bound = min(bound, flow[f, MOST] * flow[f, WEIGHT])
        for z in range(route_start[r], route_start[r + 1]):
            link = route_link[z]
            if chain[link, LINK_MARK] != mark:
                chain[link, LINK_MARK] = mark
                touch(route_start, route_share, flow, slot, links, chain, entry, link, shift, touched_count)
                touched_count += 1
            links[link, LEFT_NOW] += route_share[z] * rate
            links[link, PER_LEVEL] += route_share[z] * per
            chain[link, OPEN] += 1
    level, limit = max(links[before, LEFT_NOW], 0.0) / links[before, PER_LEVEL], before
    for k in range(touched_count):
        link = chain[k, TOUCHED]
        too_much = links[link, LEFT_NOW] < level * (1 - SAME) * links[link, PER_LEVEL]
        if too_much and chain[link, LIMITED_COUNT] == 0 and chain[link, COUNT] >= MANY:
            level, limit = max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL], link
    if chain[limit, OPEN] < flows or bound < level:
        return False
    if chain[limit, COUNT] > flows and links[limit, TOP] > level * (1 + SAME):
        return False
    if limit != before:
        chain[limit, LIMITED], chain[limit, LIMITED_COUNT] = chain[before, LIMITED], chain[before, LIMITED_COUNT]
        chain[before, LIMITED], chain[before, LIMITED_COUNT] = -1, 0
    for i in range(flows):
        f = slot[i, SEED]
        if slot[f, LIMIT] == before:
            slot[f, LIMIT] = limit
        else:
            limited_by(chain, slot, f, limit)
        flow[f, LEVEL] = level
        rate = min(level / flow[f, WEIGHT], flow[f, MOST])
        if abs(rate - flow[f, RATE]) > 1e-14 * rate or flow[f, QUEUED] == np.inf:
            goes_at(flow, slot, heap_t, heap_row, state, f, rate, t)
    links[limit, LINK_LEVEL] = level
    state[STAMP] += 1
    state[SEEDS] = 0
    for i in range(flows, marked):
        mark_flow(slot, state, slot[i, SEED])
    for k in range(touched_count):
        link = chain[k, TOUCHED]
        links[link, LOAD] = links[link, CAPACITY] - links[link, LEFT_NOW] + level * links[link, PER_LEVEL]
        chain[link, CHANGES] += 1
        if link != limit:
            if links[link, TOP] < level:
                links[link, TOP] = level
            mark_limited(chain, slot, state, link)
            if links[link, LOAD] > links[link, CAPACITY] * (1 + SAME) and chain[link, LIMITED_COUNT] == 0:
                at = chain[link, FIRST]
                while at >= 0:
                    mark_flow(slot, state, at >> shift)
                    at = entry[at, ENTRY_NEXT]
    return True
