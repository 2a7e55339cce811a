"""Losses that change with time, in the compiled walk: what becomes of a message follows from the moment it starts at.

Under `drop` and `symmetric` nothing hangs on it until its exchange closes: it is drawn for many messages at once,
behind the walk. Under `retry` the bytes on the way do: the walk asks as a host starts, and all who have not started yet
are told at once, as if they did now; that holds until a link's loss changes.

Legend: E edges of an exchange.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simnet.exchange import INF, Exchange
from simnet.network.fate import FateInTime, sent_bytes
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.account import NeedsWalker

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker

WORTH_ALL = 8  # hosts that started by what was told ahead; where fewer did, the next one is told alone


def fates_in_time(walk: CompiledWalker) -> FatesInTime | None:
    """None where no loss changes with time. Raises NeedsWalker where a port's next turn would hang on each draw."""
    network = walk.book.network
    if network.model == "tcp" or all(change.loss is None for change in network.changes.values()):
        return None
    if network.model == "independent" and network.policy == "retry":
        raise NeedsWalker("the loss of links changes with time, and ports send again what is lost")
    return FatesInTime(walk)


class FatesInTime:
    """The fates of a run's messages that are drawn as they start."""

    def __init__(self, walk: CompiledWalker) -> None:
        self.walk, self.retry = walk, walk.book.network.policy == "retry"

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
        all_of_them = bool((fates_s == -INF).all()) or self.enter(x, s) >= WORTH_ALL
        open_E = ~fate.drawn_E if all_of_them else edges.source == i
        if x.active_n is not None:
            open_E &= x.active_n[edges.source]
        asked = np.flatnonzero(open_E)
        fate.draw_all(asked, np.full(len(asked), now))
        fate.drawn_E[asked] = False  # as each host starts
        size = x.payload_bytes + walk.book.network.header_bytes
        places.own[s, asked] = sent_bytes(edges, size, fate)[asked]
        if all_of_them:
            steps = {id(each): each for each in edges.loss_of.values()}
            fates_s[:] = min(each.piece(now)[1] for each in steps.values())
        else:
            fates_s[i] = np.nextafter(now, INF)

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
