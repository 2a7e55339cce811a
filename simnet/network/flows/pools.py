"""Pools: many flows that one link limits, as one thing with one next event.

All flows that a link limits have one level, so they go on together: let the *virtual time* of the pool be the integral
of its level. A flow of penalty w that has `left` bytes to go stops when the virtual time is left w further, whatever
the level becomes until then; a pairing heap (Fredman, Sedgewick, Sleator and Tarjan 1986) knows the first. So an event
that changes the level of a thousand flows changes one number, one entry of the events' heap, and what the links know.
A link keeps what the flows of one pool take there per unit of level, apart from its load. Flows at the links of another
pool, and those near their own bound, are looked after one by one.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined, kept
from simnet.network.flows.events import schedule, unschedule
from simnet.network.flows.marks import limited_by, mark_flow, unlimit
from simnet.network.flows.state import (
    ABOVE,
    CHANGES,
    CHILD,
    ENTRY_NEXT,
    FINISH,
    FIRST,
    FIRST_LINK,
    LEAST_BOUND,
    LEFT,
    LIMIT,
    LIMITED,
    LIMITED_BY,
    LIMITS,
    LINK_LEVEL,
    LOAD,
    LOOK,
    MOST,
    MOVED_S,
    NEXT,
    NEXT_LINK,
    NOW,
    POOL,
    POOL_COUNT,
    POOL_HERE,
    POOL_MOST,
    POOL_PER,
    POOL_SEED,
    POOL_SEEDS,
    POOLED,
    PREVIOUS_LINK,
    QUEUED,
    RATE,
    REST,
    RESTS,
    RIVAL,
    ROOT,
    ROUTE,
    SERIAL,
    SHIFT,
    SIBLING,
    SINCE,
    SIZE,
    TOP,
    VIRTUAL,
    WEIGHT,
)  # fmt: skip

SETTLINGS, LONGEST_REST = 8, 80  # a pool that lives through fewer settlings, time and again, has to rest longer
ROOM = 2.0  # a flow whose own bound is within this factor of the level stays out of the pool

# ---- the heap of a pool --------------------------------------------------------------------------------------------


@inlined
def _meld(flow, slot, a, b):
    """One heap of two, either of which may be -1; gives its root."""
    if a < 0 or b < 0:
        return max(a, b)
    if flow[b, VIRTUAL] < flow[a, VIRTUAL] or (
        flow[b, VIRTUAL] == flow[a, VIRTUAL] and slot[b, SERIAL] < slot[a, SERIAL]
    ):
        a, b = b, a
    child = slot[a, CHILD]
    slot[b, SIBLING], slot[b, ABOVE] = child, a
    if child >= 0:
        slot[child, ABOVE] = b
    slot[a, CHILD] = b
    return a


@inlined
def _children_as_one(flow, slot, f):
    """The children of flow f as one heap: melded in pairs from the first on, then from the last to the first."""
    at, pairs = slot[f, CHILD], -1
    while at >= 0:
        other = slot[at, SIBLING]
        after = -1
        if other >= 0:
            after = slot[other, SIBLING]
        slot[at, SIBLING] = slot[at, ABOVE] = -1
        if other >= 0:
            slot[other, SIBLING] = slot[other, ABOVE] = -1
        pair = _meld(flow, slot, at, other)
        slot[pair, SIBLING] = pairs
        pairs = pair
        at = after
    root = -1
    while pairs >= 0:
        after = slot[pairs, SIBLING]
        slot[pairs, SIBLING] = -1
        root = _meld(flow, slot, root, pairs)
        pairs = after
    slot[f, CHILD] = -1
    return root


@kept
def _take_out(flow, slot, root, f):
    """The heap without flow f; gives its root."""
    rest = _children_as_one(flow, slot, f)
    if f == root:
        return rest
    above, after = slot[f, ABOVE], slot[f, SIBLING]
    if slot[above, CHILD] == f:
        slot[above, CHILD] = after
    else:
        slot[above, SIBLING] = after
    if after >= 0:
        slot[after, ABOVE] = above
    slot[f, SIBLING] = slot[f, ABOVE] = -1
    return _meld(flow, slot, root, rest)


# ---- the pool ------------------------------------------------------------------------------------------------------


@inlined
def level_of(links, chain, pool):
    """The level of a pool's flows."""
    return links[chain[pool, LIMITED_BY], LINK_LEVEL]


