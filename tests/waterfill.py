"""The plain solver: all rates by water-filling from scratch at every event. Slow, and nothing of the engine in it."""

from __future__ import annotations

import math

import numpy as np

Usage = list[dict[int, float]]  # for each flow, what a byte/s of it takes of each link


def shares(capacity: list[float], usage: Usage, weight: list[float], most: list[float]) -> list[float]:
    """Weighted max-min rates: rate x weight is equal for the flows that a link limits, rate <= most."""
    rate, left, open_ = [0.0] * len(usage), list(capacity), set(range(len(usage)))
    while open_:
        per = {}
        for i in open_:
            for link, share in usage[i].items():
                per[link] = per.get(link, 0.0) + share / weight[i]
        level = min((max(left[k], 0.0) / p for k, p in per.items()), default=math.inf)
        bounded = [i for i in open_ if most[i] * weight[i] <= level]
        level = min([level] + [most[i] * weight[i] for i in bounded])
        full = {k for k, p in per.items() if max(left[k], 0.0) / p <= level * (1 + 1e-12)}
        done = {i for i in open_ if most[i] * weight[i] <= level or full & usage[i].keys()}
        for i in done:
            rate[i] = min(level / weight[i], most[i])
            for link, share in usage[i].items():
                left[link] -= share * rate[i]
        open_ -= done
    return rate


def finish_times(
    capacity: list[float], usage: Usage, weight: list[float], most: list[float], wait: list[float],
    work: list[float], start: list[float],
) -> np.ndarray:  # fmt: skip
    """When each flow ends, if its `work` begins to flow at start + wait."""
    n = len(work)
    left, finish, begin = list(work), [math.inf] * n, [s + w for s, w in zip(start, wait, strict=True)]
    active: list[int] = []
    waiting = sorted(range(n), key=lambda i: begin[i])
    t = 0.0
    while waiting or active:
        rates = shares(capacity, [usage[i] for i in active], [weight[i] for i in active], [most[i] for i in active])
        ends = [t + left[i] / r for i, r in zip(active, rates, strict=True)]
        t2 = min([*ends, *(begin[i] for i in waiting[:1])])
        for i, r, end in zip(list(active), rates, ends, strict=True):
            left[i] -= r * (t2 - t)
            if end <= t2 * (1 + 1e-14):
                finish[i] = t2
                active.remove(i)
        t = t2
        while waiting and begin[waiting[0]] <= t:
            active.append(waiting.pop(0))
    return np.array(finish)
