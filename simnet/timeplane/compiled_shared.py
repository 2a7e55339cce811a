"""Steps of the compiled walk over shared links: messages and the flows of others enter the engine, and come out again.

The same as `Flows` and `Background` do for the plain walker, in the same order. These functions are copied into the
walk, so the tuples that they are handed cost nothing.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import inlined
from simnet.network.flows.moves import add_to, advance_to, in_order, next_time_of
from simnet.network.flows.state import DONE as FLOWS_DONE
from simnet.network.flows.state import DONE_LOST, DONE_ORDER, DONE_S, DONE_SLOT
from simnet.timeplane.background import FIRST_TAG
from simnet.timeplane.compiled_parts import (
    AGAIN,
    DUE,
    FLOW,
    FLOW_OF,
    FLYING,
    LATE,
    NEXT,
    OTHER_AGAIN,
    OTHER_SENT,
    OTHERS,
    OVERHEAD,
    PATIENCE,
    SENT,
    SETTLE,
    SETTLING,
    SIZE,
    STILL,
    TAGS,
    UNDER_WAY,
    WARM,
    arrived,
    note,
    push,
    settle_later,
    span,
    wake,
)
from simnet.timeplane.compiled_rows import copy_of, give_back, lacks_copy
from simnet.timeplane.compiled_shifts import catch_up


@inlined
def is_past(engine, carried, now):
    """Whether the engine does not know yet what happened until now."""
    return engine.clock[0] < now or carried.shifts.coming_s[0] <= now


@inlined
def learn(heap, places, hosts, calendar, engine, carried, state, now, again, until, shown_nodes, shown_rounds):
    """Let the engine go on to the present, and tell what has arrived; `again`: more of this instant is due."""
    ht, ho, hr, hw, hx = heap.t, heap.order, heap.row, heap.what, heap.x
    remaining, unknown, left, latest, handed, start, since, leave, arrival, deadline_s = (
        places.remaining, places.unknown, places.left, places.latest, places.handed, places.start, places.since,
        places.leave, places.arrival, places.deadline_s,
    )  # fmt: skip
    waiting, reports, comm, idle, spans, closings = (
        hosts.waiting, hosts.reports, hosts.comm, hosts.idle, hosts.spans, hosts.closings,
    )  # fmt: skip
    away, has, ptr, starts, ends = calendar.away, calendar.has, calendar.ptr, calendar.start, calendar.end
    message, handed_s, notes, amounts = carried.message, carried.handed_s, carried.notes, carried.amounts
    flow, slot, flows = engine.flow, engine.slot, engine.state
    if carried.shifts.coming_s[0] <= now:
        catch_up(carried.shifts, engine, now, state[FLYING] == 0)
    if engine.clock[0] < now or again:
        count = advance_to(
            engine.route_start, engine.route_link, engine.route_share, engine.route, engine.link, engine.chain, flow,
            slot, engine.entry, engine.heap_t, engine.heap_row, engine.levels, engine.bits, flows, engine.clock,
            now,
        )  # fmt: skip
        in_order(slot, count)  # as they were handed over
        state[FLYING] -= count
        for k in range(count):
            d = slot[k, DONE_ORDER]
            f = slot[d, DONE_SLOT]
            give_back(carried.moving, message[f, 4], message[f, 5])
            a, b, c, sender, sent, t = (
                message[f, 0], message[f, 1], message[f, 2], message[f, 3], handed_s[f], flow[d, DONE_S],
            )  # fmt: skip
            if a < 0:
                if flow[d, DONE_LOST] > 0.0:
                    note(notes, amounts, state, OTHER_AGAIN, sender, message[f, 4], flow[d, DONE_LOST])
                continue
            state[UNDER_WAY] -= 1
            span(spans, reports, state, sender, 1, sent, t, until, shown_nodes, shown_rounds)
            if flow[d, DONE_LOST] > 0.0:
                note(notes, amounts, state, AGAIN, reports[sender], message[f, 4], flow[d, DONE_LOST])
            if remaining[a] == 0 and leave[a, c] < np.inf:
                note(notes, amounts, state, LATE, a, b, t)
            if arrived(state, remaining, unknown, left, latest, handed, arrival, waiting, closings, a, b, c, t, sent):
                wake(
                    ht, ho, hr, hw, hx, state, latest, handed, start, since, deadline_s, waiting, reports, comm, idle,
                    spans, away, has, ptr, starts, ends, until, shown_nodes, shown_rounds, a, c,
                )  # fmt: skip
        flows[FLOWS_DONE] = 0
    if again:
        settle_later(ht, ho, hr, hw, hx, state, now)


@inlined
def has_copies(places, edges, carried, s, i):
    """Whether all ways of host i's messages in the exchange at place s can take another flow."""
    k = places.edges[s]
    found = True
    for m in range(edges.port_messages[k, edges.host_ports[k, i]], edges.port_messages[k, edges.host_ports[k, i + 1]]):
        found = found and not lacks_copy(carried.moving, edges.way[k, m])
    return found


