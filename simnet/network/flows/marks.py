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
    WEIGHT,
)  # fmt: skip

OFTEN = 32  # changes of a link's load, besides as many as it has flows, after which it is counted


@inlined
def mark_flow(slot, state, f):
    """Flow f is to be settled again."""
    if slot[f, MARK] != state[STAMP]:
        slot[f, MARK] = state[STAMP]
        state[SEED + state[SEEDS]] = f
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
            if slot[f, LIMIT] != link:
                top = max(top, flow[f, RATE] * flow[f, WEIGHT])
        at = entry[at, ENTRY_NEXT]
    links[link, LOAD] = load
    links[link, TOP] = top
    chain[link, CHANGES] = 0


@inlined
def count_when_due(route_start, route_share, flow, slot, links, chain, entry, link, shift):
    """The same when the load has changed so often that rounding might pile up."""
    if chain[link, CHANGES] > chain[link, COUNT] + OFTEN:
        count_load(route_start, route_share, flow, slot, links, chain, entry, link, shift)


@inlined
def pool_load(links, chain, link):
    """What the flows of a pool take of a link, bytes/s."""
    pool = chain[link, POOL_HERE]
    load = 0.0
    if pool >= 0:
        load = links[link, POOL_PER] * links[chain[pool, LIMITED_BY], LINK_LEVEL]
    return load


@inlined
def look(chain, link):
    """Something changed at a link where a pool has flows: its level alone does not tell any more whether it is full."""
    pool = chain[link, POOL_HERE]
    if pool >= 0 and chain[pool, LIMITED_BY] != link:
        chain[pool, LOOK] = 1


@inlined
def touch(route_start, route_share, flow, slot, links, chain, entry, link, shift):
    """A settling touches `link`: nobody is open there yet."""
    count_when_due(route_start, route_share, flow, slot, links, chain, entry, link, shift)
    links[link, LEFT_NOW] = links[link, CAPACITY] - links[link, LOAD] - pool_load(links, chain, link)
    links[link, PER_LEVEL] = 0.0
    chain[link, OPEN] = 0
    look(chain, link)


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
    look(chain, link)
