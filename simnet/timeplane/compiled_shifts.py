"""Links whose bandwidth changes with time, in the compiled walk: what `Shifts` is to the plain one."""

# numba infers the types of these functions
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from simnet.jit import kept
from simnet.network.flows.moves import set_capacity
from simnet.network.flows.state import CAPACITY
from simnet.network.flows.traces import Changes, Steps
from simnet.timeplane.state import Pieces, Shifts


def pieces_of(steps: Sequence[Steps]) -> Pieces:
    """Values over time as arrays."""
    none = np.zeros(0)
    return Pieces(
        np.concatenate(([0], np.cumsum([len(each.times_s) for each in steps], dtype=np.int64))),
        np.concatenate([none, *(each.times_s for each in steps)]),
        np.concatenate([none, *(each.values for each in steps)]),
        np.array([each.before for each in steps], np.float64), np.array([each.period_s for each in steps], np.float64),
    )  # fmt: skip


def shifts_of(changes: Mapping[int, Changes]) -> Shifts:
    """The bandwidths over time of links; at time 0 all of them are due."""
    found = {k: change.bandwidth for k, change in sorted(changes.items())}
    rates = {k: trace for k, trace in found.items() if trace is not None}
    due = np.zeros(len(rates)) if rates else np.full(1, np.inf)
    return Shifts(np.array(list(rates), np.int64), pieces_of(list(rates.values())), due, np.arange(len(due)))


@kept
def change_at(times, first, period, i, turn):
    """When the i-th change of a trace comes for the turn-th time."""
    return times[first + i] + turn * period if turn != 0 else times[first + i]


@kept
def piece(pieces, q, t):
    """`Steps.piece` of the q-th value, by the same operations."""
    times, values, period = pieces.times_s, pieces.values, pieces.period_s[q]
    first, size = pieces.ptr[q], pieces.ptr[q + 1] - pieces.ptr[q]
    if t < times[first]:
        return pieces.before[q], times[first]
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
        rate, until = piece(shifts.rates, q, t)
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
