"""Losses that change with time, in the compiled walk: what becomes of a message follows from the moment it starts at.

Under `drop` and `symmetric` nothing hangs on it until its exchange closes: it is drawn for many messages at once,
behind the walk. Under `retry` the bytes on the way do: the walk asks as a host starts, and all who have not started yet
are told at once, as if they did now; that holds until a link's loss changes (and, where links share nothing, only for
hosts none of whose messages waits at its port until then).

Legend: E edges of an exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.errors import Starved
from simnet.exchange import INF, Exchange
from simnet.network.fate import FateInTime, sent_bytes
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.boxes import Routes, Way

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker

WORTH_ALL = 8  # hosts that started by what was told ahead; where fewer did, the next one is told alone


def fates_in_time(walk: CompiledWalker) -> FatesInTime | None:
    """None where no loss changes with time, or the transport sends again by itself."""
    network = walk.book.network
    changes = network.model != "tcp" and any(change.loss is not None for change in network.changes.values())
    return FatesInTime(walk) if changes else None


class FatesInTime:
    """The fates of a run's messages that are drawn as they start."""

    def __init__(self, walk: CompiledWalker) -> None:
        self.walk, self.retry = walk, walk.book.network.policy == "retry"
        self._routes = Routes(walk.book)
        self._way: Way | None = None  # of the exchange that was told last in turn

    def open(self, x: Exchange, s: int) -> None:
        """Exchange x has got place s."""
        if self.retry and isinstance(x.fate, FateInTime):
            self.walk.places.fates_s[s] = -INF

    def tell(self) -> None:
        """The host that walks now starts an exchange under `retry`: say what it sends."""
        walk = self.walk
        i, now, places = int(walk.state[st.CURRENT]), float(walk.clock[0]), walk.places
        s = int(walk.table.argument[walk.hosts.pos[i]])
        x = walk.at[s]
        assert x is not None and isinstance(x.fate, FateInTime)
        edges, fate, fates_s = x.edges, x.fate, places.fates_s[s]
        told = fates_s[i] > now  # but some turn at its port comes later
        all_of_them = not told and (bool((fates_s == -INF).all()) or self.enter(x, s) >= WORTH_ALL)
        if walk.timed is not None and not all_of_them:
            self._tell_in_turn(x, s, i, now)
            return
        open_E = ~fate.drawn_E if all_of_them else edges.source == i
        if x.active_n is not None:
            open_E &= x.active_n[edges.source]
        asked = np.flatnonzero(open_E)
        fate.draw_all(asked, np.full(len(asked), now))
        fate.drawn_E[asked] = False  # as each host starts
        size = x.payload_bytes + walk.book.network.header_bytes
        self._send(s, asked, sent_bytes(edges, size, fate), fate)
        if all_of_them:
            steps = {id(each): each for each in edges.loss_of.values()}
            fates_s[:] = min(each.piece(now)[1] for each in steps.values())
        else:
            fates_s[i] = np.nextafter(now, INF)

    def _tell_in_turn(self, x: Exchange, s: int, i: int, now: float) -> None:
        """The same for host i alone, over links that share nothing: each message is drawn as its turn at the port
        comes, which hangs on the draws before it.
        """
        walk, edges, fate = self.walk, x.edges, x.fate
        assert isinstance(fate, FateInTime)
        size = x.payload_bytes + walk.book.network.header_bytes
        if self._way is None or self._way.fate is not fate:
            self._way = Way(edges, size, fate)
        mine = np.flatnonzero(edges.source == i)
        for port, _, messages in self._routes.out(edges)[i]:
            end = max(now, float(walk.hosts.free[port]))
            for e, _ in messages:
                try:
                    end, _, _ = self._way.go(e, end)
                except Starved:  # the walk finds it out as it gets there
                    break
        fate.drawn_E[mine] = False
        self._send(s, mine, sent_bytes(edges, size, fate), fate)
        walk.places.fates_s[s, i] = INF

    def _send(self, s: int, asked: np.ndarray, bytes_E: np.ndarray, fate: FateInTime) -> None:
        """Tell the walk what is sent over the edges in `asked`."""
        places = self.walk.places
        if self.walk.timed is None:
            places.own[s, asked] = bytes_E[asked]
        else:
            places.sent[s, asked], places.attempts[s, asked] = bytes_E[asked], fate.attempts_E[asked]

    def enter(self, x: Exchange, s: int) -> int:
        """Draw for the messages that have started since, and enter their bytes; gives how many hosts started."""
        fate, edges, places = x.fate, x.edges, self.walk.places
        if not isinstance(fate, FateInTime):
            return 0
        started = places.start[s] < INF
        if x.active_n is not None:
            started &= x.active_n
        fresh_E = started[edges.source] & ~fate.drawn_E
        fresh = np.flatnonzero(fresh_E)
        if not len(fresh):
            return 0
        hosts = edges.source[fresh]
        if self.retry:
            fate.drawn_E[fresh] = True
        else:
            order = np.argsort(places.turn[s, hosts], kind="stable")
            begun = places.start[s, hosts] if self.walk.timed is None else places.began[s, fresh]
            fate.draw_all(fresh[order], begun[order])
        self.walk.account.ledger.add(x.round, edges, x.payload_bytes, fate, fresh_E)
        return len(np.unique(hosts))

    def enter_all(self) -> None:
        """The same for all exchanges under way."""
        for x, s in self.walk.open.values():
            self.enter(x, s)
