"""A list of transfers with starts, delays and dependencies, driven through a flow engine to its end."""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import kept
from simnet.network.flows.moves import add_to, advance_to, next_time_of
from simnet.network.flows.state import DONE, DONE_LIMIT, DONE_LOST, DONE_S, DONE_TAG, FLOWS, FREE_COUNT

ENDED, NEEDS_ROOM, PAUSED = 0, 1, 2
BEGUN, READY = 0, 1  # what `progress` counts: transfers of `first` that began; released ones that wait for their time


@kept
def _push(when, who, size, t, i):
    while size > 0:
        up = (size - 1) >> 1
        if when[up] < t or (when[up] == t and who[up] <= i):
            break
        when[size], who[size] = when[up], who[up]
        size = up
    when[size], who[size] = t, i


@kept
def _pop(when, who, size):
    size -= 1
    t, i, at = when[size], who[size], 0
    while True:
        down = 2 * at + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (when[right] < when[down] or (when[right] == when[down] and who[right] < who[down])):
            down = right
        if t < when[down] or (t == when[down] and i <= who[down]):
            break
        when[at], who[at] = when[down], who[down]
        at = down
    when[at], who[at] = t, i


@kept
def drive(
    e, progress, first, when, who, route, bytes_, delay, waits, next_start, next_who, start, finish, limit, lost, until
):
    """Run until every transfer has ended or no event is left; transfers that never end keep finish = infinity.

    `first` are the transfers without dependencies, by start + delay; `when`, `who` (room for all) are the heap of the
    others once released. `start` holds the earliest starts and becomes the true ones; `waits` counts unfinished
    dependencies; next_who[next_start[i]:next_start[i + 1]] wait for transfer i.
    `limit` is the link that limited each in the end, `lost` the packets that it had to send again.
    Gives ENDED, or NEEDS_ROOM when the engine has no free slot: call again with a larger one; or PAUSED where nothing
    more happens before the time `until`: the clock may be moved there, and no farther.
    """
    route_start, route_link, route_share, routes, links = e.route_start, e.route_link, e.route_share, e.route, e.link
    chain, flow, slot, entry, heap_t, heap_row = e.chain, e.flow, e.slot, e.entry, e.heap_t, e.heap_row
    levels, bits, state, clock = e.levels, e.bits, e.state, e.clock
    while True:
        t = next_time_of(
            route_start, route_link, route_share, routes, links, chain, flow, slot, entry, heap_t, heap_row, levels,
            bits, state, clock,
        )  # fmt: skip
        if progress[BEGUN] < len(first):
            i = first[progress[BEGUN]]
            t = min(t, start[i] + delay[i])
        if progress[READY] > 0:
            t = min(t, when[0])
        if state[DONE] > 0:  # they ended while the clock was moved from outside
            t = clock[0]
        elif t >= until and (t < np.inf or (until < np.inf and state[FLOWS] > 0)):
            return PAUSED
        elif t == np.inf:
            return ENDED
        ended = advance_to(
            route_start, route_link, route_share, routes, links, chain, flow, slot, entry, heap_t, heap_row, levels,
            bits, state, clock, t,
        )  # fmt: skip
        for k in range(ended):
            i = slot[k, DONE_TAG]
            finish[i], limit[i], lost[i] = flow[k, DONE_S], slot[k, DONE_LIMIT], flow[k, DONE_LOST]
            for z in range(next_start[i], next_start[i + 1]):
                j = next_who[z]
                waits[j] -= 1
                start[j] = max(start[j], finish[i])
                if waits[j] == 0:
                    _push(when, who, progress[READY], start[j] + delay[j], j)
                    progress[READY] += 1
        state[DONE] = 0
        while progress[BEGUN] < len(first):
            i = first[progress[BEGUN]]
            if start[i] + delay[i] > t:
                break
            if state[FREE_COUNT] == 0:
                return NEEDS_ROOM
            progress[BEGUN] += 1
            start[i] += delay[i]
            add_to(
                route_start, route_link, routes, chain, flow, slot, entry, heap_t, heap_row, state, start[i], route[i],
                bytes_[i], i,
            )  # fmt: skip
        while progress[READY] > 0 and when[0] <= t:
            if state[FREE_COUNT] == 0:
                return NEEDS_ROOM
            i = who[0]
            start[i] = when[0]
            _pop(when, who, progress[READY])
            progress[READY] -= 1
            add_to(
                route_start, route_link, routes, chain, flow, slot, entry, heap_t, heap_row, state, start[i], route[i],
                bytes_[i], i,
            )  # fmt: skip
