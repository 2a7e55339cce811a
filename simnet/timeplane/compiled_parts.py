"""Steps of the compiled walks: the heap of events, a host's calendar, spans of the picture, leaving an exchange.

`back`, `done_at` and `there` do for one host what `Presence` does, by the same operations.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import numpy as np
from numba import njit

# what `state` holds
SIZE, SEQUENCE, CURRENT, ENTRIES, DONE, REPORTS, CLOSINGS, SPANS, SERIAL, SHOWN, FIRST_REPORT, WHO = range(12)
# and over shared links: whether a settling of the network is due, the number of the engine's next event, messages sent,
# notes taken, hosts that go on, whether connections stay open, and whether the transport adds bytes of its own
SETTLING, DUE, TAGS, NOTES, UNFINISHED, WARM, OVERHEAD = range(12, 19)
# flows under way, messages among them, and of others so far; 1 + the stream of others whose next flow begins now, or 0;
# changes of bandwidth since anything last moved (-1: too many), and how many are waited for
FLYING, UNDER_WAY, OTHERS, FLOW_OF, STILL, PATIENCE = range(19, 25)
STARTS = 25  # how often a host has started an exchange
STATE_SIZE = 26
RESUME, LEFT, DEADLINE, FIRST_BIT, DEPARTURE, SETTLE, NEXT, FLOW = range(8)  # kinds of events
# kinds of notes: bytes of a message; packets sent again; an arrival after its exchange; and of the flows of others
SENT, AGAIN, LATE, OTHER_SENT, OTHER_AGAIN = range(5)


# Arrays are handed to the inner functions one by one: a whole tuple would be counted in and out at every call.


@njit(inline="always")
def push(ht, ho, hr, hw, hx, state, t, priority, kind, a, b, c, x, y):
    i = state[SIZE]
    row = hr[i]
    hw[row, 0] = kind
    hw[row, 1] = a
    hw[row, 2] = b
    hw[row, 3] = c
    hx[row, 0] = x
    hx[row, 1] = y
    order = (priority << 58) | state[SEQUENCE]
    state[SIZE] = i + 1
    state[SEQUENCE] += 1
    while i > 0:
        up = (i - 1) >> 1
        if ht[up] < t or (ht[up] == t and ho[up] < order):
            break
        ht[i] = ht[up]
        ho[i] = ho[up]
        hr[i] = hr[up]
        i = up
    ht[i] = t
    ho[i] = order
    hr[i] = row


@njit(inline="always")
def pop(ht, ho, hr, state):
    """Take the first event out; its row and time stay behind the end."""
    size = state[SIZE] - 1
    state[SIZE] = size
    t, order, row = ht[size], ho[size], hr[size]
    ht[size], hr[size] = ht[0], hr[0]
    i = 0
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (ht[right] < ht[down] or (ht[right] == ht[down] and ho[right] < ho[down])):
            down = right
        if t < ht[down] or (t == ht[down] and order < ho[down]):
            break
        ht[i] = ht[down]
        ho[i] = ho[down]
        hr[i] = hr[down]
        i = down
    if size > 0:
        ht[i] = t
        ho[i] = order
        hr[i] = row


@njit(inline="always")
def span(spans, reports, state, node, kind, start, end, until, shown_nodes, shown_rounds):
    if state[SHOWN] and node < shown_nodes and reports[node] < shown_rounds and end > start:
        k = state[SPANS]
        state[SPANS] = k + 1
        spans[k, 0] = node
        spans[k, 1] = kind
        spans[k, 2] = start
        spans[k, 3] = min(end, until)
        spans[k, 4] = reports[node]


@njit(inline="always")
def passed(ptr, starts, i, t):
    """The first interval of host i that begins after t."""
    low, high = ptr[i], ptr[i + 1]
    while low < high:
        middle = (low + high) >> 1
        if starts[middle] <= t:
            low = middle + 1
        else:
            high = middle
    return low


@njit(inline="always")
def back(ptr, starts, ends, i, t):
    k = passed(ptr, starts, i, t)
    return ends[k - 1] if k > ptr[i] and t < ends[k - 1] else t


@njit(inline="always")
def there(ptr, starts, ends, i, a, b):
    total = 0.0
    t = back(ptr, starts, ends, i, a)
    while t < b:
        k = passed(ptr, starts, i, t)
        leaves = starts[k] if k < ptr[i + 1] else np.inf
        total += min(leaves, b) - t
        t = back(ptr, starts, ends, i, leaves) if leaves < b else np.inf
    return total


@njit(inline="always")
def done_at(ptr, starts, ends, slow_ptr, slow_starts, slow_ends, factors, i, t, seconds):
    while t < np.inf:
        k = passed(slow_ptr, slow_starts, i, t)
        factor = 1.0
        turn = slow_starts[k] if k < slow_ptr[i + 1] else np.inf
        if k > slow_ptr[i] and t < slow_ends[k - 1]:
            factor, turn = factors[k - 1], slow_ends[k - 1]
        k = passed(ptr, starts, i, t)
        stop = min(starts[k] if k < ptr[i + 1] else np.inf, turn)
        end = t + seconds * factor
        if end <= stop:
            t = back(ptr, starts, ends, i, end)
            break
        seconds = max(0.0, seconds - (stop - t) / factor)
        t = back(ptr, starts, ends, i, stop)
    return t


@njit(inline="always")
def waited(
    idle, comm, spans, reports, state, away, has, ptr, starts, ends, i, since, end, handed, until, shown_nodes,
    shown_rounds,
):  # fmt: skip
    end = min(end, until)
    turn = min(max(handed, since), end)
    if away is not None and has[i]:
        idle[i] += there(ptr, starts, ends, i, since, turn)
        comm[i] += there(ptr, starts, ends, i, turn, end)
    else:
        idle[i] += turn - since
        comm[i] += end - turn
    span(spans, reports, state, i, 2, since, end, until, shown_nodes, shown_rounds)


@njit(inline="always")
def leaves(leave, remaining, last, closings, state, s, i, now):
    leave[s, i] = now
    remaining[s] -= 1
    if remaining[s] == 0:
        last[s] = i
        closings[state[CLOSINGS]] = s
        state[CLOSINGS] += 1


@njit(inline="always")
def arrived(state, remaining, unknown, left, latest, handed, arrival, waiting, closings, s, e, j, t, sent):
    """The message on edge e of exchange s, handed over at `sent`, is known to arrive at host j at time t; whether that
    is the last that j waited for.
    """
    arrival[s, e] = t
    latest[s, j] = max(latest[s, j], t)
    handed[s, j] = max(handed[s, j], sent)
    unknown[s] -= 1
    left[s, j] -= 1
    if unknown[s] == 0 and remaining[s] == 0:  # closed before; now nothing is on its way either
        closings[state[CLOSINGS]] = -1 - s
        state[CLOSINGS] += 1
    return left[s, j] == 0 and waiting[j] == s


# A call of more than 30 arguments cannot be inlined.


@njit(inline="always")
def wake(
    ht, ho, hr, hw, hx, state, latest, handed, start, since, deadline_s, waiting, reports, comm, idle, spans, away, has,
    ptr, starts, ends, until, shown_nodes, shown_rounds, s, j,
):  # fmt: skip
    """All of host j's messages in exchange s are known: it leaves at the latest of them, or at its deadline."""
    waiting[j] = -1
    t = min(latest[s, j], start[s, j] + deadline_s[s])
    if away is not None and has[j]:
        t = back(ptr, starts, ends, j, t)
    waited(
        idle, comm, spans, reports, state, away, has, ptr, starts, ends, j, since[s, j], t, handed[s, j], until,
        shown_nodes, shown_rounds,
    )  # fmt: skip
    if t < np.inf:
        push(ht, ho, hr, hw, hx, state, t, 1, LEFT, s, j, 0, 0.0, 0.0)


@njit(inline="always")
def settle_later(ht, ho, hr, hw, hx, state, now):
    """Behind everything else of this instant, the network is settled."""
    if state[SETTLING] == 0:
        state[SETTLING] = 1
        push(ht, ho, hr, hw, hx, state, now, 3, SETTLE, 0, 0, 0, 0.0, 0.0)


@njit(inline="always")
def note(notes, amounts, state, kind, a, b, amount):
    """Note down for Python: of (round, way) for the ledger, of (place, edge) for an exchange."""
    k = state[NOTES]
    state[NOTES] = k + 1
    notes[k, 0], notes[k, 1], notes[k, 2], amounts[k] = kind, a, b, amount
