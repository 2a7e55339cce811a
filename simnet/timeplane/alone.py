"""Messages that happen to have their links to themselves under a flow model: a closed form for the arrays tier.

A flow that shares no link waits, then has the rate of its narrowest link, or its own bound, to its end. Whether two
meet depends on the clocks, so it is looked at message by message: a link belongs to one pair of hosts for the whole
run, whose messages are handed over in order of time; each must come to the link no earlier than the one before it is
through. Acknowledgements meet the messages of the other direction, and TCP's windows change, so `lv08` and `tcp` are
left to the events tier; so is what is on its way at a deadline or when the run ends, whose arrival nobody gets to know.

Legend: E edges, Z shared links of all ways together.
"""

from __future__ import annotations

import numpy as np

from simnet.book import Book
from simnet.network.fate import Fate, sent_bytes
from simnet.network.flows.state import BOUND, CAPACITY, FACTOR, PENALTY, WAIT_S
from simnet.network.network import EdgeSet
from simnet.timeplane.account import Account, NeedsEvents
from simnet.timeplane.flows import Ways


class Alone:
    """The flows of a run in which no two meet; raises NeedsEvents where two do."""

    def __init__(self, book: Book, account: Account) -> None:
        self.book, self.ways = book, Ways(book)
        if self.ways.model.cross_traffic or self.ways.model.tcp:
            raise NeedsEvents("messages share links with acknowledgements")
        if account.until < np.inf or account.departures:
            raise NeedsEvents("messages share links, and some may be on their way for ever")
        links = len(self.ways.links.bandwidth)
        self.owner = np.full(links, -1, np.int64)  # the pair of hosts whose messages a link carries
        self.through = np.full(links, -np.inf)  # when the last of them is through
        self._routes: dict[EdgeSet, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = {}

    def arrivals(
        self, edges: EdgeSet, size: int, fate: Fate | None, start_n: np.ndarray, active_E: np.ndarray | None
    ) -> np.ndarray:
        """When each message arrives (E,), sent by host i at `start_n[i]`."""
        edge_Z, link_Z, wait_E, rate_E, factor_E = self._of(edges)
        start_E = start_n[edges.source]
        enter_E = start_E + wait_E
        end_E: np.ndarray = enter_E + sent_bytes(edges, size, fate) / factor_E / rate_E
        sent_E = start_E < np.inf if active_E is None else active_E & (start_E < np.inf)
        on_Z = sent_E[edge_Z]
        link, edge = link_Z[on_Z], edge_Z[on_Z]
        if (enter_E[edge] < self.through[link]).any():
            raise NeedsEvents("messages share links: one comes to a link before the last is through")
        self.through[link] = end_E[edge]
        return end_E

    def _of(self, edges: EdgeSet) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The shared links of the edges, each link with its edge, and each edge's wait, rate and bandwidth factor."""
        found = self._routes.get(edges)
        if found is not None:
            return found
        r_E = 2 * np.array(self.ways.routes_of(edges), np.int64)  # without TCP, cold and warm are alike
        engine = self.ways.engine
        first_E, count_E = engine.route_start[r_E], engine.route_start[r_E + 1] - engine.route_start[r_E]
        edge_Z = np.repeat(np.arange(edges.size), count_E)
        within_Z = np.arange(len(edge_Z)) - np.repeat(np.cumsum(count_E) - count_E, count_E)
        z_Z = first_E[edge_Z] + within_Z
        link_Z = engine.route_link[z_Z]
        pair_Z = (edges.source * edges.n + edges.target)[edge_Z]
        if len(np.unique(link_Z)) < len(link_Z) or ((self.owner[link_Z] >= 0) & (self.owner[link_Z] != pair_Z)).any():
            raise NeedsEvents("messages share links: the ways of two pairs of hosts have one in common")
        self.owner[link_Z] = pair_Z
        route = engine.route[r_E]
        level_E = np.full(edges.size, np.inf)  # as the engine's water-filling has it, operation by operation
        per_Z = engine.route_share[z_Z] * (1.0 / route[edge_Z, PENALTY])
        np.minimum.at(level_E, edge_Z, engine.link[link_Z, CAPACITY] / per_Z)
        rate_E = np.minimum(level_E / route[:, PENALTY], route[:, BOUND])
        found = self._routes[edges] = edge_Z, link_Z, route[:, WAIT_S], rate_E, route[:, FACTOR]
        return found