@kept
def top_of(links, chain, link):
    """No flow through the link that others limit has a higher level."""
    top, pool = links[link, TOP], chain[link, POOL_HERE]
    if pool >= 0 and chain[pool, LIMITED_BY] != link:
        top = max(top, links[chain[pool, LIMITED_BY], LINK_LEVEL])
    return top


@kept
def plan_first(heap_t, heap_row, flow, slot, links, chain, state, pool):
    """The heap of events has the pool's first stop, at the pool's present level."""
    f = chain[pool, ROOT]
    if f < 0:
        return
    level = level_of(links, chain, pool)
    finish = np.inf
    if level > 0.0:
        finish = links[pool, MOVED_S] + max(flow[f, VIRTUAL] - links[pool, NOW], 0.0) / level
    flow[f, FINISH] = flow[f, QUEUED] = finish
    if finish < np.inf:
        schedule(heap_t, heap_row, state, finish, slot[f, SERIAL], 2 * f)
    else:
        unschedule(heap_t, heap_row, state, 2 * f)


@kept
def move_to(links, chain, pool, t):
    """Bring the pool's virtual time up to time t: its level is about to change."""
    links[pool, NOW] += level_of(links, chain, pool) * (t - links[pool, MOVED_S])
    links[pool, MOVED_S] = t


@inlined
def _count_again(route_start, route_share, flow, slot, links, chain, entry, link, shift):
    """What the pool's flows take of a link per unit of level, counted from them: much was taken away since, and
    rounding may be left.
    """
    per = 0.0
    at = chain[link, FIRST]
    while at >= 0:
        f = at >> shift
        if slot[f, POOL] >= 0:
            per += route_share[route_start[slot[f, ROUTE]] + (at & ((1 << shift) - 1))] / flow[f, WEIGHT]
        at = entry[at, ENTRY_NEXT]
    links[link, POOL_PER] = links[link, POOL_MOST] = per


@kept
def _let_go(route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t):
    """Flow f of a pool is looked after alone from time t on, in all but the pool's heap."""
    pool = slot[f, POOL]
    limit = chain[pool, LIMITED_BY]
    level, weight = links[limit, LINK_LEVEL], flow[f, WEIGHT]
    now = links[pool, NOW] + level * (t - links[pool, MOVED_S])
    rate = level / weight
    left = max(flow[f, VIRTUAL] - now, 0.0) / weight
    finish = t + left / rate if rate > 0.0 else np.inf
    flow[f, LEFT], flow[f, SINCE], flow[f, RATE] = left, t, rate
    flow[f, FINISH] = flow[f, QUEUED] = finish
    if finish < np.inf:
        schedule(heap_t, heap_row, state, finish, slot[f, SERIAL], 2 * f)
    else:
        unschedule(heap_t, heap_row, state, 2 * f)
    slot[f, POOL] = -1
    chain[pool, SIZE] -= 1
    limited_by(chain, slot, f, limit)
    r = slot[f, ROUTE]
    for z in range(route_start[r], route_start[r + 1]):
        link, share = route_link[z], route_share[z]
        links[link, LOAD] += share * rate
        links[link, POOL_PER] -= share / weight
        chain[link, CHANGES] += 1
        chain[link, POOL_COUNT] -= 1
        if link != limit:
            links[link, TOP] = max(links[link, TOP], level)
        if chain[link, POOL_COUNT] == 0:
            links[link, POOL_PER] = links[link, POOL_MOST] = 0.0
            chain[link, POOL_HERE] = -1
            after, before = chain[link, NEXT_LINK], chain[link, PREVIOUS_LINK]
            if before >= 0:
                chain[before, NEXT_LINK] = after
            else:
                chain[pool, FIRST_LINK] = after
            if after >= 0:
                chain[after, PREVIOUS_LINK] = before
        elif links[link, POOL_PER] < 0.5 * links[link, POOL_MOST]:
            _count_again(route_start, route_share, flow, slot, links, chain, entry, link, state[SHIFT])


@kept
def leave_pool(route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t):
    """Flow f of a pool is looked after alone from time t on: its rate, its bytes to go and its next stop are known."""
    pool = slot[f, POOL]
    root = chain[pool, ROOT]
    chain[pool, ROOT] = _take_out(flow, slot, root, f)
    _let_go(route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t)
    if f == root:
        plan_first(heap_t, heap_row, flow, slot, links, chain, state, pool)


