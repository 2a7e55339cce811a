"""Messages on links that they share, for the compiled walk: the flow engine, whose its flows are, and the walk's notes.

Legend: F slots of flows, W ways, M messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from simnet.errors import Starved
from simnet.network import changing
from simnet.network.flows.state import FREE, FREE_COUNT, PHASE, TAG, with_room
from simnet.network.flows.tcp import PACKET
from simnet.network.network import EdgeSet
from simnet.timeplane import compiled as c
from simnet.timeplane import compiled_parts as st
from simnet.timeplane.background import FIRST_TAG
from simnet.timeplane.compiled_others import OthersAhead
from simnet.timeplane.compiled_rows import give_copies, moving_of, with_ways
from simnet.timeplane.compiled_shifts import shifts_of
from simnet.timeplane.flows import Ways
from simnet.timeplane.settle import learn_late

if TYPE_CHECKING:
    from simnet.timeplane.events import CompiledWalker


class SharedLinks:
    """The flows of a compiled run."""

    def __init__(self, walk: CompiledWalker) -> None:
        self.walk, self.ways = walk, Ways(walk.book)
        walk.state[st.UNFINISHED] = walk.book.n
        walk.state[st.WARM] = walk.book.network.tcp_warm
        walk.state[st.OVERHEAD] = self.ways.model.cross_traffic > 0
        self.others = OthersAhead(self.ways)
        self.carried = c.Carried(
            np.zeros((0, 6), np.int64), np.zeros(0), np.zeros(0, np.int64), np.zeros((0, 3), np.int64), np.zeros(0),
            shifts_of(walk.book.network.changes), moving_of(self.ways), self.others.arrays,
        )  # fmt: skip

    @property
    def engine(self) -> Any:
        """The engine's arrays; None before any message."""
        return self.ways.engine

    @property
    def arrays(self) -> tuple[Any, Any]:
        """The engine's arrays and those of who sent what; None before any message."""
        return (None, None) if self.engine is None else (self.engine, self.carried)

    def ways_of(self, edges: EdgeSet) -> list[int]:
        """The ways of a set of edges, with room for what the walk knows of them."""
        found = self.ways.routes_of(edges)
        if edges.size:
            self.fit()
        return found

    def fit(self, free: int = 1) -> None:
        """Room for so many more flows, and for all that the walk keeps of them."""
        engine, carried = self.ways.engine, self.carried
        if engine is None:
            return
        while engine.state[FREE_COUNT] < free:
            engine = with_room(engine, 2 * len(engine.flow))
        self.ways.engine = engine
        slots, known = len(engine.flow), len(self.ways.forward)
        notes = 2 * self.more(free) + 4096
        self.carried = carried._replace(
            message=_fitted(carried.message, slots), handed_s=_fitted(carried.handed_s, slots),
            opened=_fitted(carried.opened, 2 * known), notes=_fitted(carried.notes, notes),
            amounts=_fitted(carried.amounts, notes), moving=with_ways(carried.moving, self.ways),
        )  # fmt: skip

    def tell_others(self) -> None:
        """A flow of background traffic begins: say its way, and what comes behind it."""
        self.others.tell(int(self.walk.state[st.FLOW_OF]) - 1)
        self.give_copies()

    def give_copies(self) -> None:
        """A free copy for each way whose latency or loss changes and all of whose copies are in use."""
        self.fit()
        self.carried = self.carried._replace(moving=give_copies(self.carried.moving, self.ways))
        self.fit()

    def never_open(self) -> Starved:
        """Why the message that was handed over first of those under way never arrives."""
        engine, carried = self.ways.engine, self.carried
        there = (engine.slot[:, PHASE] != FREE) & (engine.slot[:, TAG] < FIRST_TAG)
        slots = np.flatnonzero(there)
        f = slots[np.argmin(engine.slot[slots, TAG])]
        names = [self.ways.links.names[k] for k in self.ways.forward[int(carried.message[f, 4])]]
        return Starved(changing.never_open(names, float(carried.handed_s[f])))

    def more(self, most_out: int) -> int:
        """Events, notes and spans that one step of the walk makes at most."""
        return len(self.ways.engine.flow) + self.walk.book.n + most_out + 8

    def read_notes(self) -> None:
        """Enter what the walk noted down: late arrivals, and what the transport adds to messages."""
        walk = self.walk
        count = int(walk.state[st.NOTES])
        walk.state[st.NOTES] = 0
        if not count:
            return
        kind, at, amount = self.carried.notes[:count, 0], self.carried.notes[:count, 1:], self.carried.amounts[:count]
        for m in np.flatnonzero(kind == st.LATE).tolist():
            x = walk.at[int(at[m, 0])]
            if x is not None and x.missing == "stale":
                learn_late(walk.book, x, int(at[m, 1]), float(amount[m]))
        if (began := kind == st.OTHER_SENT).any():
            self.others.enter(walk.account.ledger, at[began, 0], at[began, 1])
        if (repeated := kind == st.OTHER_AGAIN).any():
            self.others.enter_again(walk.account.ledger, at[repeated, 1], amount[repeated])
        model, sent, again = self.ways.model, kind == st.SENT, kind == st.AGAIN
        if sent.any() or again.any():
            noted = sent | again
            header = np.rint(np.where(sent, amount * (model.forward_share - 1.0), 0.0))[noted]
            back = np.rint(np.where(sent, amount * model.cross_traffic, 0.0))[noted]
            lost = np.rint(np.where(again, amount * PACKET, 0.0))[noted]
            walk.account.ledger.add_overheads(
                at[noted, 0], at[noted, 1], header, lost, back, self.ways.forward, self.ways.backward
            )


def _fitted(array: np.ndarray, rows: int) -> np.ndarray:
    """The array with at least so many rows."""
    if len(array) >= rows:
        return array
    fresh = np.zeros((rows, *array.shape[1:]), array.dtype)
    fresh[: len(array)] = array
    return fresh
