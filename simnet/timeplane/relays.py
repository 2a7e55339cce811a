"""Averages that go from host to host (ring, tree, hierarchical), in the events tier.

A host sends its part of a wave as soon as it has started and has got all that earlier waves bring it; messages on a
pair keep their order. Behind the last wave it has the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.entries import Entry
from simnet.exchange import INF
from simnet.timeplane.averages import Half, UnderWay
from simnet.timeplane.boxes import RelayBox

if TYPE_CHECKING:
    pass


class Relays(UnderWay):
    """The relayed averages of a run that are under way."""

    def start(self, i: int, entry: Entry, now: float) -> None:
        """Host i gets to an average: it may send, if it takes part."""
        walker, x = self.walker, entry.travel
        box = self.boxes.get(x.id)
        if box is None:
            box = self.boxes[x.id] = RelayBox(x, walker.book, walker.routes, self._members(i))
            if walker.account.until == INF:
                for wave, fate in zip(x.waves, x.fates, strict=True):
                    walker.account.sent(x.round, wave.edges, wave.payload_bytes, fate)
        self._begun(box, i, entry, now)
        if x.among_n[i]:
            box.missing -= 1
            box.handed = max(box.handed, now)
            self._pass_on(box, i, now)

    def _pass_on(self, box: RelayBox, i: int, now: float) -> None:
        """Host i goes through the waves as far as its messages are there; behind the last it has the result."""
        waves = box.x.waves
        while (w := box.at[i]) < len(waves):
            edges = waves[w].edges
            if not box.sent[i]:
                box.sent[i] = True
                if out := self.walker.routes.out(edges)[i]:
                    box.wave_start[w][i] = now
                    self._send(box, i, w, out, now)
            if box.got.get((i, w), 0) < edges.in_ptr[i + 1] - edges.in_ptr[i]:
                return
            box.got.pop((i, w), None)
            box.at[i], box.sent[i] = w + 1, False
        box.result[i] = now
        if self.walker.waiting[i] is box:
            self.walker.waiting[i] = None
            self.walker.waited(i, box.since[i], now, box.handed)
            self.walker.push(now, self._took, box, i)

    def _send(self, box: RelayBox, i: int, w: int, out: list[Any], now: float) -> None:
        def arrived(e: int, j: int, t: float) -> None:
            t = box.last[i, j] = max(t, box.last.get((i, j), t))
            box.arrival[w][e] = t
            t = self.walker.back(j, t)  # who is away passes it on at its return
            if t < INF:
                self.walker.push(t, self._got, box, (j, w))

        self.walker.hand_over(i, out, now, box.ways[w], arrived)
        x, wave = box.x, box.x.waves[w]
        self.walker.account.sent_by(i, x.round, wave.edges, wave.payload_bytes, x.fates[w])

    def _got(self, event: Any) -> None:
        """A message is there: the host counts it, and goes on if it has started."""
        box, (j, w) = event.a, event.b
        box.got[j, w] = box.got.get((j, w), 0) + 1
        if box.start[j] < INF and box.at[j] == w:
            self._pass_on(box, j, self.walker.env._now)

    def entered(self) -> list[tuple[Any, np.ndarray | None]]:
        """The waves of each average under way whose bytes are entered, as exchanges for the ledger."""
        return self._in_ledger(
            [
                Half(box.x.round, wave.edges, wave.payload_bytes, fate)
                for box in self.boxes.values()
                for wave, fate in zip(box.x.waves, box.x.fates, strict=True)
            ]
        )

    def _settle(self, box: RelayBox) -> None:
        account, x = self.walker.account, box.x
        for w, (wave, fate) in enumerate(zip(x.waves, x.fates, strict=True)):
            start, arrival = np.array(box.wave_start[w]), np.array(box.arrival[w])
            known = start[wave.edges.source] < INF
            active = None if known.all() else known
            if account.until < INF:
                account.sent(x.round, wave.edges, wave.payload_bytes, fate, start, active)
            account.travelled((x.id, w), wave.edges, wave.payload_bytes, fate, start, arrival, active, None)
