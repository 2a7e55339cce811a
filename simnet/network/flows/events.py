"""The engine's heap of events, by (time, order of the flows' adding).

An event is named by a number: 2 f for what flow f does next (its first byte, its end), 2 f + 1 for its timer.
"""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from simnet.jit import inlined, kept
from simnet.network.flows.state import HEAP_SIZE

ORDER, EVENT, WHERE = 0, 1, 2  # columns of `heap_row`; the last is by event, the others by place in the heap


@inlined
def _rise(heap_t, heap_row, i, t, order, event):
    while i > 0:
        up = (i - 1) >> 1
        if heap_t[up] < t or (heap_t[up] == t and heap_row[up, ORDER] <= order):
            break
        heap_t[i], heap_row[i, ORDER] = heap_t[up], heap_row[up, ORDER]
        moved = heap_row[up, EVENT]
        heap_row[i, EVENT] = moved
        heap_row[moved, WHERE] = i
        i = up
    heap_t[i], heap_row[i, ORDER], heap_row[i, EVENT] = t, order, event
    heap_row[event, WHERE] = i


@inlined
def _sink(heap_t, heap_row, size, i, t, order, event):
    while True:
        down = 2 * i + 1
        if down >= size:
            break
        right = down + 1
        if right < size and (
            heap_t[right] < heap_t[down]
            or (heap_t[right] == heap_t[down] and heap_row[right, ORDER] < heap_row[down, ORDER])
        ):
            down = right
        if t < heap_t[down] or (t == heap_t[down] and order <= heap_row[down, ORDER]):
            break
        heap_t[i], heap_row[i, ORDER] = heap_t[down], heap_row[down, ORDER]
        moved = heap_row[down, EVENT]
        heap_row[i, EVENT] = moved
        heap_row[moved, WHERE] = i
        i = down
    heap_t[i], heap_row[i, ORDER], heap_row[i, EVENT] = t, order, event
    heap_row[event, WHERE] = i


@kept
def schedule(heap_t, heap_row, state, t, order, event):
    """Put an event in, or move it to another time."""
    i = heap_row[event, WHERE]
    if i < 0:
        i = state[HEAP_SIZE]
        state[HEAP_SIZE] = i + 1
    elif t > heap_t[i]:
        _sink(heap_t, heap_row, state[HEAP_SIZE], i, t, order, event)
        return
    _rise(heap_t, heap_row, i, t, order, event)


@kept
def unschedule(heap_t, heap_row, state, event):
    """Take an event out, if it is in."""
    i = heap_row[event, WHERE]
    if i < 0:
        return
    heap_row[event, WHERE] = -1
    size = state[HEAP_SIZE] - 1
    state[HEAP_SIZE] = size
    if i == size:
        return
    t, order, moved = heap_t[size], heap_row[size, ORDER], heap_row[size, EVENT]
    if t < heap_t[i] or (t == heap_t[i] and order < heap_row[i, ORDER]):
        _rise(heap_t, heap_row, i, t, order, moved)
    else:
        _sink(heap_t, heap_row, size, i, t, order, moved)
