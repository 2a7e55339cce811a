"""Links that change with time, under flows: the engine's capacities follow the traces, and a flow has the latency and
loss of the moment at which it starts.

Nothing happens while no flow is under way: the capacities are brought up to date as the next one starts.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simnet.network.flows.links import Links
from simnet.network.flows.models import Model, along, route_rows
from simnet.network.flows.moves import set_capacity
from simnet.network.flows.state import CAPACITY
from simnet.network.flows.traces import Changes


class Shifts:
    """The changes of bandwidth to come, in the order of time, then of links."""

    def __init__(self, changes: Mapping[int, Changes]) -> None:
        self._traces = {k: c.bandwidth for k, c in sorted(changes.items()) if c.bandwidth is not None}
        self._coming: list[tuple[float, int]] = [(0.0, k) for k in self._traces]

    @property
    def next_s(self) -> float:
        """When the next one is due."""
        return self._coming[0][0] if self._coming else np.inf

    def catch_up(self, engine: Any, now: float, idle: bool) -> None:
        """Bring the engine's capacities up to time `now`; where it was `idle`, what was meanwhile does not matter."""
        if not self._coming or self._coming[0][0] > now:
            return
        if idle:
            self._coming = [(now, k) for k in self._traces]
        while self._coming[0][0] <= now:
            t, k = self._coming[0]
            rate, until = self._traces[k].piece(t)
            if rate != engine.link[k, CAPACITY]:
                set_capacity(engine, t, k, rate)
            heapq.heapreplace(self._coming, (until, k))


def moving(changes: Mapping[int, Changes], way: Sequence[int]) -> bool:
    """Whether the latency or loss of a way changes with time."""
    return any(k in changes and (changes[k].latency is not None or changes[k].loss is not None) for k in way)


def row_at(
    t: float, links: Links, changes: Mapping[int, Changes], there: Sequence[int], back: Sequence[int], model: Model,
    warm: bool,
) -> np.ndarray:  # fmt: skip
    """What the engine knows of a way for a flow that starts at time t: one row of its table of routes."""
    used = sorted({*there, *back})
    number = {k: i for i, k in enumerate(used)}
    latency, loss = links.latency_s[used], links.loss[used]
    for i, k in enumerate(used):
        change = changes.get(k, Changes())
        latency[i] = latency[i] if change.latency is None else change.latency.at(t)
        loss[i] = loss[i] if change.loss is None else change.loss.at(t)
    now = Links(
        links.bandwidth[used], latency, links.fatpipe[used], loss, links.burst[used], links.queue_bytes[used],
        tuple(links.names[k] for k in used),
    )  # fmt: skip
    ways = along([[number[k] for k in there]]), along([[number[k] for k in back]])
    row: np.ndarray = route_rows(now, ways, 1, model, warm)[0]
    return row
