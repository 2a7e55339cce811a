"""Weighted max-min shares, repaired where an event broke them.

Shares are max-min if every flow is at its own bound or crosses a saturated link on which no flow has a higher level
(rate x penalty): its certificate. An event settles again the flows that it touches: all at once where one link limits
them (`together`), else by water-filling (`filling`).
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from simnet.jit import inlined, kept
from simnet.network.flows.filling import Index, commit, fill
from simnet.network.flows.marks import count_when_due, look, pool_load
from simnet.network.flows.pools import mark_all
from simnet.network.flows.state import (
    CAPACITY,
    CHANGES,
    CREDIT,
    FLOWING,
    LINK_MARK,
    LOAD,
    MARK,
    MOST_CREDIT,
    PASSED_FROM,
    PASSED_MARK,
    PHASE,
    POOL_MARK,
    POOL_SEEDS,
    SEED,
    SEEDS,
    SHIFT,
    SOLVES,
    STAMP,
    WORK,
)  # fmt: skip
from simnet.network.flows.together import MANY, SAME, at_one_link

TURNS = 4  # for as many links, one after another; the rest is left to water-filling
PASSES = 3  # of water-filling with links passed over; then all links take part
WATCH = 300  # settlings for which a link that was wrongly passed over takes part
LAST_STAMP = 1 << 30  # they are kept in 32 bits
DEAR = 32  # a flow settled again for that reason counts as so many


@inlined
def _mark_overloaded(
    route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, passed_count, t
):  # fmt: skip
    """Mark the flows through links that were passed over and carry too much now."""
    for k in range(passed_count):
        link = Index(state[len(state) - len(chain) + k])
        chain[link, CHANGES] += 1
        look(chain, link)
        count_when_due(route_start, route_share, flow, slot, links, chain, entry, link, state[SHIFT])
        if links[link, LOAD] + pool_load(links, chain, link) > links[link, CAPACITY] * (1 + SAME):
            chain[link, PASSED_FROM] = state[STAMP] + WATCH
            mark_all(
                route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state, link, t
            )  # fmt: skip


@kept
def _begin_stamps_anew(chain, slot, state):
    """Nothing bears a stamp, and the next is 1."""
    state[STAMP] = 1
    for link in range(len(chain)):
        chain[link, LINK_MARK] = chain[link, PASSED_MARK] = chain[link, PASSED_FROM] = chain[link, POOL_MARK] = 0
    for f in range(len(slot)):
        slot[f, MARK] = 0


@kept
def settle(
    route_start, route_link, route_share, route, links, chain, flow, slot, entry, heap_t, heap_row, levels, bits, state,
    clock,
    t,
):  # fmt: skip
    """Settle the marked flows and all that follow from them, at time t. The arrays are an engine's, in its order."""
    flows, pools = 0, state[POOL_SEEDS]
    for i in range(state[SEEDS]):
        f = Index(state[SEED + i])
        if slot[f, PHASE] == FLOWING:
            state[SEED + flows] = f
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
    settled = 0
    while state[SEEDS] > 0 or state[POOL_SEEDS] > 0:
        touched_count, passed_count = fill(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, levels, bits,
            state, t, settled < PASSES,
        )  # fmt: skip
        commit(
            route_start, route_link, route_share, flow, slot, links, chain, heap_t, heap_row, state, touched_count, t
        )
        state[WORK] += state[SEEDS]
        state[CREDIT] = min(state[CREDIT] + (state[SEEDS] if settled == 0 else -DEAR * state[SEEDS]), MOST_CREDIT)
        state[SEEDS] = state[POOL_SEEDS] = 0
        state[STAMP] += 1
        settled += 1
        _mark_overloaded(
            route_start, route_link, route_share, flow, slot, links, chain, entry, heap_t, heap_row, state,
            passed_count, t,
        )  # fmt: skip
    if flows > 0 or pools > 0:
        state[SOLVES] += 1
    state[SEEDS] = state[POOL_SEEDS] = 0
    state[STAMP] += 1
    if state[STAMP] > LAST_STAMP:
        _begin_stamps_anew(chain, slot, state)
