"""Averages through a server host, in the events tier: contributions up, the mean down.

The server works for its host, beside the host's own program: it answers when the last contribution is there, and its
messages queue at the host's port like any other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simnet.entries import Entry
from simnet.exchange import INF
from simnet.network.fate import Fate, FateInTime
from simnet.network.network import EdgeSet
from simnet.timeplane.boxes import AverageBox

if TYPE_CHECKING:
    from simnet.timeplane.walker import Walker


class Half(NamedTuple):
    """One way of an average."""

    round: int
    edges: EdgeSet
    payload_bytes: int
    fate: Fate | None


class UnderWay(ABC):
    """The averages of a run that are under way, whichever way they go; `boxes` by their number."""

    def __init__(self, walker: Walker) -> None:
        self.walker = walker
        self.boxes: dict[int, Any] = {}

    @abstractmethod
    def start(self, i: int, entry: Entry, now: float) -> None:
        """Host i gets to an average: it hands over what it can, if it takes part."""

    @abstractmethod
    def entered(self) -> list[tuple[Any, np.ndarray | None]]:
        """The parts of each average under way whose bytes are entered, as exchanges for the ledger."""

    @abstractmethod
    def _settle(self, box: Any) -> None:
        """Enter what was sent in ledger and log."""

    def _in_ledger(self, halves: list[Half]) -> list[tuple[Any, np.ndarray | None]]:
        """Those whose bytes are entered: whole, unless the run is cut by time, and what hung on the moment as drawn."""
        whole = self.walker.account.until == INF
        in_time = [(half, half.fate.drawn_E) for half in halves if isinstance(half.fate, FateInTime)]
        return in_time + [(half, None) for half in halves if whole and not isinstance(half.fate, FateInTime)]

    def _begun(self, box: Any, i: int, entry: Entry, now: float) -> None:
        """Host i has begun: its operands are ready."""
        box.start[i] = now
        walker = self.walker
        if walker.items is not None:
            walker.items.started(walker.recording_of[i], walker.member_of[i], entry, i)

    def finish(self, i: int, entry: Entry, now: float) -> bool:
        """Host i asks for the result: True when it has it at once (or is to get none)."""
        walker, x = self.walker, entry.travel
        box = self.boxes[x.id]
        box.since[i], box.entry[i] = now, entry
        if not x.to_n[i] or box.result[i] <= now:
            self._leave(box, i)
            return True
        if box.result[i] < INF:
            self._take(box, i)
        else:
            walker.waiting[i] = box
        return False

    def _take(self, box: Any, i: int) -> None:
        """Host i waits until its result is there, and so is it."""
        walker = self.walker
        t = walker.back(i, box.result[i])
        walker.waited(i, box.since[i], t, box.handed)
        if t < INF:
            walker.push(t, self._took, box, i)

    def _leave(self, box: Any, i: int) -> None:
        walker = self.walker
        if walker.items is not None:
            walker.items.averaged(walker.recording_of[i], walker.member_of[i], box.entry[i], i)
        box.left.add(i)
        self._less(box)

    def _less(self, box: Any) -> None:
        """One host less is inside; with the last of them the average is closed."""
        box.inside -= 1
        if box.inside == 0:
            self._settle(box)
            del self.boxes[box.x.id]
            self.walker.closed(box.x, box.entry)

    def depart(self, i: int, role: str) -> None:
        """Host i has left for good: nobody waits for it to take a result."""
        for box in list(self.boxes.values()):
            if box.x.key[0] == role and i not in box.left:
                box.left.add(i)
                self._less(box)

    def _members(self, i: int) -> int:
        """How many of the role of host i are still there."""
        walker = self.walker
        hosts = walker.book.members[walker.recording_of[i].role].tolist()
        return len(hosts) - sum(walker.gone[h] for h in hosts)

    def _took(self, event: Any) -> None:
        box, j = event.a, event.b
        self._leave(box, j)
        self.walker.go_on(j)

    def settle(self) -> None:
        """At a cut: enter what was sent of averages that never ended."""
        for box in self.boxes.values():
            self._settle(box)


class Averages(UnderWay):
    """The averages of a run that go through a server."""

    def start(self, i: int, entry: Entry, now: float) -> None:
        """Host i gets to an average: it hands its contribution over, if it has one."""
        walker, x = self.walker, entry.travel
        box = self.boxes.get(x.id)
        if box is None:
            box = self.boxes[x.id] = AverageBox(x, walker.book, walker.routes, self._members(i))
            if walker.account.until == INF:
                walker.account.sent(x.round, x.up, x.up_bytes, x.up_fate)
                walker.account.sent(x.round, x.down, x.down_bytes, x.down_fate)
        self._begun(box, i, entry, now)
        if not x.among_n[i]:
            return
        if i == x.server:
            self._contributed(box, now, now)
            return

        def arrived(e: int, j: int, t: float) -> None:
            box.up_arrival[e] = t
            self._contributed(box, t, now)

        walker.hand_over(i, box.up_out[i], now, box.up_way, arrived)
        walker.account.sent_by(i, x.round, x.up, x.up_bytes, x.up_fate)

    def _contributed(self, box: AverageBox, t: float, handed: float) -> None:
        """A contribution is known to be at the server at t; with the last one, the server answers."""
        box.ready, box.handed = max(box.ready, t), max(box.handed, handed)
        box.missing -= 1
        if box.missing == 0:
            t = self.walker.back(box.x.server, box.ready)  # the server answers when it is there
            if t < INF:
                self.walker.push(t, self._answer, box)

    def _answer(self, event: Any) -> None:
        box: AverageBox = event.a
        server, now = box.x.server, self.walker.env._now
        box.answered = now

        def arrived(e: int, j: int, t: float) -> None:
            box.down_arrival[e] = box.result[j] = t
            self._wake(box, j)

        self.walker.hand_over(server, box.down_out[server], now, box.down_way, arrived)
        self.walker.account.sent_by(server, box.x.round, box.x.down, box.x.down_bytes, box.x.down_fate)
        if box.x.to_n[server]:
            box.result[server] = now
            self._wake(box, server)

    def _wake(self, box: AverageBox, j: int) -> None:
        """Host j's result is known to be there at a time: if it waits, it leaves then."""
        walker = self.walker
        if walker.waiting[j] is not box:
            return
        walker.waiting[j] = None
        self._take(box, j)

    def entered(self) -> list[tuple[Any, np.ndarray | None]]:
        """The two halves of each average under way whose bytes are entered, as exchanges for the ledger."""
        halves = []
        for box in self.boxes.values():
            x = box.x
            halves += [Half(x.round, x.up, x.up_bytes, x.up_fate), Half(x.round, x.down, x.down_bytes, x.down_fate)]
        return self._in_ledger(halves)

    def _settle(self, box: AverageBox) -> None:
        account, x, start = self.walker.account, box.x, np.array(box.start)
        answered = np.full(self.walker.book.n, INF)
        answered[x.server] = box.answered
        for part, edges, payload, fate, begun, arrival in (
            (0, x.up, x.up_bytes, x.up_fate, start, np.array(box.up_arrival)),
            (1, x.down, x.down_bytes, x.down_fate, answered, np.array(box.down_arrival)),
        ):
            known = begun[edges.source] < INF
            active = None if known.all() else known
            if account.until < INF:
                account.sent(x.round, edges, payload, fate, begun, active)
            account.travelled((x.id, part), edges, payload, fate, begun, arrival, active, None)
