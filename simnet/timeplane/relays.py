"""Averages that go from host to host (ring, tree, hierarchical), in the events tier.

A host sends its part of a wave as soon as it has started and has got all that earlier waves bring it; messages on a
pair keep their order. Behind the last wave it has the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.entries import Entry
from simnet.exchange import INF
from simnet.timeplane.averages import Half
from simnet.timeplane.boxes import RelayBox

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker


class Relays:
    """The relayed averages of a run that are under way."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.boxes: dict[int, RelayBox] = {}

    def start(self, i: int, entry: Entry, now: float) -> None:
        """Host i gets to an average: it may send, if it takes part."""
        walker, x = self.walker, entry.travel
        box = self.boxes.get(x.id)
        if box is None:
            members = len(walker.book.members[walker.recording_of[i].role])
            box = self.boxes[x.id] = RelayBox(x, walker.book, walker.routes, members)
            if walker.account.until == INF:
                for wave, fate in zip(x.waves, x.fates, strict=True):
                    walker.account.sent(x.round, wave.edges, wave.payload_bytes, fate)
        box.start[i] = now
        if walker.items is not None:
            walker.items.started(walker.recording_of[i], walker.member_of[i], entry, i)
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
            self.walker.push(t, self._got, box, (j, w))

        self.walker.hand_over(i, out, now, box.ways[w], arrived)

    def _got(self, event: Any) -> None:
        """A message is there: the host counts it, and goes on if it has started."""
        box, (j, w) = event.a, event.b
        box.got[j, w] = box.got.get((j, w), 0) + 1
        if box.start[j] < INF and box.at[j] == w:
            self._pass_on(box, j, self.walker.env._now)

    def _took(self, event: Any) -> None:
        box, j = event.a, event.b
        self._leave(box, j)
        self.walker.go_on(j)

    def finish(self, i: int, entry: Entry, now: float) -> bool:
        """Host i asks for the result: True when it has it at once (or is to get none)."""
        box = self.boxes[entry.travel.id]
        box.since[i], box.entry[i] = now, entry
        if not box.x.to_n[i] or box.result[i] <= now:
            self._leave(box, i)
            return True
        self.walker.waiting[i] = box
        return False

    def _leave(self, box: RelayBox, i: int) -> None:
        walker = self.walker
        if walker.items is not None:
            walker.items.averaged(walker.recording_of[i], walker.member_of[i], box.entry[i], i)
        box.inside -= 1
        if box.inside == 0:
            self._settle(box)
            del self.boxes[box.x.id]
            walker.closed(box.x, box.entry[i])

    def entered(self) -> list[tuple[Any, np.ndarray | None]]:
        """The waves of each average under way whose bytes are entered, as exchanges for the ledger."""
        if self.walker.account.until < INF:
            return []
        return [
            (Half(box.x.round, wave.edges, wave.payload_bytes, fate), None)
            for box in self.boxes.values()
            for wave, fate in zip(box.x.waves, box.x.fates, strict=True)
        ]

    def settle(self) -> None:
        """At a cut: enter what was sent of averages that never ended."""
        for box in self.boxes.values():
            self._settle(box)

    def _settle(self, box: RelayBox) -> None:
        account, x = self.walker.account, box.x
        for w, (wave, fate) in enumerate(zip(x.waves, x.fates, strict=True)):
            start, arrival = np.array(box.wave_start[w]), np.array(box.arrival[w])
            known = start[wave.edges.source] < INF
            active = None if known.all() else known
            if account.until < INF:
                account.sent(x.round, wave.edges, wave.payload_bytes, fate, start, active)
            account.travelled((x.id, w), wave.edges, wave.payload_bytes, fate, start, arrival, active, None)
