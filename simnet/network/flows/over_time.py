"""Links that change while transfers run: bandwidths for all at once, latency and loss for those that start.

Legend: F transfers, R routes, L links.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from simnet.network.flows.links import Links
from simnet.network.flows.models import Model, route_table
from simnet.network.flows.moves import set_capacity
from simnet.network.flows.state import Engine
from simnet.network.flows.traces import Changes, Trace


class BandwidthChanges:
    """The changes of bandwidth that traces bring, in the order of time, then of links."""

    def __init__(self, traces: Mapping[int, Trace], engine: Engine) -> None:
        self._coming: list[tuple[float, int, float]] = []
        self._rest = {}
        for k, trace in sorted(traces.items()):
            set_capacity(engine, 0.0, k, trace.at(0.0))
            self._rest[k] = trace.changes()
            self._next(k)

    @property
    def next_s(self) -> float:
        return self._coming[0][0] if self._coming else np.inf

    def make(self, engine: Engine) -> None:
        """Those of the next instant."""
        now = self.next_s
        while self.next_s == now:
            _, k, rate = heapq.heappop(self._coming)
            set_capacity(engine, now, k, rate)
            self._next(k)

    def _next(self, k: int) -> None:
        for t, rate in self._rest[k]:
            heapq.heappush(self._coming, (t, k, rate))
            return


class Starts:
    """Routes whose latency or loss changes: a transfer keeps those of the moment at which it starts, so that each has a
    route of its own.

    `forward` and `backward` are the R ways, `way` (F,) says which each transfer takes; `table` has F routes.
    """

    def __init__(
        self, links: Links, changes: Mapping[int, Changes], forward: Sequence[Sequence[int]],
        backward: Sequence[Sequence[int]], way: np.ndarray, model: Model, warm: bool,
    ) -> None:  # fmt: skip
        self._links, self._ways, self._way, self._model, self._warm = links, (forward, backward), way, model, warm
        self._latency = {k: c.latency for k, c in changes.items() if c.latency is not None}
        self._loss = {k: c.loss for k, c in changes.items() if c.loss is not None}
        self.table = route_table(
            self._links_at(0.0), [forward[r] for r in way], [backward[r] for r in way], model, warm
        )  # fmt: skip
        self.next_s = self._after(0.0)

    def make(self, engine: Engine, begun: np.ndarray) -> None:
        """The changes of the next instant, for the transfers that have not begun, bool (F,)."""
        now, coming = self.next_s, np.flatnonzero(~begun)
        if not len(coming):
            self.next_s = np.inf
            return
        needed, which = np.unique(self._way[coming], return_inverse=True)
        forward, backward = ([ways[r] for r in needed] for ways in self._ways)
        engine.route[coming] = route_table(self._links_at(now), forward, backward, self._model, self._warm).route[which]
        self.next_s = self._after(now)

    def _links_at(self, t: float) -> Links:
        latency_s, loss = self._links.latency_s.copy(), self._links.loss.copy()
        for values, steps in ((latency_s, self._latency), (loss, self._loss)):
            for k, each in steps.items():
                values[k] = each.at(t)
        return self._links._replace(latency_s=latency_s, loss=loss)

    def _after(self, t: float) -> float:
        return min(each.piece(t)[1] for each in (*self._latency.values(), *self._loss.values()))
