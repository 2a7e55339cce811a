"""Weighted max-min shares, repaired where an event broke them.

Shares are max-min if every flow is at its own bound or crosses a saturated link on which no flow has a higher level
(rate x penalty): its certificate. An event settles again the flows that it touches, by water-filling: the level rises,
a link that becomes saturated gives its open flows their rates. The other flows are held at theirs, and one joins when
the water is at a level that breaks its certificate: a link becomes saturated below the flow's level, or is not yet
saturated at it. What the water has passed stays right, so one rise settles all, and nobody else is looked at. All flows
that one link limits have one level, so most certificates are looked at by link, not by flow.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined, kept
from simnet.network.flows.marks import limited_by, mark_flow, mark_limited, touch, unlimit
from simnet.network.flows.pools import dissolve, leave_pool, top_of
from simnet.network.flows.state import (
    CAPACITY,
    CHANGES,
    ENTRY_NEXT,
    FIRST,
    FLOWING,
    FROZEN,
    HELD,
    LARGEST,
    LEFT_NOW,
    LEVEL,
    LIMIT,
    LIMITED_BY,
    LIMITED_COUNT,
    LIMITS,
    LINK_LEVEL,
    LINK_MARK,
    LOAD,
    LOOKED_AT,
    MARK,
    MOST,
    NEW_LIMIT,
    NEW_RATE,
    OPEN,
    OPEN_NEXT,
    OWN,
    PER_LEVEL,
    PHASE,
    POOL,
    POOL_SEEDS,
    QUEUED,
    QUEUED_AT,
    RATE,
    ROUTE,
    SATURATED,
    SEED,
    SEEDS,
    SETTLED,
    SHIFT,
    SIZE,
    SOLVES,
    STAMP,
    TOP,
    TOUCHED,
    WEIGHT,
    WORK,
)  # fmt: skip
from simnet.network.flows.together import MANY, SAME, at_one_link, goes_at

TURNS = 4  # for as many links, one after another; the rest is left to water-filling
TIGHT = 1e-13  # a link with less of its capacity left is saturated


@inlined
def _put(queue_t, queue_i, size, t, k):
    i = size
    while i > 0:
        up = (i - 1) >> 1
        if queue_t[up] <= t:
            break
        queue_t[i], queue_i[i] = queue_t[up], queue_i[up]
        i = up
    queue_t[i], queue_i[i] = t, k
    return size + 1


@inlined
def _replace_first(queue_t, queue_i, size, t, k):
    i = 0
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        if down + 1 < size and queue_t[down + 1] < queue_t[down]:
            down += 1
        if queue_t[down] >= t:
            break
        queue_t[i], queue_i[i] = queue_t[down], queue_i[down]
        i = down
    queue_t[i], queue_i[i] = t, k


@inlined
def _drop_first(queue_t, queue_i, size):
    _replace_first(queue_t, queue_i, size - 1, queue_t[size - 1], queue_i[size - 1])
    return size - 1


# Arrays are handed to the inner functions one by one: each look into a tuple would count its array in and out.


@inlined
def _saturates_at(route_start, route_share, flow, slot, links, chain, entry, link, shift):
    """The level at which the open flows of a touched link would take all that is left."""
    if links[link, PER_LEVEL] < 1e-3 * links[link, LARGEST]:  # much was taken away and rounding may be left: count
        per = 0.0
        at = chain[link, SETTLED]
        while at >= 0:
            f = at >> shift
            if slot[f, FROZEN] == 0:
                per += route_share[route_start[slot[f, ROUTE]] + (at & ((1 << shift) - 1))] / flow[f, WEIGHT]
            at = entry[at, OPEN_NEXT]
        links[link, PER_LEVEL] = links[link, LARGEST] = per
    return max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL]


@inlined
def _freeze(route_start, route_link, route_share, flow, slot, links, chain, f, rate, limit):
    """Flow f gets its rate; its links keep the rest."""
    slot[f, FROZEN], flow[f, NEW_RATE], slot[f, NEW_LIMIT] = 1, rate, limit
    r = slot[f, ROUTE]
    per = 1.0 / flow[f, WEIGHT]
    for z in range(route_start[r], route_start[r + 1]):
        link = route_link[z]
        links[link, LEFT_NOW] -= route_share[z] * rate
        links[link, PER_LEVEL] -= route_share[z] * per
        chain[link, OPEN] -= 1


@kept
def _join(
    route_start, route_link, route_share, flow, slot, links, chain, entry, queue_t, queue_i, state, first, size,
    touched_count,
):  # fmt: skip
    """Flows seed[first:] are held no longer: they are open, and their links have what they took. Gives too how many
    became open, and at how many links held flows are to be looked at."""
    shift, stamp, flows = state[SHIFT], state[STAMP], state[SEEDS]
    opened, checks = flows - first, 0
    for i in range(first, flows):
        f = slot[i, SEED]
        r = slot[f, ROUTE]
        rate, per, limit = flow[f, RATE], 1.0 / flow[f, WEIGHT], slot[f, LIMIT]
        at = f << shift
        slot[f, FROZEN] = 0
        for z in range(route_start[r], route_start[r + 1]):
            link = route_link[z]
            if chain[link, LINK_MARK] != stamp:
                chain[link, LINK_MARK] = stamp
                touch(route_start, route_share, flow, slot, links, chain, entry, link, shift, touched_count)
                touched_count += 1
                links[link, LARGEST], links[link, SATURATED], links[link, QUEUED_AT] = 0.0, -1.0, np.inf
                chain[link, SETTLED] = -1
                chain[link, HELD] = chain[link, LIMITED_COUNT] + chain[chain[link, LIMITS], SIZE]
                if chain[link, HELD] > 0:  # are they still limited, when the water is at their level?
                    size = _put(queue_t, queue_i, size, links[link, LINK_LEVEL], -1 - link)
                    checks += 1
            links[link, LEFT_NOW] += route_share[z] * rate
            links[link, PER_LEVEL] += route_share[z] * per
            chain[link, LOOKED_AT] = 0
            chain[link, OPEN] += 1
            entry[at, OPEN_NEXT] = chain[link, SETTLED]
            chain[link, SETTLED] = at
            if link == limit:
                chain[link, HELD] -= 1
            at += 1
        if route_start[r] == route_start[r + 1]:  # no shared link
            slot[f, FROZEN], flow[f, NEW_RATE], slot[f, NEW_LIMIT] = 1, flow[f, MOST], OWN
            opened -= 1
    # the levels at which their links would be saturated now
    if first == 0:
        for k in range(touched_count):
            link = chain[k, TOUCHED]
            links[link, LARGEST] = links[link, PER_LEVEL]
            chain[link, LOOKED_AT] = 1
            level = max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL]
            links[link, QUEUED_AT] = level
            size = _put(queue_t, queue_i, size, level, link)
        return size, touched_count, opened, checks
    for i in range(first, flows):
        r = slot[slot[i, SEED], ROUTE]
        for z in range(route_start[r], route_start[r + 1]):
            link = route_link[z]
            if chain[link, LOOKED_AT] == 0:
                links[link, LARGEST] = max(links[link, LARGEST], links[link, PER_LEVEL])
                level = _saturates_at(route_start, route_share, flow, slot, links, chain, entry, link, shift)
                chain[link, LOOKED_AT] = 1
                if level < links[link, QUEUED_AT]:
                    links[link, QUEUED_AT] = level
                    size = _put(queue_t, queue_i, size, level, link)
    return size, touched_count, opened, checks


@kept
def _mark_higher(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t, link, level
):  # fmt: skip
    """Mark the held flows of a link that is saturated at `level` and whose own level is higher."""
    if chain[link, HELD] > 0 and links[link, LINK_LEVEL] > level * (1 + SAME):
        mark_limited(chain, slot, state, link)
    if top_of(links, chain, link) > level * (1 + SAME):
        top = 0.0
        at = chain[link, FIRST]
        while at >= 0:
            f = at >> state[SHIFT]
            at = entry[at, ENTRY_NEXT]
            if slot[f, LIMIT] == link or (slot[f, POOL] >= 0 and chain[slot[f, POOL], LIMITED_BY] == link):
                continue
            if slot[f, POOL] >= 0:
                if links[chain[slot[f, POOL], LIMITED_BY], LINK_LEVEL] <= level * (1 + SAME):
                    continue
                leave_pool(
                    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t
                )
            own = flow[f, LEVEL]
            if own > level * (1 + SAME):
                mark_flow(slot, state, f)
            top = max(top, own)
        links[link, TOP] = top


@inlined
def _fill(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, queue_t, queue_i, state, t
):  # fmt: skip
    """Water-filling over the marked flows and those that join; gives how many links took part."""
    shift = state[SHIFT]
    size = touched_count = known = open_flows = checks = 0
    while True:
        if state[POOL_SEEDS] > 0:
            dissolve(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t
            )  # fmt: skip
        if state[SEEDS] > known:
            size, touched_count, more, more_checks = _join(
                route_start, route_link, route_share, flow, slot, links, chain, entry, queue_t, queue_i, state, known,
                size, touched_count,
            )  # fmt: skip
            known = state[SEEDS]
            open_flows += more
            checks += more_checks
        if open_flows == 0:  # all are settled, if nobody whom the touched links limit may have more
            for i in range(size if checks > 0 else 0):
                link = queue_i[i]
                if link >= 0:
                    links[link, QUEUED_AT] = np.inf
                    continue
                link = -1 - link
                if chain[link, HELD] > 0 and links[link, LEFT_NOW] > TIGHT * links[link, CAPACITY]:
                    mark_limited(chain, slot, state, link)
            size = checks = 0
            if state[SEEDS] > known or state[POOL_SEEDS] > 0:
                continue
        if size == 0:
            return touched_count
        level, link = queue_t[0], queue_i[0]
        if link < 0:
            size = _drop_first(queue_t, queue_i, size)
            checks -= 1
            link = -1 - link
            left = links[link, LEFT_NOW]
            if chain[link, OPEN] > 0:
                left -= level * links[link, PER_LEVEL]
            if chain[link, HELD] > 0 and left > TIGHT * links[link, CAPACITY]:
                mark_limited(chain, slot, state, link)
            continue
        if level > links[link, QUEUED_AT]:  # it stands in the queue at a lower level too
            size = _drop_first(queue_t, queue_i, size)
            continue
        if chain[link, OPEN] == 0:
            size = _drop_first(queue_t, queue_i, size)
            links[link, QUEUED_AT] = np.inf
            continue
        now = _saturates_at(route_start, route_share, flow, slot, links, chain, entry, link, shift)
        if now > level * (1 + SAME):
            links[link, QUEUED_AT] = now
            _replace_first(queue_t, queue_i, size, now, link)
            continue
        size = _drop_first(queue_t, queue_i, size)
        links[link, QUEUED_AT] = np.inf
        bounded = False
        at = chain[link, SETTLED]
        while at >= 0:
            f = at >> shift
            if slot[f, FROZEN] == 0 and flow[f, MOST] * flow[f, WEIGHT] < level:
                _freeze(
                    route_start, route_link, route_share, flow, slot, links, chain, f,
                    flow[f, MOST], OWN,
                )  # fmt: skip
                open_flows -= 1
                bounded = True
            at = entry[at, OPEN_NEXT]
        _mark_higher(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t, link,
            level,
        )  # fmt: skip
        if state[SEEDS] > known or state[POOL_SEEDS] > 0:
            continue
        if bounded:
            if chain[link, OPEN] > 0:
                now = _saturates_at(route_start, route_share, flow, slot, links, chain, entry, link, shift)
                links[link, QUEUED_AT] = max(now, level)
                size = _put(queue_t, queue_i, size, links[link, QUEUED_AT], link)
            continue
        links[link, SATURATED] = level
        at = chain[link, SETTLED]
        while at >= 0:
            f = at >> shift
            if slot[f, FROZEN] == 0:
                _freeze(
                    route_start, route_link, route_share, flow, slot, links, chain, f,
                    min(level / flow[f, WEIGHT], flow[f, MOST]), link,
                )  # fmt: skip
                open_flows -= 1
            at = entry[at, OPEN_NEXT]


@inlined
def _commit(route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, touched_count, t):
    """The new rates become the flows' own, and the times at which they end follow."""
    for i in range(state[SEEDS]):
        f = slot[i, SEED]
        rate, weight, r = flow[f, NEW_RATE], flow[f, WEIGHT], slot[f, ROUTE]
        limit, level, was = slot[f, NEW_LIMIT], rate * weight, flow[f, RATE]
        if slot[f, LIMIT] != limit:
            unlimit(chain, slot, f)
            slot[f, LIMIT] = limit
            if limit >= 0:
                limited_by(chain, slot, f, limit)
        changed = abs(rate - was) > 1e-14 * rate
        if not changed:
            rate = was
        flow[f, LEVEL] = level
        for z in range(route_start[r], route_start[r + 1]):
            link = route_link[z]
            links[link, LOAD] += route_share[z] * (rate - was)
            if link != limit and level > links[link, TOP]:
                links[link, TOP] = level
        if not changed and flow[f, QUEUED] < np.inf:
            continue
        goes_at(flow, slot, heap_t, heap_row, state, f, rate, t)
    for k in range(touched_count):
        link = chain[k, TOUCHED]
        chain[link, CHANGES] += 1
        if links[link, SATURATED] >= 0.0 and chain[link, HELD] == 0:
            links[link, LINK_LEVEL] = links[link, SATURATED]


@kept
def settle(
    route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, queue_t, queue_i,
    state, clock,
    t,
):  # fmt: skip
    """Settle the marked flows and all that follow from them, at time t. The arrays are an engine's, in its order."""
    flows, pools = 0, state[POOL_SEEDS]
    for i in range(state[SEEDS]):
        f = slot[i, SEED]
        if slot[f, PHASE] == FLOWING:
            slot[flows, SEED] = f
            flows += 1
        else:
            slot[f, MARK] = 0
    state[SEEDS] = flows
    turns = 0
    while turns < TURNS and (state[SEEDS] >= MANY or state[POOL_SEEDS] > 0):
        marked = state[SEEDS]
        if not at_one_link(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t
        ):  # fmt: skip
            break
        state[WORK] += marked
        turns += 1
    if state[SEEDS] > 0 or state[POOL_SEEDS] > 0:
        touched_count = _fill(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, queue_t, queue_i,
            state, t,
        )  # fmt: skip
        _commit(
            route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, touched_count, t
        )
        state[WORK] += state[SEEDS]
    if flows > 0 or pools > 0:
        state[SOLVES] += 1
    state[SEEDS] = state[POOL_SEEDS] = 0
    state[STAMP] += 1
