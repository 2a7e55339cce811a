"""TCP on top of the shares: handshake, slow start, loss, and how windows answer to it.

Slow start goes by rounds: a window leaves as one burst at the rate that the links give, then waits for the round trip
to pass, then a window twice as large follows. A round whose burst lasts longer than the round trip ends slow start:
from then on the links alone limit. A loss event (losses within one window are one) shrinks the window (CUBIC to 0.7,
Reno to a half, BBR not at all); until the next event the flow is bounded by the mean rate of its growing window. A
window below 4 packets has no three duplicate acknowledgements to tell it of a loss, and stands still for a timeout.

Units: windows in packets of MSS bytes.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np

from simnet.jit import kept
from simnet.network.flows.draws import cube_root, packets_to_loss, uniform
from simnet.network.flows.events import schedule
from simnet.network.flows.state import (
    AFTER,
    BOTTLENECK,
    BOUND,
    BURST,
    CONTROL,
    DRAWN,
    FINISH,
    HIGHEST_WINDOW,
    KEY,
    LEFT,
    LOSS,
    LOST,
    MOST,
    PAUSED,
    QUEUE,
    QUEUED,
    RATE,
    ROUTE,
    RTT,
    RUN,
    SERIAL,
    SINCE,
    SLOW,
    STEP,
    TAG,
    TO_LOSS,
    WEIGHT,
    WINDOW,
)  # fmt: skip

MSS, PACKET = 1448.0, 1500.0  # payload of a packet with time stamps; the packet
INITIAL_WINDOW = 10.0  # RFC 6928
TIMEOUT_S = 0.2  # Linux' least retransmission timeout; a round trip comes on top
CUBIC, RENO, BBR = 1, 2, 3  # congestion control; 0 in `state` is no TCP
CUBIC_C, CUBIC_BETA, RENO_BETA = 0.4, 0.7, 0.5  # RFC 9438, RFC 5681
FEW = 4.0  # packets: below, a loss is noticed by its timeout only


@kept
def _draw(slot, state, f):
    slot[f, DRAWN] += 1
    return uniform(state[KEY], slot[f, TAG], slot[f, DRAWN])


@kept
def _bytes_to_loss(n, left):
    """Bytes until the n-th packet from now on is lost; the last of `left` bytes is a packet, however short."""
    end = n * MSS
    return max(left - 1.0, 0.0) if end >= left > end - MSS else end


@kept
def begin(route, flow, slot, state, f):
    """A flow is handed over: its share of a link beside its like, and the packets until its first loss."""
    r = slot[f, ROUTE]
    slot[f, DRAWN] = 0
    slot[f, SLOW], slot[f, PAUSED] = 1, 0
    beta = RENO_BETA if state[CONTROL] == RENO else CUBIC_BETA
    # Windows of flows that share a queue stand anywhere between just shrunk and about to shrink.
    flow[f, WEIGHT] = 1.0 / (beta + (1.0 - beta) * _draw(slot, state, f))
    flow[f, WINDOW], flow[f, HIGHEST_WINDOW] = INITIAL_WINDOW, 0.0
    flow[f, BURST] = INITIAL_WINDOW * MSS
    flow[f, TO_LOSS] = _bytes_to_loss(packets_to_loss(_draw(slot, state, f), route[r, LOSS]), flow[f, LEFT])
    flow[f, STEP], flow[f, RUN] = 0.0, np.inf


@kept
def cut(flow, slot, f, left):
    """The next stop of a flow that has `left` bytes to go: end of the burst, a loss, or its end."""
    stop = left
    if slot[f, PAUSED] == 0:
        stop = min(stop, max(flow[f, TO_LOSS], 0.0))
        if slot[f, SLOW] == 1 and left - flow[f, BURST] > 0.5:  # less than half a byte is rounding
            stop = min(stop, flow[f, BURST])
    flow[f, LEFT], flow[f, AFTER], flow[f, STEP] = stop, left - stop, stop


@kept
def _so_far(flow, f, t):
    """Bring a flow's counts up to time t; gives the bytes it has to go."""
    left = max(flow[f, LEFT] - flow[f, RATE] * (t - flow[f, SINCE]), 0.0)
    gone = flow[f, STEP] - left
    flow[f, TO_LOSS] -= gone
    flow[f, BURST] -= gone
    flow[f, SINCE] = t
    return left + flow[f, AFTER]


@kept
def _recut(heap_t, heap_row, flow, slot, state, f, t, left):
    """A new stop for a flow that goes on at its rate until it is settled."""
    cut(flow, slot, f, left)
    finish = t + flow[f, LEFT] / flow[f, RATE] if flow[f, RATE] > 0.0 else np.inf
    flow[f, FINISH] = finish
    if finish < flow[f, QUEUED]:
        flow[f, QUEUED] = finish
        schedule(heap_t, heap_row, state, finish, slot[f, SERIAL], 2 * f)


