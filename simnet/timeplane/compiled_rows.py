"""Ways whose latency or loss changes with time, in the compiled walk: what the engine knows of one for a flow that
starts now. The same numbers as `row_at` finds, by the same operations.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from itertools import chain
from typing import Any

import numpy as np

from simnet.jit import inlined, kept
from simnet.network.flows.models import ACK_PACKET, burst_events
from simnet.network.flows.state import BOUND, LOSS, PENALTY, RTT, WAIT_S
from simnet.network.flows.tcp import PACKET
from simnet.timeplane.compiled_shifts import piece, pieces_of
from simnet.timeplane.flows import Ways
from simnet.timeplane.state import Moving


def moving_of(ways: Ways) -> Moving:
    """What of the links moves; ways follow by `with_ways`."""
    changes, links, model = ways.book.network.changes, ways.links, ways.model
    latencies = {k: c.latency for k, c in sorted(changes.items()) if c.latency is not None}
    losses = {k: c.loss for k, c in sorted(changes.items()) if c.loss is not None}
    none, start = np.zeros(0, np.int64), np.zeros(1, np.int64)
    weight = -1.0 if model.weight_s is None else model.weight_s
    return Moving(
        np.array([model.latency_factor, weight, model.gamma, model.tcp]), links.bandwidth.astype(np.float64),
        links.latency_s, links.loss, np.array([1.0 - burst_events(*burst) for burst in links.burst.tolist()]),
        links.fatpipe, numbers(list(latencies), len(links.names)), numbers(list(losses), len(links.names)),
        pieces_of(list(latencies.values())), pieces_of(list(losses.values())), start, none, start, none, none, none,
    )  # fmt: skip


def numbers(links: list[int], size: int) -> np.ndarray:
    """For each link its place in a list, or -1."""
    found = np.full(size, -1)
    found[links] = np.arange(len(links))
    return found


def with_ways(moving: Moving, ways: Ways) -> Moving:
    """The same, knowing the ways that it does not know."""
    if not ways.moving or len(moving.free) == len(ways.ends):
        return moving
    known = len(moving.free)
    free = np.array([-1 if w in ways.moving else -2 for w in range(known, len(ways.ends))])
    parts: dict[str, Any] = {"free": np.append(moving.free, free), "next": np.append(moving.next, free)}
    for side, name in enumerate(("there", "back")):
        more = [ends[side] for ends in ways.ends[known:]]
        sizes = np.cumsum([len(part) for part in more], dtype=np.int64)
        ptr = getattr(moving, f"{name}_ptr")
        parts[f"{name}_ptr"] = np.append(ptr, ptr[-1] + sizes)
        parts[name] = np.append(getattr(moving, name), np.array(list(chain.from_iterable(more)), np.int64))
    return moving._replace(**parts)


def give_copies(moving: Moving, ways: Ways) -> Moving:
    """A free copy for each way that has none."""
    lacking = np.flatnonzero(moving.free == -1).tolist()
    made = ways.copies(lacking)
    moving = with_ways(moving, ways)
    moving.free[lacking], moving.next[made] = made, -1
    return moving


@inlined
def lacks_copy(moving, w):
    """Whether way w needs a copy for a flow, and there is none."""
    return len(moving.free) > 0 and moving.free[w] == -1


@inlined
def copy_of(moving, route, w, warm, t):
    """The number of way w for a flow that starts at time t: a copy of its own where the way changes with time."""
    v = w
    if len(moving.free) > 0 and moving.free[w] >= 0:
        v = moving.free[w]
        moving.free[w] = moving.next[v]
        _write(moving, route, w, 2 * v + warm, warm, t)
    return v


@inlined
def give_back(moving, w, v):
    """The flow on copy v of way w is over."""
    if v != w:
        moving.next[v] = moving.free[w]
        moving.free[w] = v


@kept
def _latency(moving, k, t):
    q = moving.latency_of[k]
    return moving.latency_s[k] if q < 0 else piece(moving.latencies, q, t)[0]


@kept
def _write(moving, route, w, row, warm, t):
    latency_factor, weight, gamma = moving.model[0], moving.model[1], moving.model[2]
    bandwidth, there, first, behind = moving.bandwidth, moving.there, moving.there_ptr[w], moving.there_ptr[w + 1]
    latency, weighed, most = 0.0, 0.0, np.inf
    for z in range(first, behind):
        k = there[z]
        latency += _latency(moving, k, t)
        weighed += weight / bandwidth[k]
        if moving.fatpipe[k]:
            most = min(most, bandwidth[k])
    route[row, PENALTY] = latency + weighed if weight >= 0.0 and latency > 0.0 else 1.0
    route[row, BOUND] = min(most, gamma / (2 * latency)) if latency > 0.0 else most
    route[row, WAIT_S] = latency_factor * latency
    if moving.model[3] == 0.0:
        return
    one_way, back, last, through = 0.0, 0.0, -1, 1.0
    for z in range(first, behind):
        k = there[z]
        one_way += _latency(moving, k, t) + PACKET / bandwidth[k]
        last = k if bandwidth[k] < np.inf else last
        q = moving.loss_of[k]
        loss = moving.loss[k] if q < 0 else piece(moving.losses, q, t)[0]
        through *= 1.0 - (1.0 - (1.0 - loss) * moving.no_burst[k])  # by way of how often it loses: to the last bit
    for z in range(moving.back_ptr[w], moving.back_ptr[w + 1]):
        k = moving.back[z]
        back += _latency(moving, k, t) + ACK_PACKET / bandwidth[k]
    round_trip = one_way + back
    first_byte = one_way - PACKET / bandwidth[last] if last >= 0 else one_way
    route[row, WAIT_S] = first_byte if warm == 1 else round_trip + first_byte
    route[row, RTT] = round_trip
    route[row, LOSS] = 1.0 - through
