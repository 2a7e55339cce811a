"""Who is to be settled again, whom a link limits, and what a link carries."""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from simnet.jit import inlined, kept
from simnet.network.flows.state import (
    CAPACITY,
    CHANGES,
    COUNT,
    ENTRY_NEXT,
    FIRST,
    LEFT_NOW,
    LEVEL,
    LIMIT,
    LIMITED,
    LIMITED_BY,
    LIMITED_COUNT,
    LIMITS,
    LINK_LEVEL,
    LOAD,
    LOOK,
    MARK,
    NEXT,
    NONE,
    OPEN,
    PER_LEVEL,
    POOL,
    POOL_HERE,
    POOL_MARK,
    POOL_PER,
    POOL_SEED,
    POOL_SEEDS,
    PREVIOUS,
    RATE,
    ROUTE,
    SEED,
    SEEDS,
    SIZE,
    STAMP,
    TOP,
    TOUCHED,
)  # fmt: skip


@inlined
def mark_flow(slot, state, f):
    """Flow f is to be settled again."""
    if slot[f, MARK] != state[STAMP]:
        slot[f, MARK] = state[STAMP]
        slot[state[SEEDS], SEED] = f
        state[SEEDS] += 1


@inlined
def mark_limited(chain, slot, state, link):
    """So are the flows that `link` limits, and their pool."""
    f = chain[link, LIMITED]
    while f >= 0:
        mark_flow(slot, state, f)
        f = slot[f, NEXT]
    pool = chain[link, LIMITS]
    if chain[pool, SIZE] > 0 and chain[pool, POOL_MARK] != state[STAMP]:
        chain[pool, POOL_MARK] = state[STAMP]
        chain[state[POOL_SEEDS], POOL_SEED] = pool
        state[POOL_SEEDS] += 1


@inlined
def unlimit(chain, slot, f):
    """Take flow f from the flows that its link limits."""
    link = slot[f, LIMIT]
    if link >= 0:
        after, before = slot[f, NEXT], slot[f, PREVIOUS]
        if before >= 0:
            slot[before, NEXT] = after
        else:
            chain[link, LIMITED] = after
        if after >= 0:
            slot[after, PREVIOUS] = before
        chain[link, LIMITED_COUNT] -= 1
    slot[f, LIMIT] = NONE


@kept
def count_load(route_start, route_share, flow, slot, links, chain, entry, link, shift):
    """The load of a link and the highest level of flows limited elsewhere, counted from its flows outside pools."""
    load, top = 0.0, 0.0
    at = chain[link, FIRST]
    while at >= 0:
        f = at >> shift
        if slot[f, POOL] < 0:
            load += route_share[route_start[slot[f, ROUTE]] + (at & ((1 << shift) - 1))] * flow[f, RATE]
            if slot[f, LIMIT] != link and flow[f, LEVEL] > top:
                top = flow[f, LEVEL]
        at = entry[at, ENTRY_NEXT]
    links[link, LOAD] = load
    links[link, TOP] = top
    chain[link, CHANGES] = 0


@inlined
def pool_load(links, chain, link):
    """What the flows of a pool take of a link, bytes/s."""
    pool = chain[link, POOL_HERE]
    load = 0.0
    if pool >= 0:
        load = links[link, POOL_PER] * links[chain[pool, LIMITED_BY], LINK_LEVEL]
    return load


@inlined
def _look(chain, link):
    """Something changed at a link where a pool has flows: its level alone does not tell any more whether it is full."""
    pool = chain[link, POOL_HERE]
    if pool >= 0 and chain[pool, LIMITED_BY] != link:
        chain[pool, LOOK] = 1


@inlined
def touch(route_start, route_share, flow, slot, links, chain, entry, link, shift, touched_count):
    """Put `link` into the list of those that a settling touches: nobody is open there yet."""
    if chain[link, CHANGES] > chain[link, COUNT] + 32:  # rounding must not pile up
        count_load(route_start, route_share, flow, slot, links, chain, entry, link, shift)
    chain[touched_count, TOUCHED] = link
    links[link, LEFT_NOW] = links[link, CAPACITY] - links[link, LOAD] - pool_load(links, chain, link)
    links[link, PER_LEVEL] = 0.0
    chain[link, OPEN] = 0
    _look(chain, link)


@inlined
def limited_by(chain, slot, f, link):
    """Flow f, which no link limits, is limited by `link` from now on."""
    first = chain[link, LIMITED]
    slot[f, NEXT], slot[f, PREVIOUS] = first, -1
    if first >= 0:
        slot[first, PREVIOUS] = f
    chain[link, LIMITED] = f
    chain[link, LIMITED_COUNT] += 1
    slot[f, LIMIT] = link
    _look(chain, link)
