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
from simnet.network.flows.marks import limited_by, mark_flow, mark_limited, pool_load, touch, unlimit
from simnet.network.flows.pools import mark_all, move_to, plan_first, take_in, top_of
from simnet.network.flows.state import (
    CAPACITY,
    CHANGES,
    COUNT,
    ENTRY_NEXT,
    FEWEST,
    FINISH,
    FIRST,
    FIRST_LINK,
    LEAST_BOUND,
    LEFT,
    LEFT_NOW,
    LIMIT,
    LIMITED,
    LIMITED_BY,
    LIMITED_COUNT,
    LIMITS,
    LINK_LEVEL,
    LINK_MARK,
    LOAD,
    LOOK,
    MOST,
    NEXT_LINK,
    NONE,
    OPEN,
    OWN,
    PER_LEVEL,
    POOL,
    POOL_COUNT,
    POOL_HERE,
    POOL_MARK,
    POOL_PER,
    POOL_SEED,
    POOL_SEEDS,
    QUEUED,
    RATE,
    REST,
    RESTS,
    RIVAL,
    ROUTE,
    SAFE,
    SEED,
    SEEDS,
    SERIAL,
    SHIFT,
    SINCE,
    SIZE,
    STAMP,
    TOP,
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
def _busiest_limit(slot, chain, state):
    """Of the links that limit marked flows or pools, the one that limits most; and how many."""
    link, most = NONE, 0
    for i in range(state[SEEDS]):
        limit = slot[state[SEED + i], LIMIT]
        if limit >= 0 and limit != link:
            count = chain[limit, LIMITED_COUNT] + chain[chain[limit, LIMITS], SIZE]
            if count > most:
                link, most = limit, count
    for i in range(state[POOL_SEEDS]):
        limit = chain[chain[i, POOL_SEED], LIMITED_BY]
        count = chain[limit, LIMITED_COUNT] + chain[chain[limit, LIMITS], SIZE]
        if count > most:
            link, most = limit, count
    return link, most


@inlined
def _put_first(route_start, route_link, slot, state, flows, before):
    """Put the marked flows that `before` limits, and the free ones that cross it, first; gives how many they are, and
    how many it limits."""
    members = of_it = 0
    for i in range(flows):
        f = state[SEED + i]
        belongs = slot[f, LIMIT] == before
        if belongs:
            of_it += 1
        elif slot[f, LIMIT] < 0:
            r = slot[f, ROUTE]
            for z in range(route_start[r], route_start[r + 1]):
                belongs = belongs or route_link[z] == before
        if belongs:
            state[SEED + i] = state[SEED + members]
            state[SEED + members] = f
            members += 1
    return members, of_it


@kept
def _open(route_start, route_share, flow, slot, links, chain, entry, state, link, pool, touched_count):
    """Touch a link: the flows of `pool` are open there, and nobody else yet."""
    touch(route_start, route_share, flow, slot, links, chain, entry, link, state[SHIFT])
    state[-1 - touched_count] = link
    if chain[link, POOL_HERE] == pool:
        links[link, LEFT_NOW] = links[link, CAPACITY] - links[link, LOAD]
        links[link, PER_LEVEL] = links[link, POOL_PER]
        chain[link, OPEN] = chain[link, POOL_COUNT]
    return touched_count + 1


@inlined
def _bounded(route_start, route_link, route_share, flow, slot, links, chain, state, before, flows):
    """The level that `before` gives, flows that are at their own bound below it being put last; gives too how many
    are not, and the highest bound met, as a level."""
    alone, highest = flows, 0.0
    level = max(links[before, LEFT_NOW], 0.0) / links[before, PER_LEVEL]
    enough = 1e-3 * links[before, PER_LEVEL]  # below, rounding may be all that is left
    found = True
    while found:
        found, i = False, 0
        while i < alone:
            f = state[SEED + i]
            own = flow[f, MOST] * flow[f, WEIGHT]
            if own >= level:
                i += 1
                continue
            found, highest = True, max(highest, own)
            alone -= 1
            state[SEED + i], state[SEED + alone] = state[SEED + alone], f
            r = slot[f, ROUTE]
            for z in range(route_start[r], route_start[r + 1]):
                link = route_link[z]
                links[link, LEFT_NOW] -= route_share[z] * flow[f, MOST]
                links[link, PER_LEVEL] -= route_share[z] / flow[f, WEIGHT]
                chain[link, OPEN] -= 1
        if chain[before, OPEN] == 0 or links[before, PER_LEVEL] < enough:
            return -1.0, alone, highest
        level = max(links[before, LEFT_NOW], 0.0) / links[before, PER_LEVEL]
    return level, alone, highest


@inlined
def _look_at_links(
    route_start, route_share, flow, slot, links, chain, entry, state, pool, level, mark, touched_count, alone
):  # fmt: skip
    """Touch the other links of a pool that would have too much load at `level`, or that limit somebody; gives how many
    are touched. Where there are none, the pool knows up to which level that holds, if no flow is looked after alone.
    """
    safe, found = np.inf, False
    link = chain[pool, FIRST_LINK]
    while link >= 0:
        if chain[link, LINK_MARK] != mark:
            can, per = links[link, CAPACITY] - links[link, LOAD], links[link, POOL_PER]
            if chain[link, LIMITED_COUNT] > 0 or can < level * (1 - SAME) * per:
                chain[link, LINK_MARK], found = mark, True
                touched_count = _open(
                    route_start, route_share, flow, slot, links, chain, entry, state, link, pool, touched_count
                )
            elif can < safe * per:
                safe = can / per
        link = chain[link, NEXT_LINK]
    links[pool, SAFE] = safe
    chain[pool, LOOK] = found or not alone
    return touched_count


@kept
def _highest_elsewhere(flow, slot, links, chain, entry, link, before, shift):
    """Let `TOP` of a link be the highest level of its flows that neither it nor `before` limits, pools apart."""
    top = 0.0
    at = chain[link, FIRST]
    while at >= 0:
        f = at >> shift
        if slot[f, POOL] < 0 and slot[f, LIMIT] != link and slot[f, LIMIT] != before:
            top = max(top, flow[f, RATE] * flow[f, WEIGHT])
        at = entry[at, ENTRY_NEXT]
    links[link, TOP] = top


@inlined
def _swap(chain, a, b):
    """Link b limits the flows that link a limited."""
    for column in (LIMITED, LIMITED_COUNT, LIMITS):
        chain[a, column], chain[b, column] = chain[b, column], chain[a, column]
    chain[chain[a, LIMITS], LIMITED_BY], chain[chain[b, LIMITS], LIMITED_BY] = a, b
    chain[chain[b, LIMITS], RIVAL] = a


@kept
def at_one_link(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t,
):  # fmt: skip
    """Settle the marked flows that one link limits, its pool, and those new there, at time t, the others held at their
    rates; if that gives them several levels, change nothing. Says whether it did.

    What then is marked are the other marked flows and pools, all whom links of the routes limit, since the load there
    has changed, and all on links of few flows that have too much load now.
    """
    marked, shift = state[SEEDS], state[SHIFT]
    before, most = _busiest_limit(slot, chain, state)
    if most < MANY:
        return False
    pool = chain[before, LIMITS]
    pooled = chain[pool, SIZE]
    flows, of_it = _put_first(route_start, route_link, slot, state, marked, before)
    if of_it + pooled < most or (pooled > 0 and chain[pool, POOL_MARK] != state[STAMP]):
        return False
    mark = -state[STAMP]  # water-filling, if it is left to that, sees these links as untouched
    touched_count = 0
    for i in range(flows):
        f = state[SEED + i]
        r = slot[f, ROUTE]
        rate, per = flow[f, RATE], 1.0 / flow[f, WEIGHT]
        for z in range(route_start[r], route_start[r + 1]):
            link = route_link[z]
            if chain[link, LINK_MARK] != mark:
                chain[link, LINK_MARK] = mark
                touched_count = _open(
                    route_start, route_share, flow, slot, links, chain, entry, state, link, pool, touched_count
                )
            links[link, LEFT_NOW] += route_share[z] * rate
            links[link, PER_LEVEL] += route_share[z] * per
            chain[link, OPEN] += 1
    look, rival = chain[pool, LOOK], chain[pool, RIVAL]
    if pooled > 0:
        for k in range(2):
            link = before if k == 0 else rival
            if link >= 0 and chain[link, POOL_HERE] == pool and chain[link, LINK_MARK] != mark:
                chain[link, LINK_MARK] = mark
                touched_count = _open(
                    route_start, route_share, flow, slot, links, chain, entry, state, link, pool, touched_count
                )
    level, alone, highest = _bounded(
        route_start, route_link, route_share, flow, slot, links, chain, state, before, flows
    )  # fmt: skip
    if level < 0.0 or (pooled > 0 and links[pool, LEAST_BOUND] < level):
        return False
    if pooled > 0:
        chain[pool, LOOK] = look
        if look == 1 or level > links[pool, SAFE]:
            touched_count = _look_at_links(
                route_start, route_share, flow, slot, links, chain, entry, state, pool, level, mark, touched_count,
                flows == 0,
            )  # fmt: skip
    limit = before
    for k in range(touched_count):
        link = state[-1 - k]
        too_much = links[link, LEFT_NOW] < level * (1 - SAME) * links[link, PER_LEVEL]
        nobody = chain[link, LIMITED_COUNT] + chain[chain[link, LIMITS], SIZE] == 0
        if too_much and nobody and chain[link, COUNT] >= MANY:
            level, limit = max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL], link
    open_flows = alone + pooled
    if chain[limit, OPEN] < open_flows or highest > level:
        return False
    if chain[limit, COUNT] > open_flows:
        top = links[limit, TOP]
        if chain[limit, POOL_HERE] != pool:
            top = top_of(links, chain, limit)
        if top > level * (1 + SAME):
            _highest_elsewhere(flow, slot, links, chain, entry, limit, before, shift)
            if links[limit, TOP] > level * (1 + SAME) or chain[limit, POOL_HERE] != pool:
                return False
    if pooled > 0:
        move_to(links, chain, pool, t)
    for i in range(alone, flows):
        f = state[SEED + i]
        unlimit(chain, slot, f)
        rate = flow[f, MOST]
        slot[f, LIMIT] = OWN
        if abs(rate - flow[f, RATE]) > 1e-14 * rate or flow[f, QUEUED] == np.inf:
            goes_at(flow, slot, heap_t, heap_row, state, f, rate, t)
    if limit != before:
        _swap(chain, before, limit)
    for i in range(alone):
        f = state[SEED + i]
        if slot[f, LIMIT] == before:
            slot[f, LIMIT] = limit
        else:
            limited_by(chain, slot, f, limit)
        rate = min(level / flow[f, WEIGHT], flow[f, MOST])
        if abs(rate - flow[f, RATE]) > 1e-14 * rate or flow[f, QUEUED] == np.inf:
            goes_at(flow, slot, heap_t, heap_row, state, f, rate, t)
    for k in range(touched_count):
        link = state[-1 - k]
        per, others = links[link, PER_LEVEL], 0.0
        if chain[link, POOL_HERE] == pool:
            per -= links[link, POOL_PER]
        else:
            others = pool_load(links, chain, link)
        links[link, LOAD] = links[link, CAPACITY] - links[link, LEFT_NOW] - others + level * per
        chain[link, CHANGES] += 1
        if link != limit:
            alone_there = chain[link, OPEN] == chain[link, COUNT]
            links[link, TOP] = level if alone_there else max(links[link, TOP], level)
    links[limit, LINK_LEVEL] = level
    links[limit, TOP] = max(links[limit, TOP], highest)
    if pooled > 0:
        plan_first(heap_t, heap_row, flow, slot, links, chain, state, pool)
        chain[limit, RESTS] = max(chain[limit, RESTS] - 1, 0)
    if alone > 0 and level > 0.0 and open_flows >= state[FEWEST]:
        if chain[limit, REST] > 0:
            chain[limit, REST] -= 1
        else:
            take_in(route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, limit, t)
    _mark_anew(
        route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t, pool, limit,
        flows, marked, touched_count,
    )  # fmt: skip
    return True


@kept
def _mark_anew(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t, pool, limit,
    flows, marked, touched_count,
):  # fmt: skip
    """Mark what `at_one_link` leaves to be settled."""
    state[STAMP] += 1
    state[SEEDS] = pools = 0
    for i in range(state[POOL_SEEDS]):
        other = chain[i, POOL_SEED]
        if other != pool:
            chain[pools, POOL_SEED], chain[other, POOL_MARK] = other, state[STAMP]
            pools += 1
    state[POOL_SEEDS] = pools
    for i in range(flows, marked):
        mark_flow(slot, state, state[SEED + i])
    for k in range(touched_count):
        link = state[-1 - k]
        if link == limit:
            continue
        mark_limited(chain, slot, state, link)
        load = links[link, LOAD] + pool_load(links, chain, link)
        nobody = chain[link, LIMITED_COUNT] + chain[chain[link, LIMITS], SIZE] == 0
        if load > links[link, CAPACITY] * (1 + SAME) and nobody:
            mark_all(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, link, t
            )  # fmt: skip