@inlined
def hand_over(heap, places, edges, hosts, engine, carried, state, now, s, i):
    """Host i hands its messages in the exchange at place s to the network."""
    k, own = places.edges[s], places.own
    host_ports, port_messages, edge, target, way = (
        edges.host_ports, edges.port_messages, edges.edge, edges.target, edges.way,
    )  # fmt: skip
    message, handed_s, opened = carried.message, carried.handed_s, carried.opened
    for m in range(port_messages[k, host_ports[k, i]], port_messages[k, host_ports[k, i + 1]]):
        e, w = edge[k, m], way[k, m]
        v = copy_of(carried.moving, engine.route, w, opened[w], now)
        f = add_to(
            engine.route_start, engine.route_link, engine.route, engine.chain, engine.flow, engine.slot, engine.entry,
            engine.heap_t, engine.heap_row, engine.state, now, 2 * v + opened[w], own[s, e], state[TAGS],
        )  # fmt: skip
        state[TAGS] += 1
        opened[w] = state[WARM]
        message[f, 0], message[f, 1], message[f, 2], message[f, 3] = s, e, target[k, m], i
        message[f, 4], message[f, 5], handed_s[f] = w, v, now
        state[FLYING] += 1
        state[UNDER_WAY] += 1
        if state[OVERHEAD]:
            note(carried.notes, carried.amounts, state, SENT, hosts.reports[i], w, own[s, e])
    settle_later(heap.t, heap.order, heap.row, heap.what, heap.x, state, now)


@inlined
def settle_network(heap, engine, carried, state, now):
    """Everything of this instant has happened: settle the shares, and wait for the engine's next event."""
    state[SETTLING] = 0
    t = next_time_of(
        engine.route_start, engine.route_link, engine.route_share, engine.route, engine.link, engine.chain,
        engine.flow, engine.slot, engine.entry, engine.heap_t, engine.heap_row, engine.levels, engine.bits,
        engine.state, engine.clock,
    )  # fmt: skip
    if state[FLYING] > 0:
        state[STILL] = state[STILL] + 1 if t == np.inf else 0
        if state[STILL] <= state[PATIENCE]:
            t = min(t, carried.shifts.coming_s[0])
        elif state[UNDER_WAY] > 0:
            state[STILL] = -1
    state[DUE] += 1
    if t < np.inf:
        push(heap.t, heap.order, heap.row, heap.what, heap.x, state, max(t, now), 0, NEXT, state[DUE], 0, 0, 0.0, 0.0)


@inlined
def is_needed(heap, state):
    """Whether anything but the network's own events is under way or due: a flow of others keeps no run going."""
    found = state[UNDER_WAY] > 0
    i = 0
    while not found and i < state[SIZE]:
        kind = heap.what[heap.row[i], 0]
        found = kind != FLOW and kind != NEXT and kind != SETTLE
        i += 1
    return found


@inlined
def begin_flow(heap, engine, carried, state, now):
    """The next flow of a stream of others begins; False where Python must say first what comes behind it."""
    g = state[FLOW_OF] - 1
    others, message = carried.others, carried.message
    at = others.at[g]
    behind = at + 1 < others.known[g]
    w = others.way[g, at]
    known = w >= 0 and (behind or not others.more[g]) and not lacks_copy(carried.moving, w)
    if known:
        state[FLOW_OF] = 0
        v = copy_of(carried.moving, engine.route, w, 0, now)
        f = add_to(
            engine.route_start, engine.route_link, engine.route, engine.chain, engine.flow, engine.slot, engine.entry,
            engine.heap_t, engine.heap_row, engine.state, now, 2 * v, others.size[g], FIRST_TAG + state[OTHERS],
        )  # fmt: skip
        state[OTHERS] += 1
        state[FLYING] += 1
        message[f, 0], message[f, 3], message[f, 4], message[f, 5] = -1, g, w, v
        settle_later(heap.t, heap.order, heap.row, heap.what, heap.x, state, now)
        note(carried.notes, carried.amounts, state, OTHER_SENT, g, w, 0.0)
        others.at[g] = at + 1
        if behind:
            t = others.moment_s[g, at + 1]
            push(heap.t, heap.order, heap.row, heap.what, heap.x, state, t, 0, FLOW, g, 0, 0, 0.0, 0.0)
    return known
