"""Weighted max-min shares by water-filling, as far as they changed.

The level rises; a link that becomes saturated gives its open flows their rates. The other flows are held at theirs, and
one joins when the water is at a level that breaks its certificate: a link becomes saturated below the flow's level, or
is not yet saturated at it. What the water has passed stays right, so one rise settles all, and nobody else is looked
at. All flows that one link limits have one level, so most certificates are looked at by link, not by flow.

Links that limit nobody are passed over: only what they carry is counted. Where that turns out to be more than they can,
their flows are settled again, and these links take part for a while. If that happens too often, only links with room to
spare are passed over.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined
from simnet.network.flows.lowest import lowest, new_place, set_level
from simnet.network.flows.marks import limited_by, mark_flow, mark_limited, pool_load, touch, unlimit
from simnet.network.flows.pools import dissolve, leave_pool, top_of
from simnet.network.flows.state import (
    BLOCK,
    CAPACITY,
    CHANGES,
    CHECK,
    CREDIT,
    ENTRY_NEXT,
    FIRST,
    FROZEN,
    HELD,
    LARGEST,
    LEFT_NOW,
    LIMIT,
    LIMITED_BY,
    LIMITED_COUNT,
    LIMITS,
    LINK_LEVEL,
    LINK_MARK,
    LOAD,
    LOOKED_AT,
    MOST,
    NEW_LIMIT,
    NEW_RATE,
    OPEN,
    OPEN_NEXT,
    OWN,
    PASSED_FROM,
    PASSED_MARK,
    PER_LEVEL,
    PLACE,
    POOL,
    POOL_SEEDS,
    QUEUED,
    RATE,
    ROUTE,
    SATURATED,
    SEED,
    SEEDS,
    SETTLED,
    SHIFT,
    SIZE,
    STAMP,
    TOP,
    WATCHED,
    WATCHES,
    WEIGHT,
)  # fmt: skip
from simnet.network.flows.together import SAME, goes_at

TIGHT = 1e-13  # a link with less of its capacity left is saturated
ROOMY = 0.7  # a link that carries less than this share of its capacity has room to spare
Index = np.uint32  # compiled code need not ask of such a number whether it counts from the end

# Arrays are handed to the inner functions one by one: each look into a tuple would count its array in and out.


@inlined
def _saturates_at(route_share, flow, slot, links, chain, entry, link, shift):
    """The level at which the open flows of a touched link would take all that is left."""
    if links[link, PER_LEVEL] < 1e-3 * links[link, LARGEST]:  # much was taken away and rounding may be left: count
        per = 0.0
        at = chain[link, SETTLED]
        while at >= 0:
            f = Index(at >> shift)
            if slot[f, FROZEN] == 0:
                per += route_share[Index(entry[at, WATCHED])] / flow[f, WEIGHT]
            at = entry[at, OPEN_NEXT]
        links[link, PER_LEVEL] = links[link, LARGEST] = per
    return max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL]


@inlined
def _next_at(links, chain, link, water):
    """The level at which something may happen at a touched link: it is saturated, or those held there are looked at."""
    level = np.inf
    if chain[link, OPEN] > 0:
        level = water  # no better is known before the open flows are counted
        if links[link, PER_LEVEL] >= 1e-3 * links[link, LARGEST]:
            level = max(links[link, LEFT_NOW], 0.0) / links[link, PER_LEVEL]
    if chain[link, CHECK] == 1 and links[link, LINK_LEVEL] < level:
        level = links[link, LINK_LEVEL]
    return level


@inlined
def _has_room(links, chain, link, stamp, roomy):
    """Whether a link limits nobody and carries less than a share `roomy` of its capacity."""
    held = chain[link, LIMITED_COUNT] + chain[Index(chain[link, LIMITS]), SIZE]
    load = links[link, LOAD] + pool_load(links, chain, link)
    return held == 0 and stamp >= chain[link, PASSED_FROM] and load < roomy * links[link, CAPACITY]


@inlined
def _freeze(route_link, route_share, flow, slot, links, chain, entry, levels, room, shift, f, rate, limit, water):
    """Flow f gets its rate; its links keep the rest."""
    slot[f, FROZEN], flow[f, NEW_RATE], slot[f, NEW_LIMIT] = 1, rate, limit
    per = 1.0 / flow[f, WEIGHT]
    begin = np.int64(f) << shift
    for at in range(begin, begin + slot[f, WATCHES]):
        z = Index(entry[at, WATCHED])
        link = route_link[z]
        links[link, LEFT_NOW] -= route_share[z] * rate
        links[link, PER_LEVEL] -= route_share[z] * per
        chain[link, OPEN] -= 1
        if chain[link, OPEN] == 0:
            set_level(levels, room, chain[link, PLACE], _next_at(links, chain, link, water))


@inlined
def _join(
    route_start, route_link, route_share, flow, slot, links, chain, entry, levels, room, state, first,
    touched_count, passed_count, water, pass_over,
):  # fmt: skip
    """Flows seed[first:] are held no longer: they are open, and their links have what they took."""
    shift, stamp, flows = state[SHIFT], state[STAMP], state[SEEDS]
    roomy = 1.0 if state[CREDIT] > 0 else ROOMY
    for turn in range(0 if first == 0 else 1, 2):
        for i in range(first, flows):
            f = Index(state[SEED + i])
            rate, per, limit = flow[f, RATE], 1.0 / flow[f, WEIGHT], slot[f, LIMIT]
            if turn == 0 and rate > 0.0 and (limit >= 0 or flow[f, MOST] <= rate):
                continue  # the first turn is that of flows which may get much more than they had
            r = Index(slot[f, ROUTE])
            at = np.int64(f) << shift
            slot[f, FROZEN] = 0
            for z in range(route_start[r], route_start[r + 1]):
                link = route_link[z]
                if chain[link, LINK_MARK] != stamp:
                    if turn == 1 and pass_over:
                        if chain[link, PASSED_MARK] == stamp:
                            continue
                        if _has_room(links, chain, link, stamp, roomy):
                            chain[link, PASSED_MARK] = stamp
                            state[len(state) - len(chain) + passed_count] = link
                            passed_count += 1
                            continue
                    chain[link, LINK_MARK] = stamp
                    touch(route_start, route_share, flow, slot, links, chain, entry, link, shift)
                    new_place(levels, room, touched_count)
                    state[-1 - touched_count], chain[link, PLACE] = link, touched_count
                    touched_count += 1
                    links[link, LARGEST], links[link, SATURATED] = 0.0, -1.0
                    chain[link, SETTLED] = -1
                    held = chain[link, LIMITED_COUNT] + chain[Index(chain[link, LIMITS]), SIZE]
                    chain[link, HELD] = held
                    chain[link, CHECK] = held > 0  # are they still limited, when the water is at their level?
                if turn == 0:
                    continue
                links[link, LEFT_NOW] += route_share[z] * rate
                links[link, PER_LEVEL] += route_share[z] * per
                chain[link, LOOKED_AT] = 0
                chain[link, OPEN] += 1
                if link == limit:
                    chain[link, HELD] -= 1
                entry[at, OPEN_NEXT], entry[at, WATCHED] = chain[link, SETTLED], z
                chain[link, SETTLED] = at
                at += 1
            slot[f, WATCHES] = at - (np.int64(f) << shift)
            if turn == 1 and slot[f, WATCHES] == 0:  # no shared link, or all have room to spare
                slot[f, FROZEN], flow[f, NEW_RATE], slot[f, NEW_LIMIT] = 1, flow[f, MOST], OWN
    for i in range(first, flows):
        f = Index(state[SEED + i])
        begin = np.int64(f) << shift
        for at in range(begin, begin + slot[f, WATCHES]):
            link = Index(route_link[Index(entry[at, WATCHED])])
            if chain[link, LOOKED_AT] == 0:
                chain[link, LOOKED_AT] = 1
                links[link, LARGEST] = max(links[link, LARGEST], links[link, PER_LEVEL])
                level = _next_at(links, chain, link, water)
                if level < levels[chain[link, PLACE]]:
                    set_level(levels, room, chain[link, PLACE], level)
    return touched_count, passed_count


@inlined
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
            f = Index(at >> state[SHIFT])
            at = entry[at, ENTRY_NEXT]
            if slot[f, LIMIT] == link or (slot[f, POOL] >= 0 and chain[slot[f, POOL], LIMITED_BY] == link):
                continue
            if slot[f, POOL] >= 0:
                if links[chain[slot[f, POOL], LIMITED_BY], LINK_LEVEL] <= level * (1 + SAME):
                    continue
                leave_pool(
                    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, f, t
                )
            own = flow[f, RATE] * flow[f, WEIGHT]
            if own > level * (1 + SAME):
                mark_flow(slot, state, f)
            top = max(top, own)
        links[link, TOP] = top


@inlined
def fill(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, levels, bits, state, t,
    pass_over,
):  # fmt: skip
    """Water-filling over the marked flows and those that join; gives how many links took part, and how many were passed
    over, which stand before those in `state`."""
    shift = state[SHIFT]
    touched_count = passed_count = known = 0
    room = len(levels) // (BLOCK + 1) * BLOCK
    water = 0.0
    while True:
        if state[POOL_SEEDS] > 0:
            dissolve(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t
            )  # fmt: skip
        if state[SEEDS] > known:
            touched_count, passed_count = _join(
                route_start, route_link, route_share, flow, slot, links, chain, entry, levels, room, state,
                known, touched_count, passed_count, water, pass_over,
            )  # fmt: skip
            known = state[SEEDS]
        place = lowest(bits, room, touched_count)
        if place < 0:
            return touched_count, passed_count
        water = levels[place]
        link = Index(state[-1 - place])
        if chain[link, CHECK] == 1 and links[link, LINK_LEVEL] == water:
            chain[link, CHECK] = 0
            left = links[link, LEFT_NOW]
            if chain[link, OPEN] > 0:
                left -= water * links[link, PER_LEVEL]
            if chain[link, HELD] > 0 and left > TIGHT * links[link, CAPACITY]:
                mark_limited(chain, slot, state, link)
            set_level(levels, room, place, _next_at(links, chain, link, water))
            continue
        now = _saturates_at(route_share, flow, slot, links, chain, entry, link, shift)
        if now > water * (1 + SAME):
            set_level(levels, room, place, _next_at(links, chain, link, water))
            continue
        _mark_higher(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, t, link,
            water,
        )  # fmt: skip
        if state[SEEDS] > known or state[POOL_SEEDS] > 0:
            continue
        bounded = False
        at = chain[link, SETTLED]
        while at >= 0:
            f = Index(at >> shift)
            at = entry[at, OPEN_NEXT]
            if slot[f, FROZEN] == 0 and flow[f, MOST] * flow[f, WEIGHT] < water:
                _freeze(
                    route_link, route_share, flow, slot, links, chain, entry, levels, room, shift, f, flow[f, MOST],
                    OWN, water,
                )  # fmt: skip
                bounded = True
        if bounded:
            continue
        links[link, SATURATED] = water
        at = chain[link, SETTLED]
        while at >= 0:
            f = Index(at >> shift)
            at = entry[at, OPEN_NEXT]
            if slot[f, FROZEN] == 0:
                _freeze(
                    route_link, route_share, flow, slot, links, chain, entry, levels, room, shift, f,
                    min(water / flow[f, WEIGHT], flow[f, MOST]), link, water,
                )  # fmt: skip


@inlined
def commit(
    route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, touched_count, t
):  # fmt: skip
    """The new rates become the flows' own, and the times at which they end follow."""
    for i in range(state[SEEDS]):
        f = Index(state[SEED + i])
        rate, weight = flow[f, NEW_RATE], flow[f, WEIGHT]
        limit, level, was = slot[f, NEW_LIMIT], rate * weight, flow[f, RATE]
        changed = abs(rate - was) > 1e-14 * rate
        if not changed:
            rate = was
        if changed or slot[f, LIMIT] != limit:
            if slot[f, LIMIT] != limit:
                unlimit(chain, slot, f)
                slot[f, LIMIT] = limit
                if limit >= 0:
                    limited_by(chain, slot, f, limit)
            r = Index(slot[f, ROUTE])
            for z in range(route_start[r], route_start[r + 1]):
                link = route_link[z]
                links[link, LOAD] += route_share[z] * (rate - was)
                if link != limit and level > links[link, TOP]:
                    links[link, TOP] = level
        if changed or flow[f, QUEUED] == np.inf:
            goes_at(flow, slot, heap_t, heap_row, state, f, rate, t)
    for k in range(touched_count):
        link = Index(state[-1 - k])
        chain[link, CHANGES] += 1
        if links[link, SATURATED] >= 0.0 and chain[link, HELD] == 0:
            links[link, LINK_LEVEL] = links[link, SATURATED]