@kept
def round_trip_over(heap_t, heap_row, route, flow, slot, state, f, t):
    """The timer of flow f: the next round of slow start, or the end of a timeout. Says whether its bound changed."""
    left = _so_far(flow, f, t)
    changed = slot[f, PAUSED] == 1
    if slot[f, SLOW] == 1:
        flow[f, WINDOW] *= 2.0
        if slot[f, PAUSED] == 1:
            flow[f, BURST] = flow[f, WINDOW] * MSS
            schedule(heap_t, heap_row, state, t + route[slot[f, ROUTE], RTT], slot[f, SERIAL], 2 * f + 1)
        else:
            slot[f, SLOW] = 0  # acknowledgements come back before the burst is out: the links limit
    if slot[f, PAUSED] == 1:
        slot[f, PAUSED] = 0
        flow[f, MOST] = min(flow[f, RUN], route[slot[f, ROUTE], BOUND])
    _recut(heap_t, heap_row, flow, slot, state, f, t, left)
    return changed


@kept
def _until_next(control, start, highest, n, rtt, most):
    """Seconds that a window growing from `start` needs for n packets, and where it then stands (at most `most`)."""
    window, sent, k = start, 0.0, 0.0
    turn = cube_root((highest - start) / CUBIC_C) if highest > start else 0.0
    while True:
        k += 1.0
        grown = max(k - 1.5, 0.0)  # round trips: none in the first, which repairs the loss
        if control == RENO:
            window = start + grown
        else:
            x = grown * rtt - turn
            cubic = CUBIC_C * x * x * x + max(highest, start)
            friendly = start + grown * 3.0 * (1.0 - CUBIC_BETA) / (1.0 + CUBIC_BETA)
            window = min(max(cubic, friendly), 1.5 * window)
        now = min(window, most)
        if now == most:  # as large as it gets
            return ((k - 1.0) + (n - sent) / now) * rtt, now
        if sent + now >= n:
            return ((k - 1.0) + (n - sent) / now) * rtt, now
        sent += now


@kept
def stopped(heap_t, heap_row, route, flow, slot, state, f, t):
    """Flow f is at a stop that is not its end. Says whether its bound changed."""
    left = _so_far(flow, f, t)
    r = slot[f, ROUTE]
    if flow[f, TO_LOSS] > 0.5 * MSS or (slot[f, SLOW] == 1 and flow[f, BURST] < flow[f, TO_LOSS]):
        slot[f, PAUSED], flow[f, MOST] = 1, 0.0  # the burst is out: wait for the round trip
        cut(flow, slot, f, left)
        flow[f, FINISH] = np.inf
        return True
    rtt, p = route[r, RTT], route[r, LOSS]
    fair = max(flow[f, RATE] * rtt / MSS, 1.0)
    room = fair + route[r, QUEUE]  # what the path and its queue hold
    window = min(flow[f, WINDOW], room)
    n = packets_to_loss(_draw(slot, state, f), p)
    lost = 1.0
    while n < window and state[CONTROL] != BBR:  # within the same window: the same event
        n += packets_to_loss(_draw(slot, state, f), p)
        lost += 1.0
    left += lost * MSS  # they are sent again
    flow[f, LOST] += lost
    flow[f, TO_LOSS] = _bytes_to_loss(n, left)
    if state[CONTROL] == BBR:
        _recut(heap_t, heap_row, flow, slot, state, f, t, left)
        return False
    slot[f, SLOW] = 0
    beta = RENO_BETA if state[CONTROL] == RENO else CUBIC_BETA
    highest = window
    if state[CONTROL] == CUBIC and window < flow[f, HIGHEST_WINDOW]:
        highest = window * (1.0 + beta) / 2.0  # fast convergence
    flow[f, HIGHEST_WINDOW] = highest
    most = route[r, BOTTLENECK] * rtt / MSS + route[r, QUEUE]
    seconds, flow[f, WINDOW] = _until_next(state[CONTROL], max(window * beta, 2.0), highest, n, rtt, most)
    flow[f, RUN] = n * MSS / seconds if n < np.inf else np.inf
    if left < window * MSS:  # what was lost is the last to come, a round trip from now
        flow[f, RUN] = min(flow[f, RUN], left / rtt)
    flow[f, MOST] = min(flow[f, RUN], route[r, BOUND])
    if window < FEW:
        slot[f, PAUSED], flow[f, MOST] = 1, 0.0
        cut(flow, slot, f, left)
        flow[f, FINISH] = np.inf
        schedule(heap_t, heap_row, state, t + TIMEOUT_S + rtt, slot[f, SERIAL], 2 * f + 1)
        return True
    _recut(heap_t, heap_row, flow, slot, state, f, t, left)
    return True
