"""Background traffic for the compiled walk: the next flows of each stream, and what they put on the links.

Legend: S streams, A flows known ahead of each.
"""

from __future__ import annotations

from itertools import chain

import numpy as np

from simnet.errors import TopologyError
from simnet.network.flows.tcp import PACKET
from simnet.network.ledger import Ledger
from simnet.timeplane.flows import Ways
from simnet.timeplane.state import Others

AHEAD = 256  # flows of a stream known ahead, at most


class OthersAhead:
    """The flows of a run's streams, from the next of each on; `arrays` is what the walk reads of them.

    Ways are looked up when a flow begins, those of a few behind it with it: a stream that goes on is asked for twice as
    many each time.
    """

    def __init__(self, ways: Ways) -> None:
        self.ways, network, seed = ways, ways.book.network, ways.book.seed
        self.streams, self.seed, self.sites = network.background, seed, network.sites
        self._moments = [stream.moments(seed) for stream in self.streams]
        count = len(self.streams)
        self._first = [0] * count  # which flow of the stream stands in the first place
        self._more = [2] * count
        self.arrays = Others(
            np.array([stream.size_bytes for stream in self.streams], np.float64),
            np.full((count, AHEAD), np.inf), np.full((count, AHEAD), -1), np.zeros(count, np.int64),
            np.zeros(count, np.int64), np.ones(count, bool),
        )  # fmt: skip

    def first(self) -> list[tuple[float, int]]:
        """When each stream's first flow is due, of those that have one."""
        for g in range(len(self.streams)):
            self._ask(g, 1)
        return [(float(self.arrays.moment_s[g, 0]), g) for g in range(len(self.streams)) if self.arrays.known[g]]

    def tell(self, g: int) -> None:
        """The next flow of stream g begins: say its way, and what comes behind it."""
        others, at = self.arrays, int(self.arrays.at[g])
        left = int(others.known[g]) - at
        others.moment_s[g, :left], others.way[g, :left] = others.moment_s[g, at : at + left], -1
        others.at[g], others.known[g] = 0, left
        self._first[g] += at
        self._ask(g, min(self._more[g], AHEAD - left))
        self._more[g] *= 2
        pairs = [self.streams[g].pair(self.seed, self._first[g] + k, self.sites) for k in range(int(others.known[g]))]
        try:
            found = self.ways.ways_of(pairs)
        except TopologyError:  # maybe of a flow that never begins
            found = self.ways.ways_of(pairs[:1])
        others.way[g, : len(found)] = found

    def _ask(self, g: int, count: int) -> None:
        """Let so many more moments of stream g be known, if there are as many."""
        others = self.arrays
        for k in range(int(others.known[g]), int(others.known[g]) + count):
            moment = next(self._moments[g], None)
            if moment is None:
                others.more[g] = False
                return
            others.moment_s[g, k] = moment
            others.known[g] = k + 1

    def enter(self, ledger: Ledger, stream: np.ndarray, way: np.ndarray) -> None:
        """Enter flows that began, by the numbers of their streams and ways."""
        model, forward, backward = self.ways.model, self.ways.forward, self.ways.backward
        for g in np.unique(stream).tolist():
            size, taken = self.streams[g].size_bytes, way[stream == g].tolist()
            header = round(size * (model.forward_share - 1.0))
            there = np.array(list(chain.from_iterable(forward[w] for w in taken)), np.int64)
            back = np.array(list(chain.from_iterable(backward[w] for w in taken)), np.int64)
            ledger.add_background(there, round(size) + header, len(taken))
            ledger.add_background(back, round(size * model.cross_traffic), 0)

    def enter_again(self, ledger: Ledger, way: np.ndarray, lost: np.ndarray) -> None:
        """Enter packets that flows of these ways sent again."""
        for w, packets in zip(way.tolist(), lost.tolist(), strict=True):
            ledger.add_background_again(self.ways.forward[w], round(packets * PACKET))