@kept
def mark_all(route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, link, t):
    """All flows through a link are to be settled again at time t, those of pools looked after alone."""
    at = chain[link, FIRST]
    while at >= 0:
        f = at >> state[SHIFT]
        if slot[f, POOL] >= 0:
            leave_pool(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t
            )
        mark_flow(slot, state, f)
        at = entry[at, ENTRY_NEXT]


@kept
def dissolve(route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t):
    """The marked pools let all their flows go at time t, which are marked in their place."""
    for i in range(state[POOL_SEEDS]):
        pool = chain[i, POOL_SEED]
        if chain[pool, SIZE] == 0:
            continue
        limit = chain[pool, LIMITED_BY]
        chain[limit, RESTS] = min(chain[limit, RESTS] + SETTLINGS, LONGEST_REST)
        chain[limit, REST] = max(chain[limit, RESTS] - 2 * SETTLINGS, 0)
        chain[pool, ROOT] = -1
        at = chain[limit, FIRST]
        while at >= 0:
            f = at >> state[SHIFT]
            if slot[f, POOL] == pool:
                slot[f, CHILD] = slot[f, SIBLING] = slot[f, ABOVE] = -1
                _let_go(
                    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t
                )
                mark_flow(slot, state, f)
            at = entry[at, ENTRY_NEXT]
    state[POOL_SEEDS] = 0


@inlined
def _may_enter(route_start, route_link, slot, flow, chain, pool, f, level):
    """Whether the pool can look after flow f: it is far from its bound, and no other pool has flows on its links."""
    if flow[f, MOST] * flow[f, WEIGHT] < ROOM * level:
        return False
    r = slot[f, ROUTE]
    for z in range(route_start[r], route_start[r + 1]):
        if chain[route_link[z], POOL_HERE] != pool and chain[route_link[z], POOL_HERE] >= 0:
            return False
    return True


@inlined
def _enter(route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, pool, f, t):
    """The pool, whose virtual time is that of time t, looks after flow f."""
    rate, weight = flow[f, RATE], flow[f, WEIGHT]
    unschedule(heap_t, heap_row, state, 2 * f)
    unlimit(chain, slot, f)
    slot[f, LIMIT], slot[f, POOL], flow[f, QUEUED] = POOLED, pool, np.inf
    left = max(flow[f, LEFT] - rate * (t - flow[f, SINCE]), 0.0)
    flow[f, VIRTUAL] = links[pool, NOW] + left * weight
    slot[f, CHILD] = slot[f, SIBLING] = slot[f, ABOVE] = -1
    chain[pool, ROOT] = _meld(flow, slot, chain[pool, ROOT], f)
    chain[pool, SIZE] += 1
    links[pool, LEAST_BOUND] = min(links[pool, LEAST_BOUND], flow[f, MOST] * weight)
    r = slot[f, ROUTE]
    for z in range(route_start[r], route_start[r + 1]):
        link, share = route_link[z], route_share[z]
        links[link, LOAD] -= share * rate
        links[link, POOL_PER] += share / weight
        links[link, POOL_MOST] = max(links[link, POOL_MOST], links[link, POOL_PER])
        chain[link, CHANGES] += 1
        chain[link, POOL_COUNT] += 1
        if chain[link, POOL_HERE] < 0:
            chain[link, POOL_HERE] = pool
            first = chain[pool, FIRST_LINK]
            chain[link, NEXT_LINK], chain[link, PREVIOUS_LINK] = first, -1
            if first >= 0:
                chain[first, PREVIOUS_LINK] = link
            chain[pool, FIRST_LINK] = link


@kept
def take_in(route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, link, t):
    """The pool of the flows that `link` limits takes in those looked after alone, as far as it can."""
    pool, level = chain[link, LIMITS], links[link, LINK_LEVEL]
    if chain[pool, SIZE] == 0:
        links[pool, NOW], links[pool, MOVED_S], links[pool, LEAST_BOUND] = 0.0, t, np.inf
        chain[pool, RIVAL] = -1
    move_to(links, chain, pool, t)
    chain[pool, LOOK] = 1
    root = chain[pool, ROOT]
    f = chain[link, LIMITED]
    while f >= 0:
        after = slot[f, NEXT]
        if _may_enter(route_start, route_link, slot, flow, chain, pool, f, level):
            _enter(route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, pool, f, t)
        f = after
    if root >= 0 and chain[pool, ROOT] != root:
        unschedule(heap_t, heap_row, state, 2 * root)
        flow[root, QUEUED] = np.inf
    plan_first(heap_t, heap_row, flow, slot, links, chain, state, pool)
