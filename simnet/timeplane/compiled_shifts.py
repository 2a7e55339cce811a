"""Links whose bandwidth changes with time, in the compiled walk: what `Shifts` is to the plain one."""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simnet.jit import kept
from simnet.network.flows.moves import set_capacity
from simnet.network.flows.state import CAPACITY
from simnet.network.flows.traces import Steps
from simnet.timeplane.state import Shifts


def shifts_of(links: Sequence[int], steps: Sequence[Steps]) -> Shifts:
    """The values over time of links; at time 0 all of them are due."""
    sizes = [len(each.times_s) for each in steps]
    none = np.zeros(0)
    return Shifts(
        np.array(links, np.int64), np.concatenate(([0], np.cumsum(sizes, dtype=np.int64))),
        np.concatenate([none, *(each.times_s for each in steps)]),
        np.concatenate([none, *(each.values for each in steps)]),
        np.array([each.before for each in steps], np.float64), np.array([each.period_s for each in steps], np.float64),
        np.zeros(len(links)) if links else np.full(1, np.inf), np.arange(max(len(links), 1)),
    )  # fmt: skip


@kept
def change_at(times, first, period, i, turn):
    """When the i-th change of a trace comes for the turn-th time."""
    return times[first + i] + turn * period if turn != 0 else times[first + i]


@kept
def piece(shifts, q, t):
    """`Steps.piece` of the q-th trace, by the same operations."""
    times, values, period = shifts.times_s, shifts.values, shifts.period_s[q]
    first, size = shifts.ptr[q], shifts.ptr[q + 1] - shifts.ptr[q]
    if t < times[first]:
        return shifts.before[q], times[first]
    turn = 0
    if period < np.inf:
        turn = math.floor((t - times[first]) / period)
        if change_at(times, first, period, 0, turn) > t:
            turn -= 1
        if change_at(times, first, period, 0, turn + 1) <= t:
            turn += 1
    within = t - turn * period if turn != 0 else t
    low, high = 0, size
    while low < high:
        middle = (low + high) >> 1
        if times[first + middle] <= within:
            low = middle + 1
        else:
            high = middle
    i = max(low - 1, 0)
    while i > 0 and change_at(times, first, period, i, turn) > t:  # the last bit of a time that comes again
        i -= 1
    while i + 1 < size and change_at(times, first, period, i + 1, turn) <= t:
        i += 1
    if i + 1 < size:
        return values[first + i], change_at(times, first, period, i + 1, turn)
    return values[first + i], change_at(times, first, period, 0, turn + 1) if period < np.inf else np.inf


@kept
def catch_up(shifts, engine, now, idle):
    """`Shifts.catch_up`: bring the engine's capacities up to the present."""
    coming_s, coming = shifts.coming_s, shifts.coming
    size = len(shifts.link)
    if idle:
        for q in range(size):
            coming_s[q], coming[q] = now, q
    while coming_s[0] <= now:
        t, q = coming_s[0], coming[0]
        rate, until = piece(shifts, q, t)
        if rate != engine.link[shifts.link[q], CAPACITY]:
            set_capacity(engine, t, shifts.link[q], rate)
        at = 0
        while 2 * at + 1 < size:
            down = 2 * at + 1
            if down + 1 < size and (
                coming_s[down + 1] < coming_s[down]
                or (coming_s[down + 1] == coming_s[down] and coming[down + 1] < coming[down])
            ):
                down += 1
            if until < coming_s[down] or (until == coming_s[down] and q < coming[down]):
                break
            coming_s[at], coming[at] = coming_s[down], coming[down]
            at = down
        coming_s[at], coming[at] = until, q
